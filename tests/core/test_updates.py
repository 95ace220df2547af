"""Gradient steps: which parameters they move, and how far."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from orl import losses
from orl.updates import Adam, clipped, gradients

Generators = Callable[..., list[torch.Generator]]


def test_a_step_leaves_networks_of_other_optimizers_and_their_gradients_alone() -> None:
    """An actor's loss runs through the critic; the critic must not notice."""
    actor, critic = nn.Linear(2, 1), nn.Linear(1, 1)
    critic.weight.grad = torch.full((1, 1), 7.0)
    before = critic.weight.detach().clone(), actor.weight.detach().clone()
    loss = critic(actor(torch.ones(3, 2))).mean()
    Adam(actor.parameters(), 0.1).step(gradients(loss, actor))
    assert torch.equal(critic.weight, before[0])
    assert critic.weight.grad.item() == 7.0
    assert critic.bias.grad is None
    assert not torch.equal(actor.weight, before[1])


def test_many_steps_are_torch_s() -> None:
    """Bit for bit, with a learning rate that changes."""
    mine, theirs = nn.Linear(5, 4), nn.Linear(5, 4)
    theirs.load_state_dict(mine.state_dict())
    optimizer, other = Adam(mine.parameters(), 0.1), torch.optim.Adam(theirs.parameters(), 0.1, fused=True)
    for step in range(20):
        inputs = torch.randn(8, 5, generator=torch.Generator().manual_seed(step))
        optimizer.learning_rate.fill_(0.1 / (1 + step))
        other.param_groups[0]["lr"] = 0.1 / (1 + step)
        optimizer.step(gradients(mine(inputs).square().sum(), mine))
        other.zero_grad()
        theirs(inputs).square().sum().backward()
        other.step()
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert all(
        torch.equal(optimizer.exp_avg_sq[i], other.state[p]["exp_avg_sq"]) for i, p in enumerate(theirs.parameters())
    )


def test_a_step_needs_a_gradient_of_every_parameter() -> None:
    network = nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match=r"grads\.size"):
        Adam(network.parameters(), 0.1).step((torch.ones(1, 2),))


def test_the_first_step_of_adam_has_the_length_of_the_learning_rate_and_descends() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -1.0]))
    Adam([weight], 0.25).step(gradients(losses.over_batch(weight.square()), nn.ParameterList([weight])))
    torch.testing.assert_close(weight.detach(), torch.tensor([0.75, -0.75]))


def test_the_learning_rate_can_change_between_steps() -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    optimizer = Adam([weight], 0.5)
    for rate, left in ((0.5, 0.5), (0.25, 0.25), (0.0, 0.25)):
        optimizer.learning_rate.fill_(rate)
        optimizer.step(gradients(weight.sum(), nn.ParameterList([weight])))
        torch.testing.assert_close(weight.item(), left, rtol=1e-5, atol=1e-6)


def test_clipping_is_per_learner_and_over_all_its_parameters() -> None:
    """Norms 5 and 0.5; a learner below the limit keeps its gradients bit for bit."""
    weight, bias = torch.tensor([[[3.0, 0.0]], [[0.3, 0.0]]]), torch.tensor([[[4.0]], [[0.4]]])
    found = clipped((weight, bias), 1.0)
    torch.testing.assert_close(found[0][0], weight[0] / 5)
    torch.testing.assert_close(found[1][0], bias[0] / 5)
    assert torch.equal(found[0][1], weight[1])
    assert torch.equal(found[1][1], bias[1])
    assert not clipped((torch.zeros(1, 2),), 1.0)[0].any()
