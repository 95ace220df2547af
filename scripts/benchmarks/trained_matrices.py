"""How close each selection strategy comes to the oracle on transfer matrices that were trained.

`python -m orl.scripts.benchmarks.trained_matrices RUN... --out results/selection/pendulum-length`, where the runs are
folders of `orl select --full-matrix` that differ in their seed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from orl import checkpoint, statistics
from orl.agents.mbtl import Strategy
from orl.envs.contextual import offered_contexts
from orl.scripts.benchmarks.closed_form_matrices import budgets
from orl.scripts.contexts.coverage import Coverage
from orl.scripts.contexts.selection_replay import compare, comparison_rows, select, show, value
from orl.scripts.figures.selection import coverage_figure
from orl.training import progress

OTHERS = "oracle-of-others"  # what the oracle picks on the mean of the other seeds' matrices: what repeats


@dataclass(frozen=True)
class TrainedMatrices:
    """(V - random) / (oracle - random) at budgets N/10 and N/5, and how many sources do what N of their own do."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Finished folders of `orl select --full-matrix`, of one configuration but for the seed."""
    out: Path
    """Folder for results.json and coverage.png."""
    strategies: tuple[Strategy, ...] = ("auto", "gp", "gp-original", "mountain", "greedy", "equidistant")
    """Strategies to compare."""

    def run(self) -> None:
        """Replay, print a table, write the files."""
        started, config = time.perf_counter(), self._config()
        space, contexts = offered_contexts(config["env"]).parse(config["contexts"])
        ks, tables = list(range(1, budgets(len(contexts))[1] + 1)), []
        matrices = [np.load(run / "transfer.npy") for run in self.runs]
        scaled, names = space.normalize(contexts), (*self.strategies, OTHERS)
        with progress("matrices", len(matrices)) as advance:
            for seed, matrix in enumerate(matrices):
                others = np.mean(matrices[:seed] + matrices[seed + 1 :], axis=0)
                plan = select(scaled, others, "sequential-oracle", ks[-1], seed)
                known = [value(matrix, plan[:k]) for k in ks]
                tables.append([*compare(scaled, matrix, matrix, self.strategies, ks, seed), known])
                advance(1)
        found = np.array(tables)  # (M, 2 + S, B)
        independent = np.array([matrix.diagonal().mean() for matrix in matrices])
        shown = [each - 1 for each in budgets(len(contexts))]
        rows = comparison_rows(found[:, :, shown], names, [ks[k] for k in shown])
        show(rows, ("budget",))
        rows += _independence(found, independent, ("random", "sequential-oracle", *names), len(contexts))
        self.out.mkdir(parents=True, exist_ok=True)
        about = {"config": config, "seeds": [checkpoint.read_json(run / "config.json")["seed"] for run in self.runs]}
        seconds = round(time.perf_counter() - started, 1)
        agreement = np.corrcoef([matrix.mean(1) for matrix in matrices])[np.triu_indices(len(matrices), 1)]
        about["correlation_of_sources"] = agreement.tolist()  # of their mean returns, between two matrices each
        results = {**about, "versions": checkpoint.versions(), "seconds": seconds, "rows": rows}
        checkpoint.write_json(self.out / "results.json", results)
        self._draw(found, independent, ks, len(contexts), config)

    def _config(self) -> dict[str, Any]:
        """What the runs share.

        Raises:
            ValueError: a run without a full matrix, or of another configuration.
        """
        configs = []
        for run in self.runs:
            if not (run / "transfer.npy").exists() or np.isnan(np.load(run / "transfer.npy")).any():
                raise ValueError(f"{run}: has no full transfer matrix; finish `orl select --full-matrix` there")
            configs.append({**checkpoint.read_json(run / "config.json"), "seed": None})
        if len(configs) < 2 or any(config != configs[0] for config in configs):
            raise ValueError("give two or more runs of one configuration, which differ in --seed alone")
        return {name: each for name, each in configs[0].items() if name != "seed"}

    def _draw(
        self, found: NDArray[Any], independent: NDArray[Any], ks: list[int], count: int, config: dict[str, Any]
    ) -> None:
        named = dict(zip(("random", "sequential-oracle", *self.strategies, OTHERS), found.swapaxes(0, 1), strict=True))
        curves = []
        for name in [
            each for each in ("auto", "random", "equidistant", "greedy", "sequential-oracle") if each in named
        ]:
            low, high = np.array([statistics.interval(values, np.mean) for values in named[name].T]).T
            curves.append(Coverage(name, ks, named[name].mean(0).tolist(), low.tolist(), high.tolist()))
        curves.append(Coverage("independent", [count], [float(independent.mean())]))
        title = f"{config['env']}, {config['trainer']}: mean of {len(found)} matrices, 95 % intervals"
        coverage_figure(curves, title, self.out / "coverage.png")


def _independence(
    found: NDArray[Any], independent: NDArray[Any], names: Sequence[str], count: int
) -> list[dict[str, Any]]:
    """For each strategy: sources until its mean is that of every context's own policy; null if more are needed."""
    rows = []
    for place, strategy in enumerate(names):
        reached = found[:, place] >= independent[:, None]
        needed = [int(row.argmax()) + 1 if row.any() else None for row in reached]
        factors = [count / each if each else None for each in needed]
        rows.append({"strategy": strategy, "budget": None, "sources_as_good": needed, "factors": factors})
    return rows


if __name__ == "__main__":
    tyro.cli(TrainedMatrices).run()
