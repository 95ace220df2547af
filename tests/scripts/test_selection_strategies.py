"""Closed-form transfer matrices, and selection on them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orl.scripts.benchmarks.selection_strategies import ClosedForm, closed_form_matrix
from orl.scripts.contexts.selection import coverage, select_sources


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_matrices_have_the_shape_that_they_are_named_after(dimensions: int) -> None:
    for shape in ("sloped", "distance", "mixed"):
        contexts, matrix = closed_form_matrix(shape, dimensions, 0)  # type: ignore[arg-type]
        assert matrix.shape == (len(contexts),) * 2
        assert (matrix.min(), matrix.max()) == (0, 1)
        assert not np.array_equal(matrix, closed_form_matrix(shape, dimensions, 1)[1])  # type: ignore[arg-type]
    contexts, distance = closed_form_matrix("distance", dimensions, 0)
    assert (distance.argmax(0) == np.arange(len(contexts))).all()  # each target's best source is its own
    _, sloped = closed_form_matrix("sloped", dimensions, 0)
    assert (sloped.argmax(0) != np.arange(len(contexts))).mean() > 0.5
    _, mixed = closed_form_matrix("mixed", dimensions, 3)
    assert (closed_form_matrix("noisy", dimensions, 3)[1] - mixed).std() == pytest.approx(0.05, rel=0.02)
    assert np.ptp(closed_form_matrix("flat", dimensions, 0)[1]) == 0


def test_value_is_the_mean_of_the_best() -> None:
    assert coverage(np.array([[0.0, 1.0], [0.4, 0.2]]), np.array([0, 1])) == pytest.approx(0.7)


@pytest.mark.parametrize("shape", ["sloped", "distance"])
def test_auto_comes_close_to_the_oracle(shape: str) -> None:
    contexts, matrix = closed_form_matrix(shape, 1, 0)  # type: ignore[arg-type]
    generator = np.random.default_rng(0)
    random, best, ours = (
        np.mean([coverage(matrix, generator.permutation(200)[:12]) for _ in range(100)]),
        coverage(matrix, select_sources(contexts, matrix, "sequential-oracle", 12, 0)),
        coverage(matrix, select_sources(contexts, matrix, "auto", 12, 0)),
    )
    assert (ours - random) / (best - random) > 0.85


def test_the_benchmark_writes_a_row_for_each_strategy_and_budget(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    ClosedForm(out, ("greedy", "equidistant"), ("distance",), (1,), 5, (1.0,)).run()
    rows = json.loads(out.read_text())["rows"]
    assert [(row["strategy"], row["budget"]) for row in rows] == [
        ("greedy", 20),
        ("greedy", 40),
        ("equidistant", 20),
        ("equidistant", 40),
    ]
    assert all(row["random_value"] < row["value"] for row in rows)
    assert all(row["interval"][0] <= row["score"] <= row["interval"][1] for row in rows)
