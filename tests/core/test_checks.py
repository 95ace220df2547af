"""Rescaling between an environment's unit and [-1, 1]."""

from __future__ import annotations

import numpy as np
import pytest

from orl import checks


def test_rescaling_by_hand_and_back() -> None:
    low, high = np.array([0, -2], np.float32), np.array([10, 2], np.float32)
    actions = np.array([[0, -2], [2.5, 0], [10, 2]], np.float32)
    unit = checks.to_unit(actions, low, high)
    assert unit.tolist() == [[-1.0, -1.0], [-0.5, 0.0], [1.0, 1.0]]
    assert np.array_equal(checks.from_unit(unit, low, high), actions)


def test_what_leaves_is_never_beyond_the_bounds() -> None:
    low, high = np.array([-0.4], np.float32), np.array([0.4], np.float32)
    actions = checks.from_unit(np.array([[1.0000001], [-2.0], [1.0]], np.float32), low, high)
    assert (actions >= low).all()
    assert (actions <= high).all()


def test_bounds_of_one_leave_actions_bit_equal() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    one = np.ones(2, np.float32)
    assert np.array_equal(checks.to_unit(actions, -one, one), actions)
    assert np.array_equal(checks.from_unit(actions, -one, one), actions)


def test_a_bound_is_one_number_or_one_per_dimension() -> None:
    assert checks.bound("low", -2, 3, "x").tolist() == [-2.0, -2.0, -2.0]
    assert checks.bound("low", [-1, -2, -3], 3, "x").tolist() == [-1.0, -2.0, -3.0]


def test_the_tolerance_is_of_the_half_range() -> None:
    low, high = np.array([-100], np.float32), np.array([100], np.float32)
    assert checks.rescale_actions(np.array([[100.09]], np.float32), low, high, False, "x").tolist() == [[1.0]]
    with pytest.raises(ValueError, match=r"action 100\.2 in row 0"):
        checks.rescale_actions(np.array([[100.2]], np.float32), low, high, False, "x")
