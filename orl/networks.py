"""Networks whose parameters carry leading axes of independent members: layers, actors, critics and their
targets; and the normaliser of observations.

Shape key: L leading axes, such as (population,) or (population, critics); P population, C critics, B batch,
O observation, A action.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import softplus

from orl import torch_private
from orl.arrays import Array
from orl.buffer import Batch
from orl.dataset import Dataset
from orl.noise import Noise, NoiseSpec


class StackedLinear(nn.Module):
    """One linear layer per member: weight (*L, in, out), bias (*L, 1, out).

    Initialised like `torch.nn.Linear`, uniform in +-1/sqrt(in), each learner from its own generator.
    """

    def __init__(
        self, members: Sequence[int], inputs: int, outputs: int, generators: Sequence[torch.Generator]
    ) -> None:
        super().__init__()
        bound = inputs**-0.5

        def draw(*shape: int) -> nn.Parameter:
            learners = [torch.empty(*members, *shape).uniform_(-bound, bound, generator=g) for g in generators]
            return nn.Parameter(torch.stack(learners))

        self.weight = draw(inputs, outputs)
        self.bias = draw(1, outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """(*L, B, in) to (*L, B, out)."""
        if self.weight.shape[-1] == 1:  # a product of matrices is several times slower
            return (inputs * self.weight.mT).sum(-1, keepdim=True) + self.bias
        if self.weight.dim() == 3:
            return torch.baddbmm(self.bias, inputs, self.weight)
        weight, bias = self.weight.flatten(0, -3), self.bias.flatten(0, -3)
        outputs = torch.baddbmm(bias, inputs.reshape(len(weight), *inputs.shape[-2:]), weight)
        return outputs.view(*inputs.shape[:-1], -1)


class StackedLayerNorm(nn.Module):
    """Layer normalisation with a scale and a shift (*L, 1, features) per member.

    Source: Ba et al. 2016, arXiv 1607.06450, Eq. 4.
    """

    def __init__(self, leading: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*leading, 1, features))
        self.bias = nn.Parameter(torch.zeros(*leading, 1, features))

    def forward(self, inputs: Tensor) -> Tensor:
        """(*L, B, features), each row normalised over its features."""
        return torch.addcmul(self.bias, normalised(inputs)[0], self.weight)


def normalised(inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows less their means over their standard deviations, the means, and 1 / the standard deviations.

    With a scale, here of ones, torch takes half the time on a CPU.
    """
    shape = inputs.shape[-1:]
    return torch_private.native_layer_norm(inputs, shape, inputs.new_ones(shape), None, 1e-5)


def drop_units_(inputs: Tensor, positions: Tensor, factors: Tensor, rate: float) -> Tensor:
    """Dropout in place: units become 0 where they are dropped, and 1 / (1 - rate) of what they were elsewhere.

    Only what is dropped is touched twice: a mask would cost more time than the layer after it.

    Args:
        inputs: (P, *units), contiguous.
        positions: (P, K) in each learner's flattened units.
        factors: (P, K), 0 where the unit is dropped and 1 where it is not.
        rate: probability of a unit to be dropped, in [0, 1).
    """
    inputs.mul_(1.0 / (1.0 - rate)).view(len(inputs), -1).scatter_reduce_(1, positions, factors, "prod")
    return inputs


