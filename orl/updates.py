"""Gradient steps: the only `backward()` calls of the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Adam

from orl import losses
from orl.batch import Metrics
from orl.critic import CriticEnsemble


def adam(parameters: Iterable[nn.Parameter], learning_rate: float | Tensor, weight_decay: float = 0.0) -> Adam:
    """torch's fused Adam: elementwise, so that stacked learners stay apart."""
    return Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)


def gradient_step(optimizer: Adam, loss: Tensor) -> None:
    """One descent step of every learner on a loss that is summed over learners.

    Only the optimizer's own parameters receive a gradient: an actor's loss runs through the critic and leaves it alone.
    """
    optimizer.zero_grad(set_to_none=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    loss.backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()


def critic_update(
    critic: CriticEnsemble,
    optimizer: Adam,
    observations: Tensor,
    actions: Tensor,
    targets: Tensor,
    dropped: Sequence[Tensor] = (),
) -> Metrics:
    """Move every critic towards the same targets.

    Args:
        critic: C critics per learner.
        optimizer: over the critic's parameters.
        observations: (P, B, O).
        actions: (P, B, A), in [-1, 1].
        targets: (P, B), without gradient.
        dropped: hidden units to drop, one tensor per hidden layer.

    Returns:
        `critic_loss`, the mean over critics, and `q_mean`, each (P,).
    """
    values = critic(observations, actions, dropped)  # (P, C, B)
    gradient_step(optimizer, losses.squared_error(values, targets))
    with torch.no_grad():
        error = (values - targets.unsqueeze(1)).square()
        return {"critic_loss": error.mean((1, 2)), "q_mean": values.mean((1, 2))}
