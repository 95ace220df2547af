"""What a Gaussian process and the generalisation gap expect of sources that were not trained, and what one would add.

Sources: Cho et al. 2024 (MBTL, arXiv 2408.04498) and its code for `original_model` and `acquisition`; Zhou, Cho & Wu
2026 (SD-MBTL) for `learned_model`.

Shape key: N contexts, d dimensions, k sources. Contexts are scaled to [0, 1]^d.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from orl.agents.mbtl.gap import FloatArray, GeneralisationGap, IntArray, blocks

if TYPE_CHECKING:  # scikit-learn is imported where it computes: seconds that other agents need not wait
    from sklearn.gaussian_process import GaussianProcessRegressor

ORIGINAL_SLOPE = 0.005  # of the 2024 rule: score lost per step of the grid
RESIDUAL_NOISE = 0.01  # our choice: keeps the smoothing of residuals from chasing single scores


@dataclass(frozen=True)
class Observed:
    """The sources that were trained, in order, and their scores."""

    contexts: FloatArray  # (N, d) in [0, 1]
    sources: IntArray  # (k,)
    scores: FloatArray  # (k, N), NaN where not evaluated

    @cached_property
    def coverage(self) -> FloatArray:
        """The best score so far per target (N,), NaN where there is none."""
        return np.asarray(np.fmax.reduce(self.scores, axis=0, initial=np.nan))

    @cached_property
    def gap(self) -> GeneralisationGap:
        """Fitted on all rows."""
        return GeneralisationGap.fit(self.contexts, self.sources, self.scores)

    def with_row(self, index: int, row: FloatArray) -> Observed:
        """One source more."""
        return Observed(self.contexts, np.append(self.sources, index), np.vstack([self.scores, row]))


class Model(NamedTuple):
    """What a Gaussian process and a gap say of sources that were not trained."""

    contexts: FloatArray  # (N, d)
    mean: FloatArray  # (N,) score of each context's own policy
    sd: FloatArray  # (N,) of that mean: noise of a single training is not in it
    gap: GeneralisationGap
    weights: FloatArray  # (N, k) of the sources' residuals
    residuals: FloatArray  # (k, N) what a straight gap leaves

    def rows(self, block: slice) -> FloatArray:
        """Expected scores (n, N) of the policies of n contexts."""
        levels = self.mean[block] - self.gap.ease[block]
        rows = levels[:, None] + self.gap.ease - self.gap.between(self.contexts[block], self.contexts)
        return np.asarray(rows + self.weights[block] @ self.residuals)

    def row(self, index: int) -> FloatArray:
        """Expected scores (N,) of the policy of one context."""
        return np.asarray(self.rows(slice(index, index + 1))[0])


def learned_model(observed: Observed) -> Model:
    """Constant mean and learned noise, on the sources' levels.

    A level is a source's own score, less the ease of its task, as its whole row says it: one score alone has the noise
    of one score, and is what its task's ease was mostly read from.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    gap = observed.gap
    values = gap.levels
    centre, scale = values.mean(), values.std()
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * RBF(0.25, (0.02, 5.0)) + WhiteKernel(1e-2, (1e-4, 1.0))
    process = _fitted(GaussianProcessRegressor(kernel), observed, (values - centre) / max(scale, 1e-300))
    mean, sd = process.predict(observed.contexts, return_std=True)
    sd = np.sqrt(np.maximum(sd**2 - process.kernel_.k2.noise_level, 0.0))
    return Model(observed.contexts, centre + scale * mean + gap.ease, scale * sd, gap, *_residuals(observed))


def _residuals(observed: Observed) -> tuple[FloatArray, FloatArray]:
    """What the straight gap leaves of each row, smoothed over sources within its reach: near sources bend alike.

    Our choice: the mean of a Gaussian process over sources, one for each target, with the reach as its length scale.
    """
    from sklearn.gaussian_process.kernels import RBF

    gap, positions = observed.gap, observed.contexts[observed.sources]
    expected = gap.levels[:, None] + gap.ease - gap.between(positions, observed.contexts)
    kernel = RBF(max(gap.reach, 1e-3))
    among = kernel(positions) + RESIDUAL_NOISE * np.eye(len(positions))
    weights = np.linalg.solve(among, kernel(positions, observed.contexts)).T
    return weights, np.nan_to_num(observed.scores - expected)


def original_model(observed: Observed, bounds: tuple[float, float] | None, seed: int) -> Model:
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
    process = _fitted(process, observed, (values - low) / span)
    mean, sd = process.predict(observed.contexts, return_std=True)
    gap = GeneralisationGap.constant(span * ORIGINAL_SLOPE * steps, observed.contexts)
    nothing = np.zeros((count, 0))
    return Model(observed.contexts, low + span * mean, span * sd, gap, nothing, nothing.T)


def _fitted(process: GaussianProcessRegressor, observed: Observed, values: FloatArray) -> GaussianProcessRegressor:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound: equal scores do that
        return process.fit(observed.contexts[observed.sources], values)


def acquisition(observed: Observed, model: Model) -> FloatArray:
    """a_i = mean_j max(J_ij + lambda sd_i - coverage_j, 0) with J_ij the model's, lambda = sqrt(log(k + 1)).

    A target that was not evaluated counts as covered as well as the model expects of the trained sources. Where nothing
    promises a gain, the worst-covered come first.
    """
    covered = observed.coverage
    if np.isnan(covered).any():
        expected = np.max([model.row(index) for index in observed.sources], axis=0)
        covered = np.where(np.isnan(covered), expected, covered)
    optimism = math.sqrt(math.log(len(observed.sources) + 1)) * model.sd
    gains = np.empty(len(covered))
    for block in blocks(len(covered), len(covered)):
        gains[block] = np.maximum(model.rows(block) + optimism[block, None] - covered, 0.0).mean(1)
    rounding = 1e-9 * np.ptp(covered) + 1e-12 * np.abs(covered).max()
    return gains if gains.max() > rounding else -covered