class StackedMLP(nn.Module):
    """Linear layers with ReLU between them, one network per member.

    Hidden layers are Linear, dropout, layer normalisation, ReLU, in this order (Hiraoka et al. 2021, DroQ, arXiv
    2110.02034, figure 1).

    Args:
        generators: one per learner; the first leading axis is the population.
        sizes: features of the input, of each hidden layer, of the output.
        members: leading axes after the population, such as (num_critics,).
        normalized: with layer normalisation.
        dropout_rate: probability of a hidden unit to be dropped where `forward` is told which ones.
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        sizes: Sequence[int],
        *,
        members: Sequence[int] = (),
        normalized: bool = False,
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout_rate = dropout_rate
        self.layers = nn.ModuleList(
            StackedLinear(members, inputs, outputs, generators) for inputs, outputs in pairwise(sizes)
        )
        leading = (len(generators), *members)
        self.norms = nn.ModuleList(StackedLayerNorm(leading, size) for size in sizes[1:-1] if normalized)
        layers: list[Any] = list(self.layers)
        self.in_order = [p for layer in layers for p in (layer.weight, layer.bias)]  # torch looks into no list
        self.views: tuple[list[int], list[Array]] = [], []  # addresses of these parameters, and arrays there

    def forward(self, inputs: Tensor, noise: Noise | None = None, dropped: str = "dropped") -> Tensor:
        """(*L, B, sizes[0]) to (*L, B, sizes[-1]).

        Hidden layer i drops the units that `noise` has under `dropped/i`, none without.
        """
        hidden = inputs
        *hidden_layers, last = self.layers
        for i, layer in enumerate(hidden_layers):
            hidden = layer(hidden)
            if noise and f"{dropped}/{i}" in noise:
                units = noise[f"{dropped}/{i}"], noise[f"{dropped}/{i}/factors"], self.dropout_rate
                scale = drop_units_(torch.ones_like(hidden) if hidden.requires_grad else hidden, *units)
                hidden = hidden * scale if hidden.requires_grad else scale
            if self.norms:
                hidden = self.norms[i](hidden)
            # `hidden` may be a view, of which autograd would copy the whole base for a step in place
            hidden = torch.relu(hidden) if hidden.requires_grad else torch.relu_(hidden)
        outputs: Tensor = last(hidden)
        return outputs

    def in_numpy(self, inputs: Array) -> Array:
        """As `forward`, on a CPU and without layer normalisation and gradient, up to rounding.

        It computes on the very memory of the parameters, so that it has whatever was written there.
        """
        addresses = [parameter.data_ptr() for parameter in self.in_order]
        if addresses != self.views[0]:
            assert not self.norms
            self.views = addresses, [parameter.detach().numpy() for parameter in self.in_order]
        arrays, hidden = self.views[1], inputs
        for i in range(0, len(arrays), 2):
            if i:
                np.maximum(hidden, 0.0, out=hidden)
            hidden = np.matmul(hidden, arrays[i])
            hidden += arrays[i + 1]
        return hidden

    def __getstate__(self) -> dict[str, Any]:  # for copies, which have memory of their own
        return {**self.__dict__, "views": ([], [])}


V = TypeVar("V", Tensor, Array)  # numbers to compute with, by torch or by NumPy


LOG_STD_RANGE = (-20.0, 2.0)

N = TypeVar("N", bound=nn.Module)


class Actor(nn.Module):
    """A policy of an MLP with `outputs` numbers for each action dimension; `actions` says what they mean."""

    outputs = 1

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.network = StackedMLP(generators, (observation_size, *hidden_sizes, self.outputs * action_size))

    def actions(self, outputs: V, noise: V | None) -> V:
        """Actions (P, B, A) of the MLP's outputs: the mode, or with standard normal noise (P, B, A) a sample."""
        raise NotImplementedError

    def act(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """Actions (P, B, A) in [-1, 1], without gradient.

        On a CPU NumPy computes them: for a few rows a call of torch takes many times as long as the arithmetic.

        Args:
            observations: (P, B, O), normalised.
            noise: standard normal (P, B, A) for a sample; None for the mode.
        """
        if observations.is_cpu:
            with np.errstate(all="ignore"):  # whoever acts looks for what is not finite
                outputs = self.network.in_numpy(observations.numpy())
                return torch.from_numpy(self.actions(outputs, None if noise is None else noise.numpy()))
        with torch.no_grad():
            return self.actions(self.network(observations), noise)


class DeterministicActor(Actor):
    """tanh(network(observation))."""

    __call__: Callable[..., Tensor]

    def forward(self, observations: Tensor) -> Tensor:
        """Actions (P, B, A) of observations (P, B, O)."""
        return self.actions(self.network(observations), None)

    def actions(self, outputs: V, noise: V | None) -> V:
        """tanh of the outputs; there is no noise."""
        functions: Any = torch if isinstance(outputs, Tensor) else np
        actions: V = functions.tanh(outputs)
        return actions


class GaussianActor(Actor):
    """Normal distribution with mean tanh(network(observation)) and one log-std per action dimension.

    It is not squashed: samples are clipped to [-1, 1] when they are used. Source: the policy of IQL (Kostrikov et al.
    2021, arXiv 2110.06169, appendix B).
    """

    __call__: Callable[..., tuple[Tensor, Tensor]]

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        observation_size: int,
        action_size: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__(generators, observation_size, action_size, hidden_sizes)
        self.log_std = nn.Parameter(torch.zeros(len(generators), 1, action_size))

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (P, B, A) and standard deviation (P, 1, A)."""
        return torch.tanh(self.network(observations)), self.std()

    def std(self) -> Tensor:
        """Standard deviation (P, 1, A)."""
        return self.log_std.clamp(*LOG_STD_RANGE).exp()

    def log_prob(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-density (P, B) of actions (P, B, A)."""
        mean, std = torch.tanh(self.network(observations)), self.std()
        standardised = (actions - mean) / std
        return (-0.5 * standardised.square() - std.log() - 0.5 * math.log(2.0 * math.pi)).sum(-1)

    def sample(self, observations: Tensor, noise: Tensor) -> Tensor:
        """Actions (P, B, A) clipped to [-1, 1], from standard normal noise (P, B, A)."""
        return self.actions(self.network(observations), noise)

    def actions(self, outputs: V, noise: V | None) -> V:
        """tanh of the outputs, and with noise times the standard deviation, clipped to [-1, 1]."""
        functions: Any = torch if isinstance(outputs, Tensor) else np
        mean: V = functions.tanh(outputs)
        if noise is None:
            return mean
        std: Any = self.std()
        actions: V = (mean + (std if functions is torch else std.detach().numpy()) * noise).clip(-1.0, 1.0)
        return actions


class SquashedGaussianActor(Actor):
    """tanh of a normal distribution whose mean and log-std depend on the observation.

    Source: Haarnoja et al. 2018 (SAC, arXiv 1812.05905), appendix C.
    """

    outputs = 2  # mean and log-std

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before the tanh, each (P, B, A)."""
        mean, log_std = self.network(observations).chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD_RANGE).exp()

    def actions(self, outputs: V, noise: V | None) -> V:
        """tanh of the mean, or of the mean and noise times the standard deviation."""
        functions: Any = torch if isinstance(outputs, Tensor) else np
        size = outputs.shape[-1] // 2
        raw = outputs[..., :size]
        if noise is not None:
            raw = raw + functions.exp(outputs[..., size:].clip(*LOG_STD_RANGE)) * noise
        actions: V = functions.tanh(raw)
        return actions

    def sample(self, observations: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reparameterised actions (P, B, A) and their log-density (P, B), from standard normal noise (P, B, A)."""
        mean, std = self(observations)
        return squashed(mean, std, noise)

    def mode(self, observations: Tensor) -> Tensor:
        """tanh of the mean, (P, B, A)."""
        return self.actions(self.network(observations), None)


class EntropyCoefficient(nn.Module):
    """The weight of the entropy, alpha in SAC, one per learner; kept as its logarithm (P,)."""

    __call__: Callable[..., Tensor]

    def __init__(self, population: int, initial: float) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.full((population,), math.log(initial)))

    def forward(self) -> Tensor:
        """(P, 1), above 0."""
        return self.log_value.exp().unsqueeze(-1)


