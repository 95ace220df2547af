"""How close each selection strategy comes to the oracle, on transfer matrices in closed form and on trained ones.

```
python -m orl.scripts.benchmarks.selection_strategies closed-form --out results/selection/closed-form.json
python -m orl.scripts.benchmarks.selection_strategies trained RUN... --out results/selection/pendulum-length
```

In closed form J(x, y) = f(x) + g(y) - h(x, y): how good a source is, how easy a target is, what the transfer costs; all
in [0, 1]. Trained ones are those of `orl select --full-matrix` with several seeds.

Shape key: N contexts, d dimensions, M matrices, S strategies, B budgets. Matrices have rows of sources.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from orl import checkpoint, statistics
from orl.agents.mbtl.strategies import Strategy
from orl.arrays import Float64Array
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.selection import Coverage, coverage, coverage_by_budget, random_coverages, select_sources
from orl.scripts.figures.selection import coverage_figure
from orl.scripts.running.run_directory import JsonObject
from orl.training import progress

Shape = Literal["sloped", "distance", "mixed", "noisy", "flat"]
GRIDS = {1: (200,), 2: (15, 15), 3: (6, 6, 6)}  # dimensions: tasks per dimension
OTHERS = "oracle-of-others"  # what the oracle picks on the mean of the other seeds' matrices: what repeats


def grid(dimensions: int) -> Float64Array:
    """Contexts (N, d) in [0, 1]."""
    axes = [np.linspace(0, 1, count) for count in GRIDS[dimensions]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dimensions)


def closed_form_matrix(
    shape: Shape, dimensions: int, seed: int, periods: float = 1.0
) -> tuple[Float64Array, Float64Array]:
    """Contexts (N, d) and a transfer matrix (N, N), rows sources, a different one for each seed.

    * sloped: good and bad sources, targets alike, a linear gap with slopes of both signs;
    * distance: sources alike, easy and hard targets, a symmetric gap (L1 or L2, straight or flattening out);
    * mixed: both differ, slopes differ by direction, straight or flattening out;
    * noisy: the mixed one of that seed, with noise of 0.05 on every score;
    * flat: every score is 0.5.

    Sources and targets differ by waves of at most `periods` periods over each dimension.
    """
    number = get_args(Shape).index("mixed" if shape == "noisy" else shape)
    generator = np.random.default_rng([seed, dimensions, number])
    contexts = grid(dimensions)
    source, target = np.zeros(len(contexts)), np.zeros(len(contexts))
    below, above = (np.maximum(sign * (contexts[:, None] - contexts), 0.0) for sign in (1, -1))
    if shape == "flat":
        return contexts, np.full((len(contexts),) * 2, 0.5)
    if shape == "sloped":
        source = 0.5 * _waves(generator, contexts, periods)
        cost = below @ generator.uniform(-0.3, 1, dimensions) + above @ generator.uniform(-0.3, 1, dimensions)
    elif shape == "distance":
        target = 0.5 * _waves(generator, contexts, periods)
        power, weights = generator.choice([1, 2]), generator.uniform(0.5, 1.5, dimensions)
        cost = _flattened(generator, (((below + above) * weights) ** power).sum(-1) ** (1 / power))
    else:
        source, target = (0.5 * _waves(generator, contexts, periods) for _ in range(2))
        cost = below @ generator.uniform(0.2, 1, dimensions) + above @ generator.uniform(0.2, 1, dimensions)
        cost = _flattened(generator, cost)
    matrix = source[:, None] + target - cost
    matrix = (matrix - matrix.min()) / np.ptp(matrix)
    return contexts, matrix + 0.05 * generator.normal(size=matrix.shape) if shape == "noisy" else matrix


def _waves(generator: np.random.Generator, contexts: Float64Array, periods: float) -> Float64Array:
    """Three waves, their sum in [0, 1]."""
    waves = np.zeros(len(contexts))
    for _ in range(3):
        frequencies = generator.uniform(-periods, periods, contexts.shape[1])
        waves += generator.uniform(0.5, 1) * np.sin(2 * np.pi * (contexts @ frequencies + generator.uniform()))
    return np.asarray((waves - waves.min()) / np.ptp(waves))


def _flattened(generator: np.random.Generator, cost: Float64Array) -> Float64Array:
    """As it is, or bounded far away; half of the times each."""
    if generator.uniform() < 0.5:
        return cost
    scale = generator.uniform(0.2, 0.6) * cost.max()
    return np.asarray(scale * (1 - np.exp(-cost / scale)))


@dataclass(frozen=True)
class ClosedForm:
    """(V - random) / (oracle - random) at budgets N/10 and N/5; random is the mean of 100 draws."""

    out: Path
    """The JSON file."""
    strategies: tuple[Strategy, ...] = ("auto", "mountain", "greedy", "equidistant")
    """Strategies to compare."""
    shapes: tuple[Shape, ...] = ("sloped", "distance", "mixed", "noisy")
    """Shapes of matrices."""
    dimensions: tuple[int, ...] = (1, 2, 3)
    """Dimensions of the contexts."""
    matrices: int = 5
    """Matrices of each shape, dimension and number of periods."""
    periods: tuple[float, ...] = (1.0,)
    """Waves over each dimension, at most: how fast sources and targets change with the context."""

    def run(self) -> None:
        """Measure, print a table, write the file."""
        start, rows = time.perf_counter(), []
        cells = list(itertools.product(self.shapes, self.dimensions, self.periods))
        with progress("matrices", len(cells) * self.matrices) as advance:
            for shape, dimensions, periods in cells:
                tables, budgets = [], budgets_of(len(grid(dimensions)))
                for seed in range(self.matrices):
                    contexts, told = closed_form_matrix(shape, dimensions, seed, periods)
                    truth = closed_form_matrix("mixed", dimensions, seed, periods)[1] if shape == "noisy" else told
                    tables.append(compare(contexts, told, truth, self.strategies, budgets, seed))
                    advance(1)
                cell = {"shape": shape, "dimensions": dimensions, "periods": periods, "tasks": len(contexts)}
                rows += [cell | row for row in comparison_rows(np.array(tables), self.strategies, budgets)]
        config = {name: value for name, value in asdict(self).items() if name != "out"}
        results = {"config": config, "versions": checkpoint.versions(), "seconds": time.perf_counter() - start}
        checkpoint.write_json(self.out, results | {"rows": rows})
        show(rows, ("shape", "dimensions", "periods", "budget"))


@dataclass(frozen=True)
class Trained:
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
        budgets, tables = budgets_of(len(contexts)), []
        ks = list(range(1, budgets[1] + 1))
        matrices = [np.load(run / "transfer.npy") for run in self.runs]
        scaled, names = space.normalize(contexts), (*self.strategies, OTHERS)
        with progress("matrices", len(matrices)) as advance:
            for seed, matrix in enumerate(matrices):
                others = np.mean(matrices[:seed] + matrices[seed + 1 :], axis=0)
                plan = select_sources(scaled, others, "sequential-oracle", ks[-1], seed)
                of_plan = [coverage(matrix, plan[:k]) for k in ks]
                tables.append([*compare(scaled, matrix, matrix, self.strategies, ks, seed), of_plan])
                advance(1)
        values = np.array(tables)  # (M, 2 + S, B)
        independent = np.array([matrix.diagonal().mean() for matrix in matrices])
        rows = comparison_rows(values[:, :, [budget - 1 for budget in budgets]], names, budgets)
        show(rows, ("budget",))
        named = dict(zip(("random", "sequential-oracle", *names), values.swapaxes(0, 1), strict=True))
        rows += [_independence_row(name, table, independent, len(contexts)) for name, table in named.items()]
        agreement = np.corrcoef([matrix.mean(1) for matrix in matrices])[np.triu_indices(len(matrices), 1)]
        results = {
            "config": config,
            "seeds": [checkpoint.read_json(run / "config.json")["seed"] for run in self.runs],
            "correlation_of_sources": agreement.tolist(),  # of their mean returns, between two matrices each
            "versions": checkpoint.versions(),
            "seconds": round(time.perf_counter() - started, 1),
            "rows": rows,
        }
        checkpoint.write_json(self.out / "results.json", results)
        curves = []
        for name in ("auto", "random", "equidistant", "greedy", "sequential-oracle"):
            if name in named:
                of_budgets = named[name].T
                ends = [statistics.mean(values).interval or (values.min(), values.max()) for values in of_budgets]
                low, high = np.array(ends).T.tolist()
                curves.append(Coverage(name, ks, named[name].mean(0).tolist(), (low, high)))
        curves.append(Coverage("independent", [len(contexts)], [float(independent.mean())]))
        band = "95 % intervals" if len(matrices) >= statistics.FEWEST_SEEDS else "and their range"
        title = f"{config['env']}, {config['trainer']}: mean of {len(matrices)} matrices, {band}"
        coverage_figure(curves, title, self.out / "coverage.png")

    def _config(self) -> JsonObject:
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
        return {name: value for name, value in configs[0].items() if name != "seed"}


def _independence_row(strategy: str, values: Float64Array, independent: Float64Array, count: int) -> JsonObject:
    """Sources until the mean (M, B) is that of every context's own policy, (M,); null if more are needed."""
    reached = values >= independent[:, None]
    needed = [int(row.argmax()) + 1 if row.any() else None for row in reached]
    factors = [count / number if number else None for number in needed]
    return {"strategy": strategy, "budget": None, "sources_as_good": needed, "factors": factors}


