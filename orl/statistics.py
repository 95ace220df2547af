"""Measures of a training, aggregates over seeds and tasks, intervals and tests: the one module that decides claims.

Of one task: the mean with Student's t interval, which holds 95 % with five seeds and more; fewer have no interval, and
the seeds themselves are shown. A percentile bootstrap of three seeds holds 77 %, of five 91 %: it serves where three
and more tasks, or dozens of contexts, are pooled. Two agents are compared by the interval of their difference or ratio.

Runs are given as (S,) scores of one task, as (S, T), or as (S,) by the tasks' names, whose numbers of seeds may differ.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264;
Patterson et al. 2024, "Empirical Design in Reinforcement Learning", arXiv 2304.01315; Fieller 1954; Holm 1979.
Shape key: S seeds (runs), T tasks, R resamples, E evaluations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from orl import seeding
from orl.arrays import Float64Array

Scores = Float64Array
Runs = ArrayLike | Mapping[str, ArrayLike]
Measure = Literal["last", "auc", "final", "best"]
MEASURES: tuple[Measure, ...] = get_args(Measure)
FEWEST_SEEDS = 5  # of an interval over the seeds of a task
LAST = 5  # evaluations that `last` averages
RESAMPLES = 200_000  # of a permutation test: all of them for ten seeds against ten


class Estimate(NamedTuple):
    """A number with its interval; None where there are too few seeds for one, or where it has no end."""

    value: float
    interval: tuple[float, float] | None


def measure(name: Measure, clock: ArrayLike, returns: ArrayLike, *, last: int = LAST, begin: float = 0.0) -> Scores:
    """One number for each seed of a training, (S,).

    Args:
        name: `last` is the mean of the last evaluations, `auc` the area under the curve divided by its width (the mean
            return from `begin` on), `final` the last evaluation, `best` the highest one.
        clock: (E,) steps or updates of the evaluations, rising.
        returns: (E, S) mean returns.
        last: evaluations that `last` averages.
        begin: of the area, on the clock; it starts at the first evaluation that is not before.

    Raises:
        ValueError: fewer evaluations than the measure needs.
    """
    x, y = np.asarray(clock, np.float64), np.asarray(returns, np.float64)
    if name == "auc":
        x, y = x[x >= begin], y[x >= begin]
        if len(x) < 2:
            raise ValueError(f"{len(x)} evaluations from {begin:,.0f} on: an area needs two; let it begin earlier")
        return np.asarray(np.trapezoid(y, x, axis=0) / (x[-1] - x[0]))
    if len(x) < (needed := last if name == "last" else 1):
        raise ValueError(f"{len(x)} evaluations: {needed} are to be averaged; evaluate more often, or average fewer")
    if name == "last":
        return np.asarray(y[-last:].mean(axis=0))
    return np.asarray(y[-1] if name == "final" else y.max(axis=0))


def mean(scores: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean over the seeds of one task with Student's t interval, from five seeds on.

    Args:
        scores: (S,).
        confidence: how often the interval holds the true mean, in (0, 1).

    Raises:
        ValueError: no score, or NaN.
    """
    values = _check_scores(scores)
    return _contrast([values], [], 0.0, confidence)


def difference(scores: Runs, others: Runs, *, confidence: float = 0.95) -> Estimate:
    """How much higher the mean of the first is, on the mean over tasks, with Welch's t interval, from five seeds on.

    Args:
        scores: of the first agent.
        others: of the second, of the same tasks; its seeds are not paired with the first's.
        confidence: how often the interval holds the true difference, in (0, 1).

    Raises:
        ValueError: other tasks, no score, or NaN.
    """
    return _contrast(*_pairs(scores, others), 1.0, confidence)


def ratio(scores: Runs, others: Runs, *, confidence: float = 0.95) -> Estimate:
    """The first agent's mean over the second's, each averaged over tasks, with Fieller's interval, from five seeds on.

    Args:
        scores: of the first agent.
        others: of the second, of the same tasks.
        confidence: how often the interval holds the true ratio, in (0, 1).

    Returns:
        The ratio, NaN where the second's mean is not above 0. It has no interval where that mean may be 0.

    Raises:
        ValueError: other tasks, no score, or NaN.
    """
    first, second = _pairs(scores, others)
    above, below = _contrast(first, [], 0.0, confidence).value, _contrast(second, [], 0.0, confidence).value
    if below <= 0:
        return Estimate(float("nan"), None)
    value = above / below
    if _fewest(first, second) < FEWEST_SEEDS:
        return Estimate(value, None)
    variances, freedom = _variances(first, second, value)
    t2 = _quantile(confidence, freedom) ** 2
    # The ends are the roots r of (above - r below)^2 = t^2 (variance above + r^2 variance below).
    a, b, c = below**2 - t2 * variances[1], above * below, above**2 - t2 * variances[0]
    if a <= 0:
        return Estimate(value, None)
    root = np.sqrt(max(b**2 - a * c, 0.0))
    return Estimate(value, (float((b - root) / a), float((b + root) / a)))


