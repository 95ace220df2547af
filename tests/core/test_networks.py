"""Stacked layers equal separate `torch.nn` layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from orl.networks import StackedLinear, StackedMLP

Generators = Callable[..., list[torch.Generator]]


@pytest.mark.parametrize("members", [(), (2,), (2, 3)])
def test_a_stacked_layer_equals_separate_linear_layers(members: tuple[int, ...], generators: Generators) -> None:
    stacked = StackedLinear(members, 4, 5, generators(0, 1, 2))
    inputs = torch.randn(3, *members, 7, 4, generator=torch.Generator().manual_seed(0))
    outputs = stacked(inputs)
    assert outputs.shape == (3, *members, 7, 5)
    rows = zip(
        stacked.weight.reshape(-1, 4, 5),
        stacked.bias.reshape(-1, 5),
        inputs.reshape(-1, 7, 4),
        outputs.reshape(-1, 7, 5),
        strict=True,
    )
    for weight, bias, own, output in rows:
        linear = nn.Linear(4, 5)
        linear.load_state_dict({"weight": weight.T, "bias": bias})
        torch.testing.assert_close(linear(own), output, rtol=0, atol=1e-6)


def test_a_stacked_mlp_equals_separate_networks(generators: Generators) -> None:
    stacked = StackedMLP(generators(3, 4), (4, 8, 6, 2), members=(2,))
    inputs = torch.randn(2, 2, 9, 4, generator=torch.Generator().manual_seed(0))
    outputs = stacked(inputs)
    for learner in range(2):
        for member in range(2):
            own = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
            for layer, source in zip([own[0], own[2], own[4]], stacked.layers, strict=True):
                layer.weight.data.copy_(source.weight[learner, member].T)
                layer.bias.data.copy_(source.bias[learner, member, 0])
            torch.testing.assert_close(own(inputs[learner, member]), outputs[learner, member], rtol=0, atol=1e-6)


def test_expanded_inputs_are_allowed(generators: Generators) -> None:
    """Critics of one learner read one batch, expanded and not copied."""
    stacked = StackedMLP(generators(0), (3, 4, 1), members=(5,))
    inputs = torch.randn(1, 1, 6, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(stacked(inputs.expand(-1, 5, -1, -1)), stacked(inputs.repeat(1, 5, 1, 1)))


def test_initial_values_are_uniform_within_one_over_root_of_inputs(generators: Generators) -> None:
    layer = StackedLinear((2,), 16, 200, generators(0))
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max().item() <= 0.25
    assert layer.weight.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.03)
    assert layer.weight.abs().max().item() > 0.249


def test_a_learner_starts_as_it_would_alone_and_members_differ(generators: Generators) -> None:
    together = StackedMLP(generators(5, 6), (3, 4, 1), members=(2,))
    alone = StackedMLP(generators(6), (3, 4, 1), members=(2,))
    for stacked, own in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(stacked[1:], own)
        assert not torch.equal(stacked[0], stacked[1])
        assert not torch.equal(own[0, 0], own[0, 1])
