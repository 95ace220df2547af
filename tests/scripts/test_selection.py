"""What a selection covers beside its baselines, from matrices that are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orl.agents import TaskSelector
from orl.scripts.benchmarks.selection_strategies import Trained, closed_form_matrix
from orl.scripts.contexts.selection import compare_coverages, coverage_rows


def selected(matrix: np.ndarray, contexts: np.ndarray, sources: list[int]) -> TaskSelector:
    selector = TaskSelector(contexts, budget=len(sources))
    for source in sources:
        selector.tell(source, matrix[source])
    return selector


@pytest.fixture
def distance() -> tuple[np.ndarray, np.ndarray]:
    """Contexts (20, 1) and a matrix in which only the distance counts."""
    contexts = np.arange(20.0)[:, None]
    return contexts, -np.abs(contexts - contexts.T)


def test_with_the_full_matrix_there_is_an_oracle(distance: tuple[np.ndarray, np.ndarray]) -> None:
    contexts, matrix = distance
    found = compare_coverages(selected(matrix, contexts, [0, 19]), matrix, (), matrix.mean(0))
    rows = {row["strategy"]: row for row in coverage_rows(found, env="e", agent="a", seed=0)}
    assert [each.name for each in found] == [
        "auto", "random", "equidistant", "greedy", "sequential-oracle", "independent", "multi-task",
    ]  # fmt: skip
    assert found[0].returns == [-9.5, -4.5]
    assert rows["independent"]["return"] == 0.0
    assert rows["equidistant"]["return"] == -2.5  # of two sources, at 5 and 14 or so
    assert rows["auto"]["regret"] == rows["sequential-oracle"]["return"] + 4.5
    low, high = rows["random"]["return_interval"]
    assert low < rows["random"]["return"] < high
    share = (-4.5 - rows["random"]["return"]) / (rows["sequential-oracle"]["return"] - rows["random"]["return"])
    assert rows["auto"]["share_of_oracle"] == pytest.approx(share)


def test_without_it_independent_is_estimated_from_random_sources(distance: tuple[np.ndarray, np.ndarray]) -> None:
    contexts, matrix = distance
    drawn = TaskSelector(contexts, "random", 3).ask(3)
    known = np.full_like(matrix, np.nan)
    known[[*drawn, 0, 1, 2]] = matrix[[*drawn, 0, 1, 2]] + np.eye(20)[[*drawn, 0, 1, 2]] * 5
    found = {
        each.name: each for each in compare_coverages(selected(known, contexts, [0, 1, 2]), known, ["random"], None)
    }
    assert list(found) == ["auto", "random", "independent"]
    assert found["independent"].returns == [5.0]
    assert found["random"].returns[-1] == known[drawn].max(0).mean()


def test_trained_matrices_are_compared_over_seeds(tmp_path: Path) -> None:
    runs = []
    for seed in range(2):
        runs.append(tmp_path / str(seed))
        runs[-1].mkdir()
        config = {"env": "orl/ContextPendulum-v0", "contexts": "length=0.5:2:20", "trainer": "sac", "seed": seed}
        (runs[-1] / "config.json").write_text(json.dumps(config))
        np.save(runs[-1] / "transfer.npy", closed_form_matrix("sloped", 1, seed)[1][::10, ::10])
    Trained((*runs,), tmp_path / "out", ("auto", "greedy", "equidistant")).run()
    results = json.loads((tmp_path / "out/results.json").read_text())
    scored = [row for row in results["rows"] if row["budget"]]
    assert [(row["strategy"], row["budget"]) for row in scored[:2]] == [("auto", 2), ("auto", 4)]
    assert all(row["interval"] is None for row in scored)  # two matrices have none; their scores are in the row
    assert all(min(row["scores"]) <= row["score"] <= max(row["scores"]) for row in scored)
    assert results["seeds"] == [0, 1]
    assert len(results["correlation_of_sources"]) == 1
    assert {row["strategy"] for row in scored} == {"auto", "greedy", "equidistant", "oracle-of-others"}
    as_good = {row["strategy"]: row for row in results["rows"] if not row["budget"]}
    needed = as_good["sequential-oracle"]["sources_as_good"]
    assert as_good["sequential-oracle"]["factors"] == [20 / each for each in needed]
    with pytest.raises(ValueError, match="two or more runs"):
        Trained((runs[0],), tmp_path / "out").run()
    with pytest.raises(ValueError, match="no full transfer matrix"):
        Trained((runs[0], tmp_path), tmp_path / "out").run()
