"""Policies with actions in [-1, 1]. Shape key: P population, B batch, O observation, A action."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from orl.networks import StackedMLP

LOG_STD_RANGE = (-20.0, 2.0)

NextPolicy = tuple[Tensor, Tensor]  # mean and standard deviation before the tanh, each (P, B, A)


class DeterministicActor(nn.Module):
    """tanh(network(observation))."""

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = StackedMLP(generators, (observation_size, *hidden_sizes, action_size))

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (P, B, A) of observations (P, B, O)."""
        return torch.tanh(self.network(observations))


class GaussianActor(nn.Module):
    """Normal distribution with mean tanh(network(observation)) and one log-std per action dimension.

    It is not squashed: samples are clipped to [-1, 1] when they are used. Source: the policy of IQL (Kostrikov et al.
    2021, arXiv 2110.06169, appendix B).
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = StackedMLP(generators, (observation_size, *hidden_sizes, action_size))
        self.log_std = nn.Parameter(torch.zeros(len(generators), 1, action_size))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (P, B, A) and standard deviation (P, 1, A)."""
        return torch.tanh(self.network(observations)), self.log_std.clamp(*LOG_STD_RANGE).exp()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density (P, B) of actions (P, B, A)."""
        mean, std = self(observations)
        return normal_log_prob((actions - mean) / std, std)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (P, B, A) clipped to [-1, 1], from standard normal noise (P, B, A)."""
        mean, std = self(observations)
        actions: Tensor = mean + std * noise
        return actions.clamp(-1.0, 1.0)


class SquashedGaussianActor(nn.Module):
    """tanh of a normal distribution whose mean and log-std depend on the observation.

    Source: Haarnoja et al. 2018 (SAC, arXiv 1812.05905), appendix C.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = StackedMLP(generators, (observation_size, *hidden_sizes, 2 * action_size))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before the tanh, each (P, B, A)."""
        mean, log_std = self.network(observations).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE).exp()

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparameterised actions (P, B, A) and their log-density (P, B), from standard normal noise (P, B, A)."""
        mean, std = self(observations)
        return squashed(mean, std, noise)

    def mode(self, observations: Tensor) -> Tensor:
        """tanh of the mean, (P, B, A)."""
        return torch.tanh(self(observations)[0])


class EntropyCoefficient(nn.Module):
    """The weight of the entropy, alpha in SAC, one per learner; kept as its logarithm (P,)."""

    def __init__(self, population: int, initial: float) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.full((population,), math.log(initial)))

    def forward(self) -> Tensor:
        """(P, 1), above 0."""
        return self.log_value.exp().unsqueeze(-1)


def squashed(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std * noise) (P, B, A) and its log-density (P, B), from standard normal noise (P, B, A)."""
    raw = mean + std * noise
    # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), exact where tanh saturates
    log_slope = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))
    return torch.tanh(raw), normal_log_prob(noise, std) - log_slope.sum(-1)


def normal_log_prob(standardised: Tensor, std: Tensor) -> Tensor:
    """Log-density (P, B) of a diagonal normal at mean + std * standardised, summed over action dimensions."""
    return (-0.5 * standardised.square() - std.log() - 0.5 * math.log(2.0 * math.pi)).sum(-1)