def permutation_test(scores: Runs, others: Runs, *, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of the difference of means: seeds change sides, unpaired, and within their task alone.

    `scipy.stats.permutation_test` deals the seeds of each task, in all ways where there are at most `resamples`.

    Args:
        scores: of the first agent.
        others: of the second, of the same tasks.
        resamples: R.
        seed: of what is dealt at random.

    Returns:
        How often the mean over tasks of a dealt difference is at least as far from 0 as the one that was seen.
    """
    from scipy.stats import permutation_test as permuted

    generator = seeding.numpy_generator(seed, "bootstrap")

    def higher(x: Scores, y: Scores, axis: int) -> Scores:
        return np.asarray(x.mean(axis=axis) - y.mean(axis=axis))

    pairs = list(zip(*_pairs(scores, others), strict=True))
    how = {"vectorized": True, "n_resamples": resamples, "batch": 20_000, "rng": generator}
    dealt = [permuted(pair, higher, **how) for pair in pairs]
    seen, nulls = np.mean([each.statistic for each in dealt]), [each.null_distribution for each in dealt]
    # What every task was dealt is drawn again, so that tasks are dealt apart from one another.
    null = nulls[0] if len(pairs) == 1 else np.mean([generator.choice(of_task, resamples) for of_task in nulls], axis=0)
    is_whole = len(pairs) == 1 and math.comb(sum(map(len, pairs[0])), len(pairs[0][0])) <= resamples
    as_far = int(np.sum(np.abs(null) >= abs(seen) * (1 - 1e-9)))
    return as_far / len(null) if is_whole else (as_far + 1) / (len(null) + 1)


def non_inferiority(scores: Runs, others: Runs, margin: float) -> float:
    """One-sided p-value of `the first mean is below 1 - margin times the second`, by Welch's t.

    A value below 0.025 shows that the first agent is at most the margin worse; it says the same as a 95 % interval of
    their ratio whose lower end is above 1 - margin.

    Args:
        scores: of the first agent.
        others: of the second, of the same tasks.
        margin: share of the second's mean that may be lost, in [0, 1).

    Raises:
        ValueError: a margin outside [0, 1), a second mean that is not above 0, fewer than five seeds.
    """
    from scipy.stats import t

    if not 0 <= margin < 1:
        raise ValueError(f"margin={margin}: the share that may be lost lies in [0, 1), such as 0.1")
    first, second = _pairs(scores, others)
    if _contrast(second, [], 0.0, 0.95).value <= 0:
        raise ValueError("a margin is a share of the second's mean, which is not above 0 here; compare the difference")
    if (fewest := _fewest(first, second)) < FEWEST_SEEDS:
        raise ValueError(f"{fewest} seeds: give {FEWEST_SEEDS} or more for a margin")
    value = _contrast(first, second, 1 - margin, 0.95).value
    variances, freedom = _variances(first, second, 1 - margin)
    error = np.sqrt(variances[0] + (1 - margin) ** 2 * variances[1])
    return float(t.sf(value / error, freedom)) if error > 0 else float(value <= 0)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values of a family of tests, in their order: below 0.05 means with at most 5 % any false claim.

    Source: Holm 1979; scipy adjusts for the rate of false discoveries alone.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def performance_profile(scores: Runs, thresholds: ArrayLike) -> Scores:
    """Share of runs above each threshold, (N,) in [0, 1], averaged over tasks (section 4.2 of Agarwal et al.).

    Args:
        scores: of one agent.
        thresholds: (N,).
    """
    limits = np.asarray(thresholds, np.float64)
    return np.asarray(np.mean([(runs[:, None] > limits).mean(axis=0) for runs in _runs_by_task(scores, 1)], axis=0))


def interquartile_mean(scores: ArrayLike, axis: int | None = None) -> Scores:
    """Mean of what remains when the lowest and the highest quarter, rounded down, are dropped (section 4.3).

    This is `scipy.stats.trim_mean` with a quarter cut off at both ends.

    Args:
        scores: any shape; without `axis` all entries are one sample.
        axis: the sample's axis.

    Raises:
        ValueError: no score, or NaN.
    """
    from scipy.stats import trim_mean  # here: a second that commands without statistics need not wait

    return np.asarray(trim_mean(_check_scores(scores), 0.25, axis=axis))


def interval(
    scores: Runs,
    statistic: Callable[..., Scores] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic from a bootstrap stratified by task: runs are redrawn within each task.

    This is `scipy.stats.bootstrap` with a sample for each task.

    Args:
        scores: two runs or more of each task.
        statistic: takes (R, S T) and `axis`, returns (R,).
        confidence: share of the bootstrap distribution inside, in (0, 1).
        resamples: R, bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: fewer than two runs, NaN, or a confidence outside (0, 1).
    """

    def pooled(*tasks: Scores, axis: int) -> Scores:
        return statistic(np.concatenate(tasks, axis=axis), axis=axis)

    return _bootstrap(_runs_by_task(scores), pooled, confidence, resamples, seed)


def probability_of_improvement(
    scores: Runs, others: Runs, *, confidence: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """How likely a run of the first kind beats one of the second on a random task, with its interval (section 4.3).

    scipy draws the resamples; the probability itself is ours, because scipy has none that can be averaged over tasks.

    Args:
        scores: of the first agent; ties count one half.
        others: of the second, of the same tasks.
        confidence: share of the bootstrap distribution inside, in (0, 1).
        resamples: R, bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Probability, and (lower, upper).
    """
    first, second = _pairs(scores, others, 2)

    def superiority(*tasks: Scores, axis: int) -> Scores:
        """Mean over tasks and pairs of 1(x > y) + 1(x = y) / 2; tasks of the first kind, then of the second."""
        pairs = zip(tasks[: len(first)], tasks[len(first) :], strict=True)
        wins = [(x[..., :, None] > y[..., None, :]) + 0.5 * (x[..., :, None] == y[..., None, :]) for x, y in pairs]
        return np.asarray(np.mean([won.mean(axis=(-2, -1)) for won in wins], axis=0))

    drawn = _bootstrap([*first, *second], superiority, confidence, resamples, seed)
    return float(superiority(*first, *second, axis=-1)), drawn


def _bootstrap(
    samples: Sequence[Scores], statistic: Callable[..., Scores], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of several samples, of which each is redrawn by itself."""
    from scipy.stats import bootstrap

    _check_confidence(confidence)
    generator = seeding.numpy_generator(seed, "bootstrap")
    low, high = bootstrap(
        list(samples), statistic, n_resamples=resamples, vectorized=True, confidence_level=confidence,
        method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    return float(low), float(high)


def _contrast(first: Sequence[Scores], second: Sequence[Scores], weight: float, confidence: float) -> Estimate:
    """Mean over tasks of the first's mean less `weight` times the second's, with its t interval."""
    _check_confidence(confidence)
    value = np.mean([x.mean() for x in first]) - (weight * np.mean([y.mean() for y in second]) if second else 0.0)
    if _fewest(first, second) < FEWEST_SEEDS:
        return Estimate(float(value), None)
    variances, freedom = _variances(first, second, weight)
    half = _quantile(confidence, freedom) * np.sqrt(variances[0] + weight**2 * variances[1])
    return Estimate(float(value), (float(value - half), float(value + half)))


def _variances(first: Sequence[Scores], second: Sequence[Scores], weight: float) -> tuple[Scores, float]:
    """Squared standard errors of both means over tasks, (2,), and the degrees of freedom of their contrast.

    Source: Welch 1947, Satterthwaite 1946.
    """
    parts = [[x.var(ddof=1) / len(x) / len(runs) ** 2 for x in runs] for runs in (first, second)]
    weighted = [part * factor for side, factor in zip(parts, (1.0, weight**2), strict=True) for part in side]
    squares = sum(part**2 / (len(x) - 1) for part, x in zip(weighted, [*first, *second], strict=True))
    freedom = sum(weighted) ** 2 / squares if squares > 0 else np.inf
    return np.array([sum(side) for side in parts]), float(freedom)


def _quantile(confidence: float, freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, freedom))


def _fewest(*runs: Sequence[Scores]) -> int:
    return min(len(scores) for side in runs for scores in side)


def _pairs(scores: Runs, others: Runs, fewest: int = 1) -> tuple[list[Scores], list[Scores]]:
    """Runs by task of two agents, tasks in one order."""
    if isinstance(scores, Mapping) and isinstance(others, Mapping):
        if scores.keys() != others.keys():
            raise ValueError(f"scores of {', '.join(scores)} against {', '.join(others)}; give the same tasks")
        others = {task: others[task] for task in scores}
    first, second = _runs_by_task(scores, fewest), _runs_by_task(others, fewest)
    if len(first) != len(second):
        raise ValueError(f"scores of {len(first)} tasks against {len(second)}; give the same tasks")
    return first, second


def _runs_by_task(scores: Runs, fewest: int = 2) -> list[Scores]:
    """(S,) of each task, with at least so many runs."""
    if isinstance(scores, Mapping):
        tasks = [_check_scores(runs) for runs in scores.values()]
    else:
        values = _check_scores(scores)
        tasks = list(values.T) if values.ndim == 2 else [values]
    for runs in tasks:
        if runs.ndim != 1 or len(runs) < fewest:
            shape = runs.shape if isinstance(scores, Mapping) else np.shape(scores)
            needed = "two runs or more" if fewest == 2 else "a run or more"
            raise ValueError(f"scores of shape {shape}: an interval needs (runs,) or (runs, tasks), {needed}")
    return tasks


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie in (0, 1)")


def _check_scores(scores: ArrayLike) -> Scores:
    values = np.asarray(scores, np.float64)
    if values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"scores {values.tolist()}: give at least one, none of them NaN or infinite")
    return values
