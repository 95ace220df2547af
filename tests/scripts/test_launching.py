"""`orl train --launcher`: seeds cut into jobs end as one population does, also when a worker is killed or fails."""

from __future__ import annotations

import csv
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.agent import Agent
from orl.agents import SPEQ
from orl.scripts.running import training_run

SMALL = ("--hidden-sizes", 16, 16, "--batch-size", 16, "--eval-episodes", 2, "--device", "cpu")
SMALL_MODEL = ("--reward-model.hidden-sizes", 16, 16, "--reward-model.max-updates", 50)
ONLINE = ("--target-entropy", -1, "--learning-starts", 10, "--buffer-size", 500, "--log-every", 10)
PHASES = ("--period", 15, "--phase-updates", 9, "--check-every", 3)
CLOCKS = ("seconds", "training_seconds", "processor_seconds")
Run = Callable[..., None]


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def jobs(folder: Path) -> dict[tuple[int, ...], Path]:
    """Folders of the jobs by their seeds."""
    return {tuple(results(path)["rows"][0]["seeds"]): path for path in (folder / "jobs").iterdir() if path.is_dir()}


def agree(found: Any, expected: Any, tolerance: float, place: str = "") -> None:
    """JSON with the same shape, and the same numbers but for rounding; clocks may differ."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), place
        for key in expected.keys() - set(CLOCKS):
            agree(found[key], expected[key], tolerance, f"{place}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), place
        for k, value in enumerate(expected):
            agree(found[k], value, tolerance, f"{place}/{k}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance), place
    else:
        assert found == expected, place


def same_run(folder: Path, expected: Path, tolerance: float) -> None:
    """Rows, evaluations, recorded metrics and configuration."""
    agree(results(folder)["rows"], results(expected)["rows"], tolerance)
    histories = [json.loads((path / "history.json").read_text()) for path in (folder, expected)]
    agree(*histories, tolerance)
    assert (folder / "config.json").read_text() == (expected / "config.json").read_text()
    first, second = (list(csv.reader((path / "progress.csv").read_text().splitlines())) for path in (folder, expected))
    assert first[0] == second[0]
    assert [row[:2] for row in first] == [row[:2] for row in second]
    numbers = [np.array([[float(x or "nan") for x in row[2:]] for row in rows[1:]]) for rows in (first, second)]
    np.testing.assert_allclose(*numbers, rtol=tolerance, atol=tolerance)
    for arrays in ("results", "ep_lengths", "timesteps"):
        for seed in results(expected)["rows"][0]["seeds"]:
            place = Path(f"seed-{seed}", "evaluations.npz")
            with np.load(folder / place) as one, np.load(expected / place) as other:
                np.testing.assert_allclose(one[arrays], other[arrays], rtol=tolerance, atol=tolerance)


def test_jobs_on_recorded_data_end_as_one_population(here: Run, hopper_file: Path, tmp_path: Path, capsys: Any) -> None:
    words = ("train", "iql", "--dataset", hopper_file.name, "--env", "Hopper-v5", "--labels", 0.2, "--updates", 40)
    words += ("--seeds", 3, "--first-seed", 1, "--eval-every", 20, "--log-every", 10, *SMALL, *SMALL_MODEL)
    here(*words, "--out", "population")
    here(*words, "--out", "cut", "--launcher", "serial", "--seeds-per-job", 2)
    whole, cut = tmp_path / "population", tmp_path / "cut"
    same_run(cut, whole, tolerance=2e-3)
    assert set(jobs(cut)) == {(1, 2), (3,)}
    reports = [json.loads((path / "reward-model.json").read_text()) for path in (cut, whole)]
    agree(*reports, tolerance=2e-3)
    assert (cut / "learning_curve.png").stat().st_size > 5_000
    assert results(cut)["seconds"] >= sum(results(path)["seconds"] for path in jobs(cut).values())
    here("plot", "cut", "population", "--out", "plots")
    assert (tmp_path / "plots" / "learning_curves.png").exists()
    here("evaluate", "cut", "--episodes", 2, "--out", "evaluated")
    assert results(tmp_path / "evaluated")["rows"][0]["seeds"] == [1, 2, 3]
    capsys.readouterr()
    here(*words, "--out", "cut", "--launcher", "process")
    assert "is finished" in capsys.readouterr().out


def test_acting_jobs_end_as_one_population(here: Run, tmp_path: Path) -> None:
    words = ("train", "speq", "--env", "Pendulum-v1", "--steps", 46, "--seeds", 3, "--eval-every", 20)
    words += (*SMALL, *ONLINE, *PHASES, "--dropout-rate", 0.1, "--save-replay")
    here(*words, "--out", "population")
    here(*words, "--out", "cut", "--launcher", "serial")
    whole, cut = tmp_path / "population", tmp_path / "cut"
    same_run(cut, whole, tolerance=2e-3)
    assert set(jobs(cut)) == {(0,), (1,), (2,)}
    assert (cut / "training.png").stat().st_size > 5_000
    assert sorted(path.name for path in (cut / "seed-2" / "policies").iterdir()) == [
        f"step-{steps}.safetensors" for steps in (20, 40, 46)
    ]
    assert (cut / "seed-1" / "replay.npz").exists()
    agents = [SPEQ.load(path).learn(20) for path in (cut, whole)]
    assert [(agent.seeds, agent.steps, agent.total_phase_updates) for agent in agents] == [([0, 1, 2], 66, 36)] * 2
    first, second = (agent.act(np.ones((3, 4, 3), np.float32)) for agent in agents)
    np.testing.assert_allclose(first, second, atol=1e-3)
    assert SPEQ.load(cut / "seed-2").seeds == [2]


def test_phases_that_end_by_themselves_leave_the_evaluations_that_all_made(here: Run, tmp_path: Path) -> None:
    words = ("train", "speq-auto", "--env", "Pendulum-v1", "--steps", 46, "--seeds", 2, "--eval-every", 20)
    words += (*SMALL, *ONLINE, *PHASES, "--patience", 3, "--out", "cut", "--launcher", "serial")
    here(*words)
    history = json.loads((tmp_path / "cut" / "history.json").read_text())
    assert [each["steps"] for each in history if not each["after_phase"]] == [20, 40, 46]
    assert all(len(each["returns"]) == len(each["stabilization_updates"]) == 2 for each in history)
    (row,) = results(tmp_path / "cut")["rows"]
    parts = [results(path)["rows"][0] for path in jobs(tmp_path / "cut").values()]
    assert row["critic_updates"] == np.mean([part["critic_updates"] for part in parts])
    assert sorted(row["seed_returns"]) == sorted(value for part in parts for value in part["seed_returns"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for workers in /proc")
@pytest.mark.parametrize("launcher", ["process", "ray"])
def test_a_killed_worker_goes_on_and_changes_no_number(
    here: Run, hopper_file: Path, tmp_path: Path, launcher: str
) -> None:
    words = ("train", "td3bc", "--dataset", hopper_file.name, "--env", "Hopper-v5", "--updates", 400, *SMALL)
    words += ("--checkpoint-every", 20, "--eval-every", 200, "--log-every", 100)
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(kill_a_worker(tmp_path / "killed")))
    killer.start()
    here(*words, "--out", "killed", "--launcher", launcher)
    killer.join()
    here(*words, "--out", "whole", "--launcher", "serial")
    assert killed
    logs = [path.read_text() for path in (tmp_path / "killed" / "jobs").glob("*.log")]
    assert sum("resuming" in log for log in logs) == 1
    same_run(tmp_path / "killed", tmp_path / "whole", tolerance=0.0)


def kill_a_worker(folder: Path) -> int:
    """SIGKILL to the only worker, as soon as its job has a checkpoint."""
    deadline = time.monotonic() + 120
    while not list(folder.glob("jobs/*/seed-*/checkpoint-*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (worker,) = [process for process in descendants(os.getpid()) if is_worker(process)]
    os.kill(worker, signal.SIGKILL)
    return worker


def descendants(process: int) -> list[int]:
    """Processes below this one."""
    children = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if parent == process:
            children.append(int(path.parent.name))
    return children + [below for child in children for below in descendants(child)]


def is_worker(process: int) -> bool:
    command = Path(f"/proc/{process}/cmdline").read_bytes()
    return b"spawn_main" in command or command.startswith(b"ray::attempt")


def test_a_failing_job_is_named_and_the_next_start_runs_it_alone(
    here: Run, refused: Any, hopper_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = (
        "train",
        "td3bc",
        "--dataset",
        hopper_file.name,
        "--env",
        "Hopper-v5",
        "--updates",
        20,
        "--seeds",
        3,
        *SMALL,
    )
    words += ("--launcher", "serial", "--retries", 2, "--out", "run")
    evaluate, tried = training_run.evaluate, 0

    def failing(agent: Agent, *arguments: Any, **options: Any) -> Any:
        nonlocal tried
        if agent.seeds == [1]:
            tried += 1
            raise OSError("no space left")
        return evaluate(agent, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "evaluate", failing)
        said = refused(*words)
    assert "1 of 3 jobs failed" in said
    assert "OSError: no space left" in said
    assert tried == 3
    assert not (tmp_path / "run" / "results.json").exists()
    (log,) = (tmp_path / "run" / "jobs").glob("*.log")
    assert log.name in said
    assert "Traceback" in log.read_text()
    capsys.readouterr()
    here(*words)
    assert capsys.readouterr().out.count("is finished") == 0
    assert results(tmp_path / "run")["rows"][0]["seeds"] == [0, 1, 2]
    assert set(jobs(tmp_path / "run")) == {(0,), (1,), (2,)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", 2], "--workers 2: there are no jobs; give --launcher serial, process or ray too"),
        (["--gpus-per-job", 0.5], "--gpus-per-job 0.5: there are no jobs"),
        (["--launcher", "process", "--seeds-per-job", 0], "--seeds-per-job 0: give 1 or more"),
        (["--launcher", "process", "--workers", 0], "workers=0: give 1 or more"),
        (["--launcher", "process", "--gpus-per-job", 0.5], "Ray alone shares GPUs out"),
        (["--launcher", "serial", "--retries", -1], "retries=-1: give 0 or more"),
    ],
)
@pytest.mark.parametrize("agent", ["td3bc", "sac"])
def test_what_cannot_be_launched_is_refused_before_there_is_a_folder(
    refused: Any, hopper_file: Path, tmp_path: Path, agent: str, words: list[Any], said: str
) -> None:
    where = ("--env", "Pendulum-v1") if agent == "sac" else ("--dataset", hopper_file, "--env", "Hopper-v5")
    assert said in refused("train", agent, *where, "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_without_ray_the_message_names_the_extra(refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = refused("train", "sac", "--env", "Pendulum-v1", "--launcher", "ray", "--out", tmp_path / "run")
    assert "pip install 'orl[ray]'" in said
    assert not (tmp_path / "run").exists()
