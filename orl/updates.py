"""Gradients and steps along them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam

Gradients = tuple[Tensor, ...]  # one of each parameter of a network, in their order


def adam(parameters: Iterable[nn.Parameter], learning_rate: float) -> Adam:
    """torch's fused Adam: elementwise, so that stacked learners stay apart.

    Its learning rate is a tensor, which an update that was captured reads anew.
    """
    optimizer = Adam(parameters, lr=learning_rate, fused=True)
    group = optimizer.param_groups[0]
    device = group["params"][0].device
    dtype = torch.float32 if device.type == "cuda" else torch.float64  # as torch's kernels take it
    group["lr"] = torch.tensor(learning_rate, dtype=dtype, device=device)
    return optimizer


def set_learning_rate(optimizer: Adam, learning_rate: float) -> None:
    """For the steps to come."""
    optimizer.param_groups[0]["lr"].fill_(learning_rate)


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
    (group,) = optimizer.param_groups
    for parameter, gradient in zip(group["params"], gradients, strict=True):
        parameter.grad = gradient
    on_cuda = group["params"][0].is_cuda
    group["capturable"] = on_cuda and torch.cuda.is_current_stream_capturing()  # demanded there, warned of elsewhere
    optimizer.step()
