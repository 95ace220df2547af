"""Shared: a store of our own, and small episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from orl.datasets import Episode


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Minari store; the user's own is never touched."""
    root = tmp_path / "store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return root


def make_episodes(
    lengths: list[int], *, observation_size: int = 3, action_size: int = 2, seed: int = 0, terminated: bool = False
) -> list[Episode]:
    """Random episodes of the given lengths; each ends truncated, or terminated."""
    generator = np.random.default_rng(seed)
    episodes = []
    for i, length in enumerate(lengths):
        end = np.arange(length) == length - 1
        episodes.append(
            Episode(
                generator.normal(size=(length + 1, observation_size)).astype(np.float32),
                generator.uniform(-1, 1, (length, action_size)).astype(np.float32),
                generator.normal(size=length).astype(np.float32),
                end & terminated,
                end & (not terminated),
                seed=i,
            )
        )
    return episodes


@pytest.fixture
def episodes() -> list[Episode]:
    return make_episodes([4, 1, 7])
