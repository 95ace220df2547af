"""Aggregates over seeds and tasks: hand values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from orl.statistics import interquartile_mean, interval, probability_of_improvement


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([7.0], 7.0),
        ([1.0, 5.0], 3.0),
        ([1.0, 2.0, 6.0], 3.0),  # a quarter of three, rounded down, is nothing
        ([100.0, 2.0, 4.0, -50.0], 3.0),
        ([0.0, 1.0, 2.0, 6.0, 100.0], 3.0),
        ([0.0, 0.0, 1.0, 2.0, 3.0, 50.0, 60.0], 66 / 5 - 10 / 5),
        (list(range(8)), 3.5),
    ],
)
def test_interquartile_mean_by_hand(scores: list[float], expected: float) -> None:
    assert float(interquartile_mean(scores)) == pytest.approx(expected)


def test_interquartile_mean_of_an_axis_and_of_all() -> None:
    scores = np.array([[0.0, 10.0, 20.0, 90.0], [4.0, 3.0, 2.0, 1.0]])
    assert interquartile_mean(scores, axis=1).tolist() == [15.0, 2.5]
    assert interquartile_mean(scores.T, axis=0).tolist() == [15.0, 2.5]
    assert float(interquartile_mean(scores)) == pytest.approx((2 + 3 + 4 + 10) / 4)


def test_interval_is_reproducible_and_contains_the_statistic() -> None:
    scores = np.random.default_rng(0).normal(50, 10, 12)
    low, high = interval(scores, resamples=2_000)
    assert (low, high) == interval(scores, resamples=2_000)
    assert low < float(interquartile_mean(scores)) < high
    assert (low, high) != interval(scores, resamples=2_000, seed=1)


def test_interval_of_the_mean_of_two_values_by_hand() -> None:
    """Means of resamples of (0, 1) are 0, 1/2, 1 with probability 1/4, 1/2, 1/4."""
    low, high = interval([0.0, 1.0], np.mean, resamples=4_000)  # type: ignore[arg-type]
    assert (low, high) == (0.0, 1.0)
    low, high = interval([0.0, 1.0], np.mean, confidence=0.4, resamples=4_000)  # type: ignore[arg-type]
    assert (low, high) == (0.5, 0.5)
    low, high = interval([0.0, 1.0], np.mean, confidence=0.6, resamples=4_000)  # type: ignore[arg-type]
    assert (low, high) == (0.0, 1.0)  # a fifth lies below, a fifth above


def test_interval_redraws_runs_within_each_task() -> None:
    """Tasks of different difficulty do not widen it: runs of one task all agree here, so that nothing is uncertain."""
    scores = np.array([[0.0, 100.0, 50.0]] * 5)
    low, high = interval(scores, np.mean, resamples=500)  # type: ignore[arg-type]
    assert low == pytest.approx(50.0)
    assert high == pytest.approx(50.0)


def test_tasks_are_redrawn_independently() -> None:
    """If one draw of runs served all tasks, the mean of x and -x would have no spread."""
    runs = np.arange(10.0)
    low, high = interval(np.stack([runs, -runs], axis=1), np.mean, resamples=500)  # type: ignore[arg-type]
    assert low < -0.3
    assert high > 0.3


def test_more_confidence_and_fewer_runs_widen_the_interval() -> None:
    scores = np.random.default_rng(1).normal(size=40)

    def width(values: Any, **keywords: Any) -> float:
        low, high = interval(values, resamples=1_000, **keywords)
        return high - low

    assert width(scores, confidence=0.99) > width(scores) > width(scores, confidence=0.5)
    assert width(scores[:10]) > width(scores)


def test_probability_of_improvement_by_hand_with_ties() -> None:
    # pairs of (1, 2, 3) and (2, 0): 1>0, 2=2, 2>0, 3>2, 3>0 of six
    probability, (low, high) = probability_of_improvement([1, 2, 3], [2, 0])
    assert probability == pytest.approx(4.5 / 6)
    assert 0.0 <= low <= probability <= high <= 1.0


def test_probability_of_improvement_averages_tasks() -> None:
    first = np.array([[1.0, 0.0], [1.0, 0.0]])
    second = np.array([[0.0, 5.0], [0.0, 5.0], [0.0, 0.0]])
    assert probability_of_improvement(first, second)[0] == pytest.approx((1.0 + 1 / 6) / 2)


def test_probability_of_improvement_of_equals_and_of_opposites() -> None:
    assert probability_of_improvement([3, 3], [3, 3]) == (0.5, (0.5, 0.5))
    assert probability_of_improvement([5, 6], [1, 2, 3]) == (1.0, (1.0, 1.0))
    scores = np.random.default_rng(2).normal(size=6)
    forward = probability_of_improvement(scores[:3], scores[3:])[0]
    backward = probability_of_improvement(scores[3:], scores[:3])[0]
    assert forward + backward == pytest.approx(1.0)


def test_runs_of_the_two_kinds_are_redrawn_independently() -> None:
    """If one draw served both, runs would be compared with themselves: one half, without any doubt."""
    runs = np.arange(10.0)
    probability, (low, high) = probability_of_improvement(runs, runs)
    assert probability == 0.5
    assert low < 0.35
    assert high > 0.65


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: interquartile_mean([]), "give at least one, none of them NaN"),
        (lambda: interquartile_mean([1.0, np.nan]), "none of them NaN"),
        (lambda: interval([1.0]), r"scores of shape \(1,\): an interval needs .* two runs or more"),
        (lambda: interval(np.zeros((2, 2, 2))), r"shape \(2, 2, 2\)"),
        (lambda: interval([1.0, 2.0], confidence=1.0), r"confidence=1\.0: must lie in \(0, 1\)"),
        (lambda: probability_of_improvement(np.zeros((2, 2)), np.zeros((2, 3))), "2 tasks against 3"),
    ],
)
def test_what_cannot_be_aggregated_is_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
