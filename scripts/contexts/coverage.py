"""What a selection covers, beside its baselines: the mean over contexts of the best return, by number of sources.

Shape key: N contexts, d variables, k sources.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl import statistics
from orl.agents import TaskSelector
from orl.context import ContextSpace, Floats
from orl.scripts.contexts.selection_replay import random_values, select, value, values

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Coverage:
    """Mean returns of all contexts, each with the best of the sources so far."""

    name: str
    sources: list[int]  # how many were trained
    returns: list[float]
    low: list[float] | None = None  # of random: 95 % of its draws; of an estimate: its interval
    high: list[float] | None = None


def coverages(
    selector: TaskSelector, matrix: FloatArray, baselines: Sequence[str], multi_task: FloatArray | None
) -> list[Coverage]:
    """Of the selection that was made, and of what there is to compare it with.

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
    found = [Coverage(selector.strategy, ks, [value(matrix, selector.sources[:k]) for k in ks])]
    if not np.isnan(matrix).any():
        found.append(_of_draws("random", ks, random_values(matrix, ks, seed)))
        for strategy in ("equidistant", "greedy", "sequential-oracle"):
            found.append(Coverage(strategy, ks, values(contexts, matrix, matrix, strategy, ks, seed)))
        found.append(Coverage("independent", [len(own)], [float(own.mean())]))
    else:
        if "random" in baselines:
            drawn = select(contexts, matrix, "random", budget, seed)
            found.append(Coverage("random", ks, [value(matrix, drawn[:k]) for k in ks]))
            if budget > 1:
                low, high = statistics.interval(own[drawn], np.mean)
                found.append(Coverage("independent", [len(own)], [float(own[drawn].mean())], [low], [high]))
        if "equidistant" in baselines:
            plan = select(contexts, matrix, "equidistant", budget, seed)
            found.append(Coverage("equidistant", [budget], [value(matrix, plan)]))
    if multi_task is not None:
        found.append(Coverage("multi-task", [budget], [float(multi_task.mean())]))
    return found


def _of_draws(name: str, ks: list[int], draws: FloatArray) -> Coverage:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Coverage(name, ks, draws.mean(0).tolist(), low.tolist(), high.tolist())


def result_rows(found: Sequence[Coverage], *, env: str, agent: str, seed: int) -> list[dict[str, Any]]:
    """One row for each: its last point; regret and the share of the oracle's gain where the oracle is known."""
    last = {each.name: each.returns[-1] for each in found}
    random, best = last.get("random"), last.get("sequential-oracle")
    rows = []
    for each in found:
        mean = each.returns[-1]
        share = None
        if random is not None and best is not None and best > random:
            share = (mean - random) / (best - random)
        rows.append(
            {
                "dataset": None,
                "env": env,
                "agent": agent,
                "rewards": "true",
                "strategy": each.name,
                "sources": each.sources[-1],
                "return": mean,
                "return_interval": None if each.low is None or each.high is None else [each.low[-1], each.high[-1]],
                "regret": None if best is None else best - mean,
                "share_of_oracle": share,
                "seeds": [seed],
            }
        )
    return rows


def write_coverages(path: Path, found: Sequence[Coverage]) -> None:
    """A CSV file: strategy, sources, return, low, high."""
    lines = [["strategy", "sources", "return", "low", "high"]]
    for each in found:
        for k, count in enumerate(each.sources):
            ends = [f"{end[k]:.6g}" if end is not None else "" for end in (each.low, each.high)]
            lines.append([each.name, str(count), f"{each.returns[k]:.6g}", *ends])
    _write_csv(path, lines)


def write_matrix(folder: Path, space: ContextSpace, contexts: Floats, matrix: FloatArray) -> None:
    """`transfer.npy` and `transfer.csv`: mean returns, rows sources, columns targets; NaN where not trained."""
    np.save(folder / "transfer.npy", matrix)
    names = [space.text(context) for context in contexts]
    lines = [[name, *(f"{number:.1f}" for number in row)] for name, row in zip(names, matrix, strict=True)]
    _write_csv(folder / "transfer.csv", [["source", *names], *lines])


def _write_csv(path: Path, lines: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
