"""Flat state: everything that an update depends on, learners first."""

from __future__ import annotations

from collections.abc import Callable

import torch

from orl.checkpoint import flatten_state, restore_state
from orl.networks import StackedMLP
from orl.updates import Adam, gradients

Generators = Callable[..., list[torch.Generator]]


def trained(generators: Generators, steps: int) -> tuple[StackedMLP, Adam]:
    network = StackedMLP(generators(0, 1), (2, 4, 1), members=(3,))
    optimizer = Adam(network.parameters(), 0.01)
    for _ in range(steps):
        train_once(network, optimizer)
    return network, optimizer


def train_once(network: StackedMLP, optimizer: Adam) -> None:
    optimizer.step(gradients((network(torch.ones(2, 3, 5, 2)) - 1).square().sum(), network))


def test_names_and_leading_axes(generators: Generators) -> None:
    network, optimizer = trained(generators, 2)
    tensors = flatten_state({"net": network}, {"net": optimizer}, {"scale": torch.ones(2, 1)})
    assert "net/layers.0.weight" in tensors
    assert tensors["optimizer/net/0/step"].tolist() == [2.0, 2.0]
    assert tensors["optimizer/net/3/exp_avg_sq"].shape == (2, 3, 1, 1)
    assert all(len(tensor) == 2 for tensor in tensors.values())


def test_the_state_is_a_copy(generators: Generators) -> None:
    network, optimizer = trained(generators, 1)
    tensors = flatten_state({"net": network}, {"net": optimizer}, {})
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    train_once(network, optimizer)
    assert all(torch.equal(tensors[name], before[name]) for name in tensors)


def test_a_restored_network_and_optimizer_continue_bit_for_bit(generators: Generators) -> None:
    network, optimizer = trained(generators, 3)
    scale = torch.tensor([[5.0], [6.0]])
    tensors = flatten_state({"net": network}, {"net": optimizer}, {"scale": scale})
    other, fresh = torch.zeros(2, 1), trained(lambda *seeds: generators(7, 8), 0)
    restore_state({"net": fresh[0]}, {"net": fresh[1]}, {"scale": other}, tensors)
    assert torch.equal(other, scale)
    for _ in range(3):
        train_once(network, optimizer)
        train_once(*fresh)
    for mine, theirs in zip(network.parameters(), fresh[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_an_optimizer_that_has_not_stepped_is_restored_as_such(generators: Generators) -> None:
    network, optimizer = trained(generators, 0)
    tensors = flatten_state({"net": network}, {"net": optimizer}, {})
    fresh = trained(generators, 2)
    restore_state({"net": fresh[0]}, {"net": fresh[1]}, {}, tensors)
    train_once(*fresh)
    train_once(network, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), fresh[0].parameters(), strict=True))


def test_moments_take_the_precision_of_their_parameters_and_keep_their_places(generators: Generators) -> None:
    """A captured update looks for them there."""
    network, optimizer = trained(generators, 2)
    tensors = flatten_state({"net": network}, {"net": optimizer}, {})
    doubled = trained(generators, 0)[0].double()
    restored = Adam(doubled.parameters(), 0.01)
    before = [*restored.exp_avg, *restored.exp_avg_sq, restored.steps]
    restore_state({"net": doubled}, {"net": restored}, {}, tensors)
    after = [*restored.exp_avg, *restored.exp_avg_sq, restored.steps]
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert [moment.dtype for moment in after[:-1]] == [torch.float64] * (len(after) - 1)
    assert torch.equal(restored.exp_avg[1].float(), tensors["optimizer/net/1/exp_avg"])
    assert restored.steps.item() == 2.0
