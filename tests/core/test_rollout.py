"""Acting in copies of an environment: what is recorded equals a plain loop, whatever the episodes' lengths."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import orl.envs
from orl import seeding
from orl.environment import Spaces, vector_environment
from orl.rollout import LONGEST, RECENT, Collector, longest_episode, play

SAME_STEP = AutoresetMode.SAME_STEP
SEEDS = [5, 9]
Transition = tuple[list[float], float, float, list[float], bool]


def action_of(learner: int, copy: int, t: int) -> float:
    return float(np.float32(np.sin(7 * learner + 3 * copy + t)))


def naive(
    environment: gymnasium.Env[Any, Any], seed: int, learner: int, copy: int, steps: int
) -> tuple[list[Transition], list[float], list[int]]:
    """A plain loop over one environment: its transitions, and returns and lengths of the episodes that ended."""
    observation, _ = environment.reset(seed=seed)
    transitions: list[Transition] = []
    returns, lengths, total, length = [], [], 0.0, 0
    for t in range(steps):
        action = action_of(learner, copy, t)
        in_unit = np.array([np.float32(2 * action)])
        following, reward, terminated, truncated, _ = environment.step(in_unit)
        transitions.append((observation.tolist(), action, float(reward), following.tolist(), terminated))
        total, length, observation = total + float(reward), length + 1, following
        if terminated or truncated:
            returns.append(total)
            lengths.append(length)
            total, length = 0.0, 0
            observation, _ = environment.reset()
    return transitions, returns, lengths


def streams(seeds: list[int]) -> list[np.random.SeedSequence]:
    """What the copies of learners with these seeds start from."""
    return [seeding.sequence(seed, "environment") for seed in seeds]


def collect(collector: Collector, steps: int, first: int = 0) -> dict[tuple[int, int], list[Transition]]:
    population, copies = collector.shape
    record: dict[tuple[int, int], list[Transition]] = {(k, c): [] for k in range(population) for c in range(copies)}
    for t in range(first, first + steps):
        actions = [[[action_of(k, c, t)] for c in range(copies)] for k in range(population)]
        step = collector.step(np.array(actions, np.float32))
        for (k, c), transitions in record.items():
            each = [values[k, c].tolist() for values in step[:5]]
            transitions.append((each[0], each[1][0], each[2], each[3], each[4]))
    return record


def vector(stroll: str, count: int, **options: Any) -> SyncVectorEnv:
    made: Any = gymnasium.make_vec(stroll, count, "sync", vector_kwargs={"autoreset_mode": SAME_STEP}, **options)
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize("length", [0, 1, 2, 5])
@pytest.mark.parametrize("ends", ["either", "terminated", "truncated"])
def test_transitions_equal_those_of_a_plain_loop(stroll: str, length: int, ends: str) -> None:
    """Successors are those before a reset, terminated is not truncated, episodes end in every copy at its own time."""
    copies, steps = 3, 60
    collector = Collector(vector(stroll, 6, length=length, ends=ends), streams(SEEDS), Spaces.of(stroll))
    record = collect(collector, steps)
    all_returns: list[list[float]] = [[], []]
    for (k, c), transitions in record.items():
        starts = seeding.sequence(SEEDS[k], "environment").generate_state(copies)
        own = gymnasium.make(stroll, length=length, ends=ends)
        expected, returns, _ = naive(own, int(starts[c]), k, c, steps)
        assert transitions == expected
        all_returns[k] += returns
        assert all(after[0] == before[3] or after[0][2] == 0 for before, after in pairwise(expected))
    flags = np.array([[each[4] for each in transitions] for transitions in record.values()])
    assert flags.any() == (ends != "truncated")
    assert collector.episodes.tolist() == [len(returns) for returns in all_returns]
    means = collector.metrics()["ep_rew_mean"]
    for k, returns in enumerate(all_returns):
        if len(returns) <= RECENT:
            assert means[k].item() == pytest.approx(np.mean(returns), rel=1e-12)


@pytest.mark.parametrize("copies", [1, 2])
def test_a_learner_sees_what_it_would_see_alone(stroll: str, copies: int) -> None:
    spaces = Spaces.of(stroll)
    together = collect(Collector(vector(stroll, 3 * copies), streams([4, 7, 9]), spaces), 25)
    alone = Collector(vector(stroll, copies), streams([7]), spaces)
    actions = [[[[action_of(1, c, t)] for c in range(copies)]] for t in range(25)]
    for t, action in enumerate(actions):
        step = alone.step(np.array(action, np.float32))
        for c in range(copies):
            assert step.next_observations[0, c].tolist() == together[1, c][t][3]
            assert step.rewards[0, c] == together[1, c][t][2]


def test_an_id_and_a_single_environment_give_the_same(stroll: str) -> None:
    spaces = Spaces.of(stroll)
    first = collect(Collector(stroll, streams([3]), spaces), 30)
    assert collect(Collector(gymnasium.make(stroll), streams([3]), spaces), 30) == first
    by_hand = SyncVectorEnv([lambda: gymnasium.make(stroll)], autoreset_mode=SAME_STEP)
    assert collect(Collector(by_hand, streams([3]), spaces), 30) == first


def test_mean_return_and_length_are_of_the_recent_episodes(stroll: str) -> None:
    options: dict[str, Any] = {"length": 2, "ends": "truncated"}
    collector = Collector(vector(stroll, 2, **options), streams([0, 1]), Spaces.of(stroll))
    collect(collector, 1)
    assert collector.metrics() == {}  # no learner has finished an episode
    collect(collector, 2 * RECENT + 60, first=1)
    metrics = collector.metrics()
    for k in range(2):
        start = int(seeding.sequence(k, "environment").generate_state(1)[0])
        _, returns, _ = naive(gymnasium.make(stroll, **options), start, k, 0, 2 * RECENT + 61)
        assert len(returns) == collector.episodes[k] == RECENT + 30
        assert metrics["ep_rew_mean"][k].item() == pytest.approx(np.mean(returns[-RECENT:]), rel=1e-12)
    assert metrics["ep_len_mean"].tolist() == [2.0, 2.0]


def test_means_wait_for_every_learner_s_first_episode(stroll: str) -> None:
    """Episodes of 2 and 3 steps."""
    made = [partial(gymnasium.make, stroll, length=length) for length in (2, 3)]
    collector = Collector(SyncVectorEnv(made, autoreset_mode=SAME_STEP), streams(SEEDS), Spaces.of(stroll))
    collect(collector, 2)
    assert collector.episodes.tolist() == [1, 0]
    assert collector.metrics() == {}
    collect(collector, 1, first=2)
    assert collector.metrics()["ep_len_mean"].tolist() == [2.0, 3.0]


@pytest.mark.parametrize(("population", "copies"), [(1, 1), (2, 3)])
def test_it_continues_in_the_middle_of_episodes(stroll: str, population: int, copies: int) -> None:
    spaces, seeds = Spaces.of(stroll), [5, 9][:population]
    whole = Collector(vector(stroll, population * copies), streams(seeds), spaces)
    collect(whole, 23)
    state = {name: array.copy() for name, array in whole.state().items()}
    assert all(len(tensor) == population for tensor in state.values())
    expected = collect(whole, 40, first=23)
    other = Collector(vector(stroll, population * copies), streams(seeds), spaces)
    collect(other, 4)
    assert other.load(state)
    assert collect(other, 40, first=23) == expected
    for name in ("returns", "lengths", "recent_returns", "recent_lengths", "episodes"):
        np.testing.assert_array_equal(getattr(other, name), getattr(whole, name), err_msg=name)


def test_another_number_of_copies_begins_new_episodes(stroll: str) -> None:
    spaces = Spaces.of(stroll)
    first = Collector(vector(stroll, 2), streams([0]), spaces)
    collect(first, 30)
    other = Collector(vector(stroll, 3), streams([0]), spaces)
    assert not other.load(first.state())
    assert other.episodes.tolist() == first.episodes.tolist()
    assert (other.observations[..., 2] == 0).all()
    assert (other.lengths == 0).all()


def test_environments_that_cannot_be_restored_begin_new_episodes(stroll: str) -> None:
    spaces = Spaces.of(stroll)
    collector = Collector(RecordEpisodeStatistics(vector(stroll, 2)), streams([0, 1]), spaces)
    collect(collector, 9)
    state = collector.state()
    again = Collector(RecordEpisodeStatistics(vector(stroll, 2)), streams([0, 1]), spaces)
    assert not again.load(state)
    assert (again.lengths == 0).all()


def test_the_vector_environment_of_racing() -> None:
    """It resets in the same step, gives final observations and continues from its own state."""
    assert orl.envs
    name, keywords = "orl/RacingOval-v0", {"max_episode_steps": 7, "autoreset_mode": "SameStep"}
    make = partial(gymnasium.make_vec, name, 4, **keywords)
    spaces = Spaces.of(name)
    environment: Any = make()
    collector = Collector(environment, streams([0, 1]), spaces)
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 2, 2)).astype(np.float32)
    steps = [collector.step(action) for action in actions[:10]]
    for t in (3, 6):  # within an episode, and at its end by the time limit
        same = (steps[t].next_observations == steps[t + 1].observations).all(-1)
        assert same.all() if t == 3 else not same.any()
    assert not steps[6].terminated.any()
    state = collector.state()
    expected = [collector.step(action) for action in actions[10:]]
    other = Collector(make(), streams([0, 1]), spaces)
    assert other.load(state)
    for action, step in zip(actions[10:], expected, strict=True):
        for mine, theirs in zip(other.step(action)[:6], step[:6], strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("in_arrays", [True, False])
def test_specialists_act_in_contexts_of_their_own(in_arrays: bool) -> None:
    """One context per learner: each sees what it would see alone, and goes on in the middle of an episode."""
    name, keywords = "orl/ContextPendulum-v0", {"contexts": ("mass", "length"), "max_episode_steps": 7}
    contexts = [{"mass": 0.5, "length": 2.0}, {"mass": 2.0, "length": 0.5}]
    singles = [partial(gymnasium.make, name, context=context, **keywords) for context in contexts]

    def make(learners: list[int]) -> Collector:
        environment: Any = SyncVectorEnv([singles[k] for k in learners], autoreset_mode=SAME_STEP)
        if in_arrays:
            rows = [list(contexts[k].values()) for k in learners]
            environment = gymnasium.make_vec(name, len(learners), context=rows, **keywords)
        return Collector(environment, streams([SEEDS[k] for k in learners]), Spaces.of(name))

    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 1, 1)).astype(np.float32)
    together, alone = make([0, 1]), [make([0]), make([1])]
    for action in actions[:10]:
        step = together.step(action)
        for k, each in enumerate(alone):
            for mine, theirs in zip(step[:6], each.step(action[k : k + 1])[:6], strict=True):
                assert np.array_equal(mine[k : k + 1], theirs)
    state = together.state()
    expected = [together.step(action) for action in actions[10:]]
    other = make([0, 1])
    assert other.load(state)
    for action, step in zip(actions[10:], expected, strict=True):
        for mine, theirs in zip(other.step(action)[:6], step[:6], strict=True):
            assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_other_autoreset_modes_are_refused(stroll: str, mode: AutoresetMode) -> None:
    environment = gymnasium.make_vec(stroll, 2, "sync", vector_kwargs={"autoreset_mode": mode})
    with pytest.raises(ValueError, match=rf"resets in mode {mode.value}; give .*vector_kwargs.*SAME_STEP"):
        Collector(environment, streams([0]), Spaces.of(stroll))


def test_numbers_of_copies_that_do_not_divide_are_refused(stroll: str) -> None:
    with pytest.raises(ValueError, match="3 copies of the environment cannot be shared by 2 seeds"):
        vector_environment(vector(stroll, 3), 2)
    with pytest.raises(ValueError, match=r"one environment for 2 seeds; give an id, or .* n times 2 copies"):
        vector_environment(gymnasium.make(stroll), 2)
    with pytest.raises(ValueError, match=r"Nowhere-v0: no such environment; see gymnasium.pprint_registry"):
        vector_environment("Nowhere-v0", 1)


def test_another_environment_than_the_agent_s_is_refused(stroll: str) -> None:
    with pytest.raises(ValueError, match=r"Pendulum-v1: actions lie in .*|sizes are"):
        Collector("MountainCarContinuous-v0", streams([0]), Spaces.of("Pendulum-v1"))


class Broken(gymnasium.Env[Any, Any]):
    """Gives something that is not finite in its third step."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,)), Box(-1, 1, (1,))

    def __init__(self, reward: float = 0.0, observation: float = 0.0) -> None:
        self.reward, self.observation, self.count = reward, observation, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        bad = self.count == 3
        # the bad observation ends its episode, so that only `final_obs` has it
        return np.full(1, self.observation if bad else 0.0, np.float32), self.reward if bad else 0.0, bad, False, {}


