"""Shared: one thread, float64 on request, small datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from orl.dataset import Dataset


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64() -> Iterator[None]:
    """float64 as the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make_data() -> Callable[..., Dataset]:
    """Random transitions in episodes of ten rows, of which half terminate; rewards depend on state and action."""

    def make(rows: int = 60, observation_size: int = 3, action_size: int = 2, seed: int = 0, **fields: Any) -> Dataset:
        generator = np.random.default_rng(seed)
        end = np.arange(rows) % 10 == 9
        ends = generator.uniform(size=rows) < 0.5
        observations = generator.normal(size=(rows, observation_size))
        actions = generator.uniform(-1, 1, (rows, action_size))
        return Dataset.from_arrays(
            observations,
            actions * np.max(fields.get("action_high", 1.0)),
            np.sin(observations[:, 0]) + actions[:, 0],
            observations + 0.1 * generator.normal(size=(rows, observation_size)),
            end & ends,
            end & ~ends,
            **fields,
        )

    return make
