"""A run's folder and its parts: what is finished is not done again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.scripts.running.run_directory import RunDirectory, load_or_make, load_or_make_json


def test_a_finished_part_is_read(tmp_path: Path) -> None:
    made: list[str] = []

    def arrays() -> dict[str, Any]:
        made.append("arrays")
        return {"returns": np.arange(3.0), "laps": [1, 2]}

    file = tmp_path / "new" / "part.npz"
    first, second = load_or_make(file, arrays), load_or_make(file, arrays)
    assert made == ["arrays"]
    for found in (first, second):
        assert found["returns"].tolist() == [0.0, 1.0, 2.0]
        assert found["laps"].tolist() == [1, 2]
    assert [path.name for path in file.parent.iterdir()] == ["part.npz"]
    for _ in range(2):
        assert load_or_make_json(tmp_path / "part.json", lambda: made.append("json") or {"a": [1]}) == {"a": [1]}
    assert made == ["arrays", "json"]


def test_a_part_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        load_or_make(tmp_path / "part.npz", lambda: {"x": np.array(1 / 0)})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_or_make(tmp_path / "part.npz", lambda: {"x": np.array([object()])})
    assert not (tmp_path / "part.npz").exists()


def test_a_finished_run_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory.open(tmp_path / "run", {"seeds": 1})
    results = run.results(lambda: run.finish([{"return": 1.0}]))
    assert results["rows"] == [{"return": 1.0}]
    assert capsys.readouterr().out == ""
    again = RunDirectory.open(tmp_path / "run", {"seeds": 1}).results(pytest.fail)
    assert again == results
    assert "is finished; these are its results" in capsys.readouterr().out
