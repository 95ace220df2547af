"""Behaviour cloning: a twin in plain torch, and a linear expert."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from orl.agents import BC
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]


def test_updates_equal_a_naive_implementation(make_data: MakeData, twin: Any, float64: None) -> None:
    data = make_data()
    agent = BC(data, seed=3, hidden_sizes=(8, 8), batch_size=16, learning_rate=1e-2)
    naive = twin(agent, data)
    actor = naive.network(agent.actor.network)
    optimizer = torch.optim.Adam(actor.parameters(), lr=1e-2)
    for _ in range(10):
        observations, actions, *_ = naive.batch()
        loss = torch.nn.functional.mse_loss(torch.tanh(actor(observations)), actions)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        torch.testing.assert_close(metrics["actor_loss"][0], loss.detach(), rtol=0, atol=1e-10)
    naive.check(actor, agent.actor.network)


def test_it_clones_a_linear_expert() -> None:
    generator = np.random.default_rng(0)
    observations = generator.normal(size=(2_000, 3))
    gains = np.array([[0.3, -0.2], [0.1, 0.4], [-0.3, 0.2]])
    expert = np.clip(observations @ gains, -1, 1)
    zero = np.zeros(2_000)
    data = Dataset.from_arrays(observations, expert, zero, observations, zero, zero)
    agent = BC(data, hidden_sizes=(32, 32), batch_size=64, learning_rate=3e-3).fit(600)
    unseen = generator.normal(size=(500, 3)).astype(np.float32)
    error = agent.predict(unseen)[0] - np.clip(unseen @ gains, -1, 1)
    assert np.square(error).mean() < 0.01 * np.square(expert).mean()


def test_rewards_change_nothing(make_data: MakeData) -> None:
    data = make_data()
    first, second = (BC(each, hidden_sizes=(8,)).fit(5) for each in (data, data.with_rewards(-data.rewards)))
    assert all(torch.equal(a, b) for a, b in zip(first.actor.parameters(), second.actor.parameters(), strict=True))


def test_the_best_episodes_are_cloned_alone() -> None:
    """10 % BC: half of the episodes act badly and pay less."""
    generator = np.random.default_rng(1)
    observations = generator.normal(size=(400, 2))
    good = np.arange(400) // 10 % 2 == 0
    actions = np.where(good, 0.5, -0.5)[:, None]
    ends = np.arange(400) % 10 == 9
    data = Dataset.from_arrays(observations, actions, good * 1.0, observations, 0 * ends, ends)
    settings: dict[str, Any] = {"hidden_sizes": (16,), "batch_size": 32, "learning_rate": 1e-2}
    best = BC(data.best_episodes(0.5), **settings).fit(300).predict(data.observations)[0]
    every = BC(data, **settings).fit(300).predict(data.observations)[0]
    assert abs(best.mean() - 0.5) < 0.05
    assert abs(every.mean()) < 0.15
