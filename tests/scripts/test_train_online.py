"""`orl train` for agents that act: what it writes, what it refuses, and that nothing is lost when it is stopped."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict

from orl import datasets
from orl.agent import Agent
from orl.agents import SPEQ
from orl.checkpoint import learner_names
from orl.rollout import Collector
from orl.scripts.running import training_run
from orl.scripts.running.training_run import Spent

SMALL = (
    "--hidden-sizes", 8, "--batch-size", 8, "--eval-episodes", 2, "--target-entropy", -1, "--learning-starts", 10,
    "--buffer-size", 500, "--eval-every", 20, "--log-every", 5, "--checkpoint-every", 1, "--device", "cpu",
)  # fmt: skip
PHASES = ("--period", 15, "--phase-updates", 9, "--check-every", 3, "--dropout-rate", 0.1)
STEPS = 46  # the last phase, of step 45, is followed by one step
Run = Callable[..., None]


@pytest.fixture
def train(here: Run) -> Run:
    """Run `orl train WORDS` in this process."""
    return partial(here, "train")


def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def numbers(folder: Path) -> dict[str, Any]:
    """What a run found, without the clock."""
    (row,) = results(folder)["rows"]
    history = json.loads((folder / "history.json").read_text())
    return {
        "row": {key: value for key, value in row.items() if not key.endswith("_seconds")},
        "history": [{key: value for key, value in each.items() if not key.endswith("seconds")} for each in history],
        "progress": (folder / "progress.csv").read_text(),
    }


def test_a_run_of_speq(train: Run, stroll: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ("speq", "--env", stroll, "--steps", STEPS, "--seeds", 2, *SMALL, *PHASES, "--save-replay", "--out", out)
    train(*words)
    said = capsys.readouterr().out
    assert "speq" in said
    assert f"figures and checkpoints: {out}" in said
    written = results(out)
    assert set(written) >= {"command", "config", "versions", "seconds", "rows"}
    (row,) = written["rows"]
    assert (row["dataset"], row["env"], row["agent"], row["rewards"]) == (None, stroll, "speq", "true")
    assert (row["seeds"], row["steps"]) == ([0, 1], STEPS)
    assert row["critic_updates"] == 36 + 3 * 9  # online, and phases after 15, 30 and 45
    assert row["network_updates"] == 2 * (36 + 27) + 36
    assert row["normalized_score"] is None
    assert len(row["seed_returns"]) == 2
    assert (out / "training.png").stat().st_size > 5_000
    history = json.loads((out / "history.json").read_text())
    places = [(each["steps"], each["after_phase"], each["stabilization_updates"]) for each in history]
    assert places == [
        (16, True, [9, 9]), (20, False, [9, 9]), (31, True, [18, 18]), (40, False, [18, 18]), (46, False, [27, 27]),
    ]  # fmt: skip
    with (out / "progress.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {each["seed"] for each in rows} == {"seed-0", "seed-1"}
    assert [float(each["phase/phase_updates"]) for each in rows if each["phase/phase_updates"]][:6] == [
        3,
        3,
        6,
        6,
        9,
        9,
    ]
    assert [float(each["time/total_timesteps"]) for each in rows if each["time/total_timesteps"]][-1] == STEPS
    assert list((out / "tensorboard" / "seed-1").glob("events*"))
    for k in range(2):
        with np.load(out / f"seed-{k}" / "evaluations.npz") as arrays:
            assert arrays["timesteps"].tolist() == [20, 40, 46]
            assert arrays["results"].shape == (3, 2)
        policies = sorted(path.name for path in (out / f"seed-{k}" / "policies").iterdir())
        assert policies == ["step-20.safetensors", "step-40.safetensors", "step-46.safetensors"]
        replay = datasets.load(str(out / f"seed-{k}" / "replay.npz"))
        assert len(replay) == STEPS
    train(*words)
    assert "is finished" in capsys.readouterr().out
    agent = SPEQ.load(out)
    assert (agent.seeds, agent.steps, agent.total_phase_updates) == ([0, 1], STEPS, 27)


@pytest.mark.parametrize("preset", ["sac", "redq", "droq", "speq-auto"])
def test_every_preset_trains(train: Run, here: Run, stroll: str, tmp_path: Path, preset: str) -> None:
    phases = PHASES if preset.startswith("speq") else ()
    train(preset, "--env", stroll, "--steps", 22, *SMALL, *phases, "--first-seed", 7, "--out", tmp_path / "run")
    (row,) = results(tmp_path / "run")["rows"]
    assert (row["agent"], row["seeds"], row["interval"]) == (preset, [7], None)
    assert row["critic_updates"] >= 12 * (20 if preset in ("redq", "droq") else 1)
    assert (tmp_path / "run" / "seed-7" / "policies" / "step-22.safetensors").exists()
    here("evaluate", tmp_path / "run" / "seed-7", "--episodes", 1, "--out", tmp_path / "played")
    assert results(tmp_path / "played")["rows"][0]["agent"] == preset


def test_an_evaluation_after_a_phase_that_was_due_anyway_is_an_ordinary_one(
    train: Run, stroll: str, tmp_path: Path
) -> None:
    words = ("speq", "--env", stroll, "--steps", 16, *SMALL, *PHASES, "--eval-every", 4, "--out", tmp_path / "run")
    train(*words)
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [(each["steps"], each["after_phase"]) for each in history] == [
        (4, False),
        (8, False),
        (12, False),
        (16, False),
    ]


# Stopped runs.


def stop_at(monkeypatch: pytest.MonkeyPatch, save: int) -> None:
    """Ctrl-C as soon as the checkpoint with this number is whole."""
    original, count = Agent.save, 0

    def interrupted(self: Agent, path: Any) -> None:
        nonlocal count
        original(self, path)
        count += 1
        if count == save:
            raise KeyboardInterrupt

    monkeypatch.setattr(Agent, "save", interrupted)


@pytest.fixture
def whole(train: Run, stroll: str, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(*words: object) -> dict[str, Any]:
        train(*words, "--out", tmp_path / "whole")
        return numbers(tmp_path / "whole")

    return run


def test_a_run_stopped_at_every_checkpoint_ends_with_the_same_numbers(
    train: Run, whole: Any, stroll: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints after every second step and every piece of a phase, the last piece too; each time a new start."""
    words = ("speq", "--env", stroll, "--steps", 32, "--seeds", 2, *SMALL, *PHASES)
    expected = whole(*words)
    stops = 0
    while not (tmp_path / "run" / "results.json").exists():
        with monkeypatch.context() as patch:
            stop_at(patch, 1)
            with pytest.raises(SystemExit) as stop:
                train(*words, "--out", tmp_path / "run")
            assert stop.value.code == 130
        stops += 1
        places = sorted(int(path.name.split("-")[-1]) for path in (tmp_path / "run" / "seed-0").glob("checkpoint-*"))
        if len(places) and places[-1] >= 32 + 22 + 18:  # steps, updates and two phases
            train(*words, "--out", tmp_path / "run")
    assert stops > 12
    assert numbers(tmp_path / "run") == expected


