"""Baselines of HyperZero: one network that gets the context as an input, and few-shot fine-tuning.

Paper: Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457). `ContextualCloning` is its context-conditioned
policy, on the same data, with the same encoding, embedding and losses; with value and TD losses it is what the paper
calls UVFA, after Schaul et al. 2015, "Universal Value Function Approximators". `few_shot` fine-tunes a policy on a few
episodes of a context, as the paper does with its meta-learned baseline.

Deviations: those of `hyperzero.py` that concern data and losses; hidden layers are wider than the paper's 256 units, so
that there are about as many parameters as HyperZero has on small environments; layers start uniform in +-1/sqrt(in),
not orthogonal; fine-tuning starts from the generated weights, or those of any policy with contexts.

Shape key: P population, K contexts, d context variables, Z embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from orl.agents.bc import BC
from orl.agents.hyperzero.hypernetwork import Layer
from orl.agents.hyperzero.hyperzero import ContextualAgent, ContextualConfig
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.networks import StackedLinear, StackedMLP


@dataclass(frozen=True)
class ContextualCloningConfig(ContextualConfig):
    """Hyperparameters of the concatenating policy; value and TD losses are off."""

    hidden_sizes: tuple[int, ...] = (512, 512)  # units of each hidden layer of the policy, and of the value
    value_weight: float = 0.0  # of L_Q against L_pi
    td_weight: float = 0.0  # of L_TD against L_pi


class ContextualCloning(ContextualAgent):
    """One policy of observation and embedded context, the baseline that a hypernetwork has to beat."""

    Config = ContextualCloningConfig
    config: ContextualCloningConfig

    def layers(self, generators: list[torch.Generator], inputs: int, outputs: int) -> nn.Module:
        """Layers that all contexts share."""
        c = self.config
        return ConditionedNetwork(generators, c.embedding_sizes[-1], (inputs, *c.hidden_sizes, outputs))


CONCATENATION_PRESET = ContextualCloningConfig()
UVFA_PRESET = ContextualCloningConfig(value_weight=0.1, td_weight=0.1)


class ConditionedNetwork(nn.Module):
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


@torch.no_grad()
def few_shot(
    agent: ContextualAgent,
    contexts: ArrayLike,
    data: Sequence[Dataset],
    *,
    seed: int | Sequence[int] = 0,
    **overrides: Any,
) -> BC:
    """Behaviour cloning that starts with the agent's policies: one learner for each context, on its own data.

    Args:
        agent: one learner.
        contexts: (K, d), in the variables' units.
        data: K datasets without contexts, a few episodes each.
        seed: one integer >= 0 per context.
        overrides: fields of `BCConfig` but the hidden sizes.

    Returns:
        An agent on which `fit` goes on; before that its actions are those of `agent.policy(context)`.

    Raises:
        ValueError: the agent is a population, contexts that the space refuses, or data that do not match them.
    """
    rows = agent.space.rows(contexts)
    if isinstance(data, Dataset) or len(data) != len(rows):
        given = 1 if isinstance(data, Dataset) else len(data)
        raise ValueError(f"{len(rows)} contexts and {given} datasets; give a list with one dataset per context")
    for episodes in data:
        replace(agent.spaces, observation_size=agent.plain_size).check(Spaces.of(episodes), episodes.name)
    layers = agent.policies(rows)
    sizes = [weight.shape[-1] for weight, _ in layers[:-1]]
    cloner = BC(data, seed=seed, device=str(agent.device), hidden_sizes=tuple(sizes), **overrides)
    for linear, (weight, bias) in zip(cast("list[StackedLinear]", cloner.actor.network.layers), layers, strict=True):
        linear.weight.copy_(weight[0])
        linear.bias.copy_(bias[0])
    for name, tensor in cloner.normalizer.tensors().items():
        tensor.copy_(agent.normalizer.tensors()[name][..., : agent.plain_size])
    return cloner
