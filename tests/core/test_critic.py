"""Critic ensembles, targets, subsets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from orl import losses
from orl.networks import CriticEnsemble, StackedMLP, frozen_copy, random_subset
from orl.updates import Adam, PolyakAverage, gradients

Generators = Callable[..., list[torch.Generator]]


def test_an_ensemble_equals_separate_networks(generators: Generators) -> None:
    critic = CriticEnsemble(generators(0, 1), 3, 2, (8,), num_critics=4)
    noise = torch.Generator().manual_seed(0)
    observations, actions = torch.randn(2, 5, 3, generator=noise), torch.randn(2, 5, 2, generator=noise)
    values = critic(observations, actions)
    assert values.shape == (2, 4, 5)
    first, last = critic.network.layers
    for p in range(2):
        for c in range(4):
            own = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
            for layer, source in ((own[0], first), (own[2], last)):
                layer.weight.data.copy_(source.weight[p, c].T)
                layer.bias.data.copy_(source.bias[p, c, 0])
            expected = own(torch.cat([observations[p], actions[p]], dim=1))[:, 0]
            torch.testing.assert_close(values[p, c], expected, rtol=0, atol=1e-6)


def test_a_value_function_has_one_value_a_row(generators: Generators) -> None:
    value = StackedMLP(generators(0, 1, 2), (3, 4, 1))
    observations = torch.randn(3, 6, 3, generator=torch.Generator().manual_seed(0))
    values = value(observations)
    assert values.shape == (3, 6, 1)
    layer, last = value.layers
    hidden = (observations[2] @ layer.weight[2] + layer.bias[2]).relu()
    torch.testing.assert_close(values[2], hidden @ last.weight[2] + last.bias[2])


def test_polyak_update_by_hand() -> None:
    online = nn.Linear(1, 1)
    frozen = frozen_copy(online)
    average = PolyakAverage(online, frozen)
    for parameter, value in zip([*online.parameters(), *frozen.parameters()], [1.0, 2.0, 10.0, 20.0], strict=True):
        parameter.data.fill_(value)
    average.update(tau=0.1)  # 0.9 * 10 + 0.1 * 1, 0.9 * 20 + 0.1 * 2
    torch.testing.assert_close(frozen.weight.item(), 9.1)
    torch.testing.assert_close(frozen.bias.item(), 18.2)
    assert [parameter.item() for parameter in online.parameters()] == [1.0, 2.0]
    average.update(tau=1.0)
    assert frozen.weight.item() == 1.0


def test_a_target_is_a_copy_that_does_not_move_with_the_network(generators: Generators) -> None:
    critic = CriticEnsemble(generators(0), 2, 1, (4,), 2)
    target = frozen_copy(critic)
    inputs = torch.zeros(1, 3, 2), torch.zeros(1, 3, 1)
    before = target(*inputs)
    assert torch.equal(before, critic(*inputs))
    loss = losses.over_batch((critic(*inputs) - 1.0).square())
    Adam(critic.parameters(), 0.1).step(gradients(loss, critic))
    assert torch.equal(target(*inputs), before)
    assert not torch.equal(critic(*inputs), before)


def test_no_gradient_reaches_a_target(generators: Generators) -> None:
    critic = CriticEnsemble(generators(0), 2, 1, (4,), 2)
    target = frozen_copy(critic)
    actions = torch.zeros(1, 3, 1, requires_grad=True)
    (critic(torch.zeros(1, 3, 2), actions) - target(torch.zeros(1, 3, 2), actions)).square().sum().backward()
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.grad is None for parameter in target.parameters())
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_random_subset_by_hand() -> None:
    values = torch.tensor([[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]]])  # (2, 3, 1)
    uniform = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.8, 0.3]])
    assert random_subset(values, uniform, 2).tolist() == [[[2.0], [3.0]], [[4.0], [6.0]]]
    assert random_subset(values, uniform, 1).tolist() == [[[2.0]], [[4.0]]]


def test_random_subset_draws_every_critic_equally_often_and_never_twice() -> None:
    uniform = torch.rand(4_000, 5, generator=torch.Generator().manual_seed(0))
    numbers = torch.arange(5.0).expand(4_000, 5).unsqueeze(-1)
    chosen = random_subset(numbers, uniform, 2).squeeze(-1)
    assert (chosen[:, 0] != chosen[:, 1]).all()
    shares = torch.bincount(chosen.flatten().long(), minlength=5) / 8_000
    torch.testing.assert_close(shares, torch.full((5,), 0.2), rtol=0, atol=0.02)
