"""Networks whose parameters carry leading axes of independent members.

Shape key: L leading axes, such as (population,) or (population, critics); B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


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
    return torch.native_layer_norm(inputs, shape, inputs.new_ones(shape), None, 1e-5)


def dropout(inputs: Tensor, dropped: Tensor, rate: float) -> Tensor:
    """Zero the units that `dropped` names, scale the others by 1 / (1 - rate).

    Args:
        inputs: (P, *units).
        dropped: (P, K) places in each learner's flattened units; the number of units stands for none.
        rate: probability of a unit to be dropped, in [0, 1).
    """
    return inputs * kept_scale(inputs, dropped, rate)


def kept_scale(inputs: Tensor, dropped: Tensor, rate: float) -> Tensor:
    """What `dropout` multiplies its inputs by: 0 where a unit is dropped, 1 / (1 - rate) elsewhere."""
    units = inputs[0].numel()
    scale = inputs.new_full((len(inputs), units + 1), 1.0 / (1.0 - rate)).scatter_(1, dropped, 0.0)
    return scale[:, :units].view(inputs.shape)


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

    def forward(self, inputs: Tensor, dropped: Sequence[Tensor] = ()) -> Tensor:
        """(*L, B, sizes[0]) to (*L, B, sizes[-1]); `dropped`, one tensor per hidden layer, as `dropout` has it."""
        hidden = inputs
        *hidden_layers, last = self.layers
        for i, layer in enumerate(hidden_layers):
            hidden = layer(hidden)
            if dropped:
                hidden = dropout(hidden, dropped[i], self.dropout_rate)
            if self.norms:
                hidden = self.norms[i](hidden)
            # `hidden` may be a view, of which autograd would copy the whole base for a step in place
            hidden = torch.relu(hidden) if hidden.requires_grad else torch.relu_(hidden)
        outputs: Tensor = last(hidden)
        return outputs
