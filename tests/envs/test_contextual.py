"""Environments with contexts: the ordinary one bit for bit at the default, what observations carry, and errors."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from orl.envs import CONTEXT_IDS, register_environments
from orl.envs.contextual import CartPole, offered_contexts

BASES = {
    "orl/ContextPendulum-v0": "Pendulum-v1",
    "orl/ContextCartPoleDiscrete-v0": "CartPole-v1",
    "orl/ContextHopper-v0": "Hopper-v5",
    "orl/ContextHalfCheetah-v0": "HalfCheetah-v5",
    "orl/ContextWalker2d-v0": "Walker2d-v5",
    "orl/ContextAnt-v0": "Ant-v5",
    "orl/ContextRacing-v0": "orl/RacingProcedural-v0",
}
VARIABLES = [(name, variable) for name in CONTEXT_IDS for variable in offered_contexts(name).names]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes a log into the working directory."""
    monkeypatch.chdir(tmp_path)


def base_of(environment_id: str) -> gymnasium.Env[Any, Any]:
    """The environment without a context."""
    if environment_id == "orl/ContextCartPole-v0":
        return gymnasium.wrappers.TimeLimit(CartPole(), 500)
    keywords = {"track_seed": 0} if environment_id == "orl/ContextRacing-v0" else {}
    return gymnasium.make(BASES[environment_id], **keywords)


def actions_of(environment: Any, count: int) -> list[Any]:
    environment.action_space.seed(5)
    return [environment.action_space.sample() for _ in range(count)]


