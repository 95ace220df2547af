"""Shared: small datasets, generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from orl import seeding
from orl.dataset import Dataset


@pytest.fixture
def arrays() -> dict[str, Any]:
    """Two episodes of two and three rows; the first one terminates."""
    generator = np.random.default_rng(0)
    return {
        "observations": generator.normal(size=(5, 2)).astype(np.float32),
        "actions": generator.uniform(-1, 1, (5, 1)).astype(np.float32),
        "rewards": np.array([1, 2, 3, 4, 5], np.float32),
        "next_observations": generator.normal(size=(5, 2)).astype(np.float32),
        "terminated": np.array([0, 1, 0, 0, 0], np.bool_),
        "truncated": np.array([0, 0, 0, 0, 1], np.bool_),
    }


@pytest.fixture
def data(arrays: dict[str, Any]) -> Dataset:
    return Dataset.from_arrays(**arrays, name="tiny")


@pytest.fixture
def make_data() -> Callable[..., Dataset]:
    """Random transitions in episodes of ten rows."""

    def make(rows: int = 60, observation_size: int = 3, action_size: int = 2, seed: int = 0, **fields: Any) -> Dataset:
        generator = np.random.default_rng(seed)
        end = np.arange(rows) % 10 == 9
        ends = generator.uniform(size=rows) < 0.5
        return Dataset.from_arrays(
            generator.normal(size=(rows, observation_size)),
            generator.uniform(-1, 1, (rows, action_size)),
            generator.normal(size=rows),
            generator.normal(size=(rows, observation_size)),
            end & ends,
            end & ~ends,
            **fields,
        )

    return make


@pytest.fixture
def generators() -> Callable[..., list[torch.Generator]]:
    """One initialisation generator per seed."""

    def make(*seeds: int) -> list[torch.Generator]:
        return [seeding.torch_generator(seed, "initialisation") for seed in seeds]

    return make
