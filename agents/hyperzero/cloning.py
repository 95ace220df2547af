"""Cloning the specialists of many contexts with one network that gets the context as an input.

The baselines of Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457), on the same data, with the same encoding,
embedding and losses: the context-conditioned policy, and with value and TD losses what the paper calls UVFA, after
Schaul et al. 2015, "Universal Value Function Approximators".

Deviations: those of `agents/hyperzero.py` that concern data and losses; hidden layers are wider than the paper's 256
units, so that there are about as many parameters as HyperZero has on small environments; layers start uniform in
+-1/sqrt(in), not orthogonal.

Shape key: P population, K contexts, Z embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from orl.agents.hyperzero.contextual import ContextualAgent, ContextualConfig
from orl.agents.hyperzero.networks import Layer
from orl.networks import StackedLinear, StackedMLP


@dataclass(frozen=True)
class ContextualCloningConfig(ContextualConfig):
    """Hyperparameters of the concatenating policy; value and TD losses are off."""

    hidden_sizes: tuple[int, ...] = (512, 512)  # units of each hidden layer of the policy, and of the value
    value_weight: float = 0.0  # of L_Q against L_pi
    td_weight: float = 0.0  # of L_TD against L_pi


CONCATENATION_PRESET = ContextualCloningConfig()
UVFA_PRESET = ContextualCloningConfig(value_weight=0.1, td_weight=0.1)


class ContextualCloning(ContextualAgent):
    """One policy of observation and embedded context, the baseline that a hypernetwork has to beat."""

    Config = ContextualCloningConfig
    config: ContextualCloningConfig

    def layers(self, generators: list[torch.Generator], inputs: int, outputs: int) -> nn.Module:
        """Layers that all contexts share."""
        c = self.config
        return ConditionedLayers(generators, c.embedding_sizes[-1], (inputs, *c.hidden_sizes, outputs))


class ConditionedLayers(nn.Module):
    """An MLP of (embedding, inputs); for one context the embedding is a part of the first layer's bias.

    Args:
        generators: one per learner.
        embedding_size: Z.
        sizes: features of the other inputs, of each hidden layer, of the output.
    """

    def __init__(self, generators: Sequence[torch.Generator], embedding_size: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.network = StackedMLP(generators, (embedding_size + sizes[0], *sizes[1:]))

    def forward(self, embedded: Tensor) -> list[Layer]:
        """Embeddings (P, K, Z) to weights (P, 1, in, out) and biases (P, K, 1, out)."""
        first, *others = cast("list[StackedLinear]", list(self.network.layers))
        of_context, of_inputs = first.weight[:, : self.embedding_size], first.weight[:, self.embedding_size :]
        layers = [(of_inputs.unsqueeze(1), torch.baddbmm(first.bias, embedded, of_context).unsqueeze(2))]
        for layer in others:
            bias = layer.bias.unsqueeze(1).expand(-1, embedded.shape[1], -1, -1)
            layers.append((layer.weight.unsqueeze(1), bias))
        return layers
