"""Spaces of contexts: order, ranges, scales, and what they refuse."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orl.context import ContextSpace, ContextVariable, read_context

MASS = ContextVariable("mass", "kg", 0.1, 10.0, 1.0, "log")
SPEED = ContextVariable("speed", "m/s", -1.0, 3.0, 0.5)
TRACK = ContextVariable("track", "", 0, 9, 4, "integer")
SPACE = ContextSpace((MASS, SPEED, TRACK))


def test_defaults_and_names_are_in_order() -> None:
    assert SPACE.names == ("mass", "speed", "track")
    assert SPACE.default.tolist() == [1.0, 0.5, 4.0]


def test_each_scale_is_normalized_to_its_range() -> None:
    assert SPACE.normalize([[0.1, -1, 0], [1, 1, 4.5], [10, 3, 9]]) == pytest.approx(
        np.array([[-1.0] * 3, [0.0] * 3, [1.0] * 3])
    )
    assert SPACE.normalize([100.0, 5.0, 18.0]) == pytest.approx([2.0, 2.0, 3.0])  # beyond, where they extrapolate


@given(st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=2), st.integers(0, 9))
def test_normalizing_can_be_undone(place: list[float], track: int) -> None:
    normalized = np.array([*place, SPACE.normalize([1.0, 1.0, track])[2]])
    context = SPACE.denormalize(normalized)
    assert context[2] == track
    assert SPACE.normalize(context) == pytest.approx(normalized)
    assert SPACE.normalize(np.tile(context, (2, 3, 1))).shape == (2, 3, 3)


def test_samples_are_uniform_in_the_scale_and_come_from_the_generator() -> None:
    generator = np.random.default_rng(0)
    samples = np.array([SPACE.sample(generator) for _ in range(4_000)])
    assert np.array_equal(SPACE.rows(samples), samples)
    shares = (SPACE.normalize(samples)[:, :2] + 1) / 2
    assert np.quantile(shares, [0.25, 0.5, 0.75], axis=0) == pytest.approx(
        np.array([[0.25, 0.5, 0.75]] * 2).T, abs=0.03
    )
    counts = np.bincount(samples[:, 2].astype(int))
    assert len(counts) == 10
    assert 320 < counts.min() <= counts.max() < 480  # the ends as often as the others
    assert SPACE.sample(np.random.default_rng(7)).tolist() == SPACE.sample(np.random.default_rng(7)).tolist()


def test_a_grid_has_its_ends_exactly_and_the_last_variable_changes_fastest() -> None:
    grid = SPACE.grid([3, 2, 10])
    assert grid.shape == (60, 3)
    assert np.unique(grid[:, 0]) == pytest.approx([0.1, 1.0, 10.0])
    assert grid[:10, 2].tolist() == list(range(10))
    assert grid[0].tolist() == [0.1, -1.0, 0.0]
    assert grid[-1].tolist() == [10.0, 3.0, 9.0]
    assert SPACE.grid(2).shape == (8, 3)
    assert np.array_equal(SPACE.rows(grid), grid)


@given(st.floats(0.1, 3.0), st.floats(1.01, 3.0), st.integers(2, 30), st.integers(2, 10))
def test_the_command_line_is_read(low: float, factor: float, masses: int, tracks: int) -> None:
    space, grid = SPACE.parse(f"track=0:9:{tracks}, mass={low!r}:{low * factor!r}:{masses}")
    assert space.names == ("track", "mass")
    assert space.ranges == {"track": (0.0, 9.0), "mass": (low, low * factor)}
    assert grid.shape == (masses * tracks, 2)
    column = grid[:masses, 1]
    assert (column[0], column[-1]) == (low, low * factor)
    assert np.diff(np.log(column)) == pytest.approx(np.log(factor) / (masses - 1))
    assert space.normalize(grid)[[0, -1]] == pytest.approx(np.array([[-1.0, -1.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "write name=low:high:number"),
        ("mass", "write name=low:high:number"),
        ("mass=0.5:2", "write name=low:high:number"),
        ("mass=0.5:2:20,", "write name=low:high:number"),
        ("mass=0.5:2:20:4", "write name=low:high:number"),
        ("mass=0.5:2:4,mass=0.5:2:4", "each name once"),
        ("mass=half:2:20", "not numbers; write name="),
        ("mass=0.5:2:2.5", "not numbers; write name="),
        ("mass=0.5:2:1", "a grid of 1; give at least 2"),
        ("mass=0.5:2:-3", "a grid of -3; give at least 2"),
        ("mass=2:0.5:20", "range [2, 0.5] is empty; give low < high"),
        ("mass=0.05:2:20", "mass=0.05 is outside [0.1, 10] kg; it is taken with allow_extrapolation"),
        ("mass=nan:2:20", "mass=nan is not finite"),
        ("weight=1:2:3", "unknown context 'weight'; choose from mass, speed, track"),
        ("track=0:9:11", "no whole number twice"),
        ("track=0.5:9:2", "track=0.5 must be a whole number"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SPACE.parse(text)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        ({"mass": 1.0, "speed": 1.0}, "lacks track"),
        (
            {"mass": 1.0, "speed": 1.0, "track": 1, "grip": 1.0},
            "unknown context 'grip'; choose from mass, speed, track",
        ),
        ([1.0, 1.0], "shape (2,); give one number for each of ('mass', 'speed', 'track')"),
        ([[1.0, 1.0, 1.0]], "shape (1, 3)"),
        ([np.nan, 1.0, 1.0], "mass=nan is not finite"),
        ([1.0, np.inf, 1.0], "speed=inf is not finite"),
        ([1.0, 3.01, 1.0], "speed=3.01 is outside [-1, 3] m/s; it is taken with allow_extrapolation"),
        ([1.0, 1.0, 1.5], "track=1.5 must be a whole number"),
        ({"mass": "heavy", "speed": 1.0, "track": 1}, "context ['heavy', 1.0, 1]: give one number for each of"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(context: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SPACE.array(context)


def test_a_mapping_is_brought_into_order() -> None:
    context = {"track": 2, "mass": 0.5, "speed": -1}
    assert SPACE.array(context).tolist() == [0.5, -1.0, 2.0]
    assert SPACE.rows([context, context]).tolist() == [[0.5, -1.0, 2.0]] * 2
    with pytest.raises(ValueError, match="lacks speed, track"):
        SPACE.rows([context, {"mass": 0.5}])


def test_rounding_to_single_precision_is_forgiven_and_undone() -> None:
    assert float(np.float32(0.7)) < 0.7
    space = ContextSpace((ContextVariable("share", "", 0.7, 0.9, 0.8),))
    assert space.array(np.array([0.7], np.float32))[0] == 0.7
    large, small = (ContextSpace((ContextVariable("share", "", 0.0, high, 0.0),)) for high in (1e4, 1e-4))
    assert large.array([1e4 + 5e-3])[0] == 1e4
    with pytest.raises(ValueError, match="is outside"):
        small.array([1e-4 + 1e-9])


def test_extrapolation_is_allowed_on_request_but_not_nonsense() -> None:
    assert SPACE.array([100.0, -9.0, 12.0], allow_extrapolation=True).tolist() == [100.0, -9.0, 12.0]
    for context, message in (
        ([-1.0, 0.0, 0.0], "mass=-1 must be > 0"),
        ([1.0, np.nan, 0.0], "speed=nan is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            SPACE.array(context, allow_extrapolation=True)
    wider = SPACE.select({"mass": (0.01, 2.0)}, allow_extrapolation=True)
    assert wider.ranges == {"mass": (0.01, 2.0)}


def test_variables_can_be_selected_and_narrowed() -> None:
    assert SPACE.select(("track", "mass")).variables == (TRACK, MASS)
    narrow = SPACE.select({"mass": (0.5, 2.0)})
    assert narrow.variables[0].default == 1.0
    assert narrow.normalize([[0.5], [1.0], [2.0]]) == pytest.approx(np.array([[-1.0], [0.0], [1.0]]))
    for chosen in ((), ("mass", "mass")):
        with pytest.raises(ValueError, match="name at least one, and each once"):
            SPACE.select(chosen)
    with pytest.raises(ValueError, match=r"mass: range 3.*give \(low, high\)"):
        SPACE.select({"mass": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((1.0, 1.0, 1.0, "linear"), "range [1, 1] is empty"),
        ((0.0, 1.0, 0.5, "log"), "x=0 must be > 0"),
        ((0.0, np.inf, 1.0, "linear"), "x=inf is not finite"),
        ((0.0, 5.0, 2.5, "integer"), "x=2.5 must be a whole number"),
    ],
)
def test_a_variable_without_a_sensible_range_is_refused(numbers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ContextVariable("x", "", *numbers)


def test_one_context_is_read_as_it_is_typed() -> None:
    assert read_context("mass=1.4, length=7e-1") == {"mass": 1.4, "length": 0.7}


@pytest.mark.parametrize("text", ["", "mass", "mass=", "mass=1:2:3", "mass=1,mass=2", "mass=heavy", "mass=1,", "a b=1"])
def test_what_is_no_context_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="write name=value for each variable"):
        read_context(text)


def test_the_nearest_context_is_so_in_the_scales() -> None:
    space = ContextSpace(
        (ContextVariable("mass", "kg", 0.1, 10.0, 1.0, "log"), ContextVariable("speed", "m/s", 0.0, 10.0, 1.0))
    )
    contexts = space.grid(2)
    assert contexts.tolist() == [[0.1, 0.0], [0.1, 10.0], [10.0, 0.0], [10.0, 10.0]]
    assert space.nearest(contexts, np.array([1.1, 4.9])) == 2
    assert space.nearest(contexts, np.array([0.9, 5.1])) == 1
    assert space.nearest(contexts, np.array([1.0, 5.0])) == 0


def test_numbers_of_numpy_become_plain_ones() -> None:
    legs = np.arange(1, 5)
    variable = ContextVariable("legs", "", legs[0], legs[-1], legs[0], "integer")
    assert json.loads(json.dumps(asdict(variable)))["high"] == 4


def test_a_range_that_leaves_the_default_out_has_its_nearest_end_as_default() -> None:
    space = SPACE.select({"mass": (2.0, 5.0)})
    assert space.default.tolist() == [2.0]
    assert space.array(space.default).tolist() == [2.0]
