"""The one loop that plays episodes, and the environments that learners act in while they train.

NumPy and Gymnasium alone: what records data stands on it, too.

Shape key: P population, n copies of an environment (per learner, where there are any), O observation, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TransformObservation
from numpy.typing import ArrayLike, NDArray

from orl.arrays import Array, Float32Array, Float64Array
from orl.environment import Environment, Spaces, VectorEnvironment, spec_of, vector_environment
from orl.environment_state import environment_state, restore_environment

RECENT = 100  # episodes that the reported mean return is taken over, as in Stable-Baselines3
LONGEST = 20_000  # steps of an episode in an environment that states no time limit

ActionFunction = Callable[[Array], ArrayLike]  # observations (n, O) to actions (n, A), in the environment's unit


class Policy(Protocol):
    """What acts: P learners side by side."""

    @property
    def population(self) -> int:
        """Number of learners, P."""
        ...

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        """(P, n, O) to (P, n, A), in the environment's unit."""
        ...


class Step(NamedTuple):
    """One step in every copy; a `Collector` gives arrays (P, n, ...) and actions in [-1, 1]."""

    observations: Array  # (n, O)
    actions: Array  # (n, A), as they were given
    rewards: Float64Array  # (n,)
    next_observations: Array  # (n, O), before any reset
    terminated: NDArray[np.bool_]  # (n,)
    truncated: NDArray[np.bool_]  # (n,)
    infos: dict[str, Any]  # of the step, not of a reset; a `Collector` has none of copies that it steps one by one


def take_step(environment: VectorEnvironment, observations: Array, actions: Array) -> tuple[Step, Array]:
    """Act once in every copy, whatever the autoreset mode.

    Args:
        environment: of n copies.
        observations: (n, O), the latest ones.
        actions: (n, A), in the environment's unit.

    Returns:
        The step, and the observations (n, O) to act on next: already of a new episode where one has ended and the
        environment resets in the same step. Both are arrays of their own.

    Raises:
        ValueError: actions that are not finite, or the environment gave a reward or an observation that is not.
    """
    following, rewards, terminated, truncated, infos = environment.step(actions)
    following = successors = np.array(following)
    rewards, ended = np.asarray(rewards, np.float64), np.asarray(terminated | truncated)
    if ended.any() and environment.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
        successors = following.copy()
        successors[ended] = np.stack(infos["final_obs"][ended])
        final = {key: values for key, values in infos.get("final_info", {}).items() if np.shape(values) == ended.shape}
        infos = infos | {key: np.where(ended, values, infos.get(key, values)) for key, values in final.items()}
    if not (np.isfinite(rewards).all() and np.isfinite(successors).all()):
        raise _not_finite(environment, actions)
    return Step(observations, actions, rewards, successors, terminated, truncated, infos), following


def _not_finite(environment: VectorEnvironment, actions: Array) -> ValueError:
    """Blame for what is not finite: the policy, where it began, or the environment."""
    if not np.isfinite(actions).all():
        return ValueError("the policy's actions are not finite: training has diverged; try a lower learning rate")
    return ValueError(f"{_name(environment)}: gave a reward or an observation that is not finite")


def play(
    environment: VectorEnvironment, act: Callable[[Array], Array], seeds: Sequence[int]
) -> Iterator[tuple[NDArray[np.int64], Step]]:
    """Play one episode from each seed, in n copies side by side; the copy that is free first begins the next one.

    Args:
        environment: of n copies, in any autoreset mode.
        act: from observations (n, O) to actions as the environment takes them.
        seeds: episode k is reset with the k-th.

    Yields:
        For every step the numbers (n,) of the episodes that the copies play, -1 where a copy has none left and what it
        does counts for nothing; and the step.

    Raises:
        ValueError: an episode does not end, or a reward or an observation is not finite.
    """
    n, limit = environment.num_envs, longest_episode(environment)
    is_disabled = environment.metadata.get("autoreset_mode") == AutoresetMode.DISABLED
    numbers, begun = np.arange(n), min(n, len(seeds))
    numbers[begun:] = -1
    resets = [int(seeds[min(k, begun - 1)]) for k in range(n)]
    observations, lengths = np.array(environment.reset(seed=resets)[0]), np.zeros(n, np.int64)  # type: ignore[arg-type]
    while (numbers >= 0).any():
        step, observations = take_step(environment, observations, act(observations))
        yield numbers, step
        lengths += 1
        ended = step.terminated | step.truncated
        if ended.any():
            numbers = numbers.copy()  # those that were given away stay
        for i in np.flatnonzero(ended & (numbers >= 0)).tolist():
            numbers[i], lengths[i] = -1, 0
            if begun < len(seeds):
                numbers[i], resets[i], begun = begun, int(seeds[begun]), begun + 1
        if (lengths[numbers >= 0] >= limit).any():
            raise ValueError(
                f"{_name(environment)}: an episode has not ended after {limit:,} steps; give the environment a time "
                "limit, max_episode_steps of gymnasium.register or gymnasium.make"
            )
        renewed = ended & ((numbers >= 0) | is_disabled)
        if renewed.all():
            observations = np.array(environment.reset(seed=resets)[0])  # type: ignore[arg-type]
        elif renewed.any():
            observations = np.array(environment.reset(seed=resets, options={"reset_mask": renewed})[0])  # type: ignore[arg-type]


