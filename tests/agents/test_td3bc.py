"""TD3+BC: a twin in plain torch, its phases, and a bandit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from orl.agents import TD3BC
from orl.buffer import Batch
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 16}


def test_updates_equal_a_naive_implementation(make_data: MakeData, twin: Any, float64: None) -> None:
    data = make_data()
    settings = {"discount": 0.9, "tau": 0.1, "q_weight": 1.5, "target_noise": 0.7, "target_noise_clip": 0.5}
    agent = TD3BC(data, seed=3, critic_learning_rate=1e-2, actor_learning_rate=2e-2, **SMALL, **settings)
    naive = twin(agent, data)
    critics = [naive.network(agent.critic.network, c) for c in range(2)]
    actor = naive.network(agent.actor.network)
    critic_targets, actor_target = copy.deepcopy(critics), copy.deepcopy(actor)
    critic_optimizers = [torch.optim.Adam(critic.parameters(), lr=1e-2) for critic in critics]
    actor_optimizer = torch.optim.Adam(actor.parameters(), lr=2e-2)
    for update in range(1, 12):
        s, a, r, s_next, terminated, numbers = naive.batch()
        with torch.no_grad():
            noise = (0.7 * numbers["target_noise"]).clamp(-0.5, 0.5)
            a_next = (torch.tanh(actor_target(s_next)) + noise).clamp(-1, 1)
            next_values = [target(torch.cat([s_next, a_next], 1))[:, 0] for target in critic_targets]
            y = torch.where(terminated > 0, r, r + 0.9 * torch.minimum(*next_values))
        for critic, optimizer in zip(critics, critic_optimizers, strict=True):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(critic(torch.cat([s, a], 1))[:, 0], y).backward()
            optimizer.step()
        if update % 2 == 0:
            pi = torch.tanh(actor(s))
            q = critics[0](torch.cat([s, pi], 1))[:, 0]
            loss = -1.5 / q.abs().mean().detach() * q.mean() + torch.nn.functional.mse_loss(pi, a)
            actor_optimizer.zero_grad()
            loss.backward()
            actor_optimizer.step()
            for target, online in zip([*critic_targets, actor_target], [*critics, actor], strict=True):
                for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                    slow.data = 0.9 * slow.data + 0.1 * fast.data
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert ("actor_loss" in metrics) == (update % 2 == 0)
        if update % 2 == 0:
            torch.testing.assert_close(metrics["actor_loss"][0], loss.detach(), rtol=0, atol=1e-10)
    for c in range(2):
        naive.check(critics[c], agent.critic.network, c)
        naive.check(critic_targets[c], agent.critic_target.network, c)
    naive.check(actor, agent.actor.network)
    naive.check(actor_target, agent.actor_target.network)


def test_an_actor_update_leaves_the_critic_unchanged(make_data: MakeData) -> None:
    agent = TD3BC(make_data(), **SMALL).fit(1)
    before = [p.detach().clone() for p in agent.critic.parameters()]
    assert agent.replay_buffer is not None
    batch: Batch = agent.replay_buffer.sample(torch.rand(1, 16, dtype=torch.float64))
    actor = [p.detach().clone() for p in agent.actor.parameters()]
    found, _ = agent.actor_gradients(batch)
    agent.optimizers["actor"].step(found)
    assert not any(torch.equal(a, b) for a, b in zip(actor, agent.actor.parameters(), strict=True))
    for parameter, value in zip(agent.critic.parameters(), before, strict=True):
        assert parameter.grad is None
        assert torch.equal(parameter, value)


@pytest.mark.parametrize(("terminated", "truncated", "value"), [(1, 0, 1.0), (0, 1, 5.0)])
def test_truncation_bootstraps_and_termination_does_not(terminated: int, truncated: int, value: float) -> None:
    """One state that leads to itself and pays 1: worth 1 where it ends, 1 / (1 - 0.8) where the recording stopped."""
    two = np.ones((2, 1))
    data = Dataset.from_arrays(0 * two, 0 * two, two, 0 * two, terminated * two, truncated * two)
    agent = TD3BC(
        data, hidden_sizes=(16,), batch_size=8, discount=0.8, tau=0.1, critic_learning_rate=1e-2, target_noise=0.0,
    ).fit(700)  # fmt: skip
    assert agent.gradient_steps(*next(agent.batches(1)))["q_mean"].item() == pytest.approx(value, rel=0.1)


def test_it_beats_the_data_on_a_bandit(bandit: Dataset) -> None:
    agent = TD3BC(bandit, hidden_sizes=(32, 32), batch_size=64, critic_learning_rate=3e-3, actor_learning_rate=3e-3)
    actions = agent.fit(1_000).predict(bandit.observations)[0]
    rewards = -np.square(actions - 0.5 * bandit.observations)
    assert rewards.mean() > 0.3 * bandit.rewards.mean()  # both are negative


def test_without_value_it_clones_and_with_little_cloning_it_maximises(bandit: Dataset) -> None:
    """q_weight is the paper's alpha: 0 is behaviour cloning, whose best guess of uniform actions is their mean."""
    settings: dict[str, Any] = {"hidden_sizes": (32,), "batch_size": 64, "actor_learning_rate": 3e-3}
    cloned = TD3BC(bandit, q_weight=0.0, **settings).fit(400).predict(bandit.observations)[0]
    assert np.abs(cloned).mean() < 0.1
    keen = TD3BC(bandit, q_weight=50.0, critic_learning_rate=3e-3, **settings).fit(1_500)
    actions = keen.predict(bandit.observations)[0]
    assert np.corrcoef(actions[:, 0], bandit.observations[:, 0])[0, 1] > 0.9


def test_the_delay_counts_from_the_first_update(make_data: MakeData) -> None:
    agent = TD3BC(make_data(), policy_delay=3, **SMALL)
    assert ["cloning_error" in agent.gradient_steps(*next(agent.batches(1))) for _ in range(7)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        False,
    ]


def test_an_actor_of_a_population_keeps_its_own_scale(make_data: MakeData) -> None:
    """lambda = alpha / mean |Q| is taken per learner: one with values a thousand times larger changes no other."""
    data = make_data()
    together = TD3BC([data, data.with_rewards(1_000 * data.rewards)], seed=[0, 1], **SMALL).fit(20)
    alone = TD3BC(data, seed=0, **SMALL).fit(20)
    for mine, own in zip(together.actor.parameters(), alone.actor.parameters(), strict=True):
        torch.testing.assert_close(mine[:1], own, rtol=1e-4, atol=1e-5)
