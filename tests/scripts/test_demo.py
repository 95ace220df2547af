"""`orl demo` with tiny settings: every file that it promises, and that it can be asked again."""

from __future__ import annotations

import json
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orl.scripts.commands.demo import Demo, _train
from orl.scripts.figures.scores import imputed_against_true
from orl.scripts.running.run_directory import RunDirectory

TINY = (
    "--seeds", 2, "--updates", 20, "--second-updates", 10, "--episodes", 1, "--reward-model.max-updates", 20,
    "--workers", 1,
)  # fmt: skip
SMALL_SETS = ("--dataset", "orl/racing/mix-small-v0", "--second-dataset", "orl/racing/basic-small-v0", "--labels", 0.1)


def test_demo(orl: Any, said: Any, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    ended = orl("demo", "--out", out, *TINY, *SMALL_SETS)
    assert "imputed" in ended.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["dataset"] == "orl/racing/mix-small-v0"
    assert results["label_fraction"] == 0.1
    assert set(results["reward_model"]) == {"r2", "mae", "coverage", "return_correlation"}
    cells = {(row["dataset"], row["agent"], row["rewards"]) for row in results["rows"]}
    first = {(agent, rewards) for dataset, agent, rewards in cells if dataset == results["dataset"]}
    kinds = ("labelled", "zero", "mean", "imputed", "true")
    assert first == {("bc", "none"), *((agent, kind) for agent in ("iql", "td3bc") for kind in kinds)}
    assert len(cells) == 11 + 7
    for row in results["rows"]:
        assert row["seeds"] == [0, 1]
        assert row["interval"] is None  # two seeds have none; they are shown themselves
        assert row["return"] == pytest.approx(np.mean(row["seed_returns"]))
        assert isinstance(row["laps"], float)
    for figure in ("scores", "imputed_rewards", "racing_lines"):
        with Image.open(out / f"{figure}.png") as image:
            assert image.width > 300
    assert "is finished" in said("demo", "--out", out, *TINY, *SMALL_SETS)
    driver = out / "mix-small-v0" / "iql-imputed"
    assert "wrote" in said("evaluate", driver, "--episodes", 1, "--video", tmp_path / "drive.gif", "--video-steps", 12)
    with Image.open(tmp_path / "drive.gif") as film:
        assert film.n_frames == 12


def test_its_jobs_can_be_sent_to_other_processes(tmp_path: Path) -> None:
    folder = RunDirectory(tmp_path, {"seeds": 2})
    jobs = [Demo()._job(folder, _train, "orl/racing/mix-large-v0", "iql", kinds) for kinds in (("zero",), ("true",))]
    for job in jobs:
        assert ForkingPickler.dumps(job.work)
    assert jobs[0].id != jobs[1].id


def test_without_hidden_rewards_there_is_no_figure_of_them(tmp_path: Path) -> None:
    imputed_against_true(np.zeros(0), np.zeros(0), "all known", tmp_path / "imputed.png")
    assert not (tmp_path / "imputed.png").exists()


def test_two_datasets_have_folders_of_their_own(refused: Any, tmp_path: Path) -> None:
    words = ("demo", "--dataset", "mine/racing/expert-v0", "--out", tmp_path / "demo")
    assert "--second-dataset orl/racing/expert-v0" in refused(*words)
    assert not (tmp_path / "demo").exists()


def test_wrong_numbers_are_refused(refused: Any) -> None:
    assert "--seeds 0" in refused("demo", "--seeds", 0)
    assert "(0, 1]" in refused("demo", "--labels", 2)
