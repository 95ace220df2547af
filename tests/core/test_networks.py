"""Stacked layers equal separate `torch.nn` layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from orl.networks import StackedLayerNorm, StackedLinear, StackedMLP, drop_units_

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


@pytest.mark.parametrize("members", [(), (2,), (2, 3)])
def test_stacked_layer_normalisation_equals_separate_ones(members: tuple[int, ...], float64: None) -> None:
    stacked = StackedLayerNorm((3, *members), 6)
    noise = torch.Generator().manual_seed(0)
    for parameter in stacked.parameters():
        parameter.data.normal_(generator=noise)
    inputs = torch.randn(3, *members, 5, 6, generator=noise)
    inputs[..., 0, :] = 3.0  # a row without variance
    outputs = stacked(inputs)
    rows = zip(stacked.weight.reshape(-1, 6), stacked.bias.reshape(-1, 6), inputs.reshape(-1, 5, 6), strict=True)
    for (weight, bias, own), output in zip(rows, outputs.reshape(-1, 5, 6), strict=True):
        norm = nn.LayerNorm(6)
        norm.load_state_dict({"weight": weight, "bias": bias})
        torch.testing.assert_close(norm(own), output, rtol=0, atol=1e-12)


def test_dropout_by_hand() -> None:
    """Units are counted in each learner's own (critics, batch, features); a factor of 1 stands for none."""
    inputs = torch.arange(1.0, 13.0).view(2, 1, 2, 3)
    positions, factors = torch.tensor([[0, 4, 4, 5], [5, 5, 5, 5]]), torch.tensor([[0.0, 0, 0, 1], [1, 1, 1, 1]])
    scaled = inputs / 0.75
    outputs = drop_units_(inputs.clone(), positions, factors, 0.25)
    scaled[0, 0, 0, 0] = scaled[0, 0, 1, 1] = 0.0
    torch.testing.assert_close(outputs, scaled)


def test_hidden_layers_are_linear_dropout_normalisation_relu(generators: Generators, float64: None) -> None:
    stacked = StackedMLP(generators(3, 4), (4, 8, 6, 2), members=(2,), normalized=True, dropout_rate=0.3)
    noise = torch.Generator().manual_seed(0)
    for parameter in stacked.norms.parameters():
        parameter.data.normal_(generator=noise)
    inputs = torch.randn(2, 2, 9, 4, generator=noise)
    keeps = [(torch.rand(2, 2, 9, size, generator=noise) > 0.3) for size in (8, 6)]
    noise = {name: values for i, keep in enumerate(keeps) for name, values in dropped_by(f"dropped/{i}", keep).items()}
    outputs = stacked(inputs, noise)
    without = stacked(inputs)
    for p in range(2):
        for c in range(2):
            for given, masks in ((outputs, keeps), (without, None)):
                hidden = inputs[p, c]
                for i, size in enumerate((8, 6)):
                    layer, norm = stacked.layers[i], stacked.norms[i]
                    hidden = hidden @ layer.weight[p, c] + layer.bias[p, c]
                    if masks is not None:
                        hidden = torch.where(masks[i][p, c], hidden / 0.7, 0.0)
                    hidden = nn.functional.layer_norm(hidden, (size,), norm.weight[p, c, 0], norm.bias[p, c, 0]).relu()
                expected = hidden @ stacked.layers[2].weight[p, c] + stacked.layers[2].bias[p, c]
                torch.testing.assert_close(given[p, c], expected, rtol=0, atol=1e-12)


def dropped_by(name: str, keep: Tensor) -> dict[str, Tensor]:
    """Masks (P, *units) as positions of units and their factors: of all, also of those that stay."""
    factors = keep.flatten(1).double()
    return {name: torch.arange(factors.shape[1]).expand(len(keep), -1), f"{name}/factors": factors}


def test_dropout_keeps_the_mean_and_passes_no_gradient_to_dropped_units() -> None:
    inputs = torch.ones(1, 4, 50, requires_grad=True)
    positions, factors = torch.tensor([[3, 199, 199]]), torch.tensor([[0.0, 0.0, 1.0]])
    outputs = inputs * drop_units_(torch.ones(1, 4, 50), positions, factors, 0.01)
    outputs.sum().backward()
    assert inputs.grad is not None
    assert (inputs.grad.flatten()[[3, 199]] == 0).all()
    assert inputs.grad.sum().item() == pytest.approx(198 / 0.99)


def test_a_normalised_learner_starts_as_it_would_alone(generators: Generators) -> None:
    together = StackedMLP(generators(5, 6), (3, 4, 1), members=(2,), normalized=True)
    alone = StackedMLP(generators(6), (3, 4, 1), members=(2,), normalized=True)
    plain = StackedMLP(generators(6), (3, 4, 1), members=(2,))
    for stacked, own in zip(together.parameters(), alone.parameters(), strict=True):
        assert torch.equal(stacked[1:], own)
    assert all(torch.equal(a.weight, b.weight) for a, b in zip(alone.layers, plain.layers, strict=True))
