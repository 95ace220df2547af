"""Learners as those see them who act with them: evaluation, users, Stable-Baselines3's tools.

Shape key: P population, B batch, O observation, A action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from orl.checks import Floats, check_observations
from orl.divergence import check_actions, check_finite
from orl.environment import Spaces
from orl.normalize import Normalizer
from orl.single_policy import SinglePolicy


class Policy(ABC):
    """A population of policies of one kind."""

    spaces: Spaces
    config: Any  # the algorithm's dataclass
    updates: int  # gradient updates done
    seeds: list[int]  # one per learner
    device: torch.device
    normalizer: Normalizer
    networks: dict[str, nn.Module]
    action_generators: list[torch.Generator]  # of sampled actions, one per learner

    @abstractmethod
    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """Actions (P, B, A) in [-1, 1] for normalised observations (P, B, O); deterministic without noise (P, B, A)."""

    @property
    def population(self) -> int:
        """Number of learners, P."""
        return len(self.seeds)

    def act(self, observations: Floats, *, deterministic: bool = True) -> Floats:
        """Actions of every learner.

        Args:
            observations: (P, B, O), in the environment's unit; ValueError for another shape, and where not finite.
            deterministic: the policy's mode instead of a sample.

        Returns:
            (P, B, A) in the environment's unit.
        """
        observations = check_observations(observations, (self.population, -1, self.spaces.observation_size))
        actions = self._actions(observations, None if deterministic else self.action_generators)
        return self.spaces.to_environment(actions)

    def predict(
        self,
        observation: Floats,
        state: None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Floats, None]:
        """Stable-Baselines3's protocol.

        Args:
            observation: (O,) or (n, O).
            state, episode_start: unused.
            deterministic: the policy's mode instead of a sample.

        Returns:
            Action (A,) or (n, A) in the environment's unit, and None for the state.

        Raises:
            ValueError: the agent is a population, the observation has another size or is not finite, or training
                diverged.
        """
        if self.population > 1:
            raise ValueError(f"this agent is a population of {self.population}; predict with agent.learner(k)")
        size = self.spaces.observation_size
        array = check_observations(observation, (size,), (-1, size))
        if deterministic and array.size == size and self.single_policy is not None:
            action = self.spaces.to_environment(self.single_policy(array.ravel()))
            check_actions(self, action[None, None])
            return (action[None] if array.ndim == 2 else action), None
        actions = self.act(np.atleast_2d(array)[None], deterministic=deterministic)[0]
        return (actions if array.ndim == 2 else actions[0]), None

    @cached_property
    def single_policy(self) -> SinglePolicy | None:
        """A faster way to the deterministic action of a single learner on the CPU, where its actor has one."""
        check_finite(self)
        return SinglePolicy.of(self.networks.get("actor"), self.normalizer, self.spaces.action_size)

    def _actions(self, observations: Floats, generators: Sequence[torch.Generator] | None) -> Floats:
        """Actions (P, B, A) in [-1, 1], with noise from one generator per learner or without."""
        inputs = torch.as_tensor(np.asarray(observations), dtype=torch.get_default_dtype(), device=self.device)
        noise = None
        if generators is not None:
            shape = (inputs.shape[1], self.spaces.action_size)
            noise = torch.stack([torch.randn(shape, generator=g, device=self.device) for g in generators])
        with torch.no_grad():
            actions = self.actions(self.normalizer(inputs), noise).cpu().numpy().astype(np.float32)
        check_actions(self, actions)
        return actions

    def __getstate__(self) -> dict[str, Any]:  # for copies: `single_policy` computes on the memory of this agent
        return {name: value for name, value in self.__dict__.items() if name != "single_policy"}