@pytest.fixture
def broken() -> Iterator[str]:
    gymnasium.register("orl-tests/Broken-v0", Broken, disable_env_checker=True)
    yield "orl-tests/Broken-v0"
    del gymnasium.registry["orl-tests/Broken-v0"]


@pytest.mark.parametrize("fault", [{"reward": np.nan}, {"reward": np.inf}, {"observation": np.nan}])
def test_what_is_not_finite_is_refused(broken: str, fault: dict[str, float]) -> None:
    collector = Collector(gymnasium.make(broken, **fault), streams([0]), Spaces.of(broken))
    action = np.zeros((1, 1, 1), np.float32)
    collector.step(action)
    collector.step(action)
    with pytest.raises(ValueError, match="Broken-v0: gave a reward or an observation that is not finite"):
        collector.step(action)


def test_actions_that_are_not_finite_are_blamed_on_the_policy(stroll: str) -> None:
    collector = Collector(stroll, streams([0]), Spaces.of(stroll))
    with pytest.raises(ValueError, match="actions are not finite: training has diverged; try a lower learning rate"):
        collector.step(np.full((1, 1, 1), np.nan, np.float32))


class Reuses(gymnasium.Env[Any, Any]):
    """Episodes of three steps; every observation is the same array, which holds the step's number."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,)), Box(-1, 1, (1,))

    def __init__(self) -> None:
        self.array = np.zeros(1, np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.array[:] = 0
        return self.array, {}

    def step(self, action: Any) -> Any:
        self.array += 1
        return self.array, 0.0, False, bool(self.array[0] == 3), {}


@pytest.mark.parametrize("kind", ["alone", "vector", "wrapped vector"])
def test_last_observations_are_right_where_an_array_is_used_again(kind: str) -> None:
    one = Reuses()
    environment: Any = one if kind == "alone" else SyncVectorEnv([Reuses], autoreset_mode=SAME_STEP)
    if kind == "wrapped vector":
        environment = RecordEpisodeStatistics(environment)
    for _ in range(2):  # the same environment may be given twice
        collector = Collector(environment, streams([0]), Spaces.of(one))
        steps = [collector.step(np.zeros((1, 1, 1), np.float32)) for _ in range(6)]
        assert [float(step.observations[0, 0, 0]) for step in steps] == [0, 1, 2, 0, 1, 2]
        assert [float(step.next_observations[0, 0, 0]) for step in steps] == [1, 2, 3, 1, 2, 3]


class Countdown(gymnasium.Env[Any, Any]):
    """Ends after 1 to 5 steps, as its seed says; a reset without a seed begins one of nine. Or it never ends."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Box(-1, 1, (1,))

    def __init__(self, endless: bool = False) -> None:
        self.endless = endless

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.length, self.count = 9 if seed is None else 1 + seed % 5, 0
        return np.array([self.length, 0], np.float32), {"left": -1}

    def step(self, action: Any) -> Any:
        self.count += 1
        over = not self.endless and self.count == self.length
        observation = np.array([self.length, self.count], np.float32)
        return observation, float(action[0]), over, False, {"left": self.length - self.count}


