"""`orl evaluate --context`: who plays in a context, in which environment, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from orl.agents import SAC, ContextualCloning, HyperZero
from orl.context import ContextSpace
from orl.dataset import Dataset
from orl.envs.contextual import offered_contexts
from orl.evaluation import evaluate

from .test_specialists import ENV, Run, specialists

assert specialists
SPACE, _ = offered_contexts(ENV).parse("mass=0.5:2:2,length=0.5:2:2")
SMALL: dict[str, Any] = {"embedding_sizes": (8,), "embedding_blocks": 1, "hidden_sizes": (8,), "value_weight": 0.0}
FEW = ("--episodes", 2, "--device", "cpu")
Refused = Callable[..., str]


def rows(folder: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(folder) / "results.json").read_text())["rows"]
    return found


def save_contextual(kind: type[HyperZero] | type[ContextualCloning], space: ContextSpace = SPACE) -> Any:
    """A checkpoint `agent` of two learners that were trained for a moment on random transitions."""
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(40, 3))
    data = Dataset.from_arrays(
        observations, generator.uniform(-2, 2, (40, 1)), np.zeros(40), observations, np.zeros(40), np.zeros(40),
        action_low=-2.0, action_high=2.0, environment_id=ENV,
        contexts=[space.sample(generator) for _ in range(40)],
    )  # fmt: skip
    agent = kind(data, contexts=space, td_weight=0.0, seed=[0, 1], learning_rate=0.1, **SMALL).fit(20)
    agent.save("agent")
    return agent


@pytest.mark.parametrize("kind", [HyperZero, ContextualCloning])
def test_a_policy_is_written_for_the_context(kind: Any, here: Run) -> None:
    agent = save_contextual(kind)
    here("evaluate", "agent", *FEW, "--context", "length=0.7,mass=1.4", "--out", "there")
    here("evaluate", "agent", *FEW, "--out", "default")
    contexts = {"there": {"mass": 1.4, "length": 0.7}, "default": {"mass": 1.0, "length": 1.0}}
    for folder, context in contexts.items():
        (row,) = rows(folder)
        assert row["context"] == f"mass={context['mass']:g},length={context['length']:g}"
        played = evaluate(agent, ENV, episodes=2, seed=1, contexts=SPACE.ranges, context=context, context_mode="concat")
        assert row["return"] == pytest.approx(played.returns.mean(), rel=1e-5)
    assert rows("there")[0]["return"] != rows("default")[0]["return"]


def test_results_are_not_replaced_by_those_of_another_run_of_the_same_name(here: Run, refused: Refused) -> None:
    agent = save_contextual(HyperZero)
    for folder in ("one", "other"):
        agent.learner(0).save(Path(folder) / "seed-0")
    for _ in range(2):
        here("evaluate", "one/seed-0", *FEW, "--out", "there")
    assert "run = '../one/seed-0', not '../other/seed-0'" in refused("evaluate", "other/seed-0", *FEW, "--out", "there")


def test_outside_the_range_only_when_asked(here: Run, refused: Refused) -> None:
    save_contextual(HyperZero)
    assert "mass=3 is outside [0.5, 2] kg" in refused("evaluate", "agent", *FEW, "--context", "mass=3,length=1")
    here("evaluate", "agent", *FEW, "--context", "mass=3,length=1", "--allow-extrapolation", "--out", "far")
    assert rows("far")[0]["context"] == "mass=3,length=1"


def test_the_nearest_specialist_plays(specialists: Run, here: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """In the scales of the variables: 1.1 is nearer to 0.5 than to 2, but not as a factor."""
    specialists("--env", ENV, "--contexts", "mass=0.5:2:2,length=0.5:2:2", "--steps", 12, "--out", "run")
    agent = SAC.load("run")
    here("evaluate", "run", *FEW, "--context", "mass=1.1,length=0.9", "--out", "there")
    assert "nearest specialist: mass=2,length=0.5 (seed 2)" in capsys.readouterr().out
    (row,) = rows("there")
    assert (row["seeds"], row["context"]) == ([2], "mass=1.1,length=0.9")
    played = evaluate(agent.learner(2), ENV, episodes=2, seed=1, contexts=SPACE.ranges, context=[1.1, 0.9])
    assert row["return"] == pytest.approx(played.returns.mean(), rel=1e-5)


def test_specialists_play_in_their_own_contexts(specialists: Run, here: Run) -> None:
    specialists("--env", ENV, "--contexts", "mass=0.5:2:3", "--steps", 12, "--out", "run")
    here("evaluate", "run", *FEW, "--seed", 0, "--out", "own")
    trained = json.loads(Path("run/results.json").read_text())["rows"]
    assert [row["context"] for row in rows("own")] == ["mass=0.5", "mass=1", "mass=2"]
    for mine, theirs in zip(rows("own"), trained, strict=True):
        assert mine["seeds"] == theirs["seeds"]
        assert mine["return"] == pytest.approx(theirs["return"], rel=1e-5)
    here("evaluate", "run/seed-2", *FEW, "--seed", 0, "--out", "one")
    (alone,) = rows("one")
    assert alone["context"] == "mass=2"
    assert alone["return"] == pytest.approx(trained[2]["return"], rel=1e-5)


def test_other_learners_all_play_in_it_unseeing(here: Run) -> None:
    """Variables that are not named keep their defaults."""
    agent = SAC(ENV, seed=[3, 4], hidden_sizes=(8,), target_entropy=-1.0)
    agent.save("agent")
    here("evaluate", "agent", *FEW, "--context", "mass=1.4", "--out", "there")
    (row,) = rows("there")
    assert (row["seeds"], row["context"]) == ([3, 4], "mass=1.4")
    played = evaluate(agent, ENV, episodes=2, seed=1, contexts=("mass",), context=[1.4])
    assert row["return"] == pytest.approx(played.returns.mean(), rel=1e-5)
    here("evaluate", "agent", *FEW, "--out", "plain")
    assert "context" not in rows("plain")[0]


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("mass", "context 'mass': write name=value for each variable, as in mass=1.4,length=0.7"),
        ("mass=1,mass=2", "each name once"),
        ("mass=heavy", "context 'mass=heavy': not a number"),
        ("weight=1,mass=1", "unknown context 'weight'; choose from mass, length"),
        ("mass=1", "lacks length"),
        ("mass=nan,length=1", "mass=nan is not finite"),
        ("mass=1,length=2.5", "length=2.5 is outside [0.5, 2] m"),
    ],
)
def test_contexts_that_are_refused(context: str, words: str, here: Run, refused: Refused) -> None:
    save_contextual(HyperZero)
    assert words in refused("evaluate", "agent", *FEW, "--context", context, "--out", "there")
    assert not Path("there").exists()


def test_environments_that_are_refused(here: Run, refused: Refused) -> None:
    SAC("Pendulum-v1", hidden_sizes=(8,), target_entropy=-1.0).save("plain")
    assert "Pendulum-v1: has no contexts" in refused("evaluate", "plain", *FEW, "--context", "mass=1")
    save_contextual(HyperZero)
    assert "Pendulum-v1: has no contexts" in refused("evaluate", "agent", *FEW, "--env", "Pendulum-v1")
    assert "unknown context" in refused("evaluate", "agent", *FEW, "--env", "orl/ContextHopper-v0")
    shutil.rmtree("agent")
    save_contextual(HyperZero, ContextSpace(tuple(replace(v, scale="linear") for v in SPACE.variables)))
    assert "the environment's contexts are" in refused("evaluate", "agent", *FEW)


def test_a_context_is_filmed(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def render(pendulum: Any) -> Any:
        seen.append(pendulum.context_state()["context"].tolist())
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr("orl.envs.contextual.pendulum.ContextPendulum.render", render)
    save_contextual(HyperZero)
    here("evaluate", "agent", *FEW, "--context", "mass=1,length=0.6", "--video", "one.gif", "--video-steps", 2)
    assert seen == [[1.0, 0.6]] * 2
    assert Path("one.gif").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (gymnasium.error.DependencyNotInstalled("pygame is not installed"), "pygame is not installed"),
        (mujoco.FatalError("no OpenGL library"), "no OpenGL library; without a display, MUJOCO_GL=egl can help"),
    ],
)
def test_what_filming_needs_is_named(
    here: Run, refused: Refused, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def render(pendulum: Any) -> Any:
        raise error

    monkeypatch.setattr("orl.envs.contextual.pendulum.ContextPendulum.render", render)
    save_contextual(HyperZero)
    assert f"--video: {ENV} cannot be filmed: {said}" in refused("evaluate", "agent", *FEW, "--video", "one.gif")


def test_a_module_that_the_files_of_a_run_name_is_not_imported(
    here: Run, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one that the user names is; then the names in the files mean what it has registered."""
    SAC("Pendulum-v1", hidden_sizes=(8,), batch_size=8, target_entropy=-1.0).save(tmp_path / "run")
    (manifest,) = (tmp_path / "run").glob("checkpoint-*/manifest.json")
    about = json.loads(manifest.read_text())
    about["environment"] = about["spaces"]["environment_id"] = "named_in_data:Other-v0"
    manifest.write_text(json.dumps(about))
    module = "import gymnasium; gymnasium.register('Other-v0', 'gymnasium.envs.classic_control.pendulum:PendulumEnv')"
    (tmp_path / "named_in_data.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    said = "named_in_data:Other-v0: read from a file, and orl imports no module that a file names; import named"
    try:
        for _ in range(2):  # the id of the agent, then that of the run
            line = refused("evaluate", "run", *FEW)
            assert said in line
            assert "give --env named_in_data:Other-v0" in line
            (tmp_path / "run" / "config.json").write_text('{"env": "named_in_data:Other-v0"}')
        agent = SAC.load(tmp_path / "run")
        for use in (lambda: agent.learn(1), lambda: evaluate(agent, agent.spaces.environment_id, episodes=1)):
            with pytest.raises(ValueError, match=said):
                use()
        assert "named_in_data" not in sys.modules
        (tmp_path / "named_in_data.py").write_text(module + "; gymnasium.registry['Other-v0'].max_episode_steps = 3")
        here("evaluate", "run", *FEW, "--env", "named_in_data:Other-v0")
        assert "named_in_data" in sys.modules
        here("evaluate", "run", *FEW)
        agent.learn(1)
    finally:
        sys.modules.pop("named_in_data", None)
        gymnasium.registry.pop("Other-v0", None)
