"""What an update receives. Shape key: P population, B batch, O observation, A action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

Metrics = dict[str, Tensor]  # each (P,), on the training device


class Batch(NamedTuple):
    """One batch per learner; actions in [-1, 1]."""

    observations: Tensor  # (P, B, O)
    actions: Tensor  # (P, B, A)
    rewards: Tensor  # (P, B)
    next_observations: Tensor  # (P, B, O), the true successor also where the episode was truncated
    terminated: Tensor  # (P, B), 1.0 where the environment ended; truncation bootstraps and has no flag here

    @classmethod
    def of(cls, inputs: Mapping[str, Tensor]) -> Batch:
        """Those of its tensors, by name, among others."""
        return cls(*(inputs[name] for name in cls._fields))


def own_entries(tables: Tensor, indices: Tensor) -> Tensor:
    """Each learner's entries of its own table: of (P, N, ...) at (..., P, B) those of (..., P, B, ...)."""
    return tables[torch.arange(len(tables), device=tables.device).unsqueeze(1), indices]