def _name(environment: VectorEnvironment) -> str:
    spec, copies = spec_of(environment), getattr(environment.unwrapped, "envs", [environment])
    return spec.id if spec is not None else type(copies[0].unwrapped).__name__


def longest_episode(environment: VectorEnvironment) -> int:
    """Steps after which an episode must have ended: the environment's own time limit where it states a longer one."""
    spec, inner = spec_of(environment), environment.unwrapped
    stated = [spec.max_episode_steps if spec is not None else None, getattr(inner, "max_episode_steps", None)]
    for copy in getattr(inner, "envs", ())[:1]:
        stated += [copy.get_wrapper_attr("_max_episode_steps")] if copy.has_wrapper_attr("_max_episode_steps") else []
    return max(LONGEST, *(limit or 0 for limit in stated))


class Collector:
    """n copies of an environment for each learner: learner k owns copies kn to kn + n - 1.

    Args:
        environment: an id (one copy per learner), one environment (of a single learner), or a vector environment with
            a multiple of P copies that resets in the step in which an episode ends.
        seeds: one sequence per learner; its copies start from it alone.
        spaces: what the learners expect.

    Raises:
        ValueError: an environment that does not fit.
    """

    _EPISODES = ("observations", "returns", "lengths")  # that are running
    _RECENT = ("recent_returns", "recent_lengths", "episodes")  # of episodes that have ended

    def __init__(self, environment: Environment, seeds: Sequence[np.random.SeedSequence], spaces: Spaces) -> None:
        self.vector, self.spaces = vector_environment(environment, len(seeds)), spaces
        inner = self.vector.unwrapped
        self.copies: list[Any] = []  # the environments in a vector of them, as they were given
        if isinstance(inner, SyncVectorEnv):  # it reads an episode's last observation after the reset
            inner.envs = [
                copy
                if isinstance(copy, TransformObservation) and copy.func is np.array
                else TransformObservation(copy, np.array, copy.observation_space)
                for copy in inner.envs
            ]
            if isinstance(self.vector, SyncVectorEnv):
                self.copies = [cast(TransformObservation, copy).env for copy in inner.envs]
        self.steps_copies = type(self.vector).step is SyncVectorEnv.step  # one by one
        theirs = Spaces.of(self.vector)
        spaces.check(theirs, str(theirs.environment_id))
        self.num_envs = self.vector.num_envs // len(seeds)  # per learner, n
        self.shape = (len(seeds), self.num_envs)
        starts = np.concatenate([seed.generate_state(self.num_envs) for seed in seeds]).tolist()
        self.observations = np.array(self.vector.reset(seed=starts)[0]).reshape(*self.shape, -1)
        self.returns, self.lengths = np.zeros(self.shape), np.zeros(self.shape, np.int64)  # of the running episodes
        self.reached = self.returns, self.lengths  # by the latest step, also where it ended an episode
        self.recent_returns = np.full((len(seeds), RECENT), np.nan)
        self.recent_lengths = np.full((len(seeds), RECENT), np.nan)
        self.episodes = np.zeros(len(seeds), np.int64)  # that have ended
        self.latest: Step | None = None

    def step(self, actions: Float32Array) -> Step:
        """Act once in every copy with actions (P, n, A) in [-1, 1].

        Raises:
            ValueError: actions that are not finite, or the environment gave a reward or an observation that is not.
        """
        in_unit, shape = self.spaces.to_environment(actions).reshape(self.vector.num_envs, -1), self.shape
        step, following = (
            self._step_copies(in_unit) if self.steps_copies else take_step(self.vector, self.observations, in_unit)
        )
        _, _, rewards, next_observations, terminated, truncated, infos = step
        rewards, terminated, truncated = rewards.reshape(shape), terminated.reshape(shape), truncated.reshape(shape)
        next_observations = next_observations.reshape(self.observations.shape)
        self.latest = Step(self.observations, actions, rewards, next_observations, terminated, truncated, infos)
        self.observations = following.reshape(self.observations.shape)
        self.returns, self.lengths = self.reached = self.returns + rewards, self.lengths + 1
        ended = terminated | truncated
        if ended.any():
            for learner, copy in np.argwhere(ended):
                row = self.episodes[learner] % RECENT
                self.recent_returns[learner, row] = self.returns[learner, copy]
                self.recent_lengths[learner, row] = self.lengths[learner, copy]
                self.episodes[learner] += 1
            self.returns, self.lengths = np.where(ended, 0.0, self.returns), np.where(ended, 0, self.lengths)
        return self.latest

    def _step_copies(self, actions: Array) -> tuple[Step, Array]:
        """As `take_step`, without infos, one copy after the other: a vector of one takes three times as long."""
        n = len(self.copies)
        rewards, terminated, truncated = np.empty(n), np.empty(n, np.bool_), np.empty(n, np.bool_)
        observations = self.observations.reshape(n, -1)
        successors, begun = np.empty_like(observations), {}
        for i, copy in enumerate(self.copies):
            successors[i], rewards[i], terminated[i], truncated[i], _ = copy.step(actions[i])
            if terminated[i] or truncated[i]:
                begun[i] = copy.reset()[0]
        following = successors.copy() if begun else successors
        for i, observation in begun.items():
            following[i] = observation
        if not (np.isfinite(rewards).all() and np.isfinite(successors).all()):
            raise _not_finite(self.vector, actions)
        return Step(observations, actions, rewards, successors, terminated, truncated, {}), following

    def metrics(self) -> dict[str, Float64Array]:
        """Mean return and length of the recent episodes, (P,), once every learner has finished one."""
        if not self.episodes.all():
            return {}
        return {
            "ep_rew_mean": np.nanmean(self.recent_returns, axis=1),
            "ep_len_mean": np.nanmean(self.recent_lengths, axis=1),
        }

    def close(self) -> None:
        """Close the environments."""
        self.vector.close()

    # State: every array has the population as its first axis.

    def state(self) -> dict[str, Array]:
        """Arrays by name; the environments' own states are JSON in bytes, one text per learner."""
        texts = [""] * self.shape[0]
        if self.copies:
            states = [environment_state(copy) for copy in self.copies]
            if all(states):
                texts = ["\n".join(states[k * self.num_envs : (k + 1) * self.num_envs]) for k in range(self.shape[0])]
        elif hasattr(self.vector.unwrapped, "get_state"):
            texts = [environment_state(self.vector)] * self.shape[0]
        longest = max(map(len, texts))
        raw = np.array([list(text.ljust(longest).encode()) for text in texts], np.uint8).reshape(len(texts), longest)
        return {name: getattr(self, name).copy() for name in self._EPISODES + self._RECENT} | {"environments": raw}

    def load(self, arrays: Mapping[str, Array]) -> bool:
        """Continue where `state` was taken, in the middle of episodes.

        Returns:
            Whether the environments could be restored; if not, new episodes begin.
        """
        texts = [bytes(row.tolist()).decode().strip() for row in arrays["environments"]]
        fits = arrays["returns"].shape == self.shape and all(texts)
        if fits and isinstance(self.vector, SyncVectorEnv):
            states = [state for text in texts for state in text.split("\n")]
            for copy, state in zip(self.copies, states, strict=True):
                restore_environment(copy, state)
        elif fits:
            restore_environment(self.vector, texts[0])
        for name in (*(self._EPISODES if fits else ()), *self._RECENT):
            setattr(self, name, arrays[name].copy())
        return fits
