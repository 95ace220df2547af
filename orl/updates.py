"""Gradients and steps along them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam

Gradients = tuple[Tensor, ...]  # one of each parameter of a network, in their order


def adam(parameters: Iterable[nn.Parameter], learning_rate: float | Tensor, weight_decay: float = 0.0) -> Adam:
    """torch's fused Adam: elementwise, so that stacked learners stay apart."""
    return Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def gradients(loss: Tensor, network: nn.Module) -> Gradients:
    """Of a loss that is summed over learners, with respect to one network.

    No other receives any: an actor's loss runs through the critic and leaves it alone.
    """
    return torch.autograd.grad(loss, tuple(network.parameters()))


def clipped(gradients: Gradients, norm: float) -> Gradients:
    """Each learner's gradients scaled down to a Euclidean norm of at most `norm`, over all its parameters.

    Source: Pascanu et al. 2013, arXiv 1211.5063, Algorithm 1.
    """
    squares = [gradient.flatten(1).square().sum(1) for gradient in gradients]
    scale = (norm / (torch.stack(squares).sum(0).sqrt() + 1e-12)).clamp(max=1.0)  # (P,)
    return tuple(gradient * scale.view(-1, *[1] * (gradient.ndim - 1)) for gradient in gradients)


def descend(optimizer: Adam, gradients: Gradients) -> None:
    """One step of every learner against the gradients of the optimizer's parameters, in their order."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