def squashed(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """tanh(mean + std * noise) (P, B, A) and its log-density (P, B), from standard normal noise (P, B, A)."""
    raw = mean + std * noise
    log_normal = (-0.5 * noise.square() - std.log() - 0.5 * math.log(2.0 * math.pi)).sum(-1)  # of u = raw
    # log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)), exact where tanh saturates
    log_slope = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))
    return torch.tanh(raw), log_normal - log_slope.sum(-1)


class CriticEnsemble(nn.Module):
    """C independent action-value networks per learner; layer normalisation and dropout as in `StackedMLP`."""

    __call__: Callable[..., Tensor]

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

    def forward(
        self, observations: Tensor, actions: Tensor, noise: Noise | None = None, dropped: str = "dropped"
    ) -> Tensor:
        """Values (P, C, B) of observations (P, B, O) and actions (P, B, A); units are dropped as in `StackedMLP`."""
        inputs = torch.cat([observations, actions], dim=-1).unsqueeze(1).expand(-1, self.num_critics, -1, -1)
        return self.network(inputs, noise, dropped).squeeze(-1)

    def dropout_specs(self, name: str, batch_size: int) -> dict[str, NoiseSpec]:
        """The units to drop in one forward pass: `name/0`, `name/1`, ... for the hidden layers."""
        if not self.dropout_rate:
            return {}
        return {
            f"{name}/{i}": NoiseSpec("dropout", (self.num_critics, batch_size, size), self.dropout_rate)
            for i, size in enumerate(self.hidden_sizes)
        }


