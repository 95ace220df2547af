"""`orl train`: what it writes, what it refuses, and that nothing is lost when it is killed."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from orl import datasets
from orl.scripts.commands.plot import Plot, _names

SMALL = ("--hidden-sizes", 16, 16, "--batch-size", 16, "--eval-episodes", 2)
SMALL_MODEL = ("--reward-model.hidden-sizes", 16, 16, "--reward-model.max-updates", 50)


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def test_a_plain_d4rl_file_with_few_labels(
    orl: Any, said: Any, refused: Any, hopper_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    words = ("train", "iql", "--dataset", hopper_file, "--env", "Hopper-v5", "--labels", 0.1, "--updates", 300)
    ended = orl(*words, "--seeds", 2, *SMALL, *SMALL_MODEL, "--out", out)
    assert "imputed" in ended.stdout
    written = results(out)
    assert set(written) >= {"command", "config", "versions", "seconds", "rows"}
    (row,) = written["rows"]
    assert row["dataset"] == "hopper.hdf5"
    assert (row["env"], row["agent"], row["rewards"], row["seeds"]) == ("Hopper-v5", "iql", "imputed", [0, 1])
    assert row["interval"] is None  # two seeds have none; they are shown themselves
    assert row["return"] == pytest.approx(np.mean(row["seed_returns"]))
    assert min(row["seed_returns"]) <= row["return"] <= max(row["seed_returns"])
    assert str(tmp_path) not in written["command"]
    assert (out / "learning_curve.png").stat().st_size > 5_000
    assert list((out / "tensorboard" / "seed-1").glob("events*"))
    with (out / "progress.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert last["time/total_updates"] == "300"
    assert np.isfinite(float(last["train/critic_loss"]))
    assert np.isfinite(float(last["eval/mean_reward"]))
    with np.load(out / "seed-0" / "evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == [300]
        assert arrays["results"].shape == (1, 2)
    assert "is finished" in said(*words, "--seeds", 2, *SMALL, *SMALL_MODEL, "--out", out)
    assert "seeds = 2, not 3" in refused(*words, "--seeds", 3, *SMALL, *SMALL_MODEL, "--out", out)
    assert "Hopper-v5" in said("evaluate", out, "--episodes", 2, "--out", tmp_path / "evaluated")
    assert "learning_curves.png" in said("plot", out, "--out", tmp_path / "plots")


def test_one_seed_has_no_interval_and_bc_no_rewards(here: Any, hopper_file: Path, tmp_path: Path) -> None:
    words = ("--dataset", hopper_file, "--env", "Hopper-v5", "--updates", 20, *SMALL)
    here("train", "bc", *words, "--out", tmp_path / "bc")
    (row,) = results(tmp_path / "bc")["rows"]
    assert row["interval"] is None
    assert row["rewards"] == "none"


def test_cloning_needs_no_rewards(here: Any, refused: Any, hopper_file: Path, tmp_path: Path) -> None:
    data = datasets.load(hopper_file, "Hopper-v5")
    datasets.write_npz(dataclasses.replace(data, rewards=np.full_like(data.rewards, np.nan)), tmp_path / "blind.npz")
    rows = []
    for name, path in (("blind", tmp_path / "blind.npz"), ("seeing", hopper_file)):
        words = ("train", "bc", "--dataset", path, "--env", "Hopper-v5")
        here(*words, "--updates", 20, *SMALL, "--out", tmp_path / name)
        rows.append(results(tmp_path / name)["rows"][0]["return"])
        assert "leave --rewards and --labels out" in refused(*words, "--rewards", "zero")
        assert "leave --rewards and --labels out" in refused(*words, "--labels", 0.1)
    assert rows[0] == rows[1]


def broken(arrays: dict[str, np.ndarray], how: str) -> dict[str, np.ndarray]:
    arrays = {name: values.copy() for name, values in arrays.items()}
    if how == "NaN observations":
        arrays["observations"][7, 2] = np.nan
    elif how == "no rewards":
        del arrays["rewards"]
    elif how == "lengths that differ":
        arrays["rewards"] = arrays["rewards"][:-5]
    elif how == "wrong action size":
        arrays["actions"] = arrays["actions"][:, :2]
    elif how == "actions out of bounds":
        arrays["actions"] *= 3.0
    elif how == "infinite rewards":
        arrays["rewards"][3] = np.inf
    return arrays


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("NaN observations", ["observations", "NaN", "row"]),
        ("no rewards", ["rewards"]),
        ("lengths that differ", ["595", "600"]),
        ("wrong action size", ["2", "3"]),
        ("actions out of bounds", ["outside", "clip_actions"]),
        ("infinite rewards", ["rewards", "infinity"]),
        ("cut in half", ["hopper.hdf5"]),
    ],
)
def test_broken_files_are_refused_in_one_line(
    refused: Any, hopper_file: Path, d4rl_arrays: dict[str, np.ndarray], how: str, words: list[str], tmp_path: Path
) -> None:
    if how == "cut in half":
        content = hopper_file.read_bytes()
        hopper_file.write_bytes(content[: len(content) // 2])
    else:
        with h5py.File(hopper_file, "w") as file:
            for name, values in broken(d4rl_arrays, how).items():
                file[name] = values
    out = tmp_path / "run"
    command = ("train", "iql", "--dataset", hopper_file, "--env", "Hopper-v5", "--labels", 0.01, "--updates", 300)
    said = refused(*command, "--out", out)
    for word in words:
        assert word in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--labels", 1.5], "(0, 1]"),
        (["--labels", 0], "(0, 1]"),
        (["--labels", 0.5, "--label-seed", -5], "--label-seed -5: give 0 or more"),
        (["--rewards", "imputed"], "--labels"),
        (["--updates", 0], "--updates 0"),
        (["--device", "cuda:99"], "CUDA"),
        (["--device", "mps"], "device='mps': give 'auto'"),
        (["--expectile", 2], "orl: error: IQLConfig.expectile=2.0: must lie in [0, 1]"),
        (["--maximum-weight", "inf"], "IQLConfig.maximum_weight=inf: give a finite number"),
        (["--hidden-sizes", 0], "hidden_sizes=(0,): a layer has at least one unit"),
        (["--env", "Nowhere-v0"], "Nowhere-v0"),
        (["--env", "CartPole-v1"], "CartPole-v1"),
    ],
)
def test_wrong_options_are_refused_in_one_line(refused: Any, hopper_file: Path, words: list[Any], said: str) -> None:
    assert said in refused("train", "iql", "--dataset", hopper_file, "--env", "Hopper-v5", "--updates", 10, *words)


def test_words_that_are_no_options_are_answered_with_those_that_are(misread: Any) -> None:
    words = ("train", "iql", "--dataset", "x", "--env", "Hopper-v5")
    said = misread(*words, "--bath-size", 3)
    assert "Unrecognized options: --bath-size, 3" in said
    assert "--batch-size INT" in said
    said = misread(*words, "--expectile", "two")
    assert "--expectile" in said
    assert "'two'" in said
    assert "'slurm'" in misread(*words, "--launcher", "slurm")


def test_a_dataset_of_ours_that_is_not_there_names_the_command(refused: Any) -> None:
    assert "orl dataset make orl/racing/expert-v0" in refused("train", "iql", "--dataset", "orl/racing/expert-v0")


def test_unknown_verbs_and_help(orl: Any, said: Any, refused: Any, misread: Any) -> None:
    assert "did you mean train?" in refused("trian")
    assert "choose one of demo" in refused("juggle")
    assert "give --dataset" in refused("train", "iql")
    misspelt = misread("train", "iql", "--dataset", "x", "--updatez", 5)
    assert "--updates {None}|INT" in misspelt
    assert "orl sac" not in misspelt
    assert "train" in orl().stdout
    assert "--expectile" in said("train", "iql", "--help")
    agents = said("train", "--help")
    assert "Implicit Q-learning" in agents
    assert "flash-speq" in agents
    assert "no agent is named; choose one of awac, bc, iql" in refused("train")


def test_a_killed_run_ends_with_the_same_numbers(
    here: Any, said: Any, kill: Any, hopper_file: Path, tmp_path: Path
) -> None:
    """SIGKILL at random moments; the same command, started again, ends as if nothing had happened."""
    words = ["train", "td3bc", "--dataset", hopper_file, "--env", "Hopper-v5", "--labels", 0.1, "--updates", 1500]
    words += ["--seeds", 2, "--checkpoint-every", 70, "--eval-every", 500, "--log-every", 50, *SMALL, *SMALL_MODEL]
    here(*words, "--out", tmp_path / "whole")
    killed = tmp_path / "killed"
    waits = kill(killed, 3, *words)
    resumed = said(*words, "--out", killed)
    assert "resuming" in resumed or "is finished" in resumed
    first, second = results(tmp_path / "whole"), results(killed)
    assert first["rows"] == second["rows"], waits
    assert (tmp_path / "whole" / "progress.csv").read_text() == (killed / "progress.csv").read_text()
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "killed")]
    clocks = ("seconds", "training_seconds", "processor_seconds")
    strip = [[{k: v for k, v in each.items() if k not in clocks} for each in history] for history in histories]
    assert strip[0] == strip[1]


def test_training_that_diverges_ends_in_one_line_and_scores_nothing(
    refused: Any, hopper_file: Path, tmp_path: Path
) -> None:
    rates = ("--critic-learning-rate", 1e8, "--actor-learning-rate", 10)
    words = ("td3bc", "--dataset", hopper_file, "--env", "Hopper-v5", "--updates", 150, "--seeds", 2, *SMALL, *rates)
    said = refused("train", *words, "--log-every", 50, "--out", tmp_path / "run")
    assert "seed 0, 1: training diverged by update" in said
    assert "lower critic_learning_rate (1e+08) or actor_learning_rate (10)" in said
    assert {"results.json", "history.json"}.isdisjoint(path.name for path in (tmp_path / "run").iterdir())
    assert not list((tmp_path / "run").glob("seed-*/checkpoint-*"))


def test_another_file_of_the_same_name_is_another_run(
    said: Any, refused: Any, hopper_file: Path, tmp_path: Path
) -> None:
    data = datasets.load(hopper_file, "Hopper-v5")
    words = ["--env", "Hopper-v5", "--updates", 10, *SMALL, "--out", tmp_path / "run"]
    for name, rewards in (("a", data.rewards), ("b", data.rewards + 1)):
        datasets.write_npz(dataclasses.replace(data, rewards=rewards), tmp_path / name / "replay.npz")
    said("train", "bc", "--dataset", tmp_path / "a" / "replay.npz", *words)
    assert "dataset_sha256" in refused("train", "bc", "--dataset", tmp_path / "b" / "replay.npz", *words)
    moved = (tmp_path / "a" / "replay.npz").rename(tmp_path / "replay.npz")
    assert "is finished" in said("train", "bc", "--dataset", moved, *words)


def test_runs_with_the_same_name_are_told_apart() -> None:
    assert _names([Path("a/run"), Path("b/run")]) == ["a/run", "b/run"]
    assert _names([Path("a/run"), Path("a/other")]) == ["run", "other"]
    assert _names([Path()]) == [Path.cwd().name]


def test_runs_of_one_kind_are_told_apart_by_their_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"dataset": "hop.npz", "env": "Hopper-v5", "agent": "iql", "rewards": "imputed", "normalized_score": 3.0}
    for name, seeds, interval in (("few", [0], None), ("many", [0, 1], [2.0, 4.0])):
        (tmp_path / name).mkdir()
        history = [{"updates": 20, "returns": [[100.0]] * len(seeds)}]
        rows = [row | {"seeds": seeds, "interval": interval, "return": 100.0}]
        for file, content in (("history", history), ("config", {"env": "Hopper-v5"}), ("results", {"rows": rows})):
            (tmp_path / name / f"{file}.json").write_text(json.dumps(content))
    runs = tmp_path / "few", tmp_path / "many"
    Plot(runs, out=tmp_path).run()
    shown = capsys.readouterr().out
    assert "iql (few)" in shown
    assert "iql (many)" in shown
    assert (tmp_path / "scores.png").exists()
    Plot(runs[1:], out=tmp_path).run()
    assert "(many)" not in capsys.readouterr().out
