"""Pure functions of tensors, each with its equation.

Losses are elementwise. `orl.updates.gradients`, or `over_batch`, averages them over the batch, the last axis, and
sums over all leading axes: members never weigh each other.
"""

from __future__ import annotations

import torch
from torch import Tensor


def over_batch(values: Tensor) -> Tensor:
    """Mean over the last axis, sum over the others: (*L, B) to a scalar."""
    return values.mean(-1).sum()


def td_target(rewards: Tensor, terminated: Tensor, next_values: Tensor, discount: float) -> Tensor:
    """y = r + discount (1 - terminated) V(s'), all (P, B): truncation bootstraps, termination does not."""
    return rewards + discount * (1.0 - terminated) * next_values


def categorical_target(probabilities: Tensor, values: Tensor, support: Tensor) -> Tensor:
    """The distribution of `values` with `probabilities`, projected on an evenly spaced support.

    Mass between two bins is split so that its mean stays; beyond the ends it goes to the last bin.

    Args:
        probabilities: (P, B, bins).
        values: (P, B, bins), where each of them lies after the Bellman update.
        support: (P, bins), ascending.

    Source: Bellemare et al. 2017 (C51, arXiv 1707.06887), Algorithm 1.
    """
    bins = support.shape[-1]
    low, high = support[:, :1, None], support[:, -1:, None]
    positions = (values.clamp(low, high) - low) * ((bins - 1) / (high - low))
    lower = positions.floor().clamp(max=bins - 2)
    share = positions - lower
    index = lower.long().clamp(min=0)  # where values are NaN: a learner that diverged stops no other
    target = torch.zeros_like(probabilities).scatter_add_(-1, index, probabilities * (1.0 - share))
    return target.scatter_add_(-1, index + 1, probabilities * share)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """-sum_z p(z) log q(z), (P, C, B); logits (P, C, B, bins), target (P, B, bins)."""
    return -(target.unsqueeze(1) * logits.log_softmax(-1)).sum(-1)


def expectile_loss(values: Tensor, targets: Tensor, expectile: float) -> Tensor:
    """|expectile - 1(u < 0)| u^2 with u = target - value, all (P, B).

    Source: Kostrikov et al. 2021 (IQL, arXiv 2110.06169), Eq. 5.
    """
    difference = targets - values
    weight = (expectile - (difference < 0).to(difference)).abs()
    return weight * difference.square()


def behaviour_cloning_loss(actions: Tensor, data_actions: Tensor) -> Tensor:
    """(pi(s) - a)^2, (P, B), the mean over action dimensions; both (P, B, A)."""
    return (actions - data_actions).square().mean(-1)


def huber(errors: Tensor, threshold: float) -> Tensor:
    """u^2 where |u| <= threshold, threshold (2 |u| - threshold) beyond, elementwise; infinity makes it u^2.

    Source: Huber 1964, "Robust Estimation of a Location Parameter", times two.
    """
    sizes = errors.abs()
    inside = sizes.clamp(max=threshold)
    return inside * (2.0 * sizes - inside)
