"""What selected sources cover: the mean over contexts of the best return, by number of sources, beside baselines.

Shape key: N contexts, d variables, k sources, B budgets. Matrices (N, N) have rows of sources and columns of targets.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orl import statistics
from orl.agents import TaskSelector
from orl.agents.mbtl.strategies import Strategy
from orl.arrays import Float64Array, IntArray
from orl.scripts.running.run_directory import JsonObject

DRAWS = 100  # of random sources


@dataclass(frozen=True)
class Coverage:
    """Mean returns of all contexts, each with the best of the sources so far."""

    name: str
    sources: list[int]  # how many were trained
    returns: list[float]
    band: tuple[Sequence[float], Sequence[float]] | None = None  # low, high; 95 % of the draws, or an interval


def coverage(matrix: Float64Array, sources: IntArray | list[int]) -> float:
    """V: the mean over targets of the best score of the sources."""
    return float(matrix[sources].max(0).mean())


def select_sources(
    contexts: Float64Array, matrix: Float64Array, strategy: Strategy, budget: int, seed: int
) -> IntArray:
    """The sources (budget,) of a strategy that is told the rows it asks for."""
    full = matrix if strategy == "sequential-oracle" else None
    selector = TaskSelector(contexts, strategy, budget, seed=seed, matrix=full)
    for _ in range(budget):
        index = selector.ask()
        selector.tell(index, matrix[index])
    return selector.sources


def coverage_by_budget(
    contexts: Float64Array,
    told: Float64Array,
    matrix: Float64Array,
    strategy: Strategy,
    budgets: Sequence[int],
    seed: int,
) -> list[float]:
    """V at each budget, from `matrix`; `equidistant` is planned for each.

    Args:
        contexts: (N, d).
        told: (N, N), scores that the strategy is told; the oracle is told `matrix`.
        matrix: (N, N), scores that count.
        strategy: one of `TaskSelector`.
        budgets: increasing.
        seed: of the selector.
    """
    rows = matrix if strategy == "sequential-oracle" else told
    if strategy == "equidistant":
        return [coverage(matrix, select_sources(contexts, rows, strategy, budget, seed)) for budget in budgets]
    sources = select_sources(contexts, rows, strategy, budgets[-1], seed)
    return [coverage(matrix, sources[:budget]) for budget in budgets]


def random_coverages(matrix: Float64Array, budgets: Sequence[int], seed: int) -> Float64Array:
    """V (DRAWS, B) of sources drawn at random, without replacement."""
    generator = np.random.default_rng(seed)
    draws = [generator.permutation(len(matrix)) for _ in range(DRAWS)]
    return np.array([[coverage(matrix, draw[:budget]) for budget in budgets] for draw in draws])


def compare_coverages(
    selector: TaskSelector, matrix: Float64Array, baselines: Sequence[str], multi_task: Float64Array | None
) -> list[Coverage]:
    """Coverage of the selection that was made, and of what there is to compare it with.

    With the full matrix: random (100 draws), equidistant (planned for each number of sources), greedy, independent
    (every policy in its own context) and the sequential oracle. Otherwise one draw of random, and equidistant as it was
    planned for the budget; independent is estimated from the contexts that random drew.

    Args:
        selector: with its budget spent.
        matrix: (N, N) mean returns, rows sources, NaN where not trained.
        baselines: `random` and `equidistant`, where their sources were trained.
        multi_task: (N,) mean returns of one policy for all contexts.
    """
    budget, contexts, seed = selector.budget, selector.contexts, selector.seed
    ks, own = list(range(1, budget + 1)), matrix.diagonal()
    curves = [Coverage(selector.strategy, ks, [coverage(matrix, selector.sources[:k]) for k in ks])]
    if not np.isnan(matrix).any():
        draws = random_coverages(matrix, ks, seed)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0).tolist()
        curves.append(Coverage("random", ks, draws.mean(0).tolist(), (low, high)))
        strategies: tuple[Strategy, ...] = ("equidistant", "greedy", "sequential-oracle")
        for strategy in strategies:
            curves.append(Coverage(strategy, ks, coverage_by_budget(contexts, matrix, matrix, strategy, ks, seed)))
        curves.append(Coverage("independent", [len(own)], [float(own.mean())]))
    else:
        if "random" in baselines:
            drawn = select_sources(contexts, matrix, "random", budget, seed)
            curves.append(Coverage("random", ks, [coverage(matrix, drawn[:k]) for k in ks]))
            if budget > 1:
                low, high = statistics.interval(own[drawn], np.mean)
                curves.append(Coverage("independent", [len(own)], [float(own[drawn].mean())], ([low], [high])))
        if "equidistant" in baselines:
            plan = select_sources(contexts, matrix, "equidistant", budget, seed)
            curves.append(Coverage("equidistant", [budget], [coverage(matrix, plan)]))
    if multi_task is not None:
        curves.append(Coverage("multi-task", [budget], [float(multi_task.mean())]))
    return curves


def coverage_rows(coverages: Sequence[Coverage], *, env: str, agent: str, seed: int) -> list[JsonObject]:
    """A result row of each: its last point; regret and the share of the oracle's gain where there is an oracle."""
    last = {curve.name: curve.returns[-1] for curve in coverages}
    random, best = last.get("random"), last.get("sequential-oracle")
    gain = best - random if random is not None and best is not None and best > random else None
    return [
        {
            "dataset": None,
            "env": env,
            "agent": agent,
            "rewards": "true",
            "strategy": curve.name,
            "sources": curve.sources[-1],
            "return": curve.returns[-1],
            "return_interval": None if curve.band is None else [end[-1] for end in curve.band],
            "regret": None if best is None else best - curve.returns[-1],
            "share_of_oracle": None if gain is None or random is None else (curve.returns[-1] - random) / gain,
            "seeds": [seed],
        }
        for curve in coverages
    ]


def write_coverages(path: Path, coverages: Sequence[Coverage]) -> None:
    """A CSV file: strategy, sources, return, low, high."""
    lines = [["strategy", "sources", "return", "low", "high"]]
    for curve in coverages:
        for k, count in enumerate(curve.sources):
            ends = ["", ""] if curve.band is None else [f"{end[k]:.6g}" for end in curve.band]
            lines.append([curve.name, str(count), f"{curve.returns[k]:.6g}", *ends])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
