"""Selection strategies on transfer matrices that are known: what they cover, and how close that is to the oracle.

Shape key: N contexts, d dimensions, k sources, M matrices, S strategies, B budgets. Matrices have rows of sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from orl import statistics
from orl.agents import TaskSelector
from orl.agents.mbtl import Strategy

FloatArray = NDArray[np.float64]
DRAWS = 100  # of random sources


def value(matrix: FloatArray, sources: NDArray[np.int64]) -> float:
    """V: the mean over targets of the best score of the sources."""
    return float(matrix[sources].max(0).mean())


def select(contexts: FloatArray, matrix: FloatArray, strategy: Strategy, budget: int, seed: int) -> NDArray[np.int64]:
    """The sources (budget,) of a strategy that is told the rows it asks for."""
    full = matrix if strategy == "sequential-oracle" else None
    selector = TaskSelector(contexts, strategy, budget, seed=seed, matrix=full)
    for _ in range(budget):
        index = selector.ask()
        selector.tell(index, matrix[index])
    return selector.sources


def values(
    contexts: FloatArray, told: FloatArray, matrix: FloatArray, strategy: Strategy, budgets: Sequence[int], seed: int
) -> list[float]:
    """V at each budget, from `matrix`; `equidistant` is planned for each.

    Args:
        contexts: (N, d).
        told: (N, N), scores that the strategy is told; the oracle knows `matrix`.
        matrix: (N, N), scores that count.
        strategy: one of `TaskSelector`.
        budgets: increasing.
        seed: of the selector.
    """
    seen = matrix if strategy == "sequential-oracle" else told
    if strategy == "equidistant":
        return [value(matrix, select(contexts, seen, strategy, budget, seed)) for budget in budgets]
    sources = select(contexts, seen, strategy, budgets[-1], seed)
    return [value(matrix, sources[:budget]) for budget in budgets]


def random_values(matrix: FloatArray, budgets: Sequence[int], seed: int) -> FloatArray:
    """V (DRAWS, B) of sources drawn at random, without replacement."""
    generator = np.random.default_rng(seed)
    draws = [generator.permutation(len(matrix)) for _ in range(DRAWS)]
    return np.array([[value(matrix, draw[:budget]) for budget in budgets] for draw in draws])


def compare(
    contexts: FloatArray,
    told: FloatArray,
    matrix: FloatArray,
    strategies: Sequence[Strategy],
    budgets: Sequence[int],
    seed: int,
) -> FloatArray:
    """V (2 + S, B): random (the mean of its draws), the sequential oracle, and every strategy."""
    named: tuple[Strategy, ...] = ("sequential-oracle", *strategies)
    table = [random_values(matrix, budgets, seed).mean(0)]
    table += [np.array(values(contexts, told, matrix, strategy, budgets, seed)) for strategy in named]
    return np.array(table)


def comparison_rows(tables: FloatArray, strategies: Sequence[str], budgets: Sequence[int]) -> list[dict[str, Any]]:
    """One row for each strategy and budget: (V - random) / (oracle - random), with its interval over the matrices.

    Args:
        tables: (M, 2 + S, B), of `compare`.
        strategies: S of them.
        budgets: B of them.
    """
    random, best = tables[:, 0], tables[:, 1]
    gain = np.where(best > random, best - random, np.nan)
    scores = (tables - random[:, None]) / gain[:, None]
    rows = []
    for place, strategy in enumerate(strategies, start=2):
        for column, budget in enumerate(budgets):
            found = scores[:, place, column]
            found = found[~np.isnan(found)]  # where all sources are alike there is nothing to choose
            rows.append(
                {
                    "budget": budget,
                    "strategy": strategy,
                    "score": float(found.mean()) if len(found) else None,
                    "interval": list(statistics.interval(found, np.mean)) if len(found) > 1 else None,
                    "lowest": float(found.min()) if len(found) else None,
                    "value": float(tables[:, place, column].mean()),
                    "random_value": float(random[:, column].mean()),
                    "oracle_value": float(best[:, column].mean()),
                }
            )
    return rows


def show(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> None:
    """Print a line for each cell, told apart by `keys`, with the mean score of each strategy."""
    cells: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        cells.setdefault(tuple(row[key] for key in keys), {})[row["strategy"]] = (
            "" if row["score"] is None else f"{row['score']:.2f}"
        )
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    table = Table(*keys, *strategies, title="(V - random) / (oracle - random)")
    for cell, scores in cells.items():
        table.add_row(*map(str, cell), *(scores[strategy] for strategy in strategies))
    Console().print(table)
