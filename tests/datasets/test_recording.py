"""Rollouts: what is stored is what happened."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from orl.datasets import RandomPolicy, record


class Walk(gymnasium.Env[Any, Any]):
    """Adds its action to its position; ends after a number of steps that the seed decides."""

    def __init__(self, longest: int = 9, time_limit: int = 6) -> None:
        self.observation_space = Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = Box(-2.0, 2.0, (1,), np.float32)
        self.longest, self.time_limit = longest, time_limit
        self.executed: list[float] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.position = 0, float(self.np_random.normal())
        self.end = int(self.np_random.integers(1, self.longest + 1))
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.executed.append(float(action[0]))
        self.steps += 1
        self.position += float(action[0])
        return self._observe(), self.position, self.steps >= self.end, self.steps >= self.time_limit, {}

    def _observe(self) -> Any:
        return np.array([self.position, self.steps], np.float32)


def push(observations: Any) -> Any:
    """Beyond the bounds wherever the position is beyond 0.5."""
    return 4.0 * np.asarray(observations)[..., :1]


def same(left: Any, right: Any) -> bool:
    fields = ("observations", "actions", "rewards", "terminations", "truncations")
    return left.seed == right.seed and all(np.array_equal(getattr(left, f), getattr(right, f)) for f in fields)


def test_actions_beyond_the_bounds_are_executed_and_stored_clipped() -> None:
    environment = Walk()
    episodes = record(push, environment, episodes=5, seed=0)
    stored = np.concatenate([episode.actions[:, 0] for episode in episodes])
    assert np.abs(stored).max() == 2.0
    np.testing.assert_array_equal(stored, environment.executed)
    for episode in episodes:
        np.testing.assert_allclose(np.diff(episode.observations[:, 0]), episode.actions[:, 0], atol=1e-6)
        np.testing.assert_allclose(episode.rewards, episode.observations[1:, 0], rtol=1e-6)


def test_episodes_are_whole_and_termination_wins_over_truncation() -> None:
    episodes = record(push, Walk(longest=9, time_limit=6), episodes=40, seed=1)
    for episode in episodes:
        ends = episode.terminations | episode.truncations
        assert ends.tolist() == [False] * (len(episode) - 1) + [True]
        assert not (episode.terminations & episode.truncations).any()
        assert episode.truncations[-1] == (len(episode) == 6 and not episode.terminations[-1])
    assert {len(episode) for episode in episodes} == set(range(1, 7))
    assert any(e.truncations[-1] for e in episodes)
    assert any(e.terminations[-1] and len(e) == 6 for e in episodes)


def test_an_episode_is_replayed_from_its_seed() -> None:
    episode = record(push, Walk(), episodes=7, seed=3)[5]
    environment = Walk()
    observation, _ = environment.reset(seed=episode.seed)
    for i, action in enumerate(episode.actions):
        np.testing.assert_array_equal(observation, episode.observations[i])
        observation = environment.step(action)[0]
    np.testing.assert_array_equal(observation, episode.observations[-1])


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("copies", [1, 3, 8])
def test_a_vector_environment_gives_the_episodes_of_a_single_one(mode: AutoresetMode, copies: int) -> None:
    vector = SyncVectorEnv([Walk] * copies, autoreset_mode=mode)
    expected = record(push, Walk(), episodes=7, seed=3)
    steps: list[int] = []
    episodes = record(push, vector, episodes=7, seed=3, progress=lambda _, count: steps.append(count))
    vector.close()
    assert len(episodes) == 7
    assert steps[-1] == sum(map(len, episodes))  # no copy plays what another one plays
    assert all(same(left, right) for left, right in zip(episodes, expected, strict=True))


def test_every_episode_can_have_a_seed_of_its_own() -> None:
    seeds = [episode.seed for episode in record(push, Walk(), episodes=5, seed=3)]
    assert all(isinstance(seed, int) for seed in seeds)
    expected = record(push, Walk(), episodes=5, seed=3)[2:]
    episodes = record(push, SyncVectorEnv([Walk] * 2), episodes=3, seed=seeds[2:])  # type: ignore[arg-type]
    assert all(same(left, right) for left, right in zip(episodes, expected, strict=True))
    with pytest.raises(ValueError, match="3 seeds for 4 episodes; give each its own"):
        record(push, Walk(), episodes=4, seed=seeds[2:])  # type: ignore[arg-type]


def test_an_episode_that_does_not_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Walk: an episode has not ended after 20,000 steps; give .* a time limit"):
        record(lambda _: np.zeros(1), Walk(longest=10**9, time_limit=10**9), episodes=1, seed=0)


def test_environments_that_reuse_their_arrays_and_processes() -> None:
    expected = record(push, Walk(), episodes=6, seed=3)
    for vector in (SyncVectorEnv([Walk] * 2, copy=False), AsyncVectorEnv([Walk] * 2)):
        episodes = record(push, vector, episodes=6, seed=3)
        vector.close()
        assert all(same(left, right) for left, right in zip(episodes, expected, strict=True))


def test_random_actions_fill_the_bounds_and_repeat() -> None:
    vector = SyncVectorEnv([Walk] * 2)
    policy, again = RandomPolicy(vector, seed=1), RandomPolicy(vector, seed=1)
    vector.close()
    drawn = np.stack([policy(np.zeros((2, 2))) for _ in range(500)])
    assert drawn.shape == (500, 2, 1)
    assert -2.0 <= drawn.min() < -1.9
    assert 1.9 < drawn.max() <= 2.0
    np.testing.assert_array_equal(drawn[0], again(np.zeros((2, 2))))
    with pytest.raises(ValueError, match="bounded Box"):
        RandomPolicy(gymnasium.make("CartPole-v1"), seed=0)


def test_progress_counts_episodes_and_transitions() -> None:
    seen: list[tuple[int, int]] = []
    episodes = record(push, Walk(), episodes=3, seed=0, progress=lambda *counts: seen.append(counts))
    assert seen[-1] == (3, sum(map(len, episodes)))
    assert [steps for _, steps in seen] == list(range(1, len(seen) + 1))


@pytest.mark.parametrize("copies", [0, 1, 4])
def test_steps_are_as_many_whole_episodes_as_hold_them(copies: int) -> None:
    longer = record(push, Walk(), episodes=30, seed=3)
    environment = SyncVectorEnv([Walk] * copies) if copies else Walk()
    episodes = record(push, environment, steps=40, seed=3)
    lengths = [len(episode) for episode in episodes]
    assert sum(lengths[:-1]) < 40 <= sum(lengths)
    assert all(same(left, right) for left, right in zip(episodes, longer, strict=False))


def test_a_shorter_recording_of_samples_is_the_beginning_of_a_longer_one() -> None:
    def recorded(steps: int) -> list[Any]:
        vector = SyncVectorEnv([Walk] * 4)
        return record(RandomPolicy(vector, seed=1), vector, steps=steps, seed=3)

    short, long = recorded(20), recorded(60)
    assert len(short) < len(long)
    assert all(same(left, right) for left, right in zip(short, long, strict=False))


def test_what_cannot_be_recorded_is_refused() -> None:
    with pytest.raises(ValueError, match="episodes=0"):
        record(push, Walk(), episodes=0, seed=0)
    with pytest.raises(ValueError, match="steps=-5"):
        record(push, Walk(), steps=-5, seed=0)
    for both in ({}, {"episodes": 1, "steps": 1}):
        with pytest.raises(ValueError, match="one of the two"):
            record(push, Walk(), seed=0, **both)
    with pytest.raises(ValueError, match="not finite"):
        record(lambda _: np.array([np.nan]), Walk(), episodes=1, seed=0)
    with pytest.raises(ValueError, match=r"shape \(2,\).*takes \(1,\)"):
        record(lambda _: np.zeros(2), Walk(), episodes=1, seed=0)
    discrete = Walk()
    discrete.action_space = Discrete(3)
    with pytest.raises(ValueError, match="continuous"):
        record(push, discrete, episodes=1, seed=0)


@pytest.mark.parametrize("name", ["orl/ContextCartPole-v0", "orl/ContextHopper-v0"])
def test_copies_with_contexts_give_the_episodes_of_a_single_one(name: str) -> None:
    """They end at different times; those that end are reset with the seeds of their next episodes."""
    single, vector = gymnasium.make(name), gymnasium.make_vec(name, 3)
    found = [record(RandomPolicy(each, 0), each, episodes=5, seed=1) for each in (single, vector)]
    assert len({len(episode.rewards) for episode in found[0]}) > 1
    starts = [[episode.observations[0].tolist() for episode in episodes] for episodes in found]
    assert starts[0] == starts[1]
