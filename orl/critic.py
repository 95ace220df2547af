"""Action values and state values. Shape key: P population, C critics, B batch, O observation, A action."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from orl.networks import StackedMLP
from orl.seeding import Draw


class CriticEnsemble(nn.Module):
    """C independent action-value networks per learner; layer normalisation and dropout as in `StackedMLP`."""

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
        num_critics: int,
        *,
        normalized: bool = False,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_critics, self.hidden_sizes, self.dropout_rate = num_critics, tuple(hidden_sizes), dropout_rate
        sizes = (observation_size + action_size, *hidden_sizes, 1)
        self.network = StackedMLP(
            generators, sizes, members=(num_critics,), normalized=normalized, dropout_rate=dropout_rate
        )

    def forward(self, observations: Tensor, actions: Tensor, dropped: Sequence[Tensor] = ()) -> Tensor:
        """Values (P, C, B) of observations (P, B, O) and actions (P, B, A); without `dropped` no unit is dropped."""
        values: Tensor = self.network(self.inputs(observations, actions), dropped)
        return values.squeeze(-1)

    def inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """What every critic's network gets, (P, C, B, O + A)."""
        return torch.cat([observations, actions], dim=-1).unsqueeze(1).expand(-1, self.num_critics, -1, -1)

    def dropout_draws(self, name: str, batch_size: int) -> dict[str, Draw]:
        """The units to drop in one forward pass: draws `name/0`, `name/1`, ... for the hidden layers."""
        if not self.dropout_rate:
            return {}
        return {
            f"{name}/{i}": Draw("dropout", (self.num_critics, batch_size, size), self.dropout_rate)
            for i, size in enumerate(self.hidden_sizes)
        }


class ValueFunction(nn.Module):
    """One state-value network per learner."""

    def __init__(
        self, generators: Sequence[torch.Generator], observation_size: int, hidden_sizes: Sequence[int]
    ) -> None:
        super().__init__()
        self.network = StackedMLP(generators, (observation_size, *hidden_sizes, 1))

    def forward(self, observations: Tensor) -> Tensor:
        """Values (P, B) of observations (P, B, O)."""
        values: Tensor = self.network(observations)
        return values.squeeze(-1)


class Target(nn.Module):
    """A frozen copy of a network that follows it slowly."""

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(online).requires_grad_(False)
        self.followed = online.parameters  # the method: the network itself would become a part of this one

    def forward(self, *inputs: Any) -> Tensor:
        """What the copy returns."""
        outputs: Tensor = self.network(*inputs)
        return outputs

    @cached_property
    def pair(self) -> tuple[list[Tensor], list[Tensor]]:
        """The parameters of the copy and of the network; looking for them takes longer than an update of them."""
        return list(self.network.parameters()), list(self.followed())

    @torch.no_grad()
    def polyak_update(self, tau: float) -> None:
        """target <- (1 - tau) target + tau online."""
        torch._foreach_lerp_(*self.pair, tau)


def random_subset(values: Tensor, uniform: Tensor, size: int) -> Tensor:
    """`size` critics per learner, without replacement: (P, C, B) to (P, size, B), chosen by uniform numbers (P, C).

    Source: Chen et al. 2021 (REDQ, arXiv 2101.05982), Algorithm 1, line 6.
    """
    chosen = uniform.argsort(dim=1)[:, :size]  # (P, size)
    return values.gather(1, chosen.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
