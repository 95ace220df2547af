"""Gradients by hand against autograd's, and against separate networks with separate optimizers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from orl import losses
from orl.networks import CriticEnsemble
from orl.noise import NoiseBlocks
from orl.updates import Adam, critic_gradients, gradients

Generators = Callable[..., list[torch.Generator]]


@pytest.mark.parametrize("hidden_sizes", [(8,), (8, 6), (5, 7, 4)])
@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
@pytest.mark.parametrize("normalized", [False, True])
def test_they_are_autograd_s(
    normalized: bool, dropout_rate: float, hidden_sizes: tuple[int, ...], generators: Generators, float64: None
) -> None:
    random = torch.Generator().manual_seed(0)
    critic = CriticEnsemble(generators(0, 1), 3, 2, hidden_sizes, 3, normalized=normalized, dropout_rate=dropout_rate)
    with torch.no_grad():
        for parameter in critic.parameters():  # scales and shifts begin as ones and zeros
            parameter.add_(torch.randn(parameter.shape, generator=random), alpha=0.3)
    blocks = NoiseBlocks([0, 1], critic.dropout_specs("dropped", 6), torch.device("cpu"))
    noise = blocks.next()
    observations, actions = torch.randn(2, 6, 3, generator=random), torch.randn(2, 6, 2, generator=random)
    targets = torch.randn(2, 6, generator=random)
    before = [each.clone() for each in (*critic.parameters(), observations, actions, targets)]
    values = critic(observations, actions, noise)
    expected = gradients(losses.over_batch((values - targets.unsqueeze(1)).square()), critic)
    found, metrics = critic_gradients(critic, observations, actions, targets, noise)
    for mine, other, parameter in zip(found, expected, critic.parameters(), strict=True):
        assert mine.shape == parameter.shape
        assert not mine.requires_grad
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(metrics["q_mean"], values.mean((1, 2)))
    torch.testing.assert_close(metrics["critic_loss"], (values - targets[:, None]).square().mean((1, 2)))
    assert all(map(torch.equal, before, (*critic.parameters(), observations, actions, targets)))


def test_steps_of_a_critic_equal_a_loop_over_separate_networks(generators: Generators, float64: None) -> None:
    population, critics, batch, steps = 2, 3, 6, 5
    critic = CriticEnsemble(generators(0, 1), 3, 2, (8, 8), critics)
    optimizer = Adam(critic.parameters(), 1e-2)
    nets, optimizers = {}, {}
    for p in range(population):
        for c in range(critics):
            net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
            for layer, source in zip([net[0], net[2], net[4]], critic.network.layers, strict=True):
                layer.weight.data.copy_(source.weight[p, c].T)
                layer.bias.data.copy_(source.bias[p, c, 0])
            nets[p, c], optimizers[p, c] = net, torch.optim.Adam(net.parameters(), lr=1e-2)
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        observations = torch.randn(population, batch, 3, generator=random)
        actions = torch.randn(population, batch, 2, generator=random)
        targets = torch.randn(population, batch, generator=random)
        found, metrics = critic_gradients(critic, observations, actions, targets)
        optimizer.step(found)
        errors, values = torch.zeros(population, critics), torch.zeros(population, critics)
        for (p, c), net in nets.items():
            predicted = net(torch.cat([observations[p], actions[p]], dim=1))[:, 0]
            loss = (predicted - targets[p]).pow(2).mean()
            optimizers[p, c].zero_grad()
            loss.backward()
            optimizers[p, c].step()
            errors[p, c], values[p, c] = loss.detach(), predicted.detach().mean()
        torch.testing.assert_close(metrics["critic_loss"], errors.mean(1), rtol=0, atol=1e-12)
        torch.testing.assert_close(metrics["q_mean"], values.mean(1), rtol=0, atol=1e-12)
    for (p, c), net in nets.items():
        for layer, source in zip([net[0], net[2], net[4]], critic.network.layers, strict=True):
            torch.testing.assert_close(layer.weight, source.weight[p, c].T, rtol=0, atol=1e-12)
            torch.testing.assert_close(layer.bias, source.bias[p, c, 0], rtol=0, atol=1e-12)
