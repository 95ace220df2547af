"""`orl train` on data and then in an environment: what it writes, what it refuses, that it resumes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl import datasets
from orl.agent import Agent
from orl.agents import IQL, SAC
from orl.dataset import Dataset
from orl.scripts.running.run_directory import RunDirectory

SMALL = (
    "--hidden-sizes", 8, "--batch-size", 8, "--eval-episodes", 2, "--buffer-size", 500, "--eval-every", 10,
    "--log-every", 5, "--checkpoint-every", 7, "--device", "cpu",
)  # fmt: skip
UPDATES, STEPS = 24, 22
Run = Callable[..., None]


@pytest.fixture
def train(here: Run) -> Run:
    """Run `orl train WORDS` in this process."""
    return partial(here, "train")


@pytest.fixture
def words(stroll: str, tmp_path: Path) -> tuple[Any, ...]:
    """Options of a run of both parts, on data of the environment."""
    generator = np.random.default_rng(0)
    ends = np.isin(np.arange(1, 61), np.cumsum([2, 10, 3, 9, 5, 7, 1, 11, 4, 8]))
    states = generator.normal(size=(61, 3))
    data = Dataset.from_arrays(
        states[:-1], generator.uniform(-2, 2, (60, 1)), generator.normal(size=60), states[1:],
        ends, np.zeros(60, bool), action_low=[-2.0], action_high=[2.0], name="walks",
    )  # fmt: skip
    datasets.write_npz(data, tmp_path / "walks.npz")
    return ("--dataset", tmp_path / "walks.npz", "--env", stroll, "--updates", UPDATES, "--steps", STEPS, *SMALL)


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def numbers(folder: Path) -> dict[str, Any]:
    """Rows, evaluations and metrics, without the clock."""
    clocks = ("seconds", "training_seconds", "processor_seconds")
    tables = {"rows": read(folder, "results")["rows"], "history": read(folder, "history")}
    plain = {name: [{k: v for k, v in row.items() if k not in clocks} for row in rows] for name, rows in tables.items()}
    return {**plain, "progress": (folder / "progress.csv").read_text()}


@pytest.mark.parametrize(("agent", "kind"), [("iql", IQL), ("sac", SAC)])
def test_a_run_of_both_parts(
    train: Run, here: Run, words: tuple[Any, ...], tmp_path: Path, agent: str, kind: type[Agent], capsys: Any
) -> None:
    out = tmp_path / "run"
    entropy = ("--target-entropy", -1) if agent == "sac" else ()
    train(agent, *words, *entropy, "--seeds", 2, "--save-replay", "--out", out)
    assert "offline" in capsys.readouterr().out
    history = read(out, "history")
    assert [(row["part"], row["updates"], row["steps"]) for row in history] == [
        ("offline", 10, 0), ("offline", 20, 0), ("offline", UPDATES, 0),
        ("online", UPDATES + 10, 10), ("online", UPDATES + 20, 20), ("online", UPDATES + STEPS, STEPS),
    ]  # fmt: skip
    offline, online = read(out, "results")["rows"]
    assert (offline["part"], offline["updates"], offline["rewards"]) == ("offline", UPDATES, "true")
    assert (online["part"], online["steps"], online["critic_updates"]) == ("online", STEPS, UPDATES + STEPS)
    assert offline["critic_updates"] == UPDATES
    assert offline["dataset"] == online["dataset"] == "walks.npz"
    assert offline["seed_returns"] == np.mean(history[2]["returns"], axis=1).tolist()
    assert online["seed_returns"] == np.mean(history[-1]["returns"], axis=1).tolist()
    with (out / "progress.csv").open() as file:
        times = [int(row["time/total_work"]) for row in csv.DictReader(file) if row["seed"] == "seed-0"]
    assert times == sorted(times)
    assert times[-1] == UPDATES + 2 * STEPS
    with np.load(out / "seed-1" / "evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == [10, 20, 24, 44, 64, 68]
    assert len(datasets.load(str(out / "seed-0" / "replay.npz"))) == 60 + STEPS
    trained = kind.load(out)
    assert (trained.updates, trained.steps) == (UPDATES + STEPS, STEPS)
    assert (out / "training.png").stat().st_size > 5_000
    here("plot", out, "--out", tmp_path / "plots")
    assert f"{agent}, online" in capsys.readouterr().out
    here("evaluate", out, "--episodes", 1)


def test_it_trains_as_the_agent_does_in_python(train: Run, words: tuple[Any, ...], stroll: str, tmp_path: Path) -> None:
    train("iql", *words, "--out", tmp_path / "run")
    data = datasets.load(str(tmp_path / "walks.npz"), stroll)
    agent = IQL(data, seed=0, device="cpu", hidden_sizes=(8,), batch_size=8, buffer_size=500)
    agent.fit(UPDATES).learn(STEPS, env=stroll)
    observations = np.ones((4, 3), np.float32)
    assert np.array_equal(
        IQL.load(tmp_path / "run" / "seed-0").predict(observations)[0], agent.predict(observations)[0]
    )


def test_stopped_at_every_checkpoint_it_ends_with_the_same_numbers(
    train: Run, words: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Few labels too: a reward model that is fitted is not fitted again."""
    few = ("--labels", 0.5, "--reward-model.hidden-sizes", 8, "--reward-model.max-updates", 20)
    train("iql", *words, *few, "--out", tmp_path / "whole")
    original, stops = Agent.save, 0

    def interrupted(self: Agent, path: Any) -> None:
        original(self, path)
        raise KeyboardInterrupt

    while not (tmp_path / "run" / "results.json").exists() and stops < 20:
        with monkeypatch.context() as patch:
            patch.setattr(Agent, "save", interrupted)
            if stops:
                patch.setattr("orl.agents.RewardModel.fit", pytest.fail)
            try:
                train("iql", *words, *few, "--out", tmp_path / "run")
            except SystemExit:
                stops += 1
    assert stops >= 6
    said = capsys.readouterr().out
    assert "at update 7" in said
    assert "at step 0" not in said
    assert numbers(tmp_path / "run") == numbers(tmp_path / "whole")