def test_seconds_leave_evaluations_out_and_a_resumed_run_adds_up(
    train: Run, stroll: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that shows one second more each time, and a thousand more after an evaluation."""
    shown, evaluate = 0, training_run.evaluate

    def now() -> Spent:
        nonlocal shown
        shown += 1
        return Spent(2.0 * shown, float(shown))

    def slow(*words: Any, **keywords: Any) -> Any:
        nonlocal shown
        shown += 1_000
        return evaluate(*words, **keywords)

    monkeypatch.setattr(Spent, "now", now)
    monkeypatch.setattr(training_run, "evaluate", slow)
    words = ("speq", "--env", stroll, "--steps", 32, *SMALL, *PHASES, "--checkpoint-every", 3)
    train(*words, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_at(patch, 5)
        with pytest.raises(SystemExit):
            train(*words, "--out", tmp_path / "run")
    train(*words, "--out", tmp_path / "run")
    histories = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "run")]
    spent = [[(each["training_seconds"], each["processor_seconds"]) for each in history] for history in histories]
    pieces = 32 + 2 * 3  # steps, and those of two phases of nine updates
    assert spent[0][-1] == (2.0 * pieces, pieces)
    assert spent[0] == spent[1]
    (row,) = results(tmp_path / "run")["rows"]
    assert row["processor_seconds"] == pieces


def test_ctrl_c_between_checkpoints_leaves_a_resumable_folder(
    train: Run, whole: Any, stroll: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    words = ("droq", "--env", stroll, "--steps", 30, *SMALL, "--utd-ratio", 2, "--checkpoint-every", 5)
    expected = whole(*words)
    step, count = Collector.step, 0

    def interrupted(self: Collector, actions: Any) -> Any:
        nonlocal count
        count += 1
        if count == 23:
            raise KeyboardInterrupt
        return step(self, actions)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "step", interrupted)
        with pytest.raises(SystemExit) as stop:
            train(*words, "--out", tmp_path / "run")
    assert stop.value.code == 130
    assert "interrupted; the same command resumes" in capsys.readouterr().err
    train(*words, "--out", tmp_path / "run")
    assert "resuming" in capsys.readouterr().out
    assert numbers(tmp_path / "run") == expected


def test_ctrl_c_before_the_first_checkpoint_begins_anew(
    train: Run, whole: Any, stroll: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("sac", "--env", stroll, "--steps", 25, *SMALL, "--checkpoint-every", 100)
    expected = whole(*words)
    with monkeypatch.context() as patch:
        patch.setattr(Agent, "save", lambda self, path: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(SystemExit):
            train(*words, "--out", tmp_path / "run")
    assert (tmp_path / "run" / "history.json").exists()
    train(*words, "--out", tmp_path / "run")
    assert numbers(tmp_path / "run") == expected


def test_a_killed_run_ends_with_the_same_numbers(
    train: Run, whole: Any, kill: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL at random moments, in a phase or outside; the same command, started again, ends as one left alone."""
    words: list[Any] = [
        "speq",
        "--env",
        "Hopper-v5",
        "--steps",
        100,
        "--seeds",
        2,
        *SMALL,
        "--checkpoint-every",
        4,
        "--eval-every",
        50,
    ]
    words += ["--period", 40, "--phase-updates", 48, "--check-every", 6, "--length", "td_error", "--patience", 4]
    expected = whole(*words)
    killed = tmp_path / "killed"
    waits = kill(killed, 2, "train", *words)
    capsys.readouterr()
    train(*words, "--out", killed)
    said = capsys.readouterr().out
    assert "resuming" in said or "is finished" in said
    assert numbers(killed) == expected, waits


def test_another_configuration_is_refused_and_changes_nothing(
    train: Run, refused: Any, stroll: str, tmp_path: Path
) -> None:
    words = ("sac", "--env", stroll, "--steps", 20, *SMALL, "--out", tmp_path / "run")
    train(*words)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    for more, said in (
        (["--steps", 30], "steps = 20, not 30"),
        (["--seeds", 2], "seeds = 1, not 2"),
        (["--tau", 0.1], "tau = 0.005, not 0.1"),
        (["--threads", 2], "threads = 1, not 2"),
    ):
        assert said in refused("train", *words, *more)
    assert "holds a run with agent = 'sac', not 'droq'" in refused("train", "droq", *words[1:])
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


# Bad input.


class Odd(gymnasium.Env[Any, Any]):
    """Spaces that no agent here can handle."""

    def __init__(self, what: str) -> None:
        limit = np.inf if what == "unbounded" else 1.0
        flat = Box(-1, 1, (2,))
        self.action_space = Box(-limit, limit, (1,))
        self.observation_space = Dict({"position": flat}) if what == "dict" else flat


@pytest.fixture
def odd() -> Iterator[None]:
    for what in ("unbounded", "dict"):
        gymnasium.register(f"orl-tests/{what}-v0", Odd, kwargs={"what": what}, disable_env_checker=True)
    yield
    for what in ("unbounded", "dict"):
        del gymnasium.registry[f"orl-tests/{what}-v0"]


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env", "CartPole-v1"], "CartPole-v1: actions are Discrete(2); agents here act in a one-dimensional Box"),
        (["--env", "orl-tests/unbounded-v0"], "actions are unbounded; give them bounds"),
        (["--env", "orl-tests/dict-v0"], "wrap it in FlattenObservation first"),
        (["--env", "Hoper-v5"], "Hoper-v5: no such environment; did you mean Hopper-v5?"),
        (["--env", "orl/Rcing-v0"], "orl/Rcing-v0: no such environment"),
        (["--env", "Hopper-v2"], "Hopper-v2: cannot be made"),
        (["--steps", 0], "--steps 0: give 1 or more"),
        (["--seeds", 0], "--seeds 0: give 1 or more"),
        (["--first-seed", -1], "--first-seed -1: give 0 or more"),
        (["--threads", 0], "--threads 0: give 1 or more"),
        (["--eval-every", 0], "--eval-every 0: give 1 or more"),
        (["--dropout-rate", 1.0], "dropout_rate=1.0"),
        (["--target-subset-size", 5], "target_subset_size=5: there are only num_critics=2"),
        (["--period", 0], "period=0: must be above 0"),
        (["--buffer-size", 100], "phases need a buffer that reaches past learning_starts=5000"),
        (["--buffer-size", 10**12], "the replay buffer: 33527.6 GiB needed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_there_is_a_folder(
    refused: Any, odd: None, tmp_path: Path, words: list[Any], said: str
) -> None:
    assert said in refused("train", "speq", "--env", "Pendulum-v1", "--out", tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_options_that_there_are_not_are_refused_before_there_is_a_folder(misread: Any, tmp_path: Path) -> None:
    for words in (["--lenght", "td_error"], ["--length", "long"]):
        said = misread("train", "speq", "--env", "Pendulum-v1", "--out", tmp_path / "run", *words)
        assert words[0] in said
        assert "--length" in said
        assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_there_is_refused_before_there_is_a_folder(
    refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = refused("train", "sac", "--env", "Pendulum-v1", "--device", "cuda:7", "--out", tmp_path / "run")
    assert "no CUDA device" in said
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_refused(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("precious")
    said = refused("train", "sac", "--env", "Pendulum-v1", "--out", tmp_path / "run")
    assert "holds files of something else" in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.tex"]


def test_a_run_killed_while_it_writes_its_first_file_begins_anew(
    train: Run, stroll: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("sac", "--env", stroll, "--steps", 12, *SMALL, "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit, match="killed"):
            train(*words)
    (left,) = (path for path in (tmp_path / "run").iterdir() if path.name != ".lock")
    assert left.name.startswith(".config.json.")
    train(*words)
    assert results(tmp_path / "run")["rows"]


def test_names_of_learners_follow_the_first_seed() -> None:
    assert learner_names([7, 8]) == ["seed-7", "seed-8"]


def test_checkpoints_that_cannot_be_read_are_named_before_training_begins_anew(
    train: Run, stroll: str, tmp_path: Path
) -> None:
    words = ("sac", "--env", stroll, "--steps", 25, *SMALL, "--checkpoint-every", 10, "--out", tmp_path / "run")
    train(*words)
    expected = numbers(tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    for state in (tmp_path / "run" / "seed-0").glob("checkpoint-*/state.safetensors"):
        state.write_bytes(state.read_bytes()[:100])
    with pytest.warns(UserWarning, match="seed-0: its checkpoints cannot be read; training begins anew"):
        train(*words)
    assert numbers(tmp_path / "run") == expected


def test_learners_that_diverge_are_named_before_their_actions_reach_the_environment(
    refused: Any, stroll: str, tmp_path: Path
) -> None:
    words = ("sac", "--env", stroll, "--steps", 60, *SMALL, "--learning-rate", 1e30, "--out", tmp_path / "run")
    assert re.search(
        r"seed 0: training diverged by update \d+, .*; lower learning_rate \(1e\+30\)", refused("train", *words)
    )
    assert not (tmp_path / "run" / "results.json").exists()


def test_checkpoints_of_others_end_a_resumed_run_before_it_trains(
    train: Run, refused: Any, stroll: str, tmp_path: Path
) -> None:
    words = ("sac", "--env", stroll, "--steps", 25, *SMALL, "--checkpoint-every", 10, "--out", tmp_path / "run")
    train(*words)
    (tmp_path / "run" / "results.json").unlink()
    (tmp_path / "run" / "seed-0" / "checkpoint-7").mkdir()
    (tmp_path / "run" / "seed-0" / "checkpoint-7" / "model.bin").write_text("of another program")
    assert "seed-0: checkpoint-7: not written by orl, or damaged; give another folder" in refused("train", *words)
    assert (tmp_path / "run" / "seed-0" / "checkpoint-7" / "model.bin").exists()


def test_a_folder_whose_run_never_began_takes_another_configuration(train: Run, stroll: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"agent": "speq"}')
    train("sac", "--env", stroll, "--steps", 22, *SMALL, "--out", run)
    assert json.loads((run / "config.json").read_text())["agent"] == "sac"


def test_an_agent_that_there_is_not_is_refused_with_the_nearest(refused: Any, stroll: str) -> None:
    assert "orl train has no agent 'iqll'; did you mean iql?" in refused("train", "iqll", "--env", stroll)
    assert "orl train has no agent 'x'; choose one of " in refused("train", "x")
    assert "orl specialists has no agent 'iql'; choose one of droq, flash-sac" in refused("specialists", "iql")


@pytest.mark.filterwarnings("ignore:no published target entropy")
def test_the_small_preset_is_taken_where_it_is_asked_for_and_named_where_it_is_not(
    train: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--env", "Pendulum-v1", "--steps", 12, "--learning-starts", 10, "--eval-episodes", 1, "--device", "cpu")
    train("sac", "--preset", "small", "--batch-size", 8, *short, "--buffer-size", 100, "--out", "small")
    assert "--preset small" not in capsys.readouterr().out
    config = json.loads((tmp_path / "small" / "config.json").read_text())["config"]
    given = {"hidden_sizes": [64, 64], "batch_size": 8, "learning_rate": 1e-3, "learning_starts": 10}
    assert {name: config[name] for name in given} == given

    train("sac", *short, "--buffer-size", 100, "--out", "paper")
    said = [line for line in capsys.readouterr().out.splitlines() if "--preset small" in line]
    networks = "networks of 64 and 64 units, which learn small tasks like Pendulum-v1 in less time"
    assert said == [f"--preset small has {networks}"]
    config = json.loads((tmp_path / "paper" / "config.json").read_text())["config"]
    assert (config["hidden_sizes"], config["learning_rate"]) == ([256, 256], 3e-4)


def test_an_agent_without_small_settings_says_so(refused: Any, stroll: str) -> None:
    said = refused("train", "flash-sac", "--env", stroll, "--preset", "small", "--steps", 10)
    assert "no small settings for FlashSACConfig" in said
