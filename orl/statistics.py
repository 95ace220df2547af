"""Aggregates over seeds and tasks, with intervals. scipy computes all of them.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.
Shape key: S seeds (runs), T tasks, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from orl import seeding
from orl.arrays import Float64Array

Scores = Float64Array


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
    scores: ArrayLike,
    statistic: Callable[..., Scores] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic from a bootstrap stratified by task: runs are redrawn within each task.

    This is `scipy.stats.bootstrap` with a sample for each task.

    Args:
        scores: (S,) or (S, T).
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

    return _bootstrap(_runs_by_task(scores).T, pooled, confidence, resamples, seed)


def probability_of_improvement(
    scores: ArrayLike, others: ArrayLike, *, confidence: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """How likely a run of the first kind beats one of the second on a random task, with its interval (section 4.3).

    scipy draws the resamples; the probability itself is ours, because scipy has none that can be averaged over tasks.

    Args:
        scores: (S,) or (S, T); ties count one half.
        others: (S',) or (S', T).
        confidence: share of the bootstrap distribution inside, in (0, 1).
        resamples: R, bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Probability, and (lower, upper).
    """
    first, second = _runs_by_task(scores).T, _runs_by_task(others).T
    if len(first) != len(second):
        raise ValueError(f"scores of {len(first)} tasks against {len(second)}; give the same tasks")

    def superiority(*tasks: Scores, axis: int) -> Scores:
        """Mean over tasks and pairs of 1(x > y) + 1(x = y) / 2; tasks of the first kind, then of the second."""
        pairs = zip(tasks[: len(first)], tasks[len(first) :], strict=True)
        wins = [(x[..., :, None] > y[..., None, :]) + 0.5 * (x[..., :, None] == y[..., None, :]) for x, y in pairs]
        return np.asarray(np.mean([won.mean(axis=(-2, -1)) for won in wins], axis=0))

    drawn = _bootstrap([*first, *second], superiority, confidence, resamples, seed)
    return float(superiority(*first, *second, axis=-1)), drawn


def _bootstrap(
    samples: Sequence[Scores] | Scores, statistic: Callable[..., Scores], confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of a statistic of several samples, of which each is redrawn by itself."""
    from scipy.stats import bootstrap

    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie in (0, 1)")
    generator = seeding.numpy_generator(seed, "bootstrap")
    low, high = bootstrap(
        list(samples), statistic, n_resamples=resamples, vectorized=True, confidence_level=confidence,
        method="percentile", rng=generator,
    ).confidence_interval  # fmt: skip
    return float(low), float(high)


def _runs_by_task(scores: ArrayLike) -> Scores:
    values = _check_scores(scores)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(
            f"scores of shape {np.shape(scores)}: an interval needs (runs,) or (runs, tasks), two runs or more"
        )
    return values


def _check_scores(scores: ArrayLike) -> Scores:
    values = np.asarray(scores, np.float64)
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"scores {values.tolist()}: give at least one, none of them NaN")
    return values
