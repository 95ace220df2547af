"""Losses: numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from orl import losses


def test_over_batch_averages_the_last_axis_and_sums_the_others() -> None:
    values = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[0.0, 2.0], [4.0, 4.0]]])  # means 2, 6, 1, 4
    assert losses.over_batch(values).item() == 13.0


def test_td_target_bootstraps_unless_terminated() -> None:
    targets = losses.td_target(
        torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0, 10.0]]), discount=0.5
    )
    assert targets.tolist() == [[6.0, 1.0]]


@pytest.mark.parametrize(("expectile", "expected"), [(0.5, 0.5 * (4 + 9) / 2), (0.9, (0.9 * 4 + 0.1 * 9) / 2)])
def test_expectile_loss_weighs_the_sides(expectile: float, expected: float) -> None:
    values, targets = torch.tensor([[0.0, 3.0]]), torch.tensor([[2.0, 0.0]])  # u = 2 and -3
    loss = losses.expectile_loss(values, targets, expectile)
    assert loss.shape == (1, 2)
    assert loss.mean().item() == pytest.approx(expected)


def test_expectile_loss_is_least_at_the_expectile() -> None:
    """For targets 0 and 1 the tau-expectile is tau: tau (1 - v) = (1 - tau) v."""
    value = torch.tensor([[0.8, 0.8]], requires_grad=True)
    losses.expectile_loss(value, torch.tensor([[0.0, 1.0]]), 0.8).mean().backward()
    assert value.grad is not None
    assert value.grad.sum().item() == pytest.approx(0.0, abs=1e-6)


def test_behaviour_cloning_loss_averages_batch_and_action_dimensions() -> None:
    actions = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 2.0]]])
    data_actions = torch.zeros(2, 2, 2)
    loss = losses.behaviour_cloning_loss(actions, data_actions)
    assert loss.shape == (2, 2)
    assert losses.over_batch(loss).item() == 1 / 4 + 4 / 4


@pytest.mark.parametrize("loss", ["expectile_loss", "behaviour_cloning_loss"])
def test_a_learner_has_the_gradient_that_it_has_alone(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)

    def gradient(values: Tensor, targets: Tensor) -> Tensor:
        values = values.clone().requires_grad_()
        call = getattr(losses, loss)
        loss_of_rows = call(values, targets, 0.7) if loss == "expectile_loss" else call(values, targets)
        losses.over_batch(loss_of_rows).backward()
        assert values.grad is not None
        return values.grad

    shape = {"expectile_loss": (3, 5), "behaviour_cloning_loss": (3, 5, 2)}[loss]
    values, targets = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    together = gradient(values, targets)
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], gradient(values[k : k + 1], targets[k : k + 1]))


def test_huber_is_quadratic_inside_and_linear_beyond() -> None:
    errors = torch.tensor([0.0, -1.0, 2.0, 5.0, -5.0])
    assert losses.huber(errors, 2.0).tolist() == [0.0, 1.0, 4.0, 16.0, 16.0]  # 2 (2 * 5 - 2)
    assert losses.huber(errors, math.inf).tolist() == [0.0, 1.0, 4.0, 25.0, 25.0]


def test_huber_is_twice_that_of_torch() -> None:
    errors = torch.linspace(-3, 3, 31)
    expected = 2 * torch.nn.functional.huber_loss(errors, torch.zeros(31), reduction="none", delta=0.7)
    torch.testing.assert_close(losses.huber(errors, 0.7), expected)


def test_a_categorical_target_splits_mass_between_neighbours_and_keeps_the_mean() -> None:
    support = torch.tensor([[-1.0, 0.0, 1.0]])
    probabilities = torch.tensor([[[0.2, 0.3, 0.5]]])
    target = losses.categorical_target(probabilities, torch.tensor([[[-0.5, 0.25, 0.75]]]), support)
    # 0.2 at -0.5: halves to -1 and 0; 0.3 at 0.25: 0.225 and 0.075; 0.5 at 0.75: 0.125 and 0.375
    torch.testing.assert_close(target, torch.tensor([[[0.1, 0.45, 0.45]]]))
    assert (target * support).sum().item() == pytest.approx(0.35)  # -0.5 * 0.2 + 0.25 * 0.3 + 0.75 * 0.5


def test_a_categorical_target_keeps_mass_on_bins_and_beyond_the_ends() -> None:
    support = torch.tensor([[-1.0, 0.0, 1.0]])
    target = losses.categorical_target(torch.tensor([[[0.2, 0.3, 0.5]]]), torch.tensor([[[-3.0, 0.0, 1.0]]]), support)
    torch.testing.assert_close(target, torch.tensor([[[0.2, 0.3, 0.5]]]))


def test_cross_entropy_sums_critics() -> None:
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(3.0), 0.0]]]])  # (1, 2, 1, 2): halves; three quarters and one
    loss = losses.over_batch(losses.cross_entropy(logits, torch.tensor([[[1.0, 0.0]]])))
    assert loss.item() == pytest.approx(math.log(2.0) + math.log(4.0 / 3.0))