def counting(endless: bool = False, limit: int | None = None) -> gymnasium.Env[Any, Any]:
    environment: gymnasium.Env[Any, Any] = Countdown(endless)
    return environment if limit is None else TimeLimit(environment, limit)


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize(("copies", "episodes"), [(1, 4), (3, 3), (3, 8), (4, 2)])
def test_an_episode_is_played_from_every_seed(mode: AutoresetMode, copies: int, episodes: int) -> None:
    """Whatever the autoreset mode and the number of copies, and with the observations and infos of the step itself."""
    seeds = list(range(11, 11 + episodes))
    environment = SyncVectorEnv([Countdown] * copies, autoreset_mode=mode)
    counts: dict[int, list[float]] = {}
    for numbers, step in play(environment, lambda observations: np.full((copies, 1), 0.5), seeds):
        assert numbers.shape == step.rewards.shape == (copies,)
        for i in np.flatnonzero(numbers >= 0).tolist():
            number, length = int(numbers[i]), 1 + seeds[numbers[i]] % 5
            counts.setdefault(number, []).append(step.next_observations[i, 1])
            assert step.next_observations[i].tolist() == [length, len(counts[number])]
            assert step.observations[i].tolist() == [length, len(counts[number]) - 1]
            assert step.infos["left"][i] == length - len(counts[number])
            assert step.terminated[i] == (len(counts[number]) == length)
            assert not step.truncated[i]
            assert step.rewards[i] == 0.5
    assert {number: len(steps) for number, steps in counts.items()} == {k: 1 + seed % 5 for k, seed in enumerate(seeds)}


