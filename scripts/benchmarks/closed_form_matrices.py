"""Transfer matrices in closed form, and how close each selection strategy comes to the oracle on them.

`python -m orl.scripts.benchmarks.closed_form_matrices --out results/selection/closed-form.json`

J(x, y) = f(x) + g(y) - h(x, y): how good a source is, how easy a target is, what the transfer costs; all in [0, 1].
"""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tyro
from numpy.typing import NDArray

from orl import checkpoint
from orl.agents.mbtl import Strategy
from orl.scripts.contexts.selection_replay import compare, comparison_rows, show
from orl.training import progress

FloatArray = NDArray[np.float64]
Shape = Literal["sloped", "distance", "mixed", "noisy", "flat"]
GRIDS = {1: (200,), 2: (15, 15), 3: (6, 6, 6)}  # dimensions: tasks per dimension


def grid(dimensions: int) -> FloatArray:
    """Contexts (N, d) in [0, 1]."""
    axes = [np.linspace(0, 1, count) for count in GRIDS[dimensions]]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, dimensions)


def closed_form_matrix(shape: Shape, dimensions: int, seed: int, periods: float = 1.0) -> tuple[FloatArray, FloatArray]:
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


def _waves(generator: np.random.Generator, contexts: FloatArray, periods: float) -> FloatArray:
    """Three waves, their sum in [0, 1]."""
    waves = np.zeros(len(contexts))
    for _ in range(3):
        frequencies = generator.uniform(-periods, periods, contexts.shape[1])
        waves += generator.uniform(0.5, 1) * np.sin(2 * np.pi * (contexts @ frequencies + generator.uniform()))
    return np.asarray((waves - waves.min()) / np.ptp(waves))


def _flattened(generator: np.random.Generator, cost: FloatArray) -> FloatArray:
    """As it is, or bounded far away; half of the times each."""
    if generator.uniform() < 0.5:
        return cost
    scale = generator.uniform(0.2, 0.6) * cost.max()
    return np.asarray(scale * (1 - np.exp(-cost / scale)))


@dataclass(frozen=True)
class Benchmark:
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
                tables = []
                for seed in range(self.matrices):
                    tables.append(self.compare(shape, dimensions, seed, periods))
                    advance(1)
                rows += self.rows(shape, dimensions, periods, np.array(tables))
        config = {name: value for name, value in asdict(self).items() if name != "out"}
        results = {"config": config, "versions": checkpoint.versions(), "seconds": time.perf_counter() - start}
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_text(json.dumps(results | {"rows": rows}, indent=1) + "\n")
        show(rows, ("shape", "dimensions", "periods", "budget"))

    def compare(self, shape: Shape, dimensions: int, seed: int, periods: float) -> FloatArray:
        """For one matrix: random, oracle and every strategy, each at both budgets; all by scores without noise."""
        contexts, told = closed_form_matrix(shape, dimensions, seed, periods)
        matrix = closed_form_matrix("mixed", dimensions, seed, periods)[1] if shape == "noisy" else told
        return compare(contexts, told, matrix, self.strategies, budgets(len(contexts)), seed)

    def rows(self, shape: Shape, dimensions: int, periods: float, tables: FloatArray) -> list[dict[str, Any]]:
        """One row for each strategy and budget, from tables (matrices, random, oracle and strategies, budgets)."""
        count = len(grid(dimensions))
        cell = {"shape": shape, "dimensions": dimensions, "periods": periods, "tasks": count}
        return [cell | row for row in comparison_rows(tables, self.strategies, budgets(count))]


def budgets(tasks: int) -> tuple[int, int]:
    """A tenth and a fifth of the tasks."""
    return tasks // 10, tasks // 5


if __name__ == "__main__":
    tyro.cli(Benchmark).run()
