"""Environments continue bit for bit from a text, in the middle of an episode."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.wrappers import RecordEpisodeStatistics, RescaleAction, TimeAwareObservation

import orl.envs
from orl import environment_state as module
from orl.environment_state import environment_state, restore_environment

BODIES = ["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes a log into the working directory."""
    monkeypatch.chdir(tmp_path)


def actions_of(environment: Any, count: int) -> list[Any]:
    space = environment.action_space
    if isinstance(space, Discrete):
        return list(np.random.default_rng(0).integers(space.n, size=count))
    drawn = np.random.default_rng(0).uniform(space.low, space.high, (count, *space.shape))
    return list(drawn.astype(space.dtype))


def play(environment: Any, actions: list[Any]) -> list[tuple[Any, ...]]:
    """What every step gives; an episode that ends is followed by the next one, without a seed."""
    record: list[tuple[Any, ...]] = []
    for action in actions:
        observation, reward, terminated, truncated, _ = environment.step(action)
        record.append((observation.tolist(), float(reward), bool(terminated), bool(truncated)))
        if terminated or truncated:
            record.append((environment.reset()[0].tolist(),))
    return record


def assert_it_continues(make: Any, *, before: int, after: int, same_text: bool = True) -> list[tuple[Any, ...]]:
    """An environment that was restored does what the one that was saved goes on to do, bit for bit."""
    original, restored = make(), make()
    original.reset(seed=3)
    actions = actions_of(original, before + after)
    play(original, actions[:before])
    text = environment_state(original)
    assert text.isascii()
    assert "\n" not in text
    expected = play(original, actions[before:])
    restored.reset(seed=4)
    play(restored, actions[:7])
    restore_environment(restored, text)
    assert environment_state(restored) == text or not same_text
    assert play(restored, actions[before:]) == expected
    restore_environment(original, text)  # and back, in the same environment
    assert play(original, actions[before:]) == expected
    original.close()
    restored.close()
    return expected


@pytest.mark.parametrize("name", BODIES)
def test_mujoco_bodies_continue_bit_for_bit(name: str) -> None:
    """40 steps on: positions, rewards (the first one too), falls, the time limit at step 30 and the starts after it."""
    expected = assert_it_continues(lambda: gymnasium.make(name, max_episode_steps=30), before=10, after=40)
    resets = [record for record in expected if len(record) == 1]
    assert resets
    if name == "HalfCheetah-v5":  # never falls: the steps before the text count
        assert [len(record) for record in expected].index(1) == 20


@pytest.mark.parametrize("name", ["Pendulum-v1", "MountainCarContinuous-v0"])
def test_small_environments_continue(name: str) -> None:
    assert_it_continues(lambda: gymnasium.make(name, max_episode_steps=25), before=17, after=60)


def test_racing_continues_alone_and_as_a_vector() -> None:
    assert orl.envs
    assert_it_continues(lambda: gymnasium.make("orl/RacingOval-v0", max_episode_steps=25), before=17, after=60)
    first, second = (gymnasium.make_vec("orl/RacingOval-v0", 3, max_episode_steps=25) for _ in range(2))
    first.reset(seed=1)
    actions = actions_of(first, 60)
    for action in actions[:17]:
        first.step(action)
    text = environment_state(first)
    second.reset(seed=2)
    restore_environment(second, text)
    for action in actions[17:]:
        for mine, other in zip(first.step(action)[:4], second.step(action)[:4], strict=True):
            assert np.array_equal(mine, other)


@pytest.mark.parametrize("context", ["given", "sample"])
@pytest.mark.parametrize("name", orl.envs.CONTEXT_IDS)
def test_contexts_continue(name: str, context: str) -> None:
    """The environment that is restored has had another context; episodes end, and what is drawn anew is the same."""
    space = gymnasium.make(name).unwrapped.context_space  # type: ignore[attr-defined]
    given = space.sample(np.random.default_rng(0)) if context == "given" else "sample"
    assert_it_continues(
        lambda: gymnasium.make(name, context=given, context_mode="concat", max_episode_steps=30),
        before=12,
        after=40,
        same_text=name != "orl/ContextRacing-v0",  # it knows the tracks that it has seen
    )


@pytest.mark.parametrize("name", orl.envs.CONTEXT_IDS)
def test_a_context_is_restored_in_mid_episode_where_there_was_another(name: str) -> None:
    original, restored = (gymnasium.make(name, context_mode="concat") for _ in range(2))
    space = original.unwrapped.context_space  # type: ignore[attr-defined]
    contexts = [space.sample(np.random.default_rng(seed)) for seed in (1, 2)]
    original.reset(seed=3, options={"context": contexts[0]})
    restored.reset(seed=4, options={"context": contexts[1]})
    actions = actions_of(original, 34)
    play(original, actions[:4])
    play(restored, actions[:3])
    restore_environment(restored, environment_state(original))
    assert play(restored, actions[4:]) == play(original, actions[4:])
    assert np.array_equal(restored.reset()[1]["context"], contexts[0])


def test_a_context_of_other_variables_is_refused() -> None:
    one, other = (gymnasium.make("orl/ContextHopper-v0", contexts=(name,)) for name in ("mass", "gravity"))
    one.reset(seed=0)
    with pytest.raises(ValueError, match=r"a state with contexts \['mass'\]; the environment exposes \['gravity'\]"):
        restore_environment(other, environment_state(one))


