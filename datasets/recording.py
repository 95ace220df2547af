"""Roll a policy out in an environment and keep whole episodes.

Shape key: T decisions of an episode, O observation, A action, n copies of a vector environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from orl.arrays import Array
from orl.datasets.episodes import Episode, require_boxes
from orl.environment import SingleEnvironment, VectorEnvironment
from orl.rollout import ActionFunction, play

Progress = Callable[[int, int], None]  # finished episodes, transitions so far


def record(
    policy: ActionFunction,
    environment: SingleEnvironment | VectorEnvironment,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int | Sequence[int],
    progress: Progress | None = None,
) -> list[Episode]:
    """Play whole episodes and record what was executed.

    Episode k is reset with the k-th number drawn from `seed`, whatever the environment's autoreset mode, and is played
    by the copy that is free first. All episodes up to the last one returned are whole, so that short ones are not
    favoured; a policy that depends on the observation alone gives the same episodes for any number of copies; and a
    shorter recording is the beginning of a longer one.

    Args:
        policy: from observations (O,) to actions (A,), or from (n, O) to (n, A) for a vector environment, in the
            environment's unit; actions beyond the bounds are clipped, and the clipped ones executed and stored.
        environment: with a bounded, one-dimensional Box of actions and a one-dimensional Box of observations.
        episodes: how many, at least 1; or
        steps: as many episodes as hold this many transitions, at least 1.
        seed: of the resets, or a list with one for each episode; the policy has its own.
        progress: called after each step with the numbers of finished episodes and of transitions so far.

    Returns:
        The episodes in the order of their numbers.

    Raises:
        ValueError: spaces of another kind, not one of episodes and steps, one below 1, too few seeds, actions that are
            not finite or have another shape, or an episode that does not end.
    """
    most = _goal(episodes, steps)  # episodes that can be returned, at most
    vector: VectorEnvironment
    if is_vector := isinstance(environment, VectorEnv):
        vector = environment
    else:
        vector = SyncVectorEnv([lambda: environment], autoreset_mode=AutoresetMode.DISABLED)
    _, box = require_boxes(vector.single_observation_space, vector.single_action_space, "the environment")
    seeds = seed if isinstance(seed, Sequence) else np.random.SeedSequence(seed).generate_state(most).tolist()
    if len(seeds) < most:
        raise ValueError(f"{len(seeds)} seeds for {most} episodes; give each its own")

    def act(observations: Array) -> Array:
        """Actions (n, A) as the environment executes them: inside the bounds, of its type."""
        actions = np.asarray(policy(observations if is_vector else observations[0]))
        shape = (len(observations), *box.shape) if is_vector else box.shape
        if actions.shape != shape:
            raise ValueError(f"the policy gave actions of shape {actions.shape}; the environment takes {shape}")
        if not np.isfinite(actions).all():
            raise ValueError("the policy gave actions that are not finite")
        return np.asarray(np.clip(actions, box.low, box.high), box.dtype).reshape(len(observations), -1)

    running: dict[int, list[tuple[Any, ...]]] = {}  # rows of the episodes that are being played
    finished: dict[int, Episode] = {}
    recorded: list[Episode] = []  # episodes 0, 1, 2, ... up to the first that is still played
    played, kept, is_enough = 0, 0, False  # transitions of all episodes, and of those recorded
    for numbers, step in play(vector, act, seeds[:most]):
        for i in np.flatnonzero(numbers >= 0).tolist():
            number, played = int(numbers[i]), played + 1
            running.setdefault(number, []).append(tuple(array[i] for array in step[:6]))
            if step.terminated[i] or step.truncated[i]:
                finished[number] = _episode(running.pop(number), int(seeds[number]))
            while len(recorded) in finished and not is_enough:
                recorded.append(finished[len(recorded)])
                kept += len(recorded[-1])
                is_enough = len(recorded) == episodes or (steps is not None and kept >= steps)
        if progress is not None:
            progress(len(finished), played)
        if is_enough:
            break
    return recorded


def _goal(episodes: int | None, steps: int | None) -> int:
    """The number of episodes, or of steps, whichever is given."""
    if (episodes is None) == (steps is None):
        raise ValueError(f"episodes={episodes}, steps={steps}: give one of the two")
    goal = episodes if episodes is not None else steps or 0
    if goal < 1:
        raise ValueError(f"{'episodes' if steps is None else 'steps'}={goal}: record at least 1")
    return goal


def _episode(rows: list[tuple[Any, ...]], seed: int) -> Episode:
    """A whole episode of the rows of one copy; where it terminates, it is not truncated."""
    observations, actions, rewards, following, terminations, truncations = map(np.array, zip(*rows, strict=True))
    observations = np.concatenate([observations, following[-1:]])
    return Episode(observations, actions, rewards, terminations, truncations & ~terminations, seed)


class RandomPolicy:
    """Uniform actions inside the bounds of an environment, or of each copy of a vector environment."""

    def __init__(self, environment: SingleEnvironment | VectorEnvironment, seed: int) -> None:
        space = environment.action_space
        if not (isinstance(space, Box) and space.is_bounded()):
            raise ValueError(f"actions are {space}; random actions need a bounded Box")
        self.low, self.high = space.low, space.high
        self.generator = np.random.default_rng(seed)

    def __call__(self, observations: Array) -> Array:
        return self.generator.uniform(self.low, self.high)
