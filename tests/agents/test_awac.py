"""AWAC: a twin in plain torch, its weights, the ends of episodes, and a bandit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from orl.agents import AWAC
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "actor_hidden_sizes": (8, 8, 8), "batch_size": 16}
QUICK: dict[str, Any] = {
    "hidden_sizes": (32, 32), "actor_hidden_sizes": (32, 32), "batch_size": 64, "critic_learning_rate": 3e-3,
    "actor_learning_rate": 3e-3, "tau": 0.05,
}  # fmt: skip


@pytest.mark.parametrize("normalize", [True, False])
def test_updates_equal_a_naive_implementation(make_data: MakeData, twin: Any, float64: None, normalize: bool) -> None:
    data = make_data()
    agent = AWAC(
        data, seed=3, discount=0.9, tau=0.1, temperature=0.2, normalize_weights=normalize, maximum_weight=2.0,
        critic_learning_rate=1e-2, actor_learning_rate=2e-2, actor_weight_decay=0.05, **SMALL,
    )  # fmt: skip
    naive = twin(agent, data)
    critics = [naive.network(agent.critic.network, c) for c in range(2)]
    actor, raw_std = naive.network(agent.actor.network), torch.zeros(2, requires_grad=True)
    targets = copy.deepcopy(critics)
    critic_optimizers = [torch.optim.Adam(critic.parameters(), lr=1e-2) for critic in critics]
    actor_optimizer = torch.optim.Adam([*actor.parameters(), raw_std], lr=2e-2, weight_decay=0.05)

    def policy(states: Tensor) -> Normal:
        return Normal(torch.tanh(actor(states)), torch.exp(-6.0 + 6.0 * torch.sigmoid(raw_std)))

    def sample(states: Tensor, normal: Tensor) -> Tensor:
        return torch.clamp(policy(states).mean + policy(states).stddev * normal, -1.0, 1.0).detach()

    def smaller(pair: list[Any], states: Tensor, actions: Tensor) -> Tensor:
        return torch.minimum(*(critic(torch.cat([states, actions], 1))[:, 0] for critic in pair)).detach()

    weights_seen = []
    for _ in range(10):
        s, a, r, s_next, terminated, numbers = naive.batch()
        bootstrap = smaller(targets, s_next, sample(s_next, numbers["next_noise"]))
        y = r + 0.9 * torch.where(terminated > 0, 0.0, bootstrap)
        for critic, optimizer in zip(critics, critic_optimizers, strict=True):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(critic(torch.cat([s, a], 1))[:, 0], y).backward()
            optimizer.step()

        advantages = smaller(critics, s, a) - smaller(critics, s, sample(s, numbers["actor_noise"]))
        weights = torch.exp(advantages / 0.2)
        weights = weights / weights.mean() if normalize else weights.clamp(max=2.0)
        loss = -(weights * policy(s).log_prob(a).sum(1)).mean()
        actor_optimizer.zero_grad()
        loss.backward()
        actor_optimizer.step()
        weights_seen += weights.tolist()

        for target, online in zip(targets, critics, strict=True):
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.data = 0.9 * slow.data + 0.1 * fast.data
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert metrics["actor_loss"].item() == pytest.approx(loss.item(), abs=1e-8)
        assert metrics["advantage"].item() == pytest.approx(advantages.mean().item(), abs=1e-10)
        assert metrics["largest_weight"].item() == pytest.approx(weights.max().item(), abs=1e-10)
    assert min(weights_seen) < 0.9  # weights that differ, of which not all are clipped
    assert max(weights_seen) == 2.0 if not normalize else max(weights_seen) > 1.1
    for c in range(2):
        naive.check(critics[c], agent.critic.network, c)
        naive.check(targets[c], agent.critic_target.network, c)
    naive.check(actor, agent.actor.network)
    torch.testing.assert_close(raw_std.detach(), agent.actor.log_std.detach()[0, 0], rtol=0, atol=1e-10)


@pytest.mark.parametrize(("terminated", "truncated", "value"), [(1, 0, 1.0), (0, 1, 5.0)])
def test_truncation_bootstraps_and_termination_does_not(terminated: int, truncated: int, value: float) -> None:
    """One state that leads to itself and pays 1: worth 1 where it ends, 1 / (1 - 0.8) where the recording stopped."""
    two = np.ones((2, 1))
    data = Dataset.from_arrays(0 * two, 0 * two, two, 0 * two, terminated * two, truncated * two)
    agent = AWAC(data, **QUICK | {"hidden_sizes": (16,), "batch_size": 8}, discount=0.8).fit(500)
    assert agent.gradient_steps(*next(agent.batches(1)))["q_mean"].item() == pytest.approx(value, rel=0.1)


@pytest.mark.parametrize("normalize", [True, False])
def test_it_beats_the_data_on_a_bandit(bandit: Dataset, normalize: bool) -> None:
    agent = AWAC(bandit, temperature=0.03, normalize_weights=normalize, **QUICK).fit(800)
    actions = agent.predict(bandit.observations, deterministic=True)[0]
    rewards = -np.square(actions - 0.5 * bandit.observations)
    assert rewards.mean() > 0.1 * bandit.rewards.mean()  # both are negative


def test_at_a_high_temperature_it_clones(bandit: Dataset) -> None:
    """All weights are 1, and the best guess of uniform actions is their mean."""
    agent = AWAC(bandit, temperature=1e4, **QUICK).fit(500)
    assert agent.gradient_steps(*next(agent.batches(1)))["largest_weight"].item() == pytest.approx(1.0, abs=1e-3)
    assert np.abs(agent.predict(bandit.observations, deterministic=True)[0]).mean() < 0.1


def test_weights_are_normalised_over_the_batch_of_one_learner(make_data: MakeData) -> None:
    """One with rewards a thousand times larger changes no other."""
    data = make_data()
    together = AWAC([data, data.with_rewards(1_000 * data.rewards)], seed=[0, 1], **SMALL).fit(20)
    alone = AWAC(data, seed=0, **SMALL).fit(20)
    for mine, own in zip(together.actor.parameters(), alone.actor.parameters(), strict=True):
        torch.testing.assert_close(mine[:1], own, rtol=1e-4, atol=1e-5)


def test_the_standard_deviation_stays_within_its_bounds(make_data: MakeData) -> None:
    agent = AWAC(make_data(), **SMALL)
    for value, log_std in ((-1e3, -6.0), (0.0, -3.0), (1e3, 0.0)):
        agent.actor.log_std.data.fill_(value)
        assert agent.actor(torch.zeros(1, 1, 3))[1].log().flatten().tolist() == pytest.approx([log_std] * 2)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("temperature", 0.0, "must be above 0"),
        ("maximum_weight", -1.0, "must be above 0"),
        ("discount", 1.5, r"must lie in \[0, 1\]"),
        ("actor_weight_decay", -0.1, "must not be negative"),
    ],
)
def test_values_outside_their_range_are_refused(make_data: MakeData, field: str, value: float, said: str) -> None:
    with pytest.raises(ValueError, match=rf"AWACConfig\.{field}={value}: {said}"):
        AWAC(make_data(), **{field: value})