def play(environment: Any, actions: list[Any], seed: int | None = 3) -> list[Any]:
    """What every step gives, exactly; an episode that ends is followed by the next one, without a seed."""
    record = [environment.reset(seed=seed)[0].tolist()]
    for action in actions:
        observation, reward, terminated, truncated, _ = environment.step(action)
        record.append((observation.tolist(), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            record.append(environment.reset()[0].tolist())
    return record


def names_of(environment_id: str, variable: str) -> tuple[str, ...]:
    """One variable, or where that alone would change the reward at its default, the others."""
    return (variable,) if variable != "target_speed" else tuple(offered_contexts(environment_id).names[:-1])


@pytest.mark.parametrize(("environment_id", "variable"), VARIABLES)
def test_the_default_is_the_ordinary_environment_before_and_after_other_contexts(
    environment_id: str, variable: str
) -> None:
    base = base_of(environment_id)
    environment: Any = gymnasium.make(environment_id, contexts=names_of(environment_id, variable))
    space = environment.unwrapped.context_space
    actions = actions_of(base, 40)
    expected = play(base, actions)
    assert play(environment, actions) == expected
    ends = [context for context in space.grid(2)[[0, -1]] if (context != space.default).any()]
    for context in (*ends, ends[0]):
        environment.reset(seed=1, options={"context": context})
        assert play(environment, actions) != expected
    environment.reset(seed=1, options={"context": space.default})
    assert play(environment, actions) == expected


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_an_environment_does_not_disturb_another(environment_id: str) -> None:
    keywords = {"contexts": offered_contexts(environment_id).names}
    alone, first = (gymnasium.make(environment_id, **keywords) for _ in range(2))
    second = gymnasium.make(environment_id, **keywords, context="sample")
    actions = actions_of(alone, 30)
    expected = play(alone, actions)
    record = [first.reset(seed=3)[0].tolist()]
    second.reset(seed=9)
    for action in actions:
        observation, reward, terminated, truncated, _ = first.step(action)
        record.append((observation.tolist(), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            record.append(first.reset()[0].tolist())
        second.reset()
        second.step(action)
    assert record == expected


@pytest.mark.parametrize("mode", ["hidden", "concat", "dict"])
@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_gymnasium_finds_nothing_wrong(environment_id: str, mode: str) -> None:
    contexts = offered_contexts(environment_id).names
    for context in (None, "sample"):
        environment = gymnasium.make(environment_id, contexts=contexts, context=context, context_mode=mode)
        with warnings.catch_warnings():
            for known in (".*infinity.*", ".*symmetric and normalized.*", ".*render.*"):  # of the ordinary ones too
                warnings.filterwarnings("ignore", known)
            check_env(environment.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_the_context_is_in_the_info_and_in_the_observation_as_the_mode_says(environment_id: str) -> None:
    space = offered_contexts(environment_id)
    context = space.sample(np.random.default_rng(1))
    made = {
        mode: gymnasium.make(environment_id, contexts=space.names, context=context, context_mode=mode)
        for mode in ("hidden", "concat", "dict")
    }
    action = actions_of(made["hidden"], 1)[0]
    for act in (lambda each: each.reset(seed=2), lambda each: each.step(action)):
        answers = {mode: act(environment) for mode, environment in made.items()}
        for answer in answers.values():
            assert answer[-1]["context"].tolist() == context.tolist()
            assert answer[-1]["context"].dtype == np.float64
        ordinary, joined, apart = (answers[mode][0] for mode in made)
        assert np.array_equal(joined[: len(ordinary)], ordinary)
        assert joined.dtype == ordinary.dtype
        assert np.array_equal(apart["observation"], ordinary)
        assert joined[len(ordinary) :] == pytest.approx(space.normalize(context))
        assert np.array_equal(apart["context"], joined[len(ordinary) :])
    other = gymnasium.make(environment_id, contexts=space.names, context="sample", context_mode="concat")
    assert other.observation_space == made["concat"].observation_space  # one for all contexts


def test_contexts_are_drawn_by_the_seed_one_for_every_episode() -> None:
    environment = gymnasium.make("orl/ContextPendulum-v0", contexts={"mass": (0.5, 2.0)}, context="sample")
    drawn = [environment.reset(seed=4)[1]["context"][0]] + [environment.reset()[1]["context"][0] for _ in range(50)]
    assert environment.reset(seed=4)[1]["context"][0] == drawn[0]
    assert len(set(drawn)) == len(drawn)
    assert 0.5 <= min(drawn) < 0.7
    assert 1.5 < max(drawn) <= 2.0


def test_a_context_given_in_a_reset_stays_until_the_next_one() -> None:
    environment: Any = gymnasium.make("orl/ContextPendulum-v0", contexts=("length", "mass"), context="sample")
    environment.reset(seed=0, options={"context": {"mass": 2.0, "length": 0.5}})
    for _ in range(2):
        assert environment.reset()[1]["context"].tolist() == [0.5, 2.0]
    assert environment.reset(options={"context": None})[1]["context"].tolist() == [1.0, 1.0]
    environment.unwrapped.set_context([3.0, 4.0])
    assert environment.step(np.zeros(1, np.float32))[4]["context"].tolist() == [1.0, 1.0]  # not in mid-episode
    assert environment.unwrapped.m == 1.0
    assert environment.reset()[1]["context"].tolist() == [3.0, 4.0]


def test_variables_that_are_not_exposed_stay_at_their_defaults() -> None:
    environment: Any = gymnasium.make("orl/ContextPendulum-v0", contexts=("mass",), context={"mass": 2.0})
    environment.reset(seed=0)
    assert (environment.unwrapped.m, environment.unwrapped.l, environment.unwrapped.g) == (2.0, 1.0, 10.0)
    assert gymnasium.make("orl/ContextHopper-v0").unwrapped.context_space.names == (  # type: ignore[attr-defined]
        "gravity", "mass", "friction", "strength", "damping",
    )  # fmt: skip


def test_contexts_may_extrapolate_on_request() -> None:
    environment: Any = gymnasium.make(
        "orl/ContextPendulum-v0",
        contexts={"mass": (0.5, 2.0)},
        context=[4.0],
        context_mode="concat",
        allow_extrapolation=True,
    )
    observation, info = environment.reset(seed=0)
    assert observation[-1] == pytest.approx(2.0)
    assert observation in environment.observation_space
    assert info["context"].tolist() == [4.0]


def test_racing_on_another_track_has_no_track_seed() -> None:
    environment: Any = gymnasium.make("orl/ContextRacing-v0", track="oval", context={"grip": 0.7, "mass": 1.2})
    same = gymnasium.make("orl/RacingOval-v0", grip=0.7, mass=1.2)
    actions = actions_of(same, 50)
    assert play(environment, actions) == play(same, actions)


def test_the_state_of_racing_has_its_context() -> None:
    environment, other = (gymnasium.make("orl/ContextRacing-v0", context="sample").unwrapped for _ in range(2))
    drawn = environment.reset(seed=3)[1]["context"].tolist()
    saved = environment.get_state()  # type: ignore[attr-defined]
    actions = [np.array([0.1, 0.6], np.float32)] * 20
    first = [environment.step(action)[0].tolist() for action in actions]
    after = environment.reset()[1]["context"].tolist()
    other.reset(seed=4)
    for again in (environment, other):
        again.set_state(saved)  # type: ignore[attr-defined]
        assert [again.step(action)[0].tolist() for action in actions] == first
        assert again.step(actions[0])[4]["context"].tolist() == drawn
        assert again.reset()[1]["context"].tolist() == after


def test_a_copy_of_a_body_has_its_context() -> None:
    environment = gymnasium.make("orl/ContextHopper-v0", contexts=("mass",), context=[2.0])
    again = copy.deepcopy(environment.unwrapped)
    actions = actions_of(environment, 30)
    assert play(again, actions) == play(environment.unwrapped, actions)


def test_registering_again_does_no_harm() -> None:
    before = dict(gymnasium.registry)
    register_environments()
    assert gymnasium.registry == before


def test_mujoco_is_imported_only_for_its_environments() -> None:
    code = (
        "import sys, orl.envs.racing, orl.envs.contextual as c; assert 'mujoco' not in sys.modules;"
        "assert all(getattr(c, name) for name in c.__all__);"
        "assert 'mujoco' in sys.modules; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_the_page_tells_the_ranges(environment_id: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "contexts.md").read_text()
    assert f"| `{environment_id}`" in page
    for each in offered_contexts(environment_id).variables:
        cells = (f"{each.unit} *", f"{each.low:g} to {each.high:g}", f"{each.default:g}", each.scale)
        assert re.search(rf"\| `{each.name}`[^|]*\| *" + r" *\| ".join(cells), page), each


PENDULUM = {"contexts": ("mass", "length")}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (PENDULUM | {"context": {"mass": 1.0}}, "lacks length"),
        (PENDULUM | {"context": {"mass": 1.0, "length": 1.0, "gravity": 9.0}}, "unknown context 'gravity'"),
        (PENDULUM | {"context": [1.0, np.nan]}, "length=nan is not finite"),
        (
            PENDULUM | {"context": [1.0, 20.0]},
            r"length=20 is outside \[0.1, 10\] m; it is taken with allow_extrapolation",
        ),
        (PENDULUM | {"context": [[1.0, 1.0]]}, r"shape \(1, 2\)"),
        (PENDULUM | {"context": "random"}, "'random': give a mapping, an array, 'sample', or None"),
        (PENDULUM | {"context_mode": "both"}, "unknown context_mode 'both': choose one of hidden, concat, dict"),
        ({"contexts": ("weight",)}, "unknown context 'weight'; choose from gravity, mass, length"),
        ({"contexts": ()}, "name at least one"),
        ({"contexts": {"mass": (2.0, 4.0)}, "context": [1.0]}, r"mass=1 is outside \[2, 4\]"),
        ({"mass": 2.0}, r"mass=2.0: this is a context; give context=\{'mass'"),
        ({"g": 9.81}, r"g=9.81: this is a context; give context=\{'gravity'"),
    ],
)
def test_what_makes_no_sense_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gymnasium.make("orl/ContextPendulum-v0", **keywords)


def test_resets_refuse_contexts_too() -> None:
    environment = gymnasium.make("orl/ContextPendulum-v0", **PENDULUM)
    before = environment.reset(seed=0, options={"context": [2.0, 2.0]})[1]["context"]
    for context in ([1.0, 20.0], {"mass": 1.0}, [1.0], "each"):
        with pytest.raises(ValueError, match="context"):
            environment.reset(options={"context": context})
    assert environment.reset()[1]["context"].tolist() == before.tolist()  # a refused one changes nothing
    with pytest.raises(ValueError, match="'contexts' is for copies"):
        environment.reset(options={"contexts": [[1.0, 1.0]]})
    fixed = gymnasium.make("orl/ContextPendulum-v0", **PENDULUM, context=[1.0, 2.0])
    with pytest.raises(ValueError, match="made with a context of its own"):
        fixed.reset(options={"context": [1.0, 1.0]})
    racing = gymnasium.make("orl/ContextRacing-v0")
    with pytest.raises(ValueError, match="'track_seed': the circuit is the context's"):
        racing.reset(options={"track_seed": 3})
    with pytest.raises(ValueError, match="orl/Racing-v0: has no contexts"):
        offered_contexts("orl/Racing-v0")


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_every_corner_of_the_space_can_be_played(environment_id: str) -> None:
    """Numbers stay finite where everything is at one end of its range."""
    space = offered_contexts(environment_id)
    environment = gymnasium.make(environment_id, contexts=space.names)
    actions = actions_of(environment, 20)
    for context in space.grid(2)[[0, *range(1, 2 ** len(space.names) - 1, 9), -1]]:
        environment.unwrapped.set_context(context)  # type: ignore[attr-defined]
        for step in play(environment, actions):
            values = step if isinstance(step, list) else [*step[0], step[1]]
            assert np.isfinite(values).all(), context