def budgets_of(tasks: int) -> tuple[int, int]:
    """A tenth and a fifth of the tasks."""
    return tasks // 10, tasks // 5


def compare(
    contexts: Float64Array,
    told: Float64Array,
    matrix: Float64Array,
    strategies: Sequence[Strategy],
    budgets: Sequence[int],
    seed: int,
) -> Float64Array:
    """V (2 + S, B): random (the mean of its draws), the sequential oracle, and every strategy.

    All are counted by `matrix`; strategies are told the scores of `told`.
    """
    every: tuple[Strategy, ...] = ("sequential-oracle", *strategies)
    table = [random_coverages(matrix, budgets, seed).mean(0)]
    table += [np.array(coverage_by_budget(contexts, told, matrix, strategy, budgets, seed)) for strategy in every]
    return np.array(table)


def comparison_rows(tables: Float64Array, strategies: Sequence[str], budgets: Sequence[int]) -> list[JsonObject]:
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
    for (i, strategy), (j, budget) in itertools.product(enumerate(strategies, start=2), enumerate(budgets)):
        cell = scores[:, i, j][~np.isnan(scores[:, i, j])]  # where all sources are alike there is nothing to choose
        rows.append(
            {
                "budget": budget,
                "strategy": strategy,
                "score": float(cell.mean()) if len(cell) else None,
                "interval": statistics.mean(cell).interval if len(cell) else None,
                "scores": cell.tolist(),
                "lowest": float(cell.min()) if len(cell) else None,
                "value": float(tables[:, i, j].mean()),
                "random_value": float(random[:, j].mean()),
                "oracle_value": float(best[:, j].mean()),
            }
        )
    return rows


def show(rows: Sequence[JsonObject], keys: Sequence[str]) -> None:
    """Print a line for each cell, told apart by `keys`, with the mean score of each strategy."""
    cells: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:.2f}"
        cells.setdefault(tuple(str(row[key]) for key in keys), {})[row["strategy"]] = score
    strategies = list(dict.fromkeys(row["strategy"] for row in rows))
    table = Table(*keys, *strategies, title="(V - random) / (oracle - random)")
    for cell, scores in cells.items():
        table.add_row(*cell, *(scores[strategy] for strategy in strategies))
    Console().print(table)


if __name__ == "__main__":
    tyro.cli(ClosedForm | Trained).run()  # type: ignore[call-overload]  # closed-form or trained
