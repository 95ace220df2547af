"""What a policy loses when it is used in another context than its own: a gap linear in the difference of contexts.

Sources: Cho et al. 2024 (MBTL, arXiv 2408.04498), the linear gap; Zhou, Cho & Wu 2026 (SD-MBTL), two slopes per
dimension by least squares, and J(x, y) = f(x) + g(y) + h(x, y). Our choices: f, g and the slopes are fitted together,
so that a hard target is not taken for a distant one; near pairs weigh more, because a gap that flattens out far away
matters where the next source would take over from those that are trained.

Shape key: N contexts, d dimensions, k sources. Contexts are scaled to [0, 1]^d.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK = 2**18  # pairs of contexts worked on at a time: N x N never is in memory
EASE_RIDGE = 1e-6  # share of a target's weight that pulls its ease to 0: a trend belongs to the slopes


@dataclass(frozen=True)
class GeneralisationGap:
    """J[i, j] = levels[i] + ease[j] - gap(x_i, x_j), the gap at least squares."""

    left: FloatArray  # (d,) score lost per unit by which the target lies below the source
    right: FloatArray  # (d,) score lost per unit by which it lies above
    levels: FloatArray  # (k,) f, how good each source is
    ease: FloatArray  # (N,) g, how easy each target is
    reach: float = 0.0  # mean L1 distance of a target to its nearest source

    @classmethod
    def constant(cls, slope: float, contexts: FloatArray) -> GeneralisationGap:
        """One slope for every direction, and targets that are all alike."""
        slopes = np.full(contexts.shape[1], slope)
        return cls(slopes, slopes, np.empty(0), np.zeros(len(contexts)))

    @classmethod
    def fit(cls, contexts: FloatArray, sources: IntArray, scores: FloatArray) -> GeneralisationGap:
        """Weighted least squares on all scores that there are.

        A pair at the L1 distance D weighs 1 / (1 + (D / reach)^2): the misfit of a straight gap grows with D. Of what
        the data leave open, the smallest.

        Args:
            contexts: (N, d) in [0, 1].
            sources: (k,) indices of contexts.
            scores: (k, N), NaN where not evaluated.
        """
        k, d = len(sources), contexts.shape[1]
        centre = np.nanmean(scores)
        nearest = np.concatenate([near.min(0) for near in _distances(contexts, sources)])
        reach = max(float(nearest.mean()), 1e-12)
        matrix, vector = np.zeros((k + 2 * d, k + 2 * d)), np.zeros(k + 2 * d)
        eliminated = []  # a target's ease is (total - rows @ unknowns) / weight
        for block in blocks(len(contexts), k):
            below, above = _parts(contexts[sources], contexts[block])
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

    def between(self, sources: FloatArray, targets: FloatArray) -> FloatArray:
        """The gap from contexts (n, d) to contexts (m, d), as (n, m)."""
        even, skew = (self.left + self.right) / 2, (self.left - self.right) / 2
        gap = (sources @ skew)[:, None] - targets @ skew
        for slope, source, target in zip(even, sources.T, targets.T, strict=True):
            gap += slope * np.abs(source[:, None] - target)
        return gap


def blocks(count: int, width: int) -> Iterator[slice]:
    """Slices of `count` contexts, so small that with `width` others each they are a block of pairs."""
    size = max(BLOCK // width, 1)
    return (slice(start, start + size) for start in range(0, count, size))


def _parts(sources: FloatArray, targets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far targets (n, d) lie below and above sources (k, d): two arrays (d, k, n)."""
    difference = sources.T[:, :, None] - targets.T[:, None]
    return np.maximum(difference, 0.0), np.maximum(-difference, 0.0)


def _distances(contexts: FloatArray, sources: IntArray) -> Iterator[FloatArray]:
    for block in blocks(len(contexts), len(sources)):
        yield np.abs(contexts[sources, None] - contexts[block]).sum(-1)
