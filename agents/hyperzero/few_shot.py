"""Few-shot fine-tuning: clone a few episodes of contexts never trained on, from policies that were generated for them.

What zero-shot policies are compared with: Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457) fine-tune their
meta-learned baseline in this way; here the generated weights, or those of any policy with contexts, are the start.

Shape key: K contexts, d context variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from numpy.typing import ArrayLike

from orl.agents.bc import BC
from orl.agents.hyperzero.contextual import ContextualAgent
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.networks import StackedLinear


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
    for each in data:
        replace(agent.spaces, observation_size=agent.plain_size).check(Spaces.of(each), each.name)
    layers = agent.policies(rows)
    sizes = [weight.shape[-1] for weight, _ in layers[:-1]]
    cloner = BC(data, seed=seed, device=str(agent.device), hidden_sizes=tuple(sizes), **overrides)
    for own, (weight, bias) in zip(cast("list[StackedLinear]", cloner.actor.network.layers), layers, strict=True):
        own.weight.copy_(weight[0])
        own.bias.copy_(bias[0])
    for name, tensor in cloner.normalizer.tensors().items():
        tensor.copy_(agent.normalizer.tensors()[name][..., : agent.plain_size])
    return cloner
