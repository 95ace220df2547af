"""Networks that cannot grow: batch normalisation, unit weights, residual blocks and a categorical value.

Source: FlashSAC (github.com/Holiday-Robot/FlashSAC, 2026), whose constants these are. After every optimizer step
`project` puts each layer back on its sphere. Statistics of a batch are used where `training` is true, and then
followed by running ones; it is an argument of every call, so that no mode can be forgotten.

Shape key: L leading axes, such as (population,) or (population, critics); B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from orl.networks import squashed

MOMENTUM = 0.01  # of the running statistics
EPSILON = 1e-5


class UnitLinear(nn.Module):
    """A linear layer per member whose weights (*L, in, out) have norm 1 over the inputs; starts orthogonal."""

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        members: Sequence[int],
        inputs: int,
        outputs: int,
        generators: Sequence[torch.Generator],
        *,
        bias: bool = False,
    ) -> None:
        super().__init__()
        count = int(torch.Size(members).numel())
        drawn = [
            nn.init.orthogonal_(torch.empty(inputs, outputs), generator=generator)
            for generator in generators
            for _ in range(count)
        ]
        self.weight = nn.Parameter(torch.stack(drawn).view(len(generators), *members, inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(len(generators), *members, 1, outputs)) if bias else None
        self.project()

    def forward(self, inputs: Tensor) -> Tensor:
        """(*L, B, in) to (*L, B, out)."""
        outputs = inputs @ self.weight
        return outputs if self.bias is None else outputs + self.bias

    @torch.no_grad()
    def project(self) -> None:
        """Back to norm 1."""
        self.weight.div_(self.weight.norm(dim=-2, keepdim=True).clamp(min=1e-8))


class StackedBatchNorm(nn.Module):
    """Batch normalisation per member; scale and shift together have norm sqrt(features).

    Source: Ioffe & Szegedy 2015, arXiv 1502.03167, Algorithm 1.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, leading: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*leading, 1, features))
        self.bias = nn.Parameter(torch.zeros(*leading, 1, features))
        self.register_buffer("running_mean", torch.zeros(*leading, 1, features))
        self.register_buffer("running_var", torch.ones(*leading, 1, features))

    def forward(self, inputs: Tensor, training: bool) -> Tensor:
        """(*L, B, features), normalised by the batch's statistics or by the running ones."""
        mean, variance = self.running_mean, self.running_var
        if training:
            variance, mean = torch.var_mean(inputs, dim=-2, correction=0, keepdim=True)
            with torch.no_grad():
                rows = inputs.shape[-2]
                self.running_mean.lerp_(mean, MOMENTUM)
                self.running_var.lerp_(variance * (rows / (rows - 1)), MOMENTUM)
        return (inputs - mean) * torch.rsqrt(variance + EPSILON) * self.weight + self.bias

    @torch.no_grad()
    def project(self) -> None:
        """Back to norm sqrt(features) of scale and shift together."""
        size = self.weight.shape[-1] ** 0.5
        norm = (self.weight.square().sum(-1, keepdim=True) + self.bias.square().sum(-1, keepdim=True)).sqrt()
        self.weight.mul_(size / norm)
        self.bias.mul_(size / norm)


class StackedRMSNorm(nn.Module):
    """Root-mean-square normalisation of each row per member; the scale has norm sqrt(features)."""

    __call__: Callable[..., Tensor]

    def __init__(self, leading: Sequence[int], features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(*leading, 1, features))

    def forward(self, inputs: Tensor) -> Tensor:
        """(*L, B, features)."""
        return inputs * torch.rsqrt(inputs.square().mean(-1, keepdim=True) + 1e-6) * self.weight

    @torch.no_grad()
    def project(self) -> None:
        """Back to norm sqrt(features)."""
        self.weight.mul_(self.weight.shape[-1] ** 0.5 / self.weight.norm(dim=-1, keepdim=True))


