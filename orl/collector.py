"""The side of online training where the environments are.

Shape key: P population, n copies of the environment per learner, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import gymnasium
import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray
from torch import Tensor

from orl import seeding
from orl.checks import Floats
from orl.environment import Environment, Spaces, vector_environment
from orl.environment_state import environment_state, restore_environment

RECENT = 100  # episodes that the reported mean return is taken over, as in Stable-Baselines3


class Step(NamedTuple):
    """One decision in every copy."""

    observations: Floats  # (P, n, O)
    actions: Floats  # (P, n, A), in [-1, 1]
    rewards: NDArray[np.float64]  # (P, n)
    next_observations: Floats  # (P, n, O), before any reset
    terminated: NDArray[np.bool_]  # (P, n)


class Collector:
    """n copies of an environment for each learner: learner k owns copies kn to kn + n - 1.

    Args:
        environment: an id (one copy per learner), one environment (of a single learner), or a vector environment with
            a multiple of P copies that resets in the step in which an episode ends.
        seeds: one per learner; its copies start from them alone.
        spaces: what the learners expect.

    Raises:
        ValueError: an environment that does not fit.
    """

    def __init__(self, environment: Environment, seeds: Sequence[int], spaces: Spaces) -> None:
        self.vector = vector_environment(environment, len(seeds))
        inner = self.vector.unwrapped
        if isinstance(inner, SyncVectorEnv):
            inner.envs = [_Own.of(each) for each in inner.envs]
        self.spaces = spaces
        theirs = Spaces.of(self.vector)
        self.spaces.check(theirs, str(theirs.environment_id))
        self.shape = (len(seeds), self.vector.num_envs // len(seeds))
        streams = [seeding.sequence(seed, "environment").generate_state(self.num_envs) for seed in seeds]
        observations, _ = self.vector.reset(seed=np.concatenate(streams).tolist())
        self.observations = self._split(observations)
        self.returns, self.lengths = np.zeros(self.shape), np.zeros(self.shape, np.int64)  # of the running episodes
        self.reached = self.returns, self.lengths  # by the latest step, also where it ended an episode
        self.recent_returns = np.full((len(seeds), RECENT), np.nan)
        self.recent_lengths = np.full((len(seeds), RECENT), np.nan)
        self.episodes = np.zeros(len(seeds), np.int64)  # that have ended
        self.latest: Step | None = None

    @property
    def num_envs(self) -> int:
        """Copies per learner, n."""
        return self.shape[1]

    def step(self, actions: Floats) -> Step:
        """Act once in every copy with actions (P, n, A) in [-1, 1].

        Raises:
            ValueError: actions that are not finite, or the environment gave a reward or an observation that is not.
        """
        if not np.isfinite(actions).all():
            raise ValueError("the policy's actions are not finite: training has diverged; try a lower learning rate")
        before = self.observations
        in_unit = self.spaces.to_environment(actions).reshape(self.vector.num_envs, -1)
        observations, rewards, terminated, truncated, infos = self.vector.step(in_unit)
        ended = terminated | truncated
        successors = observations
        if ended.any():
            successors = observations.copy()
            successors[ended] = np.stack(infos["final_obs"][ended])
        if not (np.isfinite(rewards).all() and np.isfinite(successors).all()):
            raise ValueError(f"{self.spaces.environment_id}: gave a reward or an observation that is not finite")
        self.observations = self._split(observations)
        rewards = np.asarray(rewards, np.float64).reshape(self.shape)
        self._account(rewards, ended.reshape(self.shape))
        self.latest = Step(before, actions, rewards, self._split(successors), terminated.reshape(self.shape))
        return self.latest

    def _split(self, values: Floats) -> Floats:
        return values.reshape(*self.shape, -1).copy()

    def _account(self, rewards: NDArray[np.float64], ended: NDArray[np.bool_]) -> None:
        returns, lengths = self.reached = self.returns + rewards, self.lengths + 1
        for learner, copy in np.argwhere(ended):
            place = self.episodes[learner] % RECENT
            self.recent_returns[learner, place] = returns[learner, copy]
            self.recent_lengths[learner, place] = lengths[learner, copy]
            self.episodes[learner] += 1
        self.returns, self.lengths = np.where(ended, 0.0, returns), np.where(ended, 0, lengths)

    def metrics(self) -> dict[str, Tensor]:
        """Mean return and length of the recent episodes, (P,), once every learner has finished one."""
        if not self.episodes.all():
            return {}
        return {
            "ep_rew_mean": torch.from_numpy(np.nanmean(self.recent_returns, axis=1)),
            "ep_len_mean": torch.from_numpy(np.nanmean(self.recent_lengths, axis=1)),
        }

    def _own_environments(self) -> list[gymnasium.Env[Any, Any]]:
        """The copies of a vector environment in this process."""
        return [cast(_Own, each).env for each in cast(SyncVectorEnv, self.vector).envs]

    def close(self) -> None:
        """Close the environments."""
        self.vector.close()

    # State: every tensor has the population as its first axis.

    def state(self) -> dict[str, Tensor]:
        """Tensors by name; the environments' own states are JSON in bytes, one text per learner."""
        arrays = ("observations", "returns", "lengths", "recent_returns", "recent_lengths", "episodes")
        if isinstance(self.vector, SyncVectorEnv):
            states = [environment_state(each) for each in self._own_environments()]
            texts = [""] * self.shape[0]
            if all(states):
                texts = ["\n".join(states[k * self.num_envs : (k + 1) * self.num_envs]) for k in range(self.shape[0])]
        else:
            restorable = hasattr(self.vector.unwrapped, "get_state")
            texts = [environment_state(self.vector) if restorable else ""] * self.shape[0]
        longest = max(map(len, texts))
        raw = np.array([list(text.ljust(longest).encode()) for text in texts], np.uint8).reshape(len(texts), longest)
        return {name: torch.from_numpy(getattr(self, name).copy()) for name in arrays} | {
            "environments": torch.from_numpy(raw)
        }

    def load(self, tensors: dict[str, Tensor]) -> bool:
        """Continue where `state` was taken, in the middle of episodes.

        Returns:
            Whether the environments could be restored; if not, new episodes begin.
        """
        texts = [bytes(row.tolist()).decode().strip() for row in tensors["environments"].cpu()]
        fits = tuple(tensors["returns"].shape) == self.shape and all(texts)
        if fits:
            self._restore_environments(texts)
            for name in ("observations", "returns", "lengths"):
                setattr(self, name, tensors[name].cpu().numpy().copy())
        for name in ("recent_returns", "recent_lengths", "episodes"):
            setattr(self, name, tensors[name].cpu().numpy().copy())
        return fits

    def _restore_environments(self, texts: list[str]) -> None:
        if isinstance(self.vector, SyncVectorEnv):
            states = [state for text in texts for state in text.split("\n")]
            for each, state in zip(self._own_environments(), states, strict=True):
                restore_environment(each, state)
        else:
            restore_environment(self.vector, texts[0])


class _Own(gymnasium.ObservationWrapper[Any, Any, Any]):
    """An environment whose observations are arrays of their own, also if it writes all of them into the same one.

    Gymnasium's vector keeps the last observation of an episode while it resets the environment.
    """

    @classmethod
    def of(cls, environment: Any) -> _Own:
        """The environment in this wrapper, once."""
        return environment if isinstance(environment, cls) else cls(environment)

    def observation(self, observation: Any) -> Any:
        """A copy."""
        return np.array(observation)