def frozen_copy(network: N) -> N:
    """A target network: a copy that no gradient reaches."""
    return copy.deepcopy(network).requires_grad_(False)


def random_subset(values: Tensor, uniform: Tensor, size: int) -> Tensor:
    """`size` critics per learner, without replacement: (P, C, B) to (P, size, B), chosen by uniform numbers (P, C).

    Source: Chen et al. 2021 (REDQ, arXiv 2101.05982), Algorithm 1, line 6.
    """
    chosen = uniform.argsort(dim=1)[:, :size]  # (P, size)
    return values.gather(1, chosen.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


EPSILON = 1e-3  # added to the standard deviation, as TD3+BC does (Fujimoto & Gu 2021, section 5)


class Normalizer:
    """(x - mean) / std with one mean and one std per learner, frozen once fitted."""

    def __init__(self, population: int, size: int, device: torch.device) -> None:
        self.mean = torch.zeros(population, 1, size, device=device)
        self.std = torch.ones(population, 1, size, device=device)

    def fit(self, datasets: Sequence[Dataset]) -> None:
        """Take the statistics of each learner's observations."""
        statistics: dict[int, tuple[Tensor, Tensor]] = {}  # by array, which learners may share
        for learner, data in enumerate(datasets):
            key = id(data.observations)
            if key not in statistics:
                statistics[key] = mean_and_std(data.observations)
            self.mean[learner, 0], self.std[learner, 0] = statistics[key]

    def __call__(self, observations: Tensor) -> Tensor:
        """(..., P, B, O) to (..., P, B, O)."""
        if not observations.is_cpu:
            return (observations - self.mean) / self.std
        normalized: Array = observations.numpy() - self.mean.numpy()  # takes a fraction of the time of torch's call
        normalized /= self.std.numpy()
        return torch.from_numpy(normalized)

    def batch(self, batch: Batch) -> Batch:
        """With the observations that networks take."""
        observations = (batch.observations - self.mean) / self.std
        next_observations = (batch.next_observations - self.mean) / self.std
        return batch._replace(observations=observations, next_observations=next_observations)

    def tensors(self) -> dict[str, Tensor]:
        """The statistics, to be saved and loaded in place."""
        return {"mean": self.mean, "std": self.std}


def mean_and_std(features: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and std + 1e-3 of each column of (N, F), accumulated in float64."""
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64) + EPSILON
    dtype = torch.get_default_dtype()
    return torch.from_numpy(mean).to(dtype), torch.from_numpy(std).to(dtype)
