"""Strategies of `TaskSelector`: an acquisition value for every context, of which the highest is trained next.

Sources: Cho et al. 2024 (MBTL, arXiv 2408.04498) and its code for `gp_acquisition` and the baselines; Zhou, Cho & Wu
2026 (SD-MBTL) for `mountain_acquisition`, `is_mountain` and the warm-up.

Shape key: N contexts, d dimensions, k sources. Contexts are scaled to [0, 1]^d.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orl import seeding
from orl.agents.mbtl.transfer_model import (
    GeneralisationGap,
    ObservedScores,
    TransferModel,
    blocks,
    gp_model,
    original_gp_model,
)
from orl.arrays import Float64Array, IntArray

Strategy = Literal[
    "auto", "gp", "gp-original", "mountain", "random", "equidistant", "greedy", "independent", "sequential-oracle"
]
MODELLED = ("auto", "gp", "gp-original", "mountain")
WARM_UP = 3  # sources before the Gaussian process decides: the centre, then the worst-covered
DETECTION = 5  # sources before `is_mountain` is asked


@dataclass(frozen=True)
class SelectionRule:
    """A strategy and its settings."""

    strategy: Strategy
    budget: int
    bounds: tuple[float, float] | None  # of scores
    seed: int
    matrix: Float64Array | None  # (N, N)

    def pick(self, observed: ObservedScores, size: int) -> list[int]:
        """The next contexts to train together; the believer: a pick has the scores that the model expects."""
        picks: list[int] = []
        is_modelled = self.strategy in MODELLED and len(observed.sources) > 0
        for _ in range(size):
            if picks:
                unknown = np.full(len(observed.contexts), np.nan)
                row = self.model(observed).row(picks[-1]) if is_modelled else unknown
                observed = observed.with_row(picks[-1], row)
            picks.append(_argmax(self.acquisition(observed), observed.sources))
        return picks

    def model(self, observed: ObservedScores) -> TransferModel:
        """The model of the strategy; baselines are shown with that of `gp`."""
        if self.strategy == "gp-original":
            return original_gp_model(observed, self.bounds, self.seed)
        return gp_model(observed)

    def acquisition(self, observed: ObservedScores) -> Float64Array:
        """How much every context (N,) is worth training next."""
        contexts, count = observed.contexts, len(observed.contexts)
        match self.strategy:
            case "random":
                return _planned(seeding.numpy_generator(self.seed, "exploration").permutation(count), count)
            case "equidistant":
                return _planned(equidistant_plan(contexts, self.budget, self.seed), count)
            case "greedy":
                return greedy_acquisition(observed)
            case "independent":
                return -np.arange(count, dtype=np.float64)
            case "sequential-oracle":
                assert self.matrix is not None
                return oracle_acquisition(observed, self.matrix)
            case "gp-original" if np.isfinite(observed.scores).any():
                return gp_acquisition(observed, self.model(observed))
            case "gp" | "auto" if np.isfinite(observed.scores).any():
                if self.strategy == "auto" and is_mountain(observed):
                    return mountain_acquisition(observed)
                if len(observed.sources) < WARM_UP:
                    is_missing = np.isnan(observed.coverage)
                    return is_missing.astype(np.float64) if is_missing.any() else -observed.coverage
                return gp_acquisition(observed, self.model(observed))
        if not len(observed.sources) and self.strategy != "mountain":
            return np.asarray(-np.linalg.norm(contexts - 0.5, axis=1))
        return mountain_acquisition(observed)


def gp_acquisition(observed: ObservedScores, model: TransferModel) -> Float64Array:
    """a_i = mean_j max(J_ij + lambda std_i - coverage_j, 0), with J_ij of the model and lambda = sqrt(log(k + 1)).

    The coverage of a target that was not evaluated is what the model expects of the trained sources. Where no context
    promises a gain, the worst-covered come first.
    """
    covered = observed.coverage
    if np.isnan(covered).any():
        expected = np.max([model.row(index) for index in observed.sources], axis=0)
        covered = np.where(np.isnan(covered), expected, covered)
    optimism = math.sqrt(math.log(len(observed.sources) + 1)) * model.std
    gains = np.empty(len(covered))
    for block in blocks(len(covered), len(covered)):
        gains[block] = np.maximum(model.rows(block) + optimism[block, None] - covered, 0.0).mean(1)
    rounding = 1e-9 * np.ptp(covered) + 1e-12 * np.abs(covered).max()
    return gains if gains.max() > rounding else -covered


def mountain_acquisition(observed: ObservedScores) -> Float64Array:
    """M-MBTL: minus the mean distance of all contexts to their nearest source, if the context were a source too.

    The distance is the gap's even part once that is above 0 somewhere, L1 before.
    """
    contexts, dimensions = observed.contexts, observed.contexts.shape[1]
    weights = np.zeros(dimensions)
    if np.isfinite(observed.scores).any() and len(observed.sources) > 1:
        weights = np.maximum(observed.gap.slopes_below + observed.gap.slopes_above, 0.0)
    weights = weights / weights.max() if weights.max() > 0 else np.ones(dimensions)
    distance = GeneralisationGap(weights, weights, np.empty(0), np.empty(0))
    nearest = distance.between(contexts[observed.sources], contexts).min(0, initial=np.inf)
    values = np.empty(len(contexts))
    for block in blocks(len(contexts), len(contexts)):
        values[block] = -np.minimum(distance.between(contexts[block], contexts), nearest).mean(1)
    return values


def is_mountain(observed: ObservedScores) -> bool:
    """Whether distance decides, not the source: J falls both ways, and policy quality varies less than the gap costs.

    J falls both ways where both slopes of the gap are steeper than the trend of policy quality, in more than half of
    the dimensions. Policy quality varies by its standard deviation; the cost is the mean gap from the nearest source.
    (SD-MBTL compares the deviation with whole rows, which are far steeper than the short distances at which one source
    hands over to the next.)
    """
    if len(observed.sources) < DETECTION:
        return False
    gap, positions = observed.gap, observed.contexts[observed.sources]
    with_constant = np.column_stack([positions, np.ones(len(positions))])
    trend = np.linalg.lstsq(with_constant, gap.policy_quality, rcond=None)[0][:-1]
    falls = (gap.slopes_below > trend) & (gap.slopes_above > -trend)
    cost = gap.between(positions, observed.contexts).min(0).mean()
    return bool(gap.policy_quality.std() < cost and falls.sum() > len(falls) / 2)


def greedy_acquisition(observed: ObservedScores) -> Float64Array:
    """T-RO's rule in d dimensions: the distance to the nearest source, at most twice that to the edge of the range.

    In one dimension that is the middle of an interval between sources, and a third of one at the end.
    """
    contexts = observed.contexts
    edge = np.minimum(contexts, 1 - contexts)[:, np.ptp(contexts, axis=0) > 0].min(1, initial=0.5)
    nearest = np.full(len(contexts), np.inf)
    for source in contexts[observed.sources]:
        nearest = np.minimum(nearest, np.linalg.norm(contexts - source, axis=1))
    return np.asarray(np.minimum(nearest, 2 * edge))


def equidistant_plan(contexts: Float64Array, budget: int, seed: int) -> IntArray:
    """Exactly `budget` sources: middles of equal intervals; in d > 1 dimensions, centres of K-means."""
    if contexts.shape[1] == 1:
        centres = (np.arange(budget)[:, None] + 0.5) / budget
    else:
        from sklearn.cluster import KMeans

        centres = KMeans(budget, random_state=seed, n_init=1).fit(contexts).cluster_centers_
    plan: list[int] = []
    for centre in centres:
        distance = np.linalg.norm(contexts - centre, axis=1).round(9)  # of equals the lowest index
        distance[plan] = np.inf
        plan.append(int(distance.argmin()))
    return np.array(plan)


def oracle_acquisition(observed: ObservedScores, matrix: Float64Array) -> Float64Array:
    """Mean score (N,) of all targets if the context were a source too, by the true matrix: greedy, not optimal."""
    covered = matrix[observed.sources].max(0, initial=-np.inf)
    return np.array([np.maximum(row, covered).mean() for row in matrix])


def _planned(plan: IntArray, count: int) -> Float64Array:
    """Values that fall in the order of a plan; contexts that are not in it come last."""
    values = np.full(count, -float(count))
    values[plan] = -np.arange(len(plan), dtype=np.float64)
    return values


def _argmax(values: Float64Array, sources: IntArray) -> int:
    """The lowest index of a context, not yet trained, whose value is the highest but for rounding."""
    free = np.delete(np.arange(len(values)), sources)
    highest = values[free].max()
    rounding = 1e-9 * np.ptp(values[free]) + 1e-12 * abs(highest)
    return int(free[np.argmax(values[free] >= highest - rounding)])
