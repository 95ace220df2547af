"""Networks for many contexts: an encoding, an embedding, and layers that differ from context to context.

Source of the embedding: Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457), as in its official code.
Source of the constant norm: Ortiz et al. 2024 (Magnitude Invariant Parametrizations, ICLR): the size of the context
then does not multiply the size of what is made of it.

Shape key: P population, K contexts, R rows of each, d context variables, Z embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from orl.arrays import Float32Array
from orl.context import ContextSpace
from orl.networks import StackedLinear, normalised

Encoding = Literal["constant_norm", "raw"]
Layer = tuple[Tensor, Tensor]  # weight (P, K, in, out), or (P, 1, in, out) where contexts share it; bias (P, K, 1, out)


class ContextEncoding:
    """What the embedding gets of a normalised context: cos and sin of a quarter turn over the range, or raw units."""

    def __init__(self, space: ContextSpace, kind: Encoding, device: torch.device) -> None:
        self.kind = kind
        self.size = len(space.names) * (2 if kind == "constant_norm" else 1)
        self.low, self.high = (
            torch.tensor(ends, dtype=torch.get_default_dtype(), device=device)
            for ends in zip(*space.ranges.values(), strict=True)
        )
        self.is_log = torch.tensor([variable.scale == "log" for variable in space.variables], device=device)

    def __call__(self, normalized: Tensor) -> Tensor:
        """(P, K, d) in [-1, 1], beyond it where contexts extrapolate, to (P, K, size)."""
        shares = (normalized + 1.0) / 2.0
        if self.kind == "constant_norm":
            angles = 0.5 * math.pi * shares
            return torch.cat([angles.cos(), angles.sin()], -1)
        ratios = torch.where(self.is_log, self.high / self.low, 1.0)
        return torch.where(self.is_log, self.low * ratios**shares, self.low + (self.high - self.low) * shares)


class ContextEmbedding(nn.Module):
    """Linear layers, each followed by residual blocks x + linear(relu(linear(relu(x)))).

    Args:
        generators: one per learner.
        inputs: of the encoding.
        sizes: after each linear layer; the last one is Z.
        blocks: residual blocks after each linear layer.
        initial_scale: of the initial weights, against uniform in +-1/sqrt(in).
        normalized: give each embedding mean 0 and variance 1.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        inputs: int,
        sizes: Sequence[int],
        blocks: int,
        initial_scale: float,
        normalized: bool,
    ) -> None:
        super().__init__()
        self.blocks, self.normalized = blocks, normalized
        self.widening, self.residual = nn.ModuleList(), nn.ModuleList()
        for before, after in pairwise((inputs, *sizes)):
            self.widening.append(StackedLinear((), before, after, generators))
            self.residual.extend(StackedLinear((), after, after, generators) for _ in range(2 * blocks))
        with torch.no_grad():
            for layer in (*self.widening, *self.residual):
                layer.weight.mul_(initial_scale)

    def forward(self, encoded: Tensor) -> Tensor:
        """(P, K, inputs) to (P, K, Z)."""
        hidden, residual = encoded, iter(self.residual)
        for widen in self.widening:
            hidden = widen(hidden)
            for _ in range(self.blocks):
                inner = next(residual)(torch.relu(hidden))
                hidden = hidden + next(residual)(torch.relu(inner))
        return normalised(hidden)[0] if self.normalized else hidden


def run(layers: Sequence[Layer], inputs: Tensor) -> Tensor:
    """The networks of K contexts, ReLU between layers: (P, K R, in) to (P, K R, out), rows lie context by context."""
    population, contexts = layers[0][1].shape[:2]
    hidden = inputs.reshape(population, contexts, -1, inputs.shape[-1])
    for weight, bias in layers[:-1]:
        hidden = torch.relu(_linear(hidden, weight, bias))
    return _linear(hidden, *layers[-1]).flatten(1, 2)


def _linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.shape[1] == 1:  # one matrix for the rows of all contexts
        return torch.bmm(inputs.flatten(1, 2), weight.squeeze(1)).view(*inputs.shape[:-1], -1) + bias
    outputs = torch.baddbmm(bias.flatten(0, 1), inputs.flatten(0, 1), weight.flatten(0, 1))
    return outputs.view(*inputs.shape[:-1], -1)


class PlainPolicy(nn.Module):
    """The policy of one context by itself: observations (..., O) to actions (..., A), both in the environment's units.

    Args:
        layers: weights and biases, (in, out) and (out,) each, of normalised observations.
        mean: (O,), of observations.
        std: (O,), of observations.
        action_low: (A,).
        action_high: (A,).
    """

    mean: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, layers: Sequence[Layer], mean: Tensor, std: Tensor, action_low: Float32Array, action_high: Float32Array
    ) -> None:
        super().__init__()
        (weight, bias), *others = layers
        first = weight / std.unsqueeze(1), bias  # W ((x - mean) / std) = (W / std) (x - mean)
        modules: list[nn.Module] = []
        for matrix, offset in (first, *others):
            inputs, outputs = matrix.shape
            linear = nn.Linear(inputs, outputs, device="meta")  # takes no random number
            linear.weight, linear.bias = nn.Parameter(matrix.T.contiguous()), nn.Parameter(offset.clone())
            modules += [linear, nn.ReLU()]
        self.network = nn.Sequential(*modules[:-1], nn.Tanh())
        self.register_buffer("mean", mean.clone())  # subtracted first: digits would cancel where std is small
        self.register_buffer("low", torch.as_tensor(action_low).to(mean))
        self.register_buffer("high", torch.as_tensor(action_high).to(mean))
        self.eval()

    def forward(self, observations: Tensor) -> Tensor:
        """Actions, never beyond their bounds."""
        shares: Tensor = (self.network(observations - self.mean) + 1.0) / 2.0
        return (self.low + (self.high - self.low) * shares).clamp(self.low, self.high)
