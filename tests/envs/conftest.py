"""Helpers shared by the tests of environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import orl.envs  # noqa: F401

Rollout = Callable[[int, int, int], NDArray[np.float32]]


@pytest.fixture(scope="session")
def driving_actions() -> Rollout:
    """Make actions (steps, cars, 2): wandering, forwards most of the time, so that walls are met now and then."""

    def make(steps: int, cars: int, seed: int) -> NDArray[np.float32]:
        generator = np.random.default_rng(seed)
        actions = generator.normal([0.2, 0.25], [0.5, 0.35], size=(steps, cars, 2))
        return np.clip(actions, -1.0, 1.0).astype(np.float32)

    return make


@pytest.fixture
def assert_same() -> Callable[[Any, Any], None]:
    """Compare what two environments returned, bit for bit."""

    def same(first: Any, second: Any) -> None:
        """The same values of the same types, all the way down."""
        if isinstance(first, dict):
            assert first.keys() == second.keys()
            for key in first:
                same(first[key], second[key])
        elif isinstance(first, tuple) or (isinstance(first, np.ndarray) and first.dtype == object):
            for one, other in zip(first, second, strict=True):
                same(one, other)
        elif first is None:
            assert second is None
        else:
            assert np.array_equal(first, second)
            assert np.asarray(first).dtype == np.asarray(second).dtype

    return same
