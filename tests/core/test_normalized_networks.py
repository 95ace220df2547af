"""Normalised networks against torch's own layers, and what a projection keeps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from orl.agents.flash_sac.networks import (
    CategoricalCritic,
    NormalizedActor,
    ResidualBlock,
    StackedBatchNorm,
    StackedRMSNorm,
    UnitLinear,
    project,
)

pytestmark = pytest.mark.usefixtures("float64")


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(k) for k in range(count)]


def test_batch_norm_equals_torchs_for_every_member() -> None:
    stacked = StackedBatchNorm((2, 3), 4)
    plain = [nn.BatchNorm1d(4, momentum=0.01) for _ in range(6)]
    inputs = torch.randn(5, 2, 3, 8, 4, generator=torch.Generator().manual_seed(0))
    for batch in inputs:
        ours = stacked(batch, True)
        theirs = torch.stack([norm(rows) for norm, rows in zip(plain, batch.flatten(0, 1), strict=True)])
        torch.testing.assert_close(ours.flatten(0, 1), theirs)
    for norm in plain:
        norm.eval()
    theirs = torch.stack([norm(rows) for norm, rows in zip(plain, inputs[0].flatten(0, 1), strict=True)])
    torch.testing.assert_close(stacked(inputs[0], False).flatten(0, 1), theirs)


def test_running_statistics_are_written_in_training_alone() -> None:
    norm = StackedBatchNorm((1,), 3)
    norm(torch.randn(1, 8, 3), False)
    assert torch.equal(norm.running_mean, torch.zeros(1, 1, 3))
    norm(torch.randn(1, 8, 3) + 1.0, True)
    assert (norm.running_mean != 0).all()


def test_rms_norm_equals_torchs() -> None:
    inputs = torch.randn(2, 5, 8)
    torch.testing.assert_close(StackedRMSNorm((2,), 8)(inputs), nn.RMSNorm(8, eps=1e-6)(inputs))


def test_a_residual_block_equals_torchs_layers() -> None:
    block = ResidualBlock(generators(1), 4, ())
    inputs = torch.randn(1, 6, 4)

    def normed(rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.batch_norm(rows, None, None, training=True)

    inside = normed(inputs[0] @ block.widen.weight[0]).relu()
    expected = inputs[0] + normed(inside @ block.narrow.weight[0]).relu()
    assert inside.shape == (6, 16)
    torch.testing.assert_close(block(inputs, True)[0], expected)


def test_projection_puts_every_layer_back_on_its_sphere() -> None:
    critic = CategoricalCritic(generators(2), 5, 8, 2, 3, 11, 5.0)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(0.3)
    project(critic)
    for module in critic.modules():
        if isinstance(module, UnitLinear):
            torch.testing.assert_close(module.weight.norm(dim=-2), torch.ones_like(module.weight[..., 0, :]))
        if isinstance(module, StackedBatchNorm):
            size = (module.weight.square() + module.bias.square()).sum(-1)
            torch.testing.assert_close(size, torch.full_like(size, module.weight.shape[-1]))
        if isinstance(module, StackedRMSNorm):
            size = module.weight.square().sum(-1)
            torch.testing.assert_close(size, torch.full_like(size, module.weight.shape[-1]))


def test_members_never_meet() -> None:
    critic = CategoricalCritic(generators(2), 5, 8, 1, 2, 11, 5.0)
    alone = CategoricalCritic(generators(2)[1:], 5, 8, 1, 2, 11, 5.0)
    observations, actions = torch.randn(2, 6, 3), torch.randn(2, 6, 2)
    together = critic(observations, actions, True)[1:]
    torch.testing.assert_close(together, alone(observations[1:], actions[1:], True))


def test_rows_of_a_permuted_batch_are_permuted_and_running_rows_are_alone() -> None:
    critic = CategoricalCritic(generators(1), 5, 8, 1, 2, 11, 5.0)
    observations, actions, order = torch.randn(1, 6, 3), torch.randn(1, 6, 2), torch.randperm(6)
    whole = critic(observations, actions, True)
    torch.testing.assert_close(critic(observations[:, order], actions[:, order], True), whole[:, :, order])
    running = critic(observations, actions, False)
    torch.testing.assert_close(critic(observations[:, :1], actions[:, :1], False), running[:, :, :1])


def test_values_are_expectations_within_the_support() -> None:
    critic = CategoricalCritic(generators(1), 5, 8, 1, 2, 3, 5.0)
    logits = torch.log(torch.tensor([[[[0.2, 0.3, 0.5]]]]))
    torch.testing.assert_close(critic.values(logits), torch.tensor([[[1.5]]]))  # -5 * 0.2 + 5 * 0.5


def test_the_actors_density_is_that_of_its_sample() -> None:
    actor = NormalizedActor(generators(2), 3, 2, 8, 1)
    observations, noise = torch.randn(2, 5, 3), torch.randn(2, 5, 2)
    actions, log_prob = actor.sample(observations, noise)
    mean, std = actor(observations, False)
    normal = torch.distributions.Normal(mean, std)
    expected = normal.log_prob(mean + std * noise) - torch.log1p(-actions.square())
    torch.testing.assert_close(log_prob, expected.sum(-1))
    for bias, log_std in ((-50.0, -10.0), (50.0, 2.0)):
        actor.log_std.bias.data.fill_(bias)
        torch.testing.assert_close(actor(observations, False)[1].log(), torch.full((2, 5, 2), log_std))


def test_acting_takes_the_running_statistics_and_leaves_them() -> None:
    actor = NormalizedActor(generators(1), 3, 2, 8, 1)
    observations = 5.0 + torch.randn(1, 6, 3)
    before = {name: tensor.clone() for name, tensor in actor.state_dict().items()}
    alone = torch.cat([actor.mode(observations[:, i : i + 1]) for i in range(6)], dim=1)
    torch.testing.assert_close(actor.mode(observations), alone)
    torch.testing.assert_close(actor.sample(observations, torch.zeros(1, 6, 2))[0], alone)
    assert all(torch.equal(tensor, before[name]) for name, tensor in actor.state_dict().items())
