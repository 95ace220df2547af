"""The inputs of a reward model: features of a transition, before normalisation.

Shape key: O observation, A action, d context variables, F input features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from orl.dataset import Dataset

ActionBounds = tuple[tuple[float, ...], tuple[float, ...]]  # lower (A,) and upper (A,), in the environment's unit


@dataclass(frozen=True)
class RewardInputs:
    """The features (s, a, c, s' - s, log(|s'| + log_offset)); without contexts in the data there is no c.

    Contexts are appended to the actions: neither changes within a step.
    """

    sizes: tuple[int, int, int]  # O, A, d
    bounds: ActionBounds  # the network gets actions in [-1, 1]
    use_next_observations: bool  # False: no s' - s, and the logarithm is of s
    log_offset: float | None  # None: no logarithm

    @classmethod
    def from_datasets(cls, datasets: Sequence[Dataset], use_next_observations: bool, log_offset: float | None) -> Self:
        """The inputs that all datasets of a population have.

        Raises:
            ValueError: the datasets differ in sizes or action bounds.
        """
        sizes, bounds = {feature_sizes(data) for data in datasets}, {action_bounds(data) for data in datasets}
        if len(sizes) > 1:
            raise ValueError(
                f"datasets of one population differ in (observation, action, context) size: {sorted(sizes)}"
            )
        if len(bounds) > 1:
            raise ValueError(f"datasets of one population differ in (lower, upper) action bounds: {sorted(bounds)}")
        return cls(sizes.pop(), bounds.pop(), use_next_observations, log_offset)

    @property
    def size(self) -> int:
        """F, the number of input features."""
        return sum(self.sizes) + self.sizes[0] * (self.use_next_observations + (self.log_offset is not None))

    def __call__(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """(..., O), (..., A + d) and (..., O) to (..., F)."""
        features = [observations, actions]
        if self.use_next_observations:
            features.append(next_observations - observations)
        if self.log_offset is not None:
            last = next_observations if self.use_next_observations else observations
            features.append((last.abs() + self.log_offset).log())
        return torch.cat(features, dim=-1)

    def check(self, data: Dataset) -> None:
        """Refuse data of other sizes or action bounds.

        Raises:
            ValueError: another number of observation features, actions or context variables, or none where there were;
                other bounds of actions.
        """
        sizes, bounds = feature_sizes(data), action_bounds(data)
        if sizes != self.sizes:
            raise ValueError(
                f"{data.name}: (observation, action, context) sizes are {sizes}, the model has {self.sizes}; "
                "give data like those that it was made with, with contexts if they had some and without if not"
            )
        if not np.allclose(bounds, self.bounds):
            raise ValueError(
                f"{data.name}: actions lie in [{list(bounds[0])}, {list(bounds[1])}], "
                f"the model's in [{list(self.bounds[0])}, {list(self.bounds[1])}]"
            )


def feature_sizes(data: Dataset) -> tuple[int, int, int]:
    """O, A and d; without contexts d is 0."""
    return data.observation_size, data.action_size, 0 if data.contexts is None else data.contexts.shape[1]


def action_bounds(data: Dataset) -> ActionBounds:
    """Lower and upper bounds of the actions."""
    return tuple(data.action_low.tolist()), tuple(data.action_high.tolist())


def append_contexts(data: Dataset) -> Dataset:
    """The data with actions (N, A + d): their contexts appended."""
    if data.contexts is None:
        return data
    return replace(data, actions=np.concatenate([data.actions, data.contexts], axis=1))


def input_tensors(data: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `RewardInputs`; without contexts nothing is copied."""
    actions = append_contexts(data).actions
    return torch.from_numpy(data.observations), torch.from_numpy(actions), torch.from_numpy(data.next_observations)
