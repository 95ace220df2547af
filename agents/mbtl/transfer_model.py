"""The model of transfer: what the policy of each source is expected to score in every context.

J(x, y) = policy quality f(x) + task ease g(y) - gap(x, y). The generalisation gap is linear in the difference of
contexts; a Gaussian process carries the training performance J(x, x) over to contexts that were not trained.

Sources: Cho et al. 2024 (MBTL, arXiv 2408.04498) and its code, the linear gap and `original_gp_model`; Zhou, Cho & Wu
2026 (SD-MBTL), two slopes per dimension by least squares, and J's three terms. Our choices: f, g and the slopes are
fitted together, so that a hard target is not taken for a distant one; near pairs weigh more, because a gap that
flattens out far away matters where the next source would take over from those that are trained.

Shape key: N contexts, d dimensions, k sources. Contexts are scaled to [0, 1]^d.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from orl.arrays import Float64Array, IntArray

if TYPE_CHECKING:  # scikit-learn is imported where it computes: seconds that other agents need not wait
    from sklearn.gaussian_process import GaussianProcessRegressor

BLOCK = 2**18  # pairs of contexts worked on at a time: N x N never is in memory
EASE_RIDGE = 1e-6  # share of a target's weight that pulls its ease to 0: a trend belongs to the slopes
ORIGINAL_SLOPE = 0.005  # of the 2024 rule: score lost per step of the grid
RESIDUAL_NOISE = 0.01  # our choice: keeps the smoothing of residuals from chasing single scores


@dataclass(frozen=True)
class ObservedScores:
    """The rows of the transfer matrix that were observed: sources in the order of training, and their scores."""

    contexts: Float64Array  # (N, d) in [0, 1]
    sources: IntArray  # (k,)
    scores: Float64Array  # (k, N), NaN where not evaluated

    @cached_property
    def coverage(self) -> Float64Array:
        """The best score so far of each target (N,), NaN where it has none."""
        return np.asarray(np.fmax.reduce(self.scores, axis=0, initial=np.nan))

    @cached_property
    def gap(self) -> GeneralisationGap:
        """The generalisation gap, fitted on all rows."""
        return GeneralisationGap.fit(self.contexts, self.sources, self.scores)

    def with_row(self, index: int, row: Float64Array) -> ObservedScores:
        """The same with one source more."""
        return ObservedScores(self.contexts, np.append(self.sources, index), np.vstack([self.scores, row]))


@dataclass(frozen=True)
class GeneralisationGap:
    """J[i, j] = f(x_i) + g(x_j) - gap(x_i, x_j), fitted by least squares."""

    slopes_below: Float64Array  # (d,) score lost per unit by which the target lies below the source
    slopes_above: Float64Array  # (d,) score lost per unit by which the target lies above the source
    policy_quality: Float64Array  # (k,) f, of each source's policy
    task_ease: Float64Array  # (N,) g, of each target
    reach: float = 0.0  # mean L1 distance of a target to its nearest source

    @classmethod
    def constant(cls, slope: float, contexts: Float64Array) -> GeneralisationGap:
        """One slope for every direction, and targets that are equally easy."""
        slopes = np.full(contexts.shape[1], slope)
        return cls(slopes, slopes, np.empty(0), np.zeros(len(contexts)))

    @classmethod
    def fit(cls, contexts: Float64Array, sources: IntArray, scores: Float64Array) -> GeneralisationGap:
        """Weighted least squares on all scores; the smallest solution where there are several.

        A pair at the L1 distance D weighs 1 / (1 + (D / reach)^2): the misfit of a linear gap grows with D.

        Args:
            contexts: (N, d) in [0, 1].
            sources: (k,) indices of contexts.
            scores: (k, N), NaN where not evaluated.
        """
        k, d = len(sources), contexts.shape[1]
        centre = np.nanmean(scores)
        nearest = np.concatenate(
            [np.abs(contexts[sources, None] - contexts[block]).sum(-1).min(0) for block in blocks(len(contexts), k)]
        )
        reach = max(float(nearest.mean()), 1e-12)
        matrix, vector = np.zeros((k + 2 * d, k + 2 * d)), np.zeros(k + 2 * d)
        eliminated = []  # a target's ease is (total - rows @ unknowns) / weight
        for block in blocks(len(contexts), k):
            below, above = _signed_distances(contexts[sources], contexts[block])
            weights = np.isfinite(scores[:, block]) / (1.0 + ((below + above).sum(0) / reach) ** 2)
            values = np.nan_to_num(scores[:, block] - centre)
            slopes = -np.concatenate([below, above])  # (2d, k, n)
            weighted = slopes * weights
            rows = np.concatenate([weights, weighted.sum(1)])  # (k + 2d, n)
            weight = (1.0 + EASE_RIDGE) * np.maximum(weights.sum(0), 1e-300)
            total = (weights * values).sum(0)
            matrix[:k, :k] += np.diag(weights.sum(1))
            matrix[k:, :k] += weighted.sum(2)
            matrix[:k, k:] += weighted.sum(2).T
            matrix[k:, k:] += weighted.reshape(2 * d, -1) @ slopes.reshape(2 * d, -1).T
            matrix -= (rows / weight) @ rows.T
            vector += np.concatenate([(weights * values).sum(1), weighted.reshape(2 * d, -1) @ values.ravel()])
            vector -= (rows / weight) @ total
            eliminated.append((total, rows, weight))
        unknowns = np.linalg.lstsq(matrix, vector, rcond=1e-10)[0]
        ease = np.concatenate([(total - rows.T @ unknowns) / weight for total, rows, weight in eliminated])
        return cls(unknowns[k : k + d], unknowns[k + d :], centre + unknowns[:k], ease, reach)

    def between(self, sources: Float64Array, targets: Float64Array) -> Float64Array:
        """The gap from contexts (n, d) to contexts (m, d), as (n, m)."""
        below, above = self.slopes_below, self.slopes_above
        even, skew = (below + above) / 2, (below - above) / 2
        gap = (sources @ skew)[:, None] - targets @ skew
        for slope, source, target in zip(even, sources.T, targets.T, strict=True):
            gap += slope * np.abs(source[:, None] - target)
        return gap


class TransferModel(NamedTuple):
    """Training performance by a Gaussian process, and the generalisation gap."""

    contexts: Float64Array  # (N, d)
    mean: Float64Array  # (N,) training performance: the score of each context's own policy
    std: Float64Array  # (N,) of that mean, without the noise of a single training
    gap: GeneralisationGap
    weights: Float64Array  # (N, k) of the sources' residuals
    residuals: Float64Array  # (k, N) of the linear gap

    def rows(self, block: slice) -> Float64Array:
        """Expected scores (n, N) of the policies of n contexts."""
        quality = self.mean[block] - self.gap.task_ease[block]
        rows = quality[:, None] + self.gap.task_ease - self.gap.between(self.contexts[block], self.contexts)
        return np.asarray(rows + self.weights[block] @ self.residuals)

    def row(self, index: int) -> Float64Array:
        """Expected scores (N,) of the policy of one context."""
        return np.asarray(self.rows(slice(index, index + 1))[0])


def gp_model(observed: ObservedScores) -> TransferModel:
    """A Gaussian process of policy quality with a constant mean and learned noise; plus the ease of the task.

    Policy quality is read from a source's whole row. Its own score alone has the noise of one score, and is what the
    ease of its task is mostly read from.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    gap = observed.gap
    values = gap.policy_quality
    centre, scale = values.mean(), values.std()
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(0.25, (0.02, 5.0)) + WhiteKernel(1e-2, (1e-4, 1.0))
    process = _fit(GaussianProcessRegressor(kernel), observed, (values - centre) / max(scale, 1e-300))
    mean, std = process.predict(observed.contexts, return_std=True)
    std = np.sqrt(np.maximum(std**2 - process.kernel_.k2.noise_level, 0.0))
    performance = centre + scale * mean + gap.task_ease
    return TransferModel(observed.contexts, performance, scale * std, gap, *_residuals(observed))


