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
        weight, bias = self.weight.flatten(0, -3), self.bias.flatten(0, -3)
        outputs = torch.baddbmm(bias, inputs.reshape(len(weight), *inputs.shape[-2:]), weight)
        return outputs.view(*inputs.shape[:-1], -1)


class StackedMLP(nn.Module):
    """Linear layers with ReLU between them, one network per member.

    Args:
        generators: one per learner; the first leading axis is the population.
        sizes: features of the input, of each hidden layer, of the output.
        members: leading axes after the population, such as (num_critics,).
    """

    def __init__(
        self, generators: Sequence[torch.Generator], sizes: Sequence[int], *, members: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            StackedLinear(members, inputs, outputs, generators) for inputs, outputs in pairwise(sizes)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(*L, B, sizes[0]) to (*L, B, sizes[-1])."""
        hidden = inputs
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        outputs: Tensor = self.layers[-1](hidden)
        return outputs
