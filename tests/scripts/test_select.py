"""`orl select`: what it writes, that a source is the same however it was reached, and what it refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.agents import SAC
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.transfer_matrix import transfer_returns

ENV, DISCRETE = "orl/ContextPendulum-v0", "orl/ContextCartPoleDiscrete-v0"
GRID = "length=0.5:2:4"
SMALL = (
    "--steps", 24, "--episodes", 2, "--device", "cpu", "--checkpoint-every", 5,
    "--settings", "hidden_sizes=[8]", "batch_size=8", "learning_starts=10",
)  # fmt: skip
TINY_PPO = ("n_steps=8", "batch_size=8", "n_epochs=1", 'policy_kwargs={"net_arch":[8]}')
TINY_DQN = ("learning_starts=4", "buffer_size=50", "batch_size=4", 'policy_kwargs={"net_arch":[8]}')
Run = Callable[..., None]
Refused = Callable[..., str]


def results(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "results.json").read_text())
    return content


def table(folder: str) -> dict[str, dict[str, Any]]:
    return {row["strategy"]: row for row in results(folder)["rows"]}


@pytest.fixture
def select(here: Run) -> Run:
    """Run `orl select` with SAC in four pendulums."""
    return lambda *words: here("select", "--env", ENV, "--contexts", GRID, *SMALL, *words)


def test_a_run_keeps_its_policies_its_matrix_and_what_they_cover(
    select: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--budget", 2, "--out", "run", "--baselines", "random", "equidistant", "multi-task")
    select(*words)
    matrix = np.load("run/transfer.npy")
    space, contexts = offered_contexts(ENV).parse(GRID)
    trained = [index for index in range(4) if Path(f"run/source-{index}").exists()]
    chosen = results("run")["sources"]
    assert len(chosen) == 2
    assert set(chosen) <= set(trained)
    assert np.isfinite(matrix[trained]).all()
    assert np.isnan(np.delete(matrix, trained, axis=0)).all()
    played = transfer_returns(SAC.load(f"run/source-{chosen[0]}"), ENV, space, contexts, episodes=2)
    np.testing.assert_allclose(matrix[chosen[0]], played.mean(2)[0], rtol=1e-5)
    with Path("run/transfer.csv").open() as file:
        header, *lines = csv.reader(file)
    assert header == ["source", *(space.text(context) for context in contexts)]
    assert [line[0] for line in lines] == header[1:]
    np.testing.assert_allclose(np.array([line[1:] for line in lines], float), matrix, atol=0.051)
    rows = table("run")
    assert list(rows) == ["auto", "random", "independent", "equidistant", "multi-task"]
    assert rows["auto"]["return"] == pytest.approx(matrix[chosen].max(0).mean())
    assert rows["auto"]["regret"] is None
    facts = json.loads(Path("run/multi-task/source.json").read_text())
    assert facts["contexts"] == contexts.tolist()
    assert facts["steps"] == 48
    for figure in ("transfer", "model", "gap", "coverage"):
        assert Path(f"run/{figure}.png").stat().st_size > 5_000
    capsys.readouterr()
    select(*words)
    assert "run is finished" in capsys.readouterr().out


def test_a_source_plays_in_its_own_context(select: Run, here: Run) -> None:
    """One policy of all contexts has none of its own."""
    select("--budget", 1, "--seed", 1, "--baselines", "multi-task", "--out", "run")
    [source], matrix = results("run")["sources"], np.load("run/transfer.npy")
    for name in (f"source-{source}", "multi-task"):
        here("evaluate", f"run/{name}", "--seed", 1, "--episodes", 2, "--out", name)
    [row], (space, contexts) = results(f"source-{source}")["rows"], offered_contexts(ENV).parse(GRID)
    assert row["return"] == pytest.approx(matrix[source, source], rel=1e-5)
    assert row["context"] == space.text(contexts[source])
    assert "context" not in results("multi-task")["rows"][0]


def test_a_source_has_the_same_row_however_it_was_reached(select: Run) -> None:
    select("--budget", 2, "--batch", 1, "--baselines", "--out", "alone")
    select("--budget", 2, "--full-matrix", "--baselines", "--out", "all")
    alone, whole = np.load("alone/transfer.npy"), np.load("all/transfer.npy")
    trained = np.isfinite(alone[:, 0])
    assert trained.sum() == 2
    np.testing.assert_allclose(alone[trained], whole[trained], rtol=1e-3)
    rows = table("all")
    oracle, random = rows["sequential-oracle"], rows["random"]
    assert oracle["regret"] == 0.0
    assert random["return_interval"][0] <= random["return"] <= random["return_interval"][1]
    assert oracle["share_of_oracle"] in (1.0, None)
    assert rows["independent"]["return"] == pytest.approx(whole.diagonal().mean())
    assert rows["auto"]["regret"] == pytest.approx(oracle["return"] - rows["auto"]["return"])


def test_a_killed_run_goes_on(select: Run, interrupt: Callable[[int], list[int]]) -> None:
    """In the middle of the second source; the first is not trained again."""
    words = ("--budget", 2, "--batch", 1, "--baselines", "multi-task")
    select(*words, "--out", "whole")
    updates = interrupt(14 + 9)  # 14 updates a source
    with pytest.raises(SystemExit):
        select(*words, "--out", "stopped")
    assert not Path("stopped/results.json").exists()
    assert len(list(Path("stopped").glob("source-*/source.json"))) == 1
    select(*words, "--out", "stopped")
    assert len(updates) - 23 < 14 + 38  # the rest of the second source, from its checkpoint, and multi-task
    assert results("stopped")["rows"] == results("whole")["rows"]
    np.testing.assert_array_equal(np.load("stopped/transfer.npy"), np.load("whole/transfer.npy"))


def test_jobs_do_what_one_population_does(select: Run) -> None:
    select("--budget", 2, "--baselines", "--out", "here")
    select("--budget", 2, "--baselines", "--out", "there", "--launcher", "process", "--seeds-per-job", 2)
    np.testing.assert_allclose(np.load("there/transfer.npy"), np.load("here/transfer.npy"), rtol=1e-5)


@pytest.mark.parametrize(("name", "settings"), [("PPO", TINY_PPO), ("DQN", TINY_DQN)])
def test_stable_baselines3_trains_with_discrete_actions(here: Run, name: str, settings: tuple[str, ...]) -> None:
    import stable_baselines3

    words = ("--contexts", "mass=0.5:2:2,length=0.5:2:2", "--budget", 2, "--steps", 16, "--episodes", 2)
    baselines = ("--baselines", "multi-task", "--out", "run", "--device", "cpu")
    here("select", "--env", DISCRETE, "--trainer", f"sb3:{name}", *words, *baselines, "--settings", *settings)
    chosen = results("run")["sources"]
    model = getattr(stable_baselines3, name).load(f"run/source-{chosen[0]}/policy.zip", device="cpu")
    assert model.num_timesteps == 16
    matrix = np.load("run/transfer.npy")
    assert (matrix[chosen] >= 1).all()  # a reward of 1 for every step
    assert Path("run/multi-task/policy.zip").exists()
    assert Path("run/gap.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget", 5), "budget=5: give a whole number from 1 to 4"),
        (("--contexts", "length=1:1.0000000000000002:5"), "repeats"),
        (("--env", "Pendulum-v1"), "Pendulum-v1: has no contexts"),
        (("--trainer", "iql"), "choose one of droq, redq, sac"),
        (("--trainer", "sb3:DQN"), "only supports"),
        (("--trainer", "sb3:DQNN"), "no such algorithm"),
        (("--trainer", "sb3:PPO", "--settings", "n_stepz=8"), "n_stepz"),
        (("--settings", "batch_sizes=8"), "did you mean batch_size?"),
        (("--settings", "batch_size"), "write NAME=VALUE"),
        (("--steps", 400), "the first 500 are random"),
        (("--batch", 0), "--batch 0"),
        (("--seeds-per-job", 2), "there are no jobs"),
        (("--env", DISCRETE), "--trainer sac: orl/ContextCartPoleDiscrete-v0: actions are Discrete(2)"),
    ],
)
def test_what_is_refused_before_there_is_a_folder(refused: Refused, words: tuple[str, ...], message: str) -> None:
    assert message in refused("select", "--contexts", GRID, "--budget", 2, *words, "--out", "run")
    assert not Path("run").exists()


def test_ray_that_is_not_installed_names_the_extra(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "ray" else find(name, *more))
    assert "pip install 'orl[ray]'" in refused("select", "--launcher", "ray", "--out", "run")
    assert not Path("run").exists()
