"""Gradients, among them those of a critic ensemble's squared error, derived by hand; and Adam's steps along them.

The same numbers as `torch.autograd.grad`, up to rounding, in three quarters of its time: steps that autograd must keep
apart are done in place, on memory that is still in the processor's cache.

Shape key: P population, C critics, L = (P, C), B batch, H hidden units. `d_x` is the derivative of the loss by x.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from orl import torch_private
from orl.buffer import Metrics
from orl.networks import CriticEnsemble, StackedLayerNorm, StackedLinear, drop_units_, normalised
from orl.noise import Noise

Gradients = tuple[Tensor, ...]  # one of each parameter of a network, in their order


class Adam:
    """Kingma and Ba 2015 (arXiv 1412.6980), Algorithm 1, with its decays and epsilon.

    Elementwise, so that stacked learners stay apart: torch's fused kernel, without the bookkeeping that torch.optim has
    around it (decision 0014). Nothing changes its address in memory, where a captured update looks for it.

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
        torch_private.fused_adam(
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
    """Of a loss (*L, B), averaged over the batch and summed over learners, with respect to one network.

    No other receives any: an actor's loss runs through the critic and leaves it alone. A loss without axes is taken as
    it is.
    """
    return torch.autograd.grad(loss.mean(-1).sum(), tuple(network.parameters()))


class PolyakAverage:
    """A target network follows its network slowly: target <- (1 - tau) target + tau online.

    Args:
        online: the network that learns.
        target: a copy of it.
    """

    def __init__(self, online: nn.Module, target: nn.Module) -> None:
        self.online: list[Tensor] = list(online.parameters())  # looking for them takes longer than an update of them
        self.target: list[Tensor] = list(target.parameters())

    @torch.no_grad()
    def update(self, tau: float) -> None:
        """One step."""
        torch_private.foreach_lerp(self.target, self.online, tau)


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
    noise: Noise | None = None,
) -> tuple[Gradients, Metrics]:
    """Of the sum over learners and critics of mean_B (Q(s, a) - y)^2, which moves all critics to the same targets.

    Args:
        critic: C critics per learner.
        observations: (P, B, O).
        actions: (P, B, A), in [-1, 1].
        targets: y, (P, B).
        noise: with the hidden units to drop, `dropped/0`, `dropped/1`, ..., where units are dropped.

    Returns:
        The gradients, in the order of the critic's parameters, and `critic_loss`, the mean over critics, and `q_mean`,
        each (P,).
    """
    network = critic.network
    *hidden_layers, last = cast("list[StackedLinear]", list(network.layers))
    norms = cast("list[StackedLayerNorm]", list(network.norms))
    # Forwards, layer by layer: h = relu(n scale + shift), n = layer_norm(z), z = dropout (x W + b)
    hidden = torch.cat([observations, actions], dim=-1).unsqueeze(1).expand(-1, critic.num_critics, -1, -1)
    dropped = noise is not None and "dropped/0" in noise
    inputs, normalisations, outputs = [], [], []
    for i, layer in enumerate(hidden_layers):
        inputs.append(hidden)
        hidden = layer(hidden)
        if noise is not None and dropped:
            drop_units_(hidden, noise[f"dropped/{i}"], noise[f"dropped/{i}/factors"], network.dropout_rate)
        if norms:
            normalisations.append((hidden, *normalised(hidden)))  # z, n, mean and 1 / std of z
            hidden = torch.addcmul(norms[i].bias, normalisations[i][1], norms[i].weight)
        hidden = hidden.relu_()
        outputs.append(hidden)
    values = last(hidden)  # (L, B, 1)
    errors = values - targets[:, None, :, None]
    d_values = errors * (2.0 / errors.shape[-2])  # of mean_B (Q - y)^2

    # Backwards
    of_layers = [((hidden * d_values).sum(-2, keepdim=True).mT, d_values.sum(-2, keepdim=True))]
    of_norms: list[tuple[Tensor, Tensor]] = []
    d_hidden = d_values * last.weight.mT  # (L, B, H)
    for i in reversed(range(len(hidden_layers))):
        d_hidden = torch_private.threshold_backward(d_hidden, outputs[i], 0)  # of relu
        if norms:
            before, normal, mean, inverse_std = normalisations[i]
            d_shift = d_hidden.sum(-2, keepdim=True)
            of_norms.append((normal.mul_(d_hidden).sum(-2, keepdim=True), d_shift))
            statistics = before, before.shape[-1:], mean, inverse_std
            d_normal = d_hidden.mul_(norms[i].weight)
            wanted = [True, False, False]  # of input, scale and shift, of which it has none
            d_hidden = torch_private.native_layer_norm_backward(d_normal, *statistics, None, None, wanted)[0]
        if noise is not None and dropped:
            drop_units_(d_hidden, noise[f"dropped/{i}"], noise[f"dropped/{i}/factors"], network.dropout_rate)
        of_layers.append((inputs[i].mT @ d_hidden, d_hidden.sum(-2, keepdim=True)))
        if i:
            d_hidden = d_hidden @ hidden_layers[i].weight.mT
    pairs = [*reversed(of_layers), *reversed(of_norms)]
    metrics = {"critic_loss": errors.square().mean((1, 2, 3)), "q_mean": values.mean((1, 2, 3))}
    return tuple(gradient for pair in pairs for gradient in pair), metrics
