"""Aggregates over seeds and tasks, intervals and tests: hand values, and how often they hold what they promise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats

from orl import statistics
from orl.arrays import Float64Array
from orl.statistics import Estimate, interquartile_mean, interval, probability_of_improvement


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


def coverage(make_interval: Callable[[np.random.Generator], tuple[float, float]], truth: float) -> float:
    """How often an interval of fresh samples holds the truth, in 1,000 experiments."""
    ends = np.array([make_interval(np.random.default_rng(experiment)) for experiment in range(1_000)])
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


def is_honest(covered: float) -> bool:
    """What 1,000 experiments tell of 95 %: standard error 0.7 %, and some room for samples that are not normal."""
    return 0.925 <= covered <= 0.975


def seeds(generator: np.random.Generator, count: int) -> Float64Array:
    """Returns with a coefficient of variation of 0.35 around 1,000: that of online training."""
    return generator.normal(1_000, 350, count)


@pytest.mark.parametrize("count", [5, 10])
def test_students_interval_holds_the_truth_in_95_of_100_and_a_percentile_bootstrap_does_not(count: int) -> None:
    def bootstrapped(generator: np.random.Generator) -> tuple[float, float]:
        return interval(seeds(generator, count), np.mean, resamples=300)  # type: ignore[arg-type]

    assert is_honest(coverage(lambda generator: ends(statistics.mean(seeds(generator, count))), 1_000))
    by_bootstrap = coverage(bootstrapped, 1_000)
    assert not is_honest(by_bootstrap)
    assert by_bootstrap < {5: 0.89, 10: 0.93}[count]


@pytest.mark.parametrize("count", [5, 10])
def test_intervals_of_difference_and_ratio_hold_the_truth_in_95_of_100(count: int) -> None:
    """Also where one agent's seeds spread three times as far as the other's, and where tasks differ."""

    def pair(generator: np.random.Generator) -> tuple[dict[str, Float64Array], dict[str, Float64Array]]:
        others = {"one": generator.normal(1_000, 100, count), "two": generator.normal(3_000, 300, count)}
        return {"one": seeds(generator, count), "two": 2 * seeds(generator, count)}, others

    assert is_honest(coverage(lambda generator: ends(statistics.difference(*pair(generator))), -500))
    assert is_honest(coverage(lambda generator: ends(statistics.ratio(*pair(generator))), 0.75))


@pytest.mark.parametrize("count", [5, 10])
def test_the_permutation_test_errs_in_5_of_100_where_agents_are_equal(count: int) -> None:
    def p_value(experiment: int) -> float:
        generator = np.random.default_rng(experiment)
        one, other = seeds(generator, count), seeds(generator, count)
        return statistics.permutation_test(one, other, resamples=252)

    assert 0.02 <= np.mean([p_value(experiment) <= 0.05 for experiment in range(400)]) <= 0.08


def ends(estimate: Estimate) -> tuple[float, float]:
    """The interval, which has to be there."""
    assert estimate.interval is not None
    return estimate.interval


def test_the_mean_of_five_seeds_has_students_interval_and_four_have_none() -> None:
    value, (low, high) = statistics.mean([1, 2, 3, 4, 5])[0], ends(statistics.mean([1, 2, 3, 4, 5]))
    half = 2.7764451 * np.sqrt(2.5 / 5)  # t at 0.975 with 4 degrees of freedom
    assert (value, low, high) == pytest.approx((3.0, 3 - half, 3 + half))
    assert statistics.mean([1, 2, 3, 4]) == (2.5, None)
    assert statistics.mean([7, 7, 7, 7, 7]) == (7.0, (7.0, 7.0))


def test_the_difference_is_that_of_scipys_welch() -> None:
    generator = np.random.default_rng(0)
    one, other = generator.normal(3, 1, 5), generator.normal(2, 4, 9)
    expected = scipy.stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    assert ends(statistics.difference(one, other)) == pytest.approx((expected.low, expected.high))
    assert statistics.difference(one[:4], other).interval is None


def test_the_ratio_is_a_set_of_ratios_whose_contrast_may_be_zero() -> None:
    """Fieller by hand: at both ends, the mean less the ratio times the other mean is t standard errors from 0."""
    one, other = np.array([3.0, 4, 5, 6, 7]), np.array([1.0, 2, 3, 2, 2])
    value, (low, high) = statistics.ratio(one, other)[0], ends(statistics.ratio(one, other))
    assert value == 2.5
    assert low < 2.5 < high
    variances = one.var(ddof=1) / 5, other.var(ddof=1) / 5
    weighted = variances[0], value**2 * variances[1]
    quantile = scipy.stats.t.ppf(0.975, sum(weighted) ** 2 / sum(part**2 / 4 for part in weighted))
    for end in (low, high):
        error = np.sqrt(variances[0] + end**2 * variances[1])
        assert abs(one.mean() - end * other.mean()) == pytest.approx(quantile * error)
    assert statistics.ratio(one, other - 1.9).interval is None  # a mean that may be 0
    assert np.isnan(statistics.ratio(one, -other).value)


def test_the_permutation_test_by_hand() -> None:
    """Of the 20 ways to deal six seeds, two have means as far apart: those that were seen, and their mirror image."""
    assert statistics.permutation_test([4, 5, 6], [1, 2, 3]) == pytest.approx(2 / 20)
    assert statistics.permutation_test([1, 1, 1], [1, 1, 1]) == 1.0
    one, other = [6.0, 9.0, 7.0, 8.0, 9.5, 5.0], [5.0, 7.5, 4.0, 6.5, 8.0, 6.0]
    expected = scipy.stats.permutation_test((one, other), lambda x, y: np.mean(x) - np.mean(y)).pvalue
    assert statistics.permutation_test(one, other) == pytest.approx(expected, abs=0.01)


def test_seeds_change_sides_within_their_task() -> None:
    """Tasks that are 1,000 apart hide nothing, while pooled they would: 2 of 20 x 20 deals are as far."""
    one = {"easy": [1004, 1005, 1006], "hard": [4, 5, 6]}
    other = {"hard": [1, 2, 3], "easy": [1001, 1002, 1003]}
    assert statistics.permutation_test(one, other) == pytest.approx(2 / 400, rel=0.2)
    assert statistics.permutation_test([*one["easy"], *one["hard"]], [*other["easy"], *other["hard"]]) > 0.5


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([0.5, 0.6]) == [1.0, 1.0]
    assert statistics.holm([]) == []


def test_non_inferiority_says_what_the_interval_of_the_ratio_says() -> None:
    one, other = np.array([9.0, 10, 11, 10, 10.5]), np.array([10.0, 10.5, 9.5, 10, 10])
    low, _ = ends(statistics.ratio(one, other))
    assert statistics.non_inferiority(one, other, 0.1) < 0.025
    assert low > 0.9
    assert statistics.non_inferiority(one, other, 0.0) > 0.025
    assert low < 1.0


def test_measures_of_a_training_by_hand() -> None:
    steps, returns = [0, 10, 20, 40], np.array([[0.0, 8.0], [2.0, 6.0], [4.0, 9.0], [6.0, 1.0]])
    assert statistics.measure("final", steps, returns).tolist() == [6.0, 1.0]
    assert statistics.measure("best", steps, returns).tolist() == [6.0, 9.0]
    assert statistics.measure("last", steps, returns, last=2).tolist() == [5.0, 5.0]
    area = [(3 * 10 + 5 * 20) / 30, (7.5 * 10 + 5 * 20) / 30]
    assert statistics.measure("auc", steps, returns, begin=5).tolist() == pytest.approx(area)


def test_runs_by_name_of_their_task_may_have_different_numbers_of_seeds() -> None:
    scores = {"a": [1.0, 2.0, 3.0], "b": [5.0, 6.0]}
    low, high = interval(scores, resamples=200)
    assert 1.0 <= low < high <= 6.0
    assert statistics.performance_profile(scores, [1.5, 5.5]).tolist() == pytest.approx([(2 / 3 + 1) / 2, 0.25])
    with pytest.raises(ValueError, match="scores of a, b against a, c; give the same tasks"):
        statistics.difference(scores, {"a": [1.0], "c": [2.0]})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: statistics.mean([1.0, np.inf]), "none of them NaN or infinite"),
        (lambda: statistics.measure("auc", [1, 2], [[1.0], [2.0]], begin=2), "1 evaluations from 2 on: an area needs"),
        (lambda: statistics.measure("last", [1, 2], [[1.0], [2.0]]), "2 evaluations: 5 are to be averaged"),
        (lambda: statistics.non_inferiority([1.0] * 5, [1.0] * 5, 1.0), r"margin=1\.0: .* \[0, 1\), such as 0\.1"),
        (lambda: statistics.non_inferiority([1.0] * 5, [-1.0] * 5, 0.1), "not above 0 here; compare the difference"),
        (lambda: statistics.non_inferiority([1.0] * 4, [1.0] * 5, 0.1), "4 seeds: give 5 or more"),
    ],
)
def test_claims_that_cannot_be_decided_are_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
