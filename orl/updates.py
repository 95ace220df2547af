"""Gradients and steps along them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Gradients = tuple[Tensor, ...]  # one of each parameter of a network, in their order


class Adam:
    """Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1, with its decays and epsilon.

    Elementwise, so that stacked learners stay apart: torch's fused kernel, without the bookkeeping that torch.optim has
    around it (decision 0014). Nothing changes its place in memory, where a captured update looks for it.

    Args:
        parameters: what to move.
        learning_rate: of the first steps.

    Attributes:
        exp_avg: moving averages of the gradients, one per parameter.
        exp_avg_sq: and of their squares.
        steps: so far, ().
        learning_rate: of the steps to come, ().
    """

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self.parameters: list[Tensor] = list(parameters)
        self.exp_avg = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        self.exp_avg_sq = [torch.zeros_like(p, requires_grad=False) for p in self.parameters]
        device = self.parameters[0].device
        self.steps = torch.zeros((), dtype=torch.float32, device=device)
        dtype = torch.float32 if device.type == "cuda" else torch.float64  # as torch's kernels take it
        self.learning_rate = torch.tensor(learning_rate, dtype=dtype, device=device)

    @torch.no_grad()
    def step(self, gradients: Gradients) -> None:
        """One step of every learner against the gradients of the parameters, in their order."""
        self.steps.add_(1)
        torch._fused_adam_(
            self.parameters,
            list(gradients),
            self.exp_avg,
            self.exp_avg_sq,
            [],
            [self.steps] * len(gradients),
            lr=self.learning_rate,
            beta1=0.9,
            beta2=0.999,
            weight_decay=0.0,
            eps=1e-8,
            amsgrad=False,
            maximize=False,
        )


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
