"""IQL: a twin in plain torch, reward scaling, the cosine, and a bandit."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from orl.agents import IQL
from orl.dataset import Dataset
from orl.noise import of_updates

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 16}


def test_updates_equal_a_naive_implementation(make_data: MakeData, twin: Any, float64: None) -> None:
    data = make_data()
    settings = {"discount": 0.9, "tau": 0.1, "expectile": 0.8, "advantage_temperature": 5.0, "maximum_weight": 2.0}
    agent = IQL(
        data, seed=3, critic_learning_rate=1e-2, actor_learning_rate=2e-2, cosine_horizon=15, **SMALL, **settings
    )
    naive = twin(agent, data)
    critics = [naive.network(agent.critic.network, c) for c in range(2)]
    value, actor = naive.network(agent.value), naive.network(agent.actor.network)
    log_std = torch.zeros(2, requires_grad=True)
    targets = copy.deepcopy(critics)
    critic_optimizers = [torch.optim.Adam(critic.parameters(), lr=1e-2) for critic in critics]
    value_optimizer = torch.optim.Adam(value.parameters(), lr=1e-2)
    actor_optimizer = torch.optim.Adam([*actor.parameters(), log_std], lr=2e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(actor_optimizer, T_max=15)
    scale = agent.reward_scale.item()
    assert scale != 1.0
    weights_seen = []
    for _ in range(10):
        s, a, r, s_next, terminated, _ = naive.batch()
        q = torch.minimum(*(target(torch.cat([s, a], 1))[:, 0] for target in targets)).detach()
        u = q - value(s)[:, 0]
        loss = torch.where(u < 0, 0.2, 0.8).mul(u.square()).mean()
        value_optimizer.zero_grad()
        loss.backward()
        value_optimizer.step()

        weights = torch.exp(5.0 * (q - value(s)[:, 0].detach())).clamp(max=2.0)
        log_probs = Normal(torch.tanh(actor(s)), log_std.exp()).log_prob(a).sum(1)
        actor_optimizer.zero_grad()
        (-(weights * log_probs).mean()).backward()
        actor_optimizer.step()
        schedule.step()
        weights_seen.append(weights.mean().item())

        y = scale * r + 0.9 * torch.where(terminated > 0, 0.0, value(s_next)[:, 0].detach())
        for critic, optimizer in zip(critics, critic_optimizers, strict=True):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(critic(torch.cat([s, a], 1))[:, 0], y).backward()
            optimizer.step()
        for target, online in zip(targets, critics, strict=True):
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.data = 0.9 * slow.data + 0.1 * fast.data
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert metrics["advantage_weight"].item() == pytest.approx(weights_seen[-1], abs=1e-10)
    assert min(weights_seen) < 2.0  # the clip is not all that is tested
    for c in range(2):
        naive.check(critics[c], agent.critic.network, c)
        naive.check(targets[c], agent.critic_target.network, c)
    naive.check(value, agent.value)
    naive.check(actor, agent.actor.network)
    torch.testing.assert_close(log_std.detach(), agent.actor.log_std.detach()[0, 0], rtol=0, atol=1e-10)


def test_weights_of_actions_are_clipped_from_above_and_do_not_overflow(make_data: MakeData, float64: None) -> None:
    """exp(2 A), at most 100, with advantages of 0, log 2, 10, -100 and 1e6."""
    agent = IQL(make_data(), advantage_temperature=2.0, **SMALL)
    batch, _ = of_updates(*next(agent.batches(1)), 0)
    values = agent.value(batch.observations).squeeze(-1).detach()
    for advantage, weight in ((0.0, 1.0), (math.log(2), 4.0), (10.0, 100.0), (-100.0, 0.0), (1e6, 100.0)):
        _, metrics = agent.actor_gradients(batch, values + advantage)
        torch.testing.assert_close(metrics["advantage_weight"], torch.tensor([weight]))


def test_only_the_values_of_untruncated_ends_are_cut() -> None:
    """One state that leads to itself and pays 1 (see TD3+BC): 1 where it terminates, 1 / (1 - 0.8) where truncated."""
    two = np.ones((2, 1))
    values = []
    for terminated in (1, 0):
        data = Dataset.from_arrays(0 * two, 0 * two, two, 0 * two, terminated * two, (1 - terminated) * two)
        agent = IQL(data, hidden_sizes=(16,), batch_size=8, discount=0.8, tau=0.1, critic_learning_rate=1e-2)
        agent.fit(700)
        values.append(agent.gradient_steps(*next(agent.batches(1)))["value_mean"].item())
    assert values == pytest.approx([1.0, 5.0], rel=0.1)


def test_it_beats_the_data_on_a_bandit(bandit: Dataset) -> None:
    agent = IQL(
        bandit, hidden_sizes=(32, 32), batch_size=64, critic_learning_rate=3e-3, actor_learning_rate=3e-3,
        advantage_temperature=30.0, tau=0.05,
    ).fit(1_000)  # fmt: skip
    actions = agent.predict(bandit.observations, deterministic=True)[0]
    rewards = -np.square(actions - 0.5 * bandit.observations)
    assert rewards.mean() > 0.3 * bandit.rewards.mean()  # both are negative


def test_a_higher_expectile_values_states_higher(bandit: Dataset) -> None:
    low, high = (
        IQL(bandit, expectile=expectile, hidden_sizes=(16,), batch_size=64, critic_learning_rate=3e-3, tau=0.05).fit(
            400
        )
        for expectile in (0.1, 0.9)
    )
    low_mean, high_mean = (agent.gradient_steps(*next(agent.batches(1)))["value_mean"].item() for agent in (low, high))
    assert high_mean > low_mean + 0.1


def test_reward_scale_by_hand(make_data: MakeData) -> None:
    """Longest episode over the range of returns: episodes of 2 and 3 steps with returns 3 and 12."""
    column = np.zeros((5, 1))
    ends = [0, 1, 0, 0, 1]
    data = Dataset.from_arrays(column, column, [1, 2, 3, 4, 5], column, 0 * column, ends)
    assert IQL(data, **SMALL).reward_scale.item() == pytest.approx(3 / 9)
    assert IQL(data, scale_rewards=False, **SMALL).reward_scale.item() == 1.0


def test_reward_scale_uses_the_rewards_that_the_learner_is_given(make_data: MakeData) -> None:
    data = make_data()
    sparse = data.with_labels(0.3)
    variants = [data, data.with_rewards(10 * data.rewards), sparse.fill(0.0), data.with_rewards(np.zeros(60))]
    scales = IQL(variants, seed=[0] * 4, **SMALL).reward_scale[:, 0].tolist()
    assert scales[1] == pytest.approx(scales[0] / 10)
    assert scales[2] == pytest.approx(10 / float(np.ptp(sparse.fill(0.0).episode_returns())))
    assert scales[2] != pytest.approx(scales[0])
    assert scales[3] == 1.0  # returns without a range
    assert IQL(sparse.labelled(), **SMALL).reward_scale.item() == 1.0  # no whole episodes


def test_a_scale_that_was_taken_stays(make_data: MakeData) -> None:
    data = make_data()
    agent = IQL(data, **SMALL)
    before = agent.reward_scale.item()
    agent.fit(1, data.with_rewards(100 * data.rewards))
    assert agent.reward_scale.item() == before


def test_scaled_rewards_are_what_the_critics_learn(make_data: MakeData) -> None:
    """Rewards ten times larger make the same learner, as their range is ten times larger."""
    data = make_data()
    first, second = (IQL(each, **SMALL).fit(20) for each in (data, data.with_rewards(10 * data.rewards)))
    for mine, other in zip(first.critic.parameters(), second.critic.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-5)


def test_the_cosine_by_hand_and_independent_of_updates_asked_for(make_data: MakeData) -> None:
    data = make_data()
    agent = IQL(data, actor_learning_rate=0.5, cosine_horizon=40, **SMALL)
    rates = []
    for updates in (1, 10, 19, 10, 5):  # the rate is that of the last update done
        agent.fit(updates)
        rates.append(float(agent.optimizers["actor"].learning_rate))
    expected = [0.25 * (1 + math.cos(math.pi * min(done / 40, 1))) for done in (0, 10, 29, 39, 44)]
    assert rates == pytest.approx(expected)
    assert rates[-1] == 0.0
    once = IQL(data, actor_learning_rate=0.5, cosine_horizon=40, **SMALL).fit(45)
    assert all(torch.equal(a, b) for a, b in zip(agent.actor.parameters(), once.actor.parameters(), strict=True))
    assert agent.optimizers["critic"].learning_rate == 3e-4


def test_after_the_horizon_the_actor_rests_and_values_learn_on(make_data: MakeData) -> None:
    agent = IQL(make_data(), cosine_horizon=5, **SMALL).fit(5)
    actor, critic = agent.actor.log_std.detach().clone(), agent.critic.network.layers[0].weight.detach().clone()
    agent.fit(3)
    assert torch.equal(agent.actor.log_std, actor)
    assert not torch.equal(agent.critic.network.layers[0].weight, critic)


def test_no_horizon_is_a_constant_rate_and_zero_is_refused(make_data: MakeData) -> None:
    agent = IQL(make_data(), cosine_horizon=None, actor_learning_rate=0.25, **SMALL).fit(3)
    assert agent.optimizers["actor"].learning_rate == 0.25
    with pytest.raises(ValueError, match=r"IQLConfig\.cosine_horizon=0: must be above 0"):
        IQL(make_data(), cosine_horizon=0)


@pytest.mark.parametrize("field", ["discount", "tau", "expectile"])
def test_shares_outside_their_range_are_refused(make_data: MakeData, field: str) -> None:
    with pytest.raises(ValueError, match=rf"IQLConfig\.{field}=1\.5: must lie in \[0, 1\]"):
        IQL(make_data(), **{field: 1.5})


def test_an_actor_update_leaves_values_and_critics_unchanged(make_data: MakeData) -> None:
    agent = IQL(make_data(), **SMALL).fit(1)
    networks = [agent.critic, agent.value, agent.critic_target]
    before = [p.detach().clone() for network in networks for p in network.parameters()]
    assert agent.replay_buffer is not None
    batch = agent.replay_buffer.sample(torch.rand(1, 16, dtype=torch.float64))
    found, _ = agent.actor_gradients(batch, torch.zeros(1, 16))
    agent.optimizers["actor"].step(found)
    after = [p for network in networks for p in network.parameters()]
    for parameter, value in zip(after, before, strict=True):
        assert torch.equal(parameter, value)
        assert parameter.grad is None
