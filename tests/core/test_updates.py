"""Gradient steps: stacked critics against separate networks with separate optimizers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from orl import losses
from orl.critic import CriticEnsemble
from orl.updates import adam, clipped, critic_gradients, descend, gradients

Generators = Callable[..., list[torch.Generator]]


def test_steps_of_a_critic_equal_a_loop_over_separate_networks(generators: Generators, float64: None) -> None:
    population, critics, batch, steps = 2, 3, 6, 5
    critic = CriticEnsemble(generators(0, 1), 3, 2, (8, 8), critics)
    optimizer = adam(critic.parameters(), 1e-2)
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
        descend(optimizer, found)
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


def test_a_step_leaves_networks_of_other_optimizers_and_their_gradients_alone() -> None:
    """An actor's loss runs through the critic; the critic must not notice."""
    actor, critic = nn.Linear(2, 1), nn.Linear(1, 1)
    critic.weight.grad = torch.full((1, 1), 7.0)
    before = critic.weight.detach().clone(), actor.weight.detach().clone()
    loss = critic(actor(torch.ones(3, 2))).mean()
    descend(adam(actor.parameters(), 0.1), gradients(loss, actor))
    assert torch.equal(critic.weight, before[0])
    assert critic.weight.grad.item() == 7.0
    assert critic.bias.grad is None
    assert not torch.equal(actor.weight, before[1])


def test_a_step_forgets_the_gradient_of_the_step_before() -> None:
    weight = nn.Parameter(torch.tensor([0.0]))
    parameters = nn.ParameterList([weight])
    optimizer = adam([weight], 1.0)
    descend(optimizer, gradients((3 * weight).sum(), parameters))
    descend(optimizer, gradients((5 * weight).sum(), parameters))
    assert weight.grad is not None
    assert weight.grad.item() == 5.0


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate_and_descends() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -1.0]))
    descend(adam([weight], 0.25), gradients(losses.over_batch(weight.square()), nn.ParameterList([weight])))
    torch.testing.assert_close(weight.detach(), torch.tensor([0.75, -0.75]))


def test_weight_decay_shrinks_weights_without_a_loss() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    descend(adam([weight], 0.1, weight_decay=0.5), gradients((0.0 * weight).sum(), nn.ParameterList([weight])))
    assert weight.item() < 1.0


def test_clipping_is_per_learner_and_over_all_its_parameters() -> None:
    """Norms 5 and 0.5; a learner below the limit keeps its gradients bit for bit."""
    weight, bias = torch.tensor([[[3.0, 0.0]], [[0.3, 0.0]]]), torch.tensor([[[4.0]], [[0.4]]])
    found = clipped((weight, bias), 1.0)
    torch.testing.assert_close(found[0][0], weight[0] / 5)
    torch.testing.assert_close(found[1][0], bias[0] / 5)
    assert torch.equal(found[0][1], weight[1])
    assert torch.equal(found[1][1], bias[1])
    assert not clipped((torch.zeros(1, 2),), 1.0)[0].any()