def test_jobs_of_both_parts_end_as_one_population(train: Run, words: tuple[Any, ...], tmp_path: Path) -> None:
    train("iql", *words, "--seeds", 2, "--out", tmp_path / "whole")
    train("iql", *words, "--seeds", 2, "--launcher", "serial", "--out", tmp_path / "cut")
    whole, cut = (RunDirectory(tmp_path / name, {}).finished() for name in ("whole", "cut"))
    assert whole is not None
    assert cut is not None
    for one, other in zip(whole["rows"], cut["rows"], strict=True):
        assert one["part"] == other["part"]
        np.testing.assert_allclose(one["seed_returns"], other["seed_returns"], rtol=1e-3)


def test_data_alone_can_fill_the_buffer(train: Run, words: tuple[Any, ...], tmp_path: Path) -> None:
    train("sac", *words, "--updates", 0, "--target-entropy", -1, "--learning-starts", 10, "--out", tmp_path / "run")
    (row,) = read(tmp_path / "run", "results")["rows"]
    assert row["critic_updates"] == STEPS  # from the first step on
    assert row["dataset"] == "walks.npz"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["iql"], "orl train iql learns from recorded data: give --dataset and --updates"),
        (["iql", "--env", "Hopper-v5", "--steps", 9], "; --steps 9 would be environment steps"),
        (["iql", "--dataset", "x", "--steps", 9], "--steps 9: these are environment steps; give --updates"),
        (["bc", "--dataset", "x", "--steps", 9], "bc does no environment steps, it learns from data; give --updates 9"),
        (["bc", "--dataset", "x", "--updates", 5, "--steps", 9], "it learns from data; leave --steps out"),
        (["sac", "--env", "Pendulum-v1", "--updates", 5], "sac acts: give --steps, environment steps; --updates 5"),
        (["sac"], "orl train sac acts: give --env, a Gymnasium id, and --steps"),
        (["sac", "--env", "Pendulum-v1", "--labels", 0.1], "--labels 0.1: of recorded data, and there is no --dataset"),
        (["sac", "--dataset", "x", "--steps", 9], "give --updates, the gradient updates on x, alone or with --steps"),
        (["sac", "--dataset", "x", "--updates", 0], "--updates 0: give 1 or more"),
        (["iql", "--dataset", "x", "--updates", 5, "--save-replay"], "--save-replay: no transitions"),
    ],
)  # fmt: skip
def test_a_wrong_unit_is_answered_with_the_right_one(refused: Any, tmp_path: Path, words: list[Any], said: str) -> None:
    assert said in refused("train", *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_steps_on_data_of_no_environment_have_nothing_to_act_in(
    refused: Any, words: tuple[Any, ...], tmp_path: Path
) -> None:
    without = [word for word in words if word not in ("--env", "orl-tests/Stroll-v0")]
    assert "does not name its environment; give --env" in refused("train", "iql", *without, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_whose_data_differ_in_length_are_refused_before_they_train(
    refused: Any, words: tuple[Any, ...], tmp_path: Path
) -> None:
    few = ("--labels", 0.5, "--label-mode", "episode", "--rewards", "labelled", "--seeds", 3)
    said = refused("train", "iql", *words, *few, "--no-scale-rewards", "--out", tmp_path / "run")
    assert "seeds that go on online need equal ones" in said
