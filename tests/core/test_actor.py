"""Policies: densities against `torch.distributions`, bounds, shapes."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from orl.networks import (
    DeterministicActor,
    EntropyCoefficient,
    GaussianActor,
    SquashedGaussianActor,
)

Generators = Callable[..., list[torch.Generator]]


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_a_log_density_by_hand(generators: Generators) -> None:
    """Deviations of 0 and 2 standard deviations, which are 1 and 0.5."""
    actor = GaussianActor(generators(0), 3, 2, (8,))
    actor.log_std.data.copy_(torch.tensor([[[0.0, math.log(0.5)]]]))
    observations = noise(1, 1, 3)
    log_prob = actor.log_prob(observations, actor(observations)[0] + torch.tensor([0.0, 1.0]))
    assert log_prob.shape == (1, 1)
    expected = -0.5 * math.log(2 * math.pi) + (-2.0 - math.log(0.5) - 0.5 * math.log(2 * math.pi))
    assert log_prob.item() == pytest.approx(expected)


def test_a_deterministic_actor_is_the_tanh_of_its_network(generators: Generators) -> None:
    actor = DeterministicActor(generators(0, 1), 3, 2, (8,))
    observations = 100 * noise(2, 5, 3)
    actions = actor(observations)
    torch.testing.assert_close(actions, torch.tanh(actor.network(observations)))
    assert actions.shape == (2, 5, 2)
    assert actions.abs().max() <= 1.0


def test_a_gaussian_actor_has_the_density_of_a_normal(generators: Generators, float64: None) -> None:
    actor = GaussianActor(generators(0, 1), 3, 2, (8,))
    actor.log_std.data.copy_(torch.tensor([[[0.3, -1.0]], [[0.0, 0.7]]]))
    observations, actions = noise(2, 5, 3), noise(2, 5, 2).clamp(-1, 1)
    mean, std = actor(observations)
    assert (mean.shape, std.shape) == ((2, 5, 2), (2, 1, 2))
    expected = Independent(Normal(mean, actor.log_std.exp().expand_as(mean)), 1).log_prob(actions)
    torch.testing.assert_close(actor.log_prob(observations, actions), expected, rtol=0, atol=1e-12)


def test_a_gaussian_sample_is_mean_plus_noise_clipped(generators: Generators) -> None:
    actor = GaussianActor(generators(0), 3, 2, (8,))
    observations = noise(1, 4, 3)
    mean = actor(observations)[0]
    small, large = torch.full((1, 4, 2), 0.01), torch.full((1, 4, 2), -50.0)
    torch.testing.assert_close(mean, torch.tanh(actor.network(observations)))
    torch.testing.assert_close(actor.sample(observations, small), mean + 0.01)  # log-std starts at 0
    assert torch.equal(actor.sample(observations, large), torch.full((1, 4, 2), -1.0))


def test_log_std_is_kept_in_its_range(generators: Generators) -> None:
    actor = GaussianActor(generators(0), 1, 2, (4,))
    actor.log_std.data.copy_(torch.tensor([[[-30.0, 30.0]]]))
    assert actor(torch.zeros(1, 1, 1))[1].log().flatten().tolist() == pytest.approx([-20.0, 2.0])


def test_a_squashed_actor_has_the_density_of_a_tanh_transformed_normal(generators: Generators, float64: None) -> None:
    actor = SquashedGaussianActor(generators(0, 1), 3, 2, (8,))
    observations, standard = noise(2, 50, 3), noise(2, 50, 2)
    actions, log_prob = actor.sample(observations, standard)
    mean, std = actor(observations)
    transform = TanhTransform(cache_size=1)
    squashed = transform(mean + std * standard)  # the cache keeps what atanh would lose
    expected = TransformedDistribution(Independent(Normal(mean, std), 1), [transform]).log_prob(squashed)
    torch.testing.assert_close(actions, squashed, rtol=0, atol=1e-12)
    assert log_prob.shape == (2, 50)
    torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-10)


def test_a_squashed_log_density_stays_finite_where_tanh_saturates(generators: Generators) -> None:
    actor = SquashedGaussianActor(generators(0), 3, 2, (8,))
    standard = torch.full((1, 1, 2), 60.0)
    actions, log_prob = actor.sample(torch.zeros(1, 1, 3), standard)
    assert (actions == 1.0).all()
    assert torch.isfinite(log_prob).all()


def test_a_squashed_sample_passes_gradients_and_its_mode_is_tanh_of_the_mean(generators: Generators) -> None:
    actor = SquashedGaussianActor(generators(0), 3, 2, (8,))
    observations = noise(1, 4, 3)
    torch.testing.assert_close(actor.mode(observations), torch.tanh(actor(observations)[0]))
    torch.testing.assert_close(actor.sample(observations, torch.zeros(1, 4, 2))[0], actor.mode(observations))
    actions, _ = actor.sample(observations, noise(1, 4, 2))
    actions.sum().backward()
    assert all(parameter.grad is not None for parameter in actor.parameters())


@pytest.mark.parametrize("raw", [-20.0, -5.0, 0.0, 5.0, 20.0])
def test_a_squashed_log_density_is_exact_far_out(generators: Generators, raw: float) -> None:
    """float32 at |u| = 20, where 1 - tanh(u)^2 is 0: log(1 - tanh(u)^2) = log 4 - 2 |u| - 2 log(1 + exp(-2 |u|))."""
    actor = SquashedGaussianActor(generators(0), 2, 1, (4,))
    layer = actor.network.layers[-1]
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([[[raw, math.log(0.5)]]]))
    action, log_prob = actor.sample(torch.zeros(1, 1, 2), torch.zeros(1, 1, 1))
    slope = math.log(4.0) - 2 * abs(raw) - 2 * math.log1p(math.exp(-2 * abs(raw)))
    assert action.item() == pytest.approx(math.tanh(raw), abs=1e-7)
    assert log_prob.item() == pytest.approx(-0.5 * math.log(2 * math.pi) - math.log(0.5) - slope, rel=1e-6)
    log_prob.sum().backward()
    assert layer.bias.grad is not None
    assert layer.bias.grad[0, 0, 0].item() == pytest.approx(2 * math.tanh(raw), abs=1e-6)  # d/du of -log(1 - tanh^2)


def test_an_entropy_coefficient_starts_where_it_is_told_and_stays_positive() -> None:
    coefficient = EntropyCoefficient(3, 0.2)
    torch.testing.assert_close(coefficient(), torch.full((3, 1), 0.2))
    coefficient.log_value.data.copy_(torch.tensor([-50.0, 0.0, 3.0]))
    assert (coefficient() > 0).all()