@pytest.mark.parametrize("context", [[[0.5, 2.0], [1.0, 1.0], [2.0, 0.5]], "sample"])
@pytest.mark.parametrize("name", ["orl/ContextPendulum-v0", "orl/ContextCartPole-v0", "orl/ContextCartPoleDiscrete-v0"])
def test_copies_with_contexts_continue(name: str, context: Any) -> None:
    def make() -> Any:
        keywords = {"contexts": ("mass", "length"), "max_episode_steps": 20}
        return gymnasium.make_vec(name, num_envs=3, context=context, **keywords)

    original, restored, ordinary = make(), make(), [[1.0, 1.0]] * 3
    original.reset(seed=1)
    actions = [original.action_space.sample() for _ in range(50)]
    for action in actions[:17]:
        original.step(action)
    text = environment_state(original)
    restored.reset(seed=2, options={"contexts": ordinary})
    restore_environment(restored, text)
    for action in actions[17:]:
        expected, found = original.step(action), restored.step(action)
        for mine, other in zip(expected[:4], found[:4], strict=True):
            assert np.array_equal(mine, other)
        assert np.array_equal(expected[4]["context"], found[4]["context"])


def test_wrappers_continue(stroll: str) -> None:
    def make() -> Any:
        return RescaleAction(
            TimeAwareObservation(gymnasium.make(stroll, max_episode_steps=5)), np.float32(-1), np.float32(1)
        )

    assert_it_continues(make, before=9, after=40)


@pytest.mark.parametrize(
    ("name", "places"), [("Ant-v5", ("xipos",)), ("Humanoid-v5", ("xpos",)), ("Ant-v5", ()), ("Humanoid-v5", ())]
)
def test_without_the_places_of_the_bodies_the_first_reward_differs(
    name: str, places: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why `_BODY_POSITIONS` is there: MuJoCo's integration state alone loses one reward, and nothing else."""
    original, restored = gymnasium.make(name), gymnasium.make(name)
    original.reset(seed=3)
    actions = actions_of(original, 5)
    play(original, actions[:3])
    monkeypatch.setattr(module, "_BODY_POSITIONS", places)
    text = environment_state(original)
    restored.reset(seed=4)
    restore_environment(restored, text)
    first, second = play(original, actions[3:]), play(restored, actions[3:])
    assert first[0][1] != second[0][1]
    assert first[0][0] == second[0][0]
    assert first[1] == second[1]


class Hidden(gymnasium.Env[Any, Any]):
    """Keeps its state where no one looks."""

    observation_space = action_space = Box(-1, 1, (1,))

    def __init__(self, state: Any) -> None:
        self.hidden = state


class Pair(NamedTuple):
    """Would come back as a plain tuple."""

    first: float
    second: float


UNSEEN = [deque([1.0]), [object()], {"world": object()}, object(), np.array([None]), Pair(1.0, 2.0)]


@pytest.mark.parametrize("state", UNSEEN)
def test_state_that_would_be_lost_gives_no_text(state: Any) -> None:
    assert environment_state(Hidden(state)) == ""
    assert environment_state(gymnasium.wrappers.TimeLimit(Hidden(state), 5)) == ""


@pytest.mark.parametrize("state", [1.0, [1.0], np.zeros(2), None, "text", {"limits": (0.0, 1.0)}, np.sin, Box(0, 1)])
def test_other_attributes_are_kept_or_never_change(state: Any) -> None:
    assert environment_state(Hidden(state))


class Everywhere(gymnasium.Env[Any, Any]):
    """Keeps its state in containers, texts, `None` and a random generator of its own under two names."""

    observation_space, action_space = Box(-np.inf, np.inf, (4,)), Box(-1, 1, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.generator = np.random.Generator(np.random.MT19937(seed))
            self.same = self.generator
        self.pair, self.table, self.places = (self.np_random.normal(), 0.0), {3: [0.0]}, [np.zeros(1)]
        self.mode, self.last = "calm", None
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        noise, other = self.generator.normal(), self.same.uniform()
        self.pair = (self.pair[0] + float(action[0]) + noise, self.pair[1] + other)
        self.table[3].append(self.pair[0])
        self.places[0] = self.places[0] + (1.0 if self.mode == "wild" else 0.1)
        reward = 0.0 if self.last is None else self.last
        self.mode, self.last = ("wild" if noise > 0 else "calm"), noise
        return self._observation(), reward, noise > 1.5, False, {}

    def _observation(self) -> Any:
        return np.array([*self.pair, sum(self.table[3]), self.places[0][0]])


@pytest.mark.parametrize("before", [0, 1, 9])
def test_state_in_containers_texts_and_generators_continues(before: int) -> None:
    assert_it_continues(Everywhere, before=before, after=30)


def test_other_wrappers_are_refused() -> None:
    plain = Everywhere()
    plain.reset(seed=0)
    with pytest.raises(ValueError, match="has 1 wrappers, the one that was saved 0; give the environment that"):
        restore_environment(gymnasium.wrappers.TimeLimit(Everywhere(), 5), environment_state(plain))


def test_a_wrapper_that_remembers_more_gives_no_text() -> None:
    assert environment_state(RecordEpisodeStatistics(Hidden(1.0))) == ""


def test_numbers_keep_their_types_and_their_bits() -> None:
    values = {
        "count": 2**60 + 1, "share": 0.1 + 0.2, "flag": True, "single": np.float32(0.1), "flags": np.array([True]),
        "bounds": np.array([[np.inf, -0.0, np.nan]]), "whole": np.arange(3, dtype=np.int16), "empty": np.zeros((0, 2)),
    }  # fmt: skip
    original, restored = Hidden(None), Hidden(None)
    vars(original).update(values)
    text = environment_state(original)
    assert json.loads(text)["mujoco"] is None
    restore_environment(restored, text)
    for name, value in values.items():
        again = getattr(restored, name)
        assert np.asarray(again).dtype == np.asarray(value).dtype, name
        assert np.asarray(again).shape == np.asarray(value).shape, name
        assert np.asarray(again).tobytes() == np.asarray(value).tobytes(), name
