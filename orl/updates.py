"""Gradients, among them those of a critic ensemble's squared error, derived by hand; and Adam's steps along them.

The same numbers as `torch.autograd.grad`, up to rounding, in three quarters of its time: steps that autograd must keep
apart are done in place, on memory that is still in the processor's cache.

Shape key: P population, C critics, L = (P, C), B batch, H hidden units. `d_x` is the derivative of the loss by x.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orl.buffer import Metrics
from orl.networks import CriticEnsemble, StackedMLP, kept_scale, normalised

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


@torch.no_grad()
def critic_gradients(
    critic: CriticEnsemble,
    observations: Tensor,
    actions: Tensor,
    targets: Tensor,
    dropped: Sequence[Tensor] = (),
) -> tuple[Gradients, Metrics]:
    """Of the sum over learners and critics of mean_B (Q(s, a) - y)^2, which moves all critics to the same targets.

    Args:
        critic: C critics per learner.
        observations: (P, B, O).
        actions: (P, B, A), in [-1, 1].
        targets: y, (P, B).
        dropped: hidden units to drop, one tensor per hidden layer.

    Returns:
        The gradients, in the order of the critic's parameters, and `critic_loss`, the mean over critics, and `q_mean`,
        each (P,).
    """
    layers: Any = critic.network.layers
    hidden = critic.inputs(observations, actions)
    passes = []
    for i in range(len(layers) - 1):
        passes.append(HiddenPass(critic.network, i, hidden, dropped))
        hidden = passes[-1].outputs
    last = layers[-1]
    values = last(hidden)  # (L, B, 1)
    errors = values - targets[:, None, :, None]
    d_values = errors * (2.0 / errors.shape[-2])  # of mean_B (Q - y)^2

    found = [((hidden * d_values).sum(-2, keepdim=True).mT, d_values.sum(-2, keepdim=True))]
    of_norms: list[tuple[Tensor, Tensor]] = []
    d_hidden = d_values * last.weight.mT  # (L, B, H)
    for i in reversed(range(len(passes))):
        d_linear = passes[i].backward(d_hidden, of_norms)
        found.append((passes[i].inputs.mT @ d_linear, d_linear.sum(-2, keepdim=True)))
        if i:
            d_hidden = d_linear @ layers[i].weight.mT
    pairs = [*reversed(found), *reversed(of_norms)]
    metrics = {"critic_loss": errors.square().mean((1, 2, 3)), "q_mean": values.mean((1, 2, 3))}
    return tuple(gradient for pair in pairs for gradient in pair), metrics


class HiddenPass:
    """One hidden layer of `StackedMLP`, forwards: h = relu(n scale + shift), n = layer_norm(z), z = kept (x W + b).

    Args:
        network: whose layer it is.
        i: its number.
        inputs: x, (L, B, in).
        dropped: as for `StackedMLP.forward`.
    """

    def __init__(self, network: StackedMLP, i: int, inputs: Tensor, dropped: Sequence[Tensor]) -> None:
        self.inputs, self.kept = inputs, None
        hidden = network.layers[i](inputs)
        if dropped:
            self.kept = kept_scale(hidden, dropped[i], network.dropout_rate)
            hidden.mul_(self.kept)
        norms: Any = network.norms
        self.norm = norms[i] if norms else None
        if self.norm is not None:
            self.before = hidden  # z
            self.normal, self.mean, self.inverse_std = normalised(hidden)
            hidden = torch.addcmul(self.norm.bias, self.normal, self.norm.weight)
        self.outputs = hidden.relu_()  # h, (L, B, H)

    def backward(self, d_outputs: Tensor, of_norms: list[tuple[Tensor, Tensor]]) -> Tensor:
        """From d_h to d_(x W + b), both (L, B, H); adds d_scale and d_shift (L, 1, H) to `of_norms`. Only once."""
        d_hidden: Tensor = torch.ops.aten.threshold_backward(d_outputs, self.outputs, 0)  # of relu
        if self.norm is not None:
            d_shift = d_hidden.sum(-2, keepdim=True)
            of_norms.append((self.normal.mul_(d_hidden).sum(-2, keepdim=True), d_shift))
            statistics = self.before, self.before.shape[-1:], self.mean, self.inverse_std
            d_normal = d_hidden.mul_(self.norm.weight)
            wanted = [True, False, False]  # of input, scale and shift, of which it has none
            d_hidden = torch.ops.aten.native_layer_norm_backward(d_normal, *statistics, None, None, wanted)[0]
        return d_hidden if self.kept is None else d_hidden.mul_(self.kept)
