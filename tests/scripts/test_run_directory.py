"""A run's folder and its parts: what is finished is not done again, and one process at a time is at work."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.scripts.running.run_directory import RunDirectory, config_of, load_or_make, load_or_make_json

OWNER = """
import sys
from pathlib import Path
from orl.scripts.running.run_directory import RunDirectory
folder = RunDirectory.open(Path(sys.argv[1]), {"a": 1})
print("at work", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process at work in `tmp_path/run`."""
    command = [sys.executable, "-c", OWNER, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_one_that_was_killed_is_in_nobody_s_way(
    owner: subprocess.Popen[str], tmp_path: Path
) -> None:
    before = {path.name for path in (tmp_path / "run").iterdir()}
    words = rf"run: process {owner.pid} on .* is at work there; wait until it is done, or give another --out"
    with pytest.raises(ValueError, match=words):
        RunDirectory.open(tmp_path / "run", {"a": 1})
    assert {path.name for path in (tmp_path / "run").iterdir()} == before
    RunDirectory.open(tmp_path / "run" / "jobs" / "1", {"a": 2})  # as a job of the run does
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    RunDirectory.open(tmp_path / "run", {"a": 1})


def test_a_process_may_open_its_folder_again_and_gives_it_back(tmp_path: Path) -> None:
    first = RunDirectory.open(tmp_path / "run", {"a": 1})
    second = RunDirectory.open(tmp_path / "run", {"a": 1})
    shutil.rmtree(tmp_path / "run")
    third = RunDirectory.open(tmp_path / "run", {"a": 2})
    command = [sys.executable, "-c", OWNER, str(tmp_path / "run")]
    refused = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert f"run: process {os.getpid()} on" in refused.stderr
    del first, second, third
    gc.collect()
    assert subprocess.run(command, input="", capture_output=True, text=True, check=True).stdout == "at work\n"


def test_a_file_system_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("no locks")

    monkeypatch.setattr("fcntl.flock", refused)
    assert RunDirectory.open(tmp_path / "run", {}).finished() is None
    monkeypatch.setattr("orl.scripts.running.run_directory.fcntl", None)  # as on Windows
    assert RunDirectory.open(tmp_path / "other", {}).finished() is None


def test_an_environment_that_a_run_names_comes_without_its_module(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"env": "module:Some-v0", "agent": "sac"}))
    config, folder = config_of(tmp_path / "seed-0")
    assert (config, folder) == ({"env": "Some-v0", "agent": "sac"}, tmp_path)


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
