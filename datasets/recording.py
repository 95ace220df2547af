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
    episodes: int,
    seed: int,
    progress: Progress | None = None,
) -> list[Episode]:
    """Play whole episodes and record what was executed.

    Episode k is reset with the k-th number drawn from `seed`, whatever the environment's autoreset mode, and is played
    by copy k modulo n: each copy plays its share to the end, so that short episodes are not favoured, and a policy
    that depends on the observation alone gives the same episodes for any number of copies.

    Args:
        policy: from observations (O,) to actions (A,), or from (n, O) to (n, A) for a vector environment, in the
            environment's unit; actions beyond the bounds are clipped, and the clipped ones executed and stored.
        environment: with a bounded, one-dimensional Box of actions and a one-dimensional Box of observations.
        episodes: how many, at least 1.
        seed: of the resets; the policy has its own.
        progress: called after each step with the numbers of finished episodes and of transitions so far.

    Returns:
        The episodes in the order of their numbers.

    Raises:
        ValueError: spaces of another kind, episodes < 1, or actions that are not finite or have another shape.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: record at least 1")
    is_vector = isinstance(environment, VectorEnv)
    actions = environment.single_action_space if is_vector else environment.action_space  # type: ignore[union-attr]
    observations = (
        environment.single_observation_space if is_vector else environment.observation_space  # type: ignore[union-attr]
    )
    action_box = require_boxes(observations, actions, "the environment")
    seeds = [int(number) for number in np.random.SeedSequence(seed).generate_state(episodes)]
    if isinstance(environment, VectorEnv):
        return _record_vector(policy, environment, action_box, seeds, progress)
    recorded: list[Episode] = []
    steps = 0
    for episode_seed in seeds:
        diary = Diary(episode_seed, environment.reset(seed=episode_seed)[0])
        while not diary.ended:
            action = _executable(policy(diary.observations[-1]), action_box, (action_box.shape[0],))
            observation, reward, terminated, truncated, _ = environment.step(action)
            diary.add(action, float(reward), bool(terminated), bool(truncated), observation)
            steps += 1
            if progress is not None:
                progress(len(recorded) + diary.ended, steps)
        recorded.append(diary.close())
    return recorded


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


class Diary:
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
    seeds: list[int],
    progress: Progress | None,
) -> list[Episode]:
    copies = environment.num_envs
    is_same_step = AutoresetMode(environment.metadata["autoreset_mode"]) is AutoresetMode.SAME_STEP
    recorded: dict[int, Episode] = {}
    numbers = list(range(copies))  # episode that each copy plays; beyond the last it runs idle, unrecorded
    resets = [seeds[number % len(seeds)] for number in numbers]
    observations = _reset(environment, resets, np.ones(copies, np.bool_))
    diaries = [Diary(resets[i], observations[i]) for i in range(copies)]
    steps = 0
    while len(recorded) < len(seeds):
        actions = _executable(policy(observations), action_box, (copies, action_box.shape[0]))
        observations, rewards, terminated, truncated, infos = environment.step(actions)
        ended = np.asarray(terminated) | np.asarray(truncated)
        for i in range(copies):
            if numbers[i] >= len(seeds):
                continue
            final = infos["final_obs"][i] if is_same_step and ended[i] else observations[i]
            diaries[i].add(actions[i], float(rewards[i]), bool(terminated[i]), bool(truncated[i]), final)
            steps += 1
            if ended[i]:
                recorded[numbers[i]] = diaries[i].close()
        if ended.any() and len(recorded) < len(seeds):
            for i in np.flatnonzero(ended).tolist():
                numbers[i] += copies
                resets[i] = seeds[numbers[i] % len(seeds)]
            observations = _reset(environment, resets, ended)
            for i in np.flatnonzero(ended).tolist():
                diaries[i] = Diary(resets[i], observations[i])
        if progress is not None:
            progress(len(recorded), steps)
    return [recorded[number] for number in range(len(seeds))]


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
