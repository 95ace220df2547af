"""Flat state: everything that an update depends on, learners first."""

from __future__ import annotations

from collections.abc import Callable

import torch

from orl.networks import StackedMLP
from orl.state import flatten_state, restore_state
from orl.updates import adam, descend, gradients

Generators = Callable[..., list[torch.Generator]]


def trained(generators: Generators, steps: int) -> tuple[StackedMLP, torch.optim.Adam]:
    network = StackedMLP(generators(0, 1), (2, 4, 1), members=(3,))
    optimizer = adam(network.parameters(), 0.01)
    for _ in range(steps):
        train_once(network, optimizer)
    return network, optimizer


def train_once(network: StackedMLP, optimizer: torch.optim.Adam) -> None:
    descend(optimizer, gradients((network(torch.ones(2, 3, 5, 2)) - 1).square().sum(), network))


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
    assert not any(name.startswith("optimizer") for name in tensors)
    fresh = trained(generators, 0)
    restore_state({"net": fresh[0]}, {"net": fresh[1]}, {}, tensors)
    train_once(*fresh)
    train_once(network, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), fresh[0].parameters(), strict=True))


def test_moments_take_the_precision_of_their_parameters(generators: Generators) -> None:
    """And an optimizer that has stepped is restored in place."""
    network, optimizer = trained(generators, 2)
    tensors = flatten_state({"net": network}, {"net": optimizer}, {})
    doubled, fresh = trained(generators, 0)[0].double(), trained(generators, 1)
    for restored in ((doubled, adam(doubled.parameters(), 0.01)), fresh):
        before = {id(value) for state in restored[1].state.values() for value in state.values()}
        restore_state({"net": restored[0]}, {"net": restored[1]}, {}, tensors)
        for i, parameter in enumerate(restored[0].parameters()):
            state = restored[1].state[parameter]
            assert state["exp_avg"].dtype == parameter.dtype
            assert torch.equal(state["exp_avg"].float(), tensors[f"optimizer/net/{i}/exp_avg"])
            assert state["step"].item() == 2.0
            assert not before or {id(value) for value in state.values()} <= before