def test_the_copy_that_is_free_first_plays_the_next_episode() -> None:
    environment = SyncVectorEnv([Countdown] * 2)
    played = [numbers.tolist() for numbers, _ in play(environment, lambda _: np.zeros((2, 1)), [2, 1, 0, 3])]
    assert played == [[0, 1], [0, 1], [0, 2], [3, -1], [3, -1], [3, -1], [3, -1]]


def last_step(environment: gymnasium.Env[Any, Any]) -> int:
    vector, zero = SyncVectorEnv([lambda: environment]), np.zeros((1, 1))
    return sum(1 for _ in play(vector, lambda _: zero, [0]))


def test_an_episode_that_does_not_end_is_an_error() -> None:
    """Unless the environment states a time limit, be it a longer one."""
    message = r"Countdown: an episode has not ended after 20,000 steps; give the environment a time limit, max_episode_"
    with pytest.raises(ValueError, match=message):
        last_step(counting(endless=True))
    assert last_step(counting(endless=True, limit=LONGEST + 2)) == LONGEST + 2


def test_limits_that_are_stated_elsewhere() -> None:
    """By a registered environment, and by a vector form of its own."""
    assert orl.envs
    for kind in ("sync", "vector_entry_point"):
        made: Any = gymnasium.make_vec("orl/Racing-v0", 1, kind, max_episode_steps=LONGEST + 1)
        assert longest_episode(made) == LONGEST + 1
    assert longest_episode(gymnasium.make_vec("Pendulum-v1", 1)) == LONGEST
