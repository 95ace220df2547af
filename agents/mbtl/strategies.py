"""What `TaskSelector` asks for: each strategy gives a value to every context, and the highest is trained next.

Sources: Cho et al. 2024 (MBTL, arXiv 2408.04498) and its code for the baselines; Zhou, Cho & Wu 2026 (SD-MBTL) for
`nearness`, `is_mountain` and the warm-up.

Shape key: N contexts, d dimensions, k sources. Contexts are scaled to [0, 1]^d.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from orl import seeding
from orl.agents.mbtl.gap import FloatArray, GeneralisationGap, IntArray, blocks
from orl.agents.mbtl.models import Model, Observed, acquisition, learned_model, original_model

Strategy = Literal[
    "auto",
    "gp",
    "gp-original",
    "mountain",
    "random",
    "equidistant",
    "greedy",
    "independent",
    "sequential-oracle",
]
MODELLED = ("auto", "gp", "gp-original", "mountain")
WARM_UP = 3  # sources before the Gaussian process decides: the centre, then the worst-covered
DETECTION = 5  # sources before `is_mountain` is asked


@dataclass(frozen=True)
class Rule:
    """A strategy with what it depends on besides the observed scores."""

    strategy: Strategy
    budget: int
    bounds: tuple[float, float] | None  # of scores
    seed: int
    matrix: FloatArray | None  # (N, N)

    def batch(self, observed: Observed, size: int) -> list[int]:
        """The next contexts; the believer stands in for rows that are not there yet."""
        picks: list[int] = []
        is_modelled = self.strategy in MODELLED and len(observed.sources) > 0
        for _ in range(size):
            if picks:
                unknown = np.full(len(observed.contexts), np.nan)
                row = self.model(observed).row(picks[-1]) if is_modelled else unknown
                observed = observed.with_row(picks[-1], row)
            picks.append(_first_of_highest(self.values(observed), observed.sources))
        return picks

    def model(self, observed: Observed) -> Model:
        """What the strategy expects, or `gp` where it expects nothing."""
        if self.strategy == "gp-original":
            return original_model(observed, self.bounds, self.seed)
        return learned_model(observed)

    def plan(self, contexts: FloatArray) -> IntArray:
        """The contexts of `random` or `equidistant`, in order."""
        if self.strategy == "random":
            return seeding.numpy_generator(self.seed, "exploration").permutation(len(contexts))
        return equidistant(contexts, self.budget, self.seed)

    def values(self, observed: Observed) -> FloatArray:
        """How much each context (N,) is worth training next."""
        contexts, count = observed.contexts, len(observed.contexts)
        match self.strategy:
            case "random" | "equidistant":
                return -_ranks(self.plan(contexts), count)
            case "greedy":
                return longest_gap(observed)
            case "independent":
                return -np.arange(count, dtype=np.float64)
            case "sequential-oracle":
                assert self.matrix is not None
                return oracle(observed, self.matrix)
            case "gp-original" if np.isfinite(observed.scores).any():
                return acquisition(observed, self.model(observed))
            case "gp" | "auto" if np.isfinite(observed.scores).any():
                if self.strategy == "auto" and is_mountain(observed):
                    return nearness(observed)
                if len(observed.sources) < WARM_UP:
                    covered = observed.coverage
                    return np.isnan(covered).astype(np.float64) if np.isnan(covered).any() else -covered
                return acquisition(observed, self.model(observed))
        if not len(observed.sources) and self.strategy != "mountain":
            return np.asarray(-np.linalg.norm(contexts - 0.5, axis=1))
        return nearness(observed)


def nearness(observed: Observed) -> FloatArray:
    """M-MBTL: minus the mean distance to the nearest source, were the context one of them.

    The distance is the gap's even part once it says something, L1 before.
    """
    contexts, dimensions = observed.contexts, observed.contexts.shape[1]
    weights = np.zeros(dimensions)
    if np.isfinite(observed.scores).any() and len(observed.sources) > 1:
        weights = np.maximum(observed.gap.left + observed.gap.right, 0.0)
    weights = weights / weights.max() if weights.max() > 0 else np.ones(dimensions)
    distance = GeneralisationGap(weights, weights, np.empty(0), np.empty(0))
    nearest = distance.between(contexts[observed.sources], contexts).min(0, initial=np.inf)
    values = np.empty(len(contexts))
    for block in blocks(len(contexts), len(contexts)):
        values[block] = -np.minimum(distance.between(contexts[block], contexts), nearest).mean(1)
    return values


def is_mountain(observed: Observed) -> bool:
    """Whether distance decides, not the source: J falls both ways, and sources differ less than their reach costs.

    J falls both ways where each slope of the gap is steeper than the trend of the levels, in more than half of the
    dimensions. Sources differ by the standard deviation of their levels; the mean gap from the nearest source is what
    their reach costs. (SD-MBTL compares the deviation with whole rows, which are far steeper than the short distances
    at which one source hands over to the next.)
    """
    if len(observed.sources) < DETECTION:
        return False
    gap, positions = observed.gap, observed.contexts[observed.sources]
    with_constant = np.column_stack([positions, np.ones(len(positions))])
    trend = np.linalg.lstsq(with_constant, gap.levels, rcond=None)[0][:-1]
    falls = (gap.left > trend) & (gap.right > -trend)
    cost = gap.between(positions, observed.contexts).min(0).mean()
    return bool(gap.levels.std() < cost and falls.sum() > len(falls) / 2)


def longest_gap(observed: Observed) -> FloatArray:
    """T-RO's rule in d dimensions: the distance to the nearest source, at most twice that to the edge of the range.

    In one dimension that is the middle of an interval between sources, and a third of one at the end.
    """
    contexts = observed.contexts
    edge = np.minimum(contexts, 1 - contexts)[:, np.ptp(contexts, axis=0) > 0].min(1, initial=0.5)
    nearest = np.full(len(contexts), np.inf)
    for source in contexts[observed.sources]:
        nearest = np.minimum(nearest, np.linalg.norm(contexts - source, axis=1))
    return np.asarray(np.minimum(nearest, 2 * edge))


def equidistant(contexts: FloatArray, budget: int, seed: int) -> IntArray:
    """A plan for exactly `budget` sources: middles of equal intervals; in d > 1 dimensions, centres of K-means."""
    if contexts.shape[1] == 1:
        places = (np.arange(budget)[:, None] + 0.5) / budget
    else:
        from sklearn.cluster import KMeans

        places = KMeans(budget, random_state=seed, n_init=1).fit(contexts).cluster_centers_
    plan: list[int] = []
    for place in places:
        distance = np.linalg.norm(contexts - place, axis=1).round(9)  # of equals the lowest index
        distance[plan] = np.inf
        plan.append(int(distance.argmin()))
    return np.array(plan)


def oracle(observed: Observed, matrix: FloatArray) -> FloatArray:
    """Mean score (N,) that each source would lead to, from the true matrix: greedy, not optimal."""
    covered = matrix[observed.sources].max(0, initial=-np.inf)
    return np.array([np.maximum(row, covered).mean() for row in matrix])


def _ranks(plan: IntArray, count: int) -> FloatArray:
    """The place of each context in a plan; those that are not in it come after it."""
    ranks = np.full(count, float(count))
    ranks[plan] = np.arange(len(plan))
    return ranks


def _first_of_highest(values: FloatArray, sources: IntArray) -> int:
    """The lowest index among contexts, not yet trained, whose values are the highest but for rounding."""
    free = np.delete(np.arange(len(values)), sources)
    highest = values[free].max()
    rounding = 1e-9 * np.ptp(values[free]) + 1e-12 * abs(highest)
    return int(free[np.argmax(values[free] >= highest - rounding)])
