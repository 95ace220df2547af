"""The hypernetwork: a context is encoded and embedded, and a linear map writes the layers of a network for it.

Source: Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457) and its official code. Our choices, which options
undo: Bias-HyperInit (Beck et al. 2022, arXiv 2210.11348), and an encoding of constant norm (Ortiz et al. 2024,
Magnitude Invariant Parametrizations, ICLR): the size of the context then does not multiply the size of the weights.

Shape key: P population, K contexts, R rows per context, d context variables, Z embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from orl.context import ContextSpace
from orl.networks import StackedLinear, normalised

Encoding = Literal["constant_norm", "raw"]
Initialisation = Literal["bias", "paper"]
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
        fractions = (normalized + 1.0) / 2.0
        if self.kind == "constant_norm":
            angles = 0.5 * math.pi * fractions
            return torch.cat([angles.cos(), angles.sin()], -1)
        ratios = torch.where(self.is_log, self.high / self.low, 1.0)
        return torch.where(self.is_log, self.low * ratios**fractions, self.low + (self.high - self.low) * fractions)


class ContextEmbedding(nn.Module):
    """Linear layers, with residual blocks x + linear(relu(linear(relu(x)))) after each of them.

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


class Hypernetwork(nn.Module):
    """One linear map from the embedding to the weights and biases of each layer of a generated network.

    Args:
        generators: one per learner.
        embedding_size: Z.
        sizes: features of the generated network's input, of each hidden layer, of its output.
        initialisation: "bias": the map is zero and its bias an ordinary network, uniform in +-1/sqrt(in); "paper":
            the map is uniform in +-0.05 for the first layer and +-0.008 for the others, its bias zero.
    """

    def __init__(
        self,
        generators: Sequence[torch.Generator],
        embedding_size: int,
        sizes: Sequence[int],
        initialisation: Initialisation,
    ) -> None:
        super().__init__()
        self.shapes = list(pairwise(sizes))
        self.maps = nn.ModuleList()
        for i, (inputs, outputs) in enumerate(self.shapes):
            linear = StackedLinear((), embedding_size, (inputs + 1) * outputs, generators)
            scales = (0.0, inputs**-0.5) if initialisation == "bias" else (0.05 if i == 0 else 0.008, 0.0)
            with torch.no_grad():  # drawn uniform in +-1/sqrt(Z)
                linear.weight.mul_(scales[0] * embedding_size**0.5)
                linear.bias.mul_(scales[1] * embedding_size**0.5)
            self.maps.append(linear)

    def forward(self, embedded: Tensor) -> list[Layer]:
        """Embeddings (P, K, Z) to weights (P, K, in, out) and biases (P, K, 1, out)."""
        layers = []
        for linear, (inputs, outputs) in zip(self.maps, self.shapes, strict=True):
            rows = linear(embedded).unflatten(-1, (inputs + 1, outputs))
            layers.append((rows[..., :-1, :], rows[..., -1:, :]))
        return layers


def run_layers(layers: Sequence[Layer], inputs: Tensor) -> Tensor:
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
