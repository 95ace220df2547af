"""Roll a policy out in an environment and keep whole episodes.

Shape key: T decisions of an episode, O observation, A action, n copies of a vector environment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from orl.arrays import Array
from orl.datasets.episodes import Episode, require_boxes
from orl.environment import SingleEnvironment, VectorEnvironment
from orl.rollout import ActionFunction, Step, play

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
    goal = Goal(episodes, steps)
    vector: VectorEnvironment
    if is_vector := isinstance(environment, VectorEnv):
        vector = environment
    else:
        vector = SyncVectorEnv([lambda: environment], autoreset_mode=AutoresetMode.DISABLED)
    box = require_boxes(vector.single_observation_space, vector.single_action_space, "the environment")
    seeds = seed if isinstance(seed, Sequence) else np.random.SeedSequence(seed).generate_state(goal.most).tolist()
    if len(seeds) < goal.most:
        raise ValueError(f"{len(seeds)} seeds for {goal.most} episodes; give each its own")

    def act(observations: Array) -> Array:
        """Actions (n, A) as the environment executes them: inside the bounds, of its type."""
        actions = np.asarray(policy(observations if is_vector else observations[0]))
        shape = (len(observations), *box.shape) if is_vector else box.shape
        if actions.shape != shape:
            raise ValueError(f"the policy gave actions of shape {actions.shape}; the environment takes {shape}")
        if not np.isfinite(actions).all():
            raise ValueError("the policy gave actions that are not finite")
        return np.asarray(np.clip(actions, box.low, box.high), box.dtype).reshape(len(observations), -1)

    played, builders = 0, dict[int, EpisodeBuilder]()
    for numbers, step in play(vector, act, seeds[: goal.most]):
        for i in np.flatnonzero(numbers >= 0).tolist():
            number = int(numbers[i])
            builder = builders.setdefault(number, EpisodeBuilder(seeds[number]))
            builder.add(step, i)
            played += 1
            if builder.ended:
                goal.add(number, builders.pop(number).close())
        if progress is not None:
            progress(len(goal.finished), played)
        if goal.reached:
            break
    return goal.recorded()


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

    def recorded(self) -> list[Episode]:
        """Them, in the order of their numbers."""
        return [self.finished[number] for number in range(self.count)]


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


class EpisodeBuilder:
    """The growing record of one episode."""

    def __init__(self, seed: int) -> None:
        self.seed, self.ended = int(seed), False
        self.observations: list[Array] = []
        self.steps: list[tuple[Array, float, bool, bool]] = []

    def add(self, step: Step, i: int) -> None:
        """What happened in copy i; where an episode terminates, it is not truncated."""
        terminated, truncated = bool(step.terminated[i]), bool(step.truncated[i])
        if not self.observations:
            self.observations.append(step.observations[i])
        self.observations.append(step.next_observations[i])
        self.steps.append((step.actions[i], float(step.rewards[i]), terminated, truncated and not terminated))
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