def _residuals(observed: ObservedScores) -> tuple[Float64Array, Float64Array]:
    """Weights and residuals of the linear gap, which near sources have in common.

    Our choice: for each target, the mean of a Gaussian process over sources, with the gap's reach as length scale.
    """
    from sklearn.gaussian_process.kernels import RBF

    gap, positions = observed.gap, observed.contexts[observed.sources]
    expected = gap.policy_quality[:, None] + gap.task_ease - gap.between(positions, observed.contexts)
    kernel = RBF(max(gap.reach, 1e-3))
    among = kernel(positions) + RESIDUAL_NOISE * np.eye(len(positions))
    weights = np.linalg.solve(among, kernel(positions, observed.contexts)).T
    return weights, np.nan_to_num(observed.scores - expected)


def original_gp_model(observed: ObservedScores, bounds: tuple[float, float] | None, seed: int) -> TransferModel:
    """As released in 2024: mean 0 and noise 0.1 on running maxima, scaled to [0, 1]; a slope per step of the grid."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel

    count = len(observed.contexts)
    dimensions = max(int(np.ptp(observed.contexts, axis=0).astype(bool).sum()), 1)
    steps = max(count ** (1 / dimensions) - 1, 1.0)
    low, high = bounds or (np.nanmin(observed.scores), np.nanmax(observed.scores))
    span = high - low if high > low else 1.0
    best = np.fmax.accumulate(observed.scores, axis=0)[np.arange(len(observed.sources)), observed.sources]
    values = np.where(np.isnan(best), np.nanmean(observed.scores, axis=1), best)
    kernel = ConstantKernel(1.0, (1e-3, 1e3)) * RBF(1 / steps, (1e-2 / steps, 1e2 / steps))
    process = GaussianProcessRegressor(kernel, alpha=0.01, n_restarts_optimizer=9, random_state=seed)
    process = _fit(process, observed, (values - low) / span)
    mean, std = process.predict(observed.contexts, return_std=True)
    gap = GeneralisationGap.constant(span * ORIGINAL_SLOPE * steps, observed.contexts)
    no_weights = np.zeros((count, 0))
    return TransferModel(observed.contexts, low + span * mean, span * std, gap, no_weights, no_weights.T)


def _fit(process: GaussianProcessRegressor, observed: ObservedScores, values: Float64Array) -> GaussianProcessRegressor:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound: equal scores do that
        return process.fit(observed.contexts[observed.sources], values)


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` contexts; a slice times `width` other contexts is at most BLOCK pairs."""
    size = max(BLOCK // width, 1)
    return (slice(start, start + size) for start in range(0, count, size))


def _signed_distances(sources: Float64Array, targets: Float64Array) -> tuple[Float64Array, Float64Array]:
    """How far targets (n, d) lie below sources (k, d), and how far above: two arrays (d, k, n)."""
    difference = sources.T[:, :, None] - targets.T[:, None]
    return np.maximum(difference, 0.0), np.maximum(-difference, 0.0)
