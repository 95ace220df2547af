"""Aggregates over seeds and tasks, with intervals.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv 2108.13264.
Shape key: S seeds (runs), T tasks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orl import seeding

Scores = NDArray[np.float64]


def interquartile_mean(scores: ArrayLike, axis: int | None = None) -> Scores:
    """Mean of what remains when the lowest and the highest quarter, rounded down, are dropped (section 4.3).

    Args:
        scores: any shape; without `axis` all entries are one sample.
        axis: the sample's axis.

    Raises:
        ValueError: no score, or NaN.
    """
    values = _checked(scores)
    values = np.sort(values.ravel() if axis is None else np.moveaxis(values, axis, -1), axis=-1)
    dropped = values.shape[-1] // 4
    return np.asarray(values[..., dropped : values.shape[-1] - dropped].mean(axis=-1))


def interval(
    scores: ArrayLike,
    statistic: Callable[..., Scores] = interquartile_mean,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of a statistic from a bootstrap stratified by task: runs are redrawn within each task.

    Args:
        scores: (S,) or (S, T).
        statistic: takes (resamples, n) and `axis`, returns (resamples,).
        confidence: share of the bootstrap distribution inside, in (0, 1).
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: fewer than two runs, NaN, or a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence={confidence}: must lie in (0, 1)")
    runs = _runs_by_task(scores)
    drawn = _resample(runs, resamples, seed)
    return _percentiles(statistic(drawn.reshape(resamples, -1), axis=1), confidence)


def probability_of_improvement(
    scores: ArrayLike, others: ArrayLike, *, confidence: float = 0.95, resamples: int = 2_000, seed: int = 0
) -> tuple[float, tuple[float, float]]:
    """How likely a run of the first kind beats one of the second on a random task, with its interval (section 4.3).

    Args:
        scores: (S,) or (S, T); ties count one half.
        others: (S',) or (S', T).
        confidence: share of the bootstrap distribution inside, in (0, 1).
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Returns:
        Probability, and (lower, upper).
    """
    first, second = _runs_by_task(scores), _runs_by_task(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"scores of {first.shape[1]} tasks against {second.shape[1]}; give the same tasks")
    drawn = _superiority(_resample(first, resamples, seed), _resample(second, resamples, seed + 1))
    return float(_superiority(first[None], second[None])[0]), _percentiles(drawn, confidence)


def _superiority(first: Scores, second: Scores) -> Scores:
    """(R, S, T) and (R, S', T) to (R,): mean over tasks and pairs of 1(x > y) + 1(x = y) / 2."""
    x, y = first[:, :, None], second[:, None]
    return np.asarray(((x > y) + 0.5 * (x == y)).mean(axis=(1, 2, 3)))


def _resample(runs: Scores, resamples: int, seed: int) -> Scores:
    generator = seeding.numpy_generator(seed, "bootstrap")
    count, tasks = runs.shape
    chosen = generator.integers(count, size=(resamples, count, tasks))
    return runs[chosen, np.arange(tasks)]


def _percentiles(values: Scores, confidence: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _runs_by_task(scores: ArrayLike) -> Scores:
    values = _checked(scores)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or len(values) < 2:
        raise ValueError(
            f"scores of shape {np.shape(scores)}: an interval needs (runs,) or (runs, tasks), two runs or more"
        )
    return values


def _checked(scores: ArrayLike) -> Scores:
    values = np.asarray(scores, np.float64)
    if values.size == 0 or np.isnan(values).any():
        raise ValueError(f"scores {values.tolist()}: give at least one, none of them NaN")
    return values
