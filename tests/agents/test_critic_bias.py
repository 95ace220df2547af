"""The critics' bias against returns by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from orl import seeding
from orl.agents import SAC, SPEQ
from orl.agents.critic_bias import HORIZON, critic_bias

SMALL: dict[str, Any] = {"hidden_sizes": (4,), "batch_size": 4, "target_entropy": -1.0, "learning_starts": 5}


class Wage(gymnasium.Env[Any, Any]):
    """Pays 1 for every step and the action on top of it, for a number of steps; then it terminates or is truncated."""

    observation_space, action_space = Box(-np.inf, np.inf, (1,)), Box(-1, 1, (1,))

    def __init__(self, length: int, truncates: bool, share: float = 0.0) -> None:
        self.length, self.truncates, self.share = length, truncates, share

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = self.count == self.length
        reward = 1.0 + self.share * float(action[0])
        return np.full(1, self.count, np.float32), reward, over and not self.truncates, over and self.truncates, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    kinds = {
        "Four": {"length": 4, "truncates": False},
        "Cut": {"length": 4, "truncates": True},
        "Long": {"length": HORIZON + 50, "truncates": True},
        "Acting": {"length": 4, "truncates": False, "share": 1.0},
    }
    for name, keywords in kinds.items():
        gymnasium.register(f"orl-tests/{name}-v0", Wage, kwargs=keywords, disable_env_checker=True)
    yield
    for name in kinds:
        del gymnasium.registry[f"orl-tests/{name}-v0"]


def constant(value: float, coefficient: float = 1e-30, **settings: Any) -> SAC:
    """A learner whose critics say `value` + and - 0.5 everywhere, and whose policy is one normal distribution."""
    agent = SAC("orl-tests/Four-v0", **SMALL, initial_entropy_coefficient=coefficient, **settings)
    with torch.no_grad():
        for network in (agent.critic.network, agent.actor.network):
            for parameter in network.layers[-1].parameters():
                parameter.zero_()
        agent.critic.network.layers[-1].bias[0, :, 0, 0] = torch.tensor([value - 0.5, value + 0.5])
    return agent


def test_constant_rewards_and_values() -> None:
    """Returns of four steps at 0.9: 3.439, 2.71, 1.9, 1; the critics, 3 on average, are above their mean 2.26225."""
    returns = np.array([3.439, 2.71, 1.9, 1.0])
    bias = critic_bias(constant(3.0, discount=0.9), "orl-tests/Four-v0", episodes=2)
    assert bias.mean.shape == bias.std.shape == (1,)
    assert bias.mean[0] == pytest.approx((3.0 - returns.mean()) / returns.mean(), rel=1e-6)
    assert bias.std[0] == pytest.approx(returns.std() / returns.mean(), rel=1e-6)
    low = critic_bias(constant(-1.0, discount=0.9), "orl-tests/Four-v0")
    assert low.mean[0] == pytest.approx((-1.0 - returns.mean()) / returns.mean(), rel=1e-6)


def test_returns_are_soft_and_of_sampled_actions(float64: None) -> None:
    """G_t = r_t + 0.9 (G_t+1 - alpha log pi_t+1) with the very actions that were sampled."""
    agent = constant(0.0, coefficient=0.3, discount=0.9)
    generator = seeding.torch_generator(5, "evaluation")
    rewards, log_probs = [], []
    for _ in range(4):
        standard = torch.randn(1, 1, generator=generator).item()
        action = np.tanh(standard)  # mean 0 and log-std 0
        rewards.append(1.0 + np.float32(action))
        log_probs.append(-0.5 * standard**2 - 0.5 * np.log(2 * np.pi) - np.log(1 - action**2))
    returns, following = [], 0.0
    for reward, log_prob in zip(reversed(rewards), reversed(log_probs), strict=True):
        returns.append(reward + 0.9 * following)
        following = returns[-1] - 0.3 * log_prob
    bias = critic_bias(agent, "orl-tests/Acting-v0", episodes=1, seed=5)
    assert bias.mean[0] == pytest.approx((0.0 - np.mean(returns)) / abs(np.mean(returns)), rel=1e-6)
    assert bias.std[0] == pytest.approx(np.std(returns) / abs(np.mean(returns)), rel=1e-6)


def test_where_an_episode_was_cut_only_states_long_before_count() -> None:
    short = critic_bias(constant(3.0), "orl-tests/Cut-v0")
    assert np.isnan(short.mean).all()
    assert np.isnan(short.std).all()
    bias = critic_bias(constant(100.0), "orl-tests/Long-v0", episodes=1)
    lengths = np.arange(HORIZON + 50, HORIZON, -1)  # of the fifty states with more than HORIZON decisions to come
    returns = (1 - 0.99**lengths) / 0.01
    assert bias.mean[0] == pytest.approx((100.0 - returns.mean()) / returns.mean(), rel=1e-5)


@pytest.mark.parametrize("kind", [SAC, SPEQ])
def test_a_learner_s_bias_is_what_it_is_alone(stroll: str, kind: Any) -> None:
    agent = kind(stroll, seed=[0, 1, 2], **SMALL).learn(12)
    together = critic_bias(agent, stroll, episodes=10)
    for k in range(3):
        alone = critic_bias(agent.learner(k), stroll, episodes=10)
        assert together.mean[k] == pytest.approx(alone.mean[0], rel=1e-4)
        assert together.std[k] == pytest.approx(alone.std[0], rel=1e-4)
    other = critic_bias(agent, stroll, episodes=10, seed=1)
    assert other.mean[0] != together.mean[0]
