"""Helpers shared by the tests of the racing world."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import orl.envs  # noqa: F401

Rollout = Callable[[int, int, int], NDArray[np.float32]]


@pytest.fixture
def driving_actions() -> Rollout:
    """Make actions (steps, cars, 2): wandering, forwards most of the time, so that walls are met now and then."""

    def make(steps: int, cars: int, seed: int) -> NDArray[np.float32]:
        generator = np.random.default_rng(seed)
        actions = generator.normal([0.2, 0.25], [0.5, 0.35], size=(steps, cars, 2))
        return np.clip(actions, -1.0, 1.0).astype(np.float32)

    return make
