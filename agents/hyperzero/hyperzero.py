"""HyperZero: a hypernetwork that writes the weights of a policy, and of a value network, for a context.

Paper: Rezaei-Shoshtari et al. 2023, "Hypernetworks for Zero-Shot Transfer in Reinforcement Learning", arXiv 2211.15457.
Official code: github.com/SAIC-MONTREAL/hyperzero. Losses, data and generated policies are in `agents/contextual.py`.

Deviations, all but the first three undone by HYPERZERO_PAPER_PRESET:
* L_TD has the specialists' discount and masks terminations; the official code has neither;
* a batch is drawn context by context, so that weights are generated once for each, and contexts are equally likely
  however many transitions they have; the official code generates them for every transition;
* embeddings, generated biases and generated weights of one layer come from one linear map;
* the context is encoded with constant norm instead of raw (Ortiz et al. 2024, Magnitude Invariant Parametrizations);
* Bias-HyperInit (Beck et al. 2022, arXiv 2210.11348): at first every context has the same ordinary network;
* embeddings and observations are normalised, values standardised and then weighed 0.1 instead of 0.01, gradients
  clipped, and the learning rate is 3e-4 instead of 1e-4.

Shape key: P population, K contexts, Z embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from orl.agents.hyperzero.contextual import ContextualAgent, ContextualConfig
from orl.agents.hyperzero.networks import Layer
from orl.networks import StackedLinear

Initialisation = Literal["bias", "paper"]


@dataclass(frozen=True)
class HyperZeroConfig(ContextualConfig):
    """Hyperparameters of HyperZero."""

    initialisation: Initialisation = "bias"  # of what generates weights: Bias-HyperInit, or the paper's constants


HYPERZERO_PRESET = HyperZeroConfig()
HYPERZERO_PAPER_PRESET = HyperZeroConfig(
    encoding="raw",
    embedding_scale=0.5,
    normalize_embedding=False,
    value_weight=0.01,
    td_weight=0.01,
    standardize_values=False,
    learning_rate=1e-4,
    gradient_clip=None,
    normalize_observations=False,
    initialisation="paper",
)


class HyperZero(ContextualAgent):
    """HyperZero (Rezaei-Shoshtari et al. 2023); `policy(context)` gives a network for a context that nobody trained on.

    Data need contexts and values (`Dataset.from_arrays(..., contexts=, values=)`); `contexts=space` is required.
    """

    Config = HyperZeroConfig
    config: HyperZeroConfig

    def layers(self, generators: list[torch.Generator], inputs: int, outputs: int) -> nn.Module:
        """Layers that are generated."""
        c = self.config
        return GeneratedLayers(generators, c.embedding_sizes[-1], (inputs, *c.hidden_sizes, outputs), c.initialisation)


class GeneratedLayers(nn.Module):
    """One linear map from the embedding to the weights and biases of each layer.

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
