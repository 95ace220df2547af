"""Roll a policy out in an environment and keep whole episodes.

Shape key: T decisions of an episode, O observation, A action, n copies of a vector environment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.spaces import Box, Space
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import ArrayLike, NDArray

from orl.datasets.episodes import Episode

Policy = Callable[[NDArray[Any]], ArrayLike]
Progress = Callable[[int, int], None]  # finished episodes, transitions so far


def record(
    policy: Policy,
    environment: Env[Any, Any] | VectorEnv[Any, Any, Any],
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int,
    progress: Progress | None = None,
) -> list[Episode]:
    """Play whole episodes and record what was executed.

    Episode k is reset with the k-th number drawn from `seed`, whatever the environment's autoreset mode, and is played
    by the copy that is free first. Every episode that was begun before the last one kept is played to its end and kept,
    so that short ones are not favoured; a policy that depends on the observation alone gives the same episodes for any
    number of copies; and a shorter recording is the beginning of a longer one.

    Args:
        policy: from observations (O,) to actions (A,), or from (n, O) to (n, A) for a vector environment, in the
            environment's unit; actions beyond the bounds are clipped, and the clipped ones executed and stored.
        environment: with a bounded, one-dimensional Box of actions and a one-dimensional Box of observations.
        episodes: how many, at least 1; or
        steps: as many episodes as hold this many transitions, at least 1.
        seed: of the resets; the policy has its own.
        progress: called after each step with the numbers of finished episodes and of transitions so far.

    Returns:
        The episodes in the order of their numbers.

    Raises:
        ValueError: spaces of another kind, not one of episodes and steps, one below 1, or actions that are not finite
            or have another shape.
    """
    goal = Goal(episodes, steps)
    is_vector = isinstance(environment, VectorEnv)
    actions = environment.single_action_space if is_vector else environment.action_space  # type: ignore[union-attr]
    observations = (
        environment.single_observation_space if is_vector else environment.observation_space  # type: ignore[union-attr]
    )
    action_box = require_boxes(observations, actions, "the environment")
    copies = environment.num_envs if isinstance(environment, VectorEnv) else 1
    seeds = np.random.SeedSequence(seed).generate_state(goal.most + copies)
    if isinstance(environment, VectorEnv):
        return _record_vector(policy, environment, action_box, seeds, goal, progress)
    played = 0
    for number, episode_seed in enumerate(map(int, seeds)):
        diary = EpisodeBuilder(episode_seed, environment.reset(seed=episode_seed)[0])
        while not diary.ended:
            action = _executable(policy(diary.observations[-1]), action_box, (action_box.shape[0],))
            observation, reward, terminated, truncated, _ = environment.step(action)
            diary.add(action, float(reward), bool(terminated), bool(truncated), observation)
            played += 1
            if progress is not None:
                progress(number + diary.ended, played)
        goal.add(number, diary.close())
        if goal.reached:
            break
    return goal.kept()


class Goal:
    """When enough is recorded: a number of episodes, or of transitions in the first episodes without a hole.

    Raises:
        ValueError: not one of the two, or one below 1.
    """

    def __init__(self, episodes: int | None, steps: int | None) -> None:
        if (episodes is None) == (steps is None):
            raise ValueError(f"episodes={episodes}, steps={steps}: give one of the two")
        for name, number in (("episodes", episodes), ("steps", steps)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number}: record at least 1")
        self.episodes, self.steps = episodes, steps
        self.most = episodes or steps or 0  # episodes that can be kept, at most
        self.finished: dict[int, Episode] = {}
        self.count = self.transitions = 0  # of episodes 0, 1, 2, ... up to the first that is still played

    def add(self, number: int, episode: Episode) -> None:
        """An episode has ended."""
        self.finished[number] = episode
        while self.count in self.finished and not self.reached:
            self.transitions += len(self.finished[self.count])
            self.count += 1

    @property
    def reached(self) -> bool:
        """Whether the episodes to keep are complete."""
        return self.count == self.episodes or (self.steps is not None and self.transitions >= self.steps)

    def kept(self) -> list[Episode]:
        """Them, in the order of their numbers."""
        return [self.finished[number] for number in range(self.count)]


class RandomPolicy:
    """Uniform actions inside the bounds of an environment, or of each copy of a vector environment."""

    def __init__(self, environment: Env[Any, Any] | VectorEnv[Any, Any, Any], seed: int) -> None:
        space = environment.action_space
        if not (isinstance(space, Box) and space.is_bounded()):
            raise ValueError(f"actions are {space}; random actions need a bounded Box")
        self.low, self.high = space.low, space.high
        self.generator = np.random.default_rng(seed)

    def __call__(self, observations: NDArray[Any]) -> NDArray[Any]:
        return self.generator.uniform(self.low, self.high)


def require_boxes(observation_space: Space[Any], action_space: Space[Any], name: str) -> Box:
    """The action space, if both spaces are of the kind that this package learns from; else a ValueError."""
    if not (isinstance(observation_space, Box) and len(observation_space.shape) == 1):
        raise ValueError(f"{name}: observations are {observation_space}; only a flat Box (features,) can be read")
    if not (isinstance(action_space, Box) and len(action_space.shape) == 1):
        raise ValueError(f"{name}: actions are {action_space}; only continuous actions in a flat Box can be read")
    return action_space


class EpisodeBuilder:
    """The growing record of one episode."""

    def __init__(self, seed: int, observation: NDArray[Any]) -> None:
        self.seed = seed
        self.observations = [np.array(observation)]
        self.steps: list[tuple[NDArray[Any], float, bool, bool]] = []
        self.ended = False

    def add(
        self, action: NDArray[Any], reward: float, terminated: bool, truncated: bool, observation: NDArray[Any]
    ) -> None:
        """One decision and what followed; arrays are copied, for environments that reuse theirs."""
        self.observations.append(np.array(observation))
        self.steps.append((np.array(action), reward, terminated, truncated and not terminated))
        self.ended = terminated or truncated

    def close(self) -> Episode:
        """The whole episode."""
        actions, rewards, terminations, truncations = zip(*self.steps, strict=True)
        return Episode(
            np.stack(self.observations),
            np.stack(actions),
            np.array(rewards, np.float64),
            np.array(terminations, np.bool_),
            np.array(truncations, np.bool_),
            self.seed,
        )


def _record_vector(
    policy: Policy,
    environment: VectorEnv[Any, Any, Any],
    action_box: Box,
    seeds: NDArray[Any],
    goal: Goal,
    progress: Progress | None,
) -> list[Episode]:
    copies = environment.num_envs
    is_same_step = AutoresetMode(environment.metadata["autoreset_mode"]) is AutoresetMode.SAME_STEP
    numbers = list(range(copies))  # episode that each copy plays; beyond the last it runs idle, unrecorded
    resets = [int(seeds[number]) for number in numbers]
    observations = _reset(environment, resets, np.ones(copies, np.bool_))
    diaries = [EpisodeBuilder(resets[i], observations[i]) for i in range(copies)]
    begun, played = copies, 0
    while not goal.reached:
        actions = _executable(policy(observations), action_box, (copies, action_box.shape[0]))
        observations, rewards, terminated, truncated, infos = environment.step(actions)
        ended = np.asarray(terminated) | np.asarray(truncated)
        for i in range(copies):
            if numbers[i] >= goal.most:
                continue
            final = infos["final_obs"][i] if is_same_step and ended[i] else observations[i]
            diaries[i].add(actions[i], float(rewards[i]), bool(terminated[i]), bool(truncated[i]), final)
            played += 1
            if ended[i]:
                goal.add(numbers[i], diaries[i].close())
        if ended.any() and not goal.reached:
            for i in np.flatnonzero(ended).tolist():
                numbers[i], begun = begun, min(begun + 1, goal.most)
                resets[i] = int(seeds[numbers[i]])
            observations = _reset(environment, resets, ended)
            for i in np.flatnonzero(ended).tolist():
                diaries[i] = EpisodeBuilder(resets[i], observations[i])
        if progress is not None:
            progress(len(goal.finished), played)
    return goal.kept()


def _reset(environment: Any, seeds: list[int], ended: NDArray[np.bool_]) -> NDArray[Any]:
    """Start the ended copies anew, each with its seed; the others go on."""
    if ended.all():
        return np.asarray(environment.reset(seed=seeds)[0])
    return np.asarray(environment.reset(seed=seeds, options={"reset_mask": ended.copy()})[0])


def _executable(actions: ArrayLike, box: Box, shape: tuple[int, ...]) -> NDArray[Any]:
    """Actions as the environment executes them: inside the bounds, of its type."""
    array = np.asarray(actions)
    if array.shape != shape:
        raise ValueError(f"the policy gave actions of shape {array.shape}; the environment takes {shape}")
    if not np.isfinite(array).all():
        raise ValueError("the policy gave actions that are not finite")
    return np.asarray(np.clip(array, box.low, box.high), box.dtype)
