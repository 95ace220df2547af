"""`orl specialists`: one learner for each context, with its own physics, evaluated on it, and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orl import checkpoint
from orl.agents import SAC
from orl.evaluation import evaluate

ENV = "orl/ContextPendulum-v0"
SMALL = (
    "--hidden-sizes", 8, "--batch-size", 8, "--eval-episodes", 2, "--target-entropy", -1, "--learning-starts", 10,
    "--buffer-size", 500, "--eval-every", 20, "--checkpoint-every", 5, "--device", "cpu", "--bias-episodes", 0,
)  # fmt: skip
Run = Callable[..., None]


@pytest.fixture
def specialists(here: Run) -> Run:
    """Run `orl specialists sac` in this process, in the test's folder."""
    return lambda *words: here("specialists", "sac", *words, *SMALL)


def results(folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((Path(folder) / "results.json").read_text())["rows"]
    return rows


def test_there_is_a_row_and_a_learner_for_each_context(specialists: Run, capsys: pytest.CaptureFixture[str]) -> None:
    specialists("--env", ENV, "--contexts", "mass=0.5:2:3,length=0.5:2:2", "--steps", 30, "--out", "grid")
    rows = results("grid")
    assert [row["context"] for row in rows] == [
        f"mass={mass},length={length}" for mass in ("0.5", "1", "2") for length in ("0.5", "2")
    ]
    assert "mass=0.5,length=2" in capsys.readouterr().out
    assert [row["seeds"] for row in rows] == [[k] for k in range(6)]
    assert Path("grid/contexts.png").stat().st_size > 5_000
    agent = SAC.load("grid")
    assert agent.population == 6
    contexts = [(mass, length) for mass in (0.5, 1.0, 2.0) for length in (0.5, 2.0)]
    played = evaluate(
        agent, ENV, episodes=2, contexts=("mass", "length"), context=np.repeat(contexts, 2, axis=0).tolist()
    )
    np.testing.assert_allclose(played.returns.mean(1), [row["return"] for row in rows], rtol=1e-5)


def test_a_learner_sees_the_physics_of_its_context(specialists: Run) -> None:
    """The same seed in another context: random steps are the same actions with other consequences."""
    observed = {}
    for name, high in (("narrow", 1), ("wide", 4)):
        specialists("--env", ENV, "--contexts", f"mass=0.5:{high}:2", "--steps", 9, "--out", name)
        state, _ = checkpoint.load_population(Path(name))
        observed[name] = next(value for key, value in state.items() if key.endswith("buffer/table"))
    narrow, wide = observed["narrow"], observed["wide"]
    assert torch.equal(narrow[0], wide[0])  # mass 0.5 in both
    assert torch.equal(narrow[1, 0, :4], wide[1, 0, :4])  # the first observation and action
    assert not torch.equal(narrow[1], wide[1])


def test_a_stopped_run_resumes_to_the_same_numbers(specialists: Run, interrupt: Callable[[int], list[int]]) -> None:
    words = ("--env", ENV, "--contexts", "length=0.5:2:2", "--steps", 40)
    specialists(*words, "--out", "whole")
    interrupt(21)
    with pytest.raises(SystemExit):
        specialists(*words, "--out", "stopped")
    assert not Path("stopped/results.json").exists()
    specialists(*words, "--out", "stopped")
    assert [row["return"] for row in results("stopped")] == [row["return"] for row in results("whole")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--env", "Pendulum-v1", "--contexts", "mass=1:2:2"), "Pendulum-v1: has no contexts"),
        (("--env", ENV, "--contexts", "weight=1:2:2"), "unknown context 'weight'; choose from gravity, mass, length"),
        (("--env", ENV, "--contexts", "mass=1:200:2"), "mass=200 is outside"),
        (("--env", ENV), "write name=low:high:number"),
    ],
)
def test_what_is_refused(
    specialists: Run, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        specialists(*words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_run_is_plotted(specialists: Run, here: Run, capsys: pytest.CaptureFixture[str]) -> None:
    specialists("--env", ENV, "--contexts", "mass=0.5:2:2", "--steps", 30, "--out", "grid")
    here("plot", "grid", "--out", "figures")
    assert "wrote figures/training.png" in capsys.readouterr().out
    assert Path("figures/training.png").stat().st_size > 5_000


def test_an_environment_that_there_is_not_is_refused(refused: Any) -> None:
    words = ("--env", "orl/ContextPendlum-v0", "--contexts", "mass=0.5:2:2")
    assert "did you mean orl/ContextPendulum-v0?" in refused("specialists", "sac", *words)