class ResidualBlock(nn.Module):
    """x + ReLU(BN(W2 ReLU(BN(W1 x)))), four times wider inside."""

    def __init__(self, generators: Sequence[torch.Generator], width: int, members: Sequence[int]) -> None:
        super().__init__()
        leading = (len(generators), *members)
        self.widen = UnitLinear(members, width, 4 * width, generators)
        self.wide_norm = StackedBatchNorm(leading, 4 * width)
        self.narrow = UnitLinear(members, 4 * width, width, generators)
        self.norm = StackedBatchNorm(leading, width)

    def forward(self, inputs: Tensor, training: bool) -> Tensor:
        """(*L, B, width)."""
        inside = torch.relu(self.wide_norm(self.widen(inputs), training))
        return inputs + torch.relu(self.norm(self.narrow(inside), training))


class NormalizedTrunk(nn.Module):
    """Batch norm, a linear layer, residual blocks, RMS norm.

    Args:
        generators: one per learner.
        inputs: features.
        width: of the residual stream; four times that inside a block.
        num_blocks: residual blocks.
        members: leading axes after the population.
    """

    def __init__(
        self, generators: Sequence[torch.Generator], inputs: int, width: int, num_blocks: int, members: Sequence[int]
    ) -> None:
        super().__init__()
        leading = (len(generators), *members)
        self.input_norm = StackedBatchNorm(leading, inputs)
        self.embed = UnitLinear(members, inputs, width, generators)
        self.blocks = nn.ModuleList(ResidualBlock(generators, width, members) for _ in range(num_blocks))
        self.output_norm = StackedRMSNorm(leading, width)

    def forward(self, inputs: Tensor, training: bool) -> Tensor:
        """(*L, B, inputs) to (*L, B, width)."""
        hidden = self.embed(self.input_norm(inputs, training))
        for block in self.blocks:
            hidden = block(hidden, training)
        return self.output_norm(hidden)


class CategoricalCritic(nn.Module):
    """C value distributions per learner over `bins` evenly spaced values in [low, high]."""

    support: Tensor

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        inputs: int,
        width: int,
        num_blocks: int,
        num_critics: int,
        bins: int,
        bound: float,
    ) -> None:
        super().__init__()
        self.num_critics = num_critics
        self.trunk = NormalizedTrunk(generators, inputs, width, num_blocks, (num_critics,))
        self.head = UnitLinear((num_critics,), width, bins, generators, bias=True)
        self.register_buffer("support", torch.linspace(-bound, bound, bins).repeat(len(generators), 1))

    def forward(self, observations: Tensor, actions: Tensor, training: bool) -> Tensor:
        """Logits (P, C, B, bins) of observations (P, B, O) and actions (P, B, A)."""
        inputs = torch.cat([observations, actions], dim=-1).unsqueeze(1).expand(-1, self.num_critics, -1, -1)
        return self.head(self.trunk(inputs, training))

    def values(self, logits: Tensor) -> Tensor:
        """Expected values (P, C, B)."""
        return (logits.softmax(-1) * self.support[:, None, None]).sum(-1)


class NormalizedActor(nn.Module):
    """tanh of a normal distribution, as `SquashedGaussianActor`, on a normalised trunk; log-std in [-10, 2]."""

    def __init__(
        self, generators: Sequence[torch.Generator], inputs: int, actions: int, width: int, num_blocks: int
    ) -> None:
        super().__init__()
        self.trunk = NormalizedTrunk(generators, inputs, width, num_blocks, ())
        self.mean = UnitLinear((), width, actions, generators, bias=True)
        self.log_std = UnitLinear((), width, actions, generators, bias=True)

    def forward(self, observations: Tensor, training: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before the tanh, each (P, B, A)."""
        hidden = self.trunk(observations, training)
        return self.mean(hidden), (-10.0 + 6.0 * (1.0 + torch.tanh(self.log_std(hidden)))).exp()

    def sample(self, observations: Tensor, noise: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        """Reparameterised actions (P, B, A) and their log-density (P, B), from standard normal noise."""
        mean, std = self(observations, training)
        return squashed(mean, std, noise)

    def mode(self, observations: Tensor) -> Tensor:
        """tanh of the mean, (P, B, A)."""
        return torch.tanh(self(observations, False)[0])


def project(network: nn.Module) -> None:
    """Put every layer of a network back on its sphere."""
    for module in network.modules():
        if isinstance(module, UnitLinear | StackedBatchNorm | StackedRMSNorm):
            module.project()
