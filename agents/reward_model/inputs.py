"""What a reward model sees of a transition, before normalisation.

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

Bounds = tuple[tuple[float, ...], tuple[float, ...]]  # lower and upper, A each, in the environment's unit


@dataclass(frozen=True)
class RewardInputs:
    """The features (s, a, c, s' - s, log(|s'| + log_offset)); without contexts in the data there is no c.

    Contexts go with the actions wherever there are columns of both: a step changes neither.
    """

    sizes: tuple[int, int, int]  # O, A, d
    bounds: Bounds  # of actions, which are seen in [-1, 1]
    use_next_observations: bool  # without it there is no s' - s, and the logarithm is of s
    log_offset: float | None  # None: without the logarithm

    @classmethod
    def of(cls, datasets: Sequence[Dataset], use_next_observations: bool, log_offset: float | None) -> Self:
        """What all datasets of a population share.

        Raises:
            ValueError: they differ in sizes or action bounds.
        """
        sizes, bounds = {sizes_of(each) for each in datasets}, {bounds_of(each) for each in datasets}
        if len(sizes) > 1:
            raise ValueError(
                f"datasets of one population differ in (observation, action, context) size: {sorted(sizes)}"
            )
        if len(bounds) > 1:
            raise ValueError(f"datasets of one population differ in (lower, upper) action bounds: {sorted(bounds)}")
        return cls(sizes.pop(), bounds.pop(), use_next_observations, log_offset)

    @property
    def size(self) -> int:
        """F."""
        return sum(self.sizes) + self.sizes[0] * (self.use_next_observations + (self.log_offset is not None))

    def __call__(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """(..., O), (..., A + d) and (..., O) to (..., F)."""
        last = next_observations if self.use_next_observations else observations
        parts = [observations, actions]
        if self.use_next_observations:
            parts.append(next_observations - observations)
        if self.log_offset is not None:
            parts.append((last.abs() + self.log_offset).log())
        return torch.cat(parts, dim=-1)

    def check(self, data: Dataset) -> None:
        """Refuse data of other sizes or action bounds.

        Raises:
            ValueError: another number of observation features, actions or context variables, or none where there were;
                other bounds of actions.
        """
        theirs = sizes_of(data)
        if theirs != self.sizes:
            raise ValueError(
                f"{data.name}: (observation, action, context) sizes are {theirs}, the model has {self.sizes}; "
                "give data like those that it was made with, with contexts if they had some and without if not"
            )
        if not np.allclose(bounds_of(data), self.bounds):
            low, high = bounds_of(data)
            raise ValueError(
                f"{data.name}: actions lie in [{list(low)}, {list(high)}], "
                f"the model's in [{list(self.bounds[0])}, {list(self.bounds[1])}]"
            )


def sizes_of(data: Dataset) -> tuple[int, int, int]:
    """O, A, d; no contexts are d = 0."""
    return data.observation_size, data.action_size, 0 if data.contexts is None else data.contexts.shape[1]


def bounds_of(data: Dataset) -> Bounds:
    """Lower and upper bounds of actions."""
    return tuple(data.action_low.tolist()), tuple(data.action_high.tolist())


def with_contexts(data: Dataset) -> Dataset:
    """Data whose actions (N, A + d) have the contexts behind them."""
    if data.contexts is None:
        return data
    return replace(data, actions=np.concatenate([data.actions, data.contexts], axis=1))


def columns(data: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """Observations, actions with contexts, and next observations; without contexts nothing is copied."""
    arrays = data.observations, with_contexts(data).actions, data.next_observations
    return tuple(map(torch.from_numpy, arrays))  # type: ignore[return-value]
