"""Evaluation: every copy's first episode, and nothing else; returns by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orl import seeding
from orl.arrays import Float32Array
from orl.environment import Spaces
from orl.evaluation import evaluate

ID = "orl-tests/Countdown-v0"


class Countdown(gymnasium.Env[Any, Any]):
    """An episode of 2 to 6 steps, as its seed says; the reward is the step's number plus ten times the action."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Box(-1, 1, (1,))

    def __init__(self, truncates: bool = False) -> None:
        self.truncates = truncates

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32Array, dict[str, Any]]:
        super().reset(seed=seed)
        self.length, self.step_number = 2 + (seed if seed is not None else 1_000) % 5, 0
        return self._observation(), {"number": -1.0, "text": "start"}

    def step(self, action: Float32Array) -> tuple[Float32Array, float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        over = self.step_number == self.length
        info = {"number": float(self.step_number), "text": "step"}
        reward = self.step_number + 10 * float(action[0])
        return self._observation(), reward, over and not self.truncates, over and self.truncates, info

    def _observation(self) -> Float32Array:
        return np.array([self.length, self.step_number], np.float32)


class Recorded:
    """A policy whose learner k acts with k / 10 and that remembers what it saw."""

    def __init__(self, population: int = 1) -> None:
        self.population = population
        self.seen: list[Float32Array] = []
        self.deterministic: list[bool] = []

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        self.seen.append(observations.copy())
        self.deterministic.append(deterministic)
        actions = np.arange(self.population, dtype=np.float32)[:, None, None] / 10
        return np.broadcast_to(actions, (*observations.shape[:2], 1)).copy()


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register(ID, Countdown, disable_env_checker=True)
    yield
    del gymnasium.registry[ID]


def episode_lengths(seed: int, episodes: int) -> list[int]:
    starts = seeding.sequence(seed, "evaluation").generate_state(episodes)
    return [2 + int(start) % 5 for start in starts]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("truncates", [False, True])
def test_the_first_episode_of_every_copy_counts_and_no_other(mode: AutoresetMode, truncates: bool) -> None:
    lengths = episode_lengths(4, 8)
    assert len(set(lengths)) > 2  # short copies play on while long ones finish
    result = evaluate(Recorded(3), ID, episodes=8, seed=4, truncates=truncates, vector_kwargs={"autoreset_mode": mode})
    assert result.lengths.tolist() == [lengths] * 3
    for k in range(3):
        expected = [n * (n + 1) / 2 + n * k for n in lengths]  # 1 + ... + n, and 10 * k / 10 a step
        np.testing.assert_allclose(result.returns[k], expected, rtol=1e-6)
    assert result.infos["number"].tolist() == [[float(n) for n in lengths]] * 3  # of the last step


def test_every_learner_plays_from_the_same_starts() -> None:
    policy = Recorded(2)
    evaluate(policy, ID, episodes=3, seed=1)
    first = policy.seen[0]
    assert first.shape == (2, 3, 2)
    assert np.array_equal(first[0], first[1])
    assert first[0, :, 0].tolist() == episode_lengths(1, 3)
    assert all(policy.deterministic)


def test_seeds_of_evaluation_repeat_and_differ() -> None:
    first, again, other = (evaluate(Recorded(), ID, episodes=20, seed=seed).lengths for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_episodes_are_a_prefix_of_more_episodes() -> None:
    few, many = (evaluate(Recorded(), ID, episodes=n, seed=2).lengths[0] for n in (4, 9))
    assert np.array_equal(few, many[:4])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_traces_follow_every_step_and_end_with_the_episode(mode: AutoresetMode) -> None:
    result = evaluate(Recorded(2), ID, episodes=4, seed=4, record=["number"], vector_kwargs={"autoreset_mode": mode})
    trace = result.traces["number"]
    assert trace.shape == (result.lengths.max(), 2, 4)
    for e, length in enumerate(result.lengths[1]):
        assert trace[:length, 1, e].tolist() == list(range(1, length + 1))
        assert np.isnan(trace[length:, 1, e]).all()


def test_infos_hold_numbers_of_the_environment_alone() -> None:
    result = evaluate(Recorded(), ID, episodes=2)
    assert list(result.infos) == ["number"]


def test_an_entry_that_no_step_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"record=\['speed'\].*number"):
        evaluate(Recorded(), ID, episodes=2, record=["speed"])


def test_sampled_actions_are_asked_for() -> None:
    policy = Recorded()
    evaluate(policy, ID, episodes=1, deterministic=False)
    assert not any(policy.deterministic)


def test_no_episode_is_refused() -> None:
    with pytest.raises(ValueError, match="episodes=0: give at least one"):
        evaluate(Recorded(), ID, episodes=0)


def test_the_environment_is_closed_also_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(SyncVectorEnv, "close", lambda self, **keywords: closed.append(True))

    class Broken(Recorded):
        def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
            raise RuntimeError("broken policy")

    with pytest.raises(RuntimeError, match="broken policy"):
        evaluate(Broken(), ID, episodes=1)
    assert closed


class Bounded:
    """A policy that says what it is for."""

    population = 1

    def __init__(self, size: int, bound: float) -> None:
        bounds = np.full(1, bound, np.float32)
        self.spaces = Spaces(size, -bounds, bounds, None)

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        return np.zeros((*observations.shape[:2], 1))


def test_a_policy_for_other_spaces_is_refused() -> None:
    assert evaluate(Bounded(2, 1.0), ID, episodes=2).returns.shape == (1, 2)
    with pytest.raises(ValueError, match=r"Countdown-v0: actions lie in \[\[-1.0\], \[1.0\]\], the agent's in"):
        evaluate(Bounded(2, 2.0), ID)
    with pytest.raises(ValueError, match=r"Countdown-v0: \(observation, action\) sizes are \(2, 1\), the agent has"):
        evaluate(Bounded(3, 1.0), ID)
    with pytest.raises(ValueError, match="makes copies of its own; give an environment id"):
        evaluate(Bounded(2, 1.0), Countdown())  # type: ignore[arg-type]
