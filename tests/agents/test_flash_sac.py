"""FlashSAC: its equations by hand, what stands still when, the population law, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from orl import training
from orl.agent import Agent
from orl.agents import FlashSAC, FlashSACConfig
from orl.agents.flash_sac.networks import UnitLinear
from orl.agents.flash_sac.reward_scale import RewardScale
from orl.buffer import Batch

SMALL: dict[str, Any] = {
    "critic_width": 8,
    "critic_blocks": 1,
    "actor_width": 8,
    "actor_blocks": 1,
    "batch_size": 8,
    "num_bins": 11,
    "learning_starts": 30,
}
PHASES: dict[str, Any] = {"phase_updates": 20, "period": 50, "check_every": 8}
ENV = "Pendulum-v1"


def tensors(agent: Agent) -> dict[str, Tensor]:
    return agent.state()[0]


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], **tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "phases",
    [PHASES, PHASES | {"length": "td_error"}, PHASES | {"length": "policy_value"}, PHASES | {"timing": "td_error"}],
)
def test_learner_k_of_many_equals_that_learner_alone(phases: dict[str, Any]) -> None:
    many = FlashSAC(ENV, seed=[0, 1, 2], **SMALL, **phases).learn(130)
    alone = FlashSAC(ENV, seed=1, **SMALL, **phases).learn(130)
    if phases == PHASES:
        assert many.total_phase_updates == alone.total_phase_updates == 40
    assert_same(tensors(many.learner(1)), tensors(alone), rtol=1e-9, atol=1e-10)


def test_training_goes_on_exactly_in_the_middle_of_a_phase(tmp_path: Path) -> None:
    whole = FlashSAC(ENV, seed=[0, 1], **SMALL, **PHASES).learn(130)
    first = FlashSAC(ENV, seed=[0, 1], **SMALL, **PHASES)
    first.connect()
    for moment in training.online(first, 130):
        if moment.in_phase:
            break
    assert first.phases.running is not None
    first.save(tmp_path / "run")
    second = FlashSAC.load(tmp_path / "run")
    second.learn(130 - second.steps)
    assert_same(tensors(whole), tensors(second), rtol=0.0, atol=0.0)


def test_a_phase_moves_critics_and_targets_alone() -> None:
    agent = FlashSAC(ENV, **SMALL, **PHASES)
    agent.connect()
    moments = training.online(agent, 130)
    before = next(tensors(agent) for moment in moments if moment.steps == 50)
    for moment in moments:
        if moment.in_phase and agent.phases.running is None:
            break
    after = tensors(agent)
    moved = {name.split("/")[0] for name in before if not before[name].equal(after[name])}
    assert moved == {"critic", "critic_target", "optimizer", "last_phase", "stabilization_updates"}
    changed = {name for name in before if name.startswith("optimizer") and not before[name].equal(after[name])}
    assert all(name.startswith("optimizer/critic/") for name in changed)


def test_an_actor_step_leaves_the_critic_alone_and_keeps_rows_at_norm_one() -> None:
    agent = FlashSAC(ENV, **SMALL).learn(40)
    assert agent.replay_buffer is not None
    random = agent.noise.next()
    batch = agent.replay_buffer.sample(random["indices"])
    before = {name: value.clone() for name, value in agent.critic.state_dict().items()}
    agent.update_actor(batch, random)
    assert all(value.equal(before[name]) for name, value in agent.critic.state_dict().items())
    for module in agent.actor.modules():
        if isinstance(module, UnitLinear):
            torch.testing.assert_close(module.weight.norm(dim=-2), torch.ones_like(module.weight[..., 0, :]))


def trained(make_data: Any) -> tuple[FlashSAC, Batch, dict[str, Tensor]]:
    """Two learners whose running statistics, reward scales and entropy coefficients differ, and an update's inputs."""
    datasets = [make_data(seed=seed) for seed in (0, 1)]
    agent = FlashSAC([each.with_rewards(100 * each.rewards) for each in datasets], seed=[0, 1], **SMALL).fit(4)
    agent.entropy_coefficient.log_value.data.copy_(torch.tensor([-1.0, 0.5]))
    random = agent.noise.next()
    assert agent.replay_buffer is not None
    return agent, agent.replay_buffer.sample(random["indices"]), random


def plain_sample(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    actions = torch.tanh(mean + std * noise)
    normal = torch.distributions.Normal(mean, std)
    return actions, (normal.log_prob(mean + std * noise) - torch.log1p(-actions.square())).sum(-1)


@pytest.mark.usefixtures("float64")
def test_the_actor_and_the_entropy_coefficient_follow_their_equations(make_data: Any) -> None:
    agent, batch, random = trained(make_data)
    soft, alpha = agent, torch.tensor([-1.0, 0.5]).exp()
    both = torch.cat([batch.observations, batch.next_observations], dim=1)
    actions, log_probs = (each[:, :8] for each in plain_sample(*soft.actor(both, True), random["actor_noise"]))
    logits = soft.critic(batch.observations, actions, False)
    values = (logits.softmax(-1) * torch.linspace(-5.0, 5.0, 11)).sum(-1)
    losses = (alpha[:, None] * log_probs - torch.minimum(values[:, 0], values[:, 1])).mean(1)
    expected = torch.autograd.grad(losses.sum(), list(soft.actor.parameters()))
    found, coefficient_found, metrics = soft.actor_gradients(batch, random)
    for mine, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, plain)
    target_entropy = 2 * 0.5 * np.log(2 * np.pi * np.e * 0.15**2)  # of two actions
    entropy = -log_probs.detach().mean(1)
    torch.testing.assert_close(coefficient_found[0], alpha * (entropy - target_entropy))  # by log alpha
    torch.testing.assert_close(metrics["actor_loss"], losses.detach())
    torch.testing.assert_close(metrics["entropy"], entropy)
    torch.testing.assert_close(metrics["entropy_coefficient"], alpha)


@pytest.mark.usefixtures("float64")
def test_the_critics_follow_their_equation(make_data: Any) -> None:
    agent, batch, random = trained(make_data)
    soft = agent
    next_actions, log_probs = plain_sample(*soft.actor(batch.next_observations, False), random["next_noise"])
    states = torch.cat([batch.observations, batch.next_observations], dim=1)
    pairs = states, torch.cat([batch.actions, next_actions], dim=1).detach()
    with torch.no_grad():
        target = soft.target_distribution(batch, soft.critic_target(*pairs, True)[:, :, 8:], log_probs)
    logits = soft.critic(*pairs, True)[:, :, :8]
    losses = -(target[:, None] * logits.log_softmax(-1)).sum(-1).mean(-1)  # (P, C)
    expected = torch.autograd.grad(losses.sum(), list(soft.critic.parameters()))
    values = (logits.detach().softmax(-1) * torch.linspace(-5.0, 5.0, 11)).sum(-1)
    found, metrics = soft.critic_gradients(batch, random)
    for mine, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, plain)
    scale = soft.reward_scale.value[:, 0]
    assert (scale > 2.0).all()
    torch.testing.assert_close(metrics["q_mean"], scale * values.mean((1, 2)))
    torch.testing.assert_close(metrics["critic_loss"], losses.detach().mean(1))
    torch.testing.assert_close(metrics["edge_mass"], (target[..., 0] + target[..., -1]).mean(1))
    known, _ = soft.critic_gradients(batch._replace(next_policy=soft.next_policy(batch.next_observations)), random)
    for mine, plain in zip(known, expected, strict=True):
        torch.testing.assert_close(mine, plain)


@pytest.mark.usefixtures("float64")
def test_targets_of_a_check_are_the_expected_value_of_the_target_distribution(make_data: Any) -> None:
    """With running statistics, the same next actions, and no mass beyond the bins."""
    agent, batch, random = trained(make_data)
    next_actions, log_probs = plain_sample(*agent.actor(batch.next_observations, False), random["next_noise"])
    with torch.no_grad():
        logits = agent.critic_target(batch.next_observations, next_actions, False)
        support = agent.critic.support.unsqueeze(1)  # (P, 1, K)
        lower = agent.critic.values(logits).argmin(1)
        index = lower[:, None, :, None].expand(-1, 1, -1, logits.shape[-1])
        probabilities = logits.gather(1, index).squeeze(1).softmax(-1)
        alpha = agent.entropy_coefficient()
        carried = (1 - batch.terminated)[..., None] * (support - (alpha * log_probs)[..., None])
        values = (batch.rewards / agent.reward_scale.value)[..., None] + 0.99 * carried
        expected = (probabilities * values).sum(-1)
    torch.testing.assert_close(agent.targets(batch, random), expected)
    mine = agent.q_values(batch.observations, batch.actions)
    torch.testing.assert_close(
        mine, agent.critic_values(batch.observations, batch.actions) * agent.reward_scale.value[:, None]
    )


def test_every_other_update_is_the_actors_and_the_first_one_is(make_data: Any) -> None:
    agent = FlashSAC(make_data(), **SMALL)
    moved = []
    for _ in range(4):
        before = tensors(agent)
        agent.fit(1)
        after = tensors(agent)
        moved.append(
            {name.split("/")[0] for name in before if not before[name].equal(after[name])} & {"actor", "critic"}
        )
    assert moved == [{"actor", "critic"}, {"critic"}] * 2
    for module in agent.critic.modules():
        if isinstance(module, UnitLinear):
            torch.testing.assert_close(module.weight.norm(dim=-2), torch.ones_like(module.weight[..., 0, :]))


@pytest.mark.usefixtures("float64")
def test_the_target_is_the_bellman_update_of_the_lower_critic() -> None:
    agent = FlashSAC(ENV, **SMALL)
    agent.reward_scale.observe(np.array([[8.0]]), np.array([[True]]))  # D = 8 / 4
    noise = torch.randn(1, 2, 3, 11, generator=torch.Generator().manual_seed(0))
    logits = noise - 8.0 * agent.critic.support.square()  # no mass near the ends, where it would be cut
    batch = Batch(
        torch.zeros(1, 3, 3),
        torch.zeros(1, 3, 1),
        torch.tensor([[1.0, -1.0, 0.5]]),
        torch.zeros(1, 3, 3),
        torch.tensor([[0.0, 0.0, 1.0]]),
    )
    log_prob = torch.tensor([[0.5, -2.0, 3.0]])
    target = agent.target_distribution(batch, logits, log_prob)
    torch.testing.assert_close(target.sum(-1), torch.ones(1, 3))
    lower = agent.critic.values(logits).amin(1)
    soft_value = torch.where(batch.terminated > 0, 0.0, lower - 0.01 * log_prob)
    mean = (target * agent.critic.support.unsqueeze(1)).sum(-1)
    torch.testing.assert_close(mean, batch.rewards / 2.0 + 0.99 * soft_value)
    assert (target[0, 2] > 0).sum() <= 2  # terminal: the two bins around r / D


def test_the_reward_scale_is_the_std_or_the_largest_return() -> None:
    scale = RewardScale(1, 0.5, 4.0, torch.device("cpu"))
    assert scale.value.item() == 1.0
    returns, running = [], 0.0
    for reward, ended in [(1.0, False), (2.0, True), (3.0, False), (-1.0, False)]:
        running = 0.5 * running + reward
        returns.append(running)
        running = 0.0 if ended else running
        scale.observe(np.array([[reward]]), np.array([[ended]]))
    assert returns == [1.0, 2.5, 3.0, 0.5]
    assert scale.value.item() == pytest.approx(np.std(returns), rel=1e-5)
    scale.observe(np.array([[80.0]]), np.array([[False]]))
    returns.append(80.25)
    assert scale.value.item() == pytest.approx(max(np.std(returns), 80.25 / 4.0), rel=1e-5)


def test_the_learning_rate_follows_environment_steps_not_updates() -> None:
    agent = FlashSAC(ENV, **SMALL, **PHASES, cosine_horizon=100)
    assert {float(optimizer.learning_rate) for optimizer in agent.optimizers.values()} == {3e-4}
    agent.learn(50)
    assert float(agent.optimizers["critic"].learning_rate) == pytest.approx(2.25e-4)
    agent.learn(100)
    assert float(agent.optimizers["actor"].learning_rate) == pytest.approx(1.5e-4)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"length": "td_error", "held_out": 0.0}, "held_out=0.0: an automatic length needs a share"),
        ({"new_share": 0.0}, "new_share=0.0: must be above 0"),
        ({"num_bins": 1}, "num_bins=1"),
        ({"batch_size": 1}, "batch_size=1"),
        ({"phase_updates": -1}, "phase_updates=-1: must not be negative"),
        ({"tau": 2.0}, r"tau=2.0: must lie in \[0, 1\]"),
        ({"critic_width": 0}, "critic_width=0: must be above 0"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FlashSACConfig(**fields)


@pytest.mark.parametrize("steps", [49, 50])
def test_a_loaded_agent_has_the_learning_rate_of_its_step(steps: int, tmp_path: Path) -> None:
    """At step 50 a phase is due, which follows the load."""
    agent = FlashSAC(ENV, **SMALL, **PHASES, cosine_horizon=60).learn(steps)
    agent.save(tmp_path)
    loaded = FlashSAC.load(tmp_path)
    for each in (agent, loaded):
        each.learn(1)
    assert agent.total_phase_updates == loaded.total_phase_updates == (20 if steps == 50 else 0)
    assert_same(tensors(loaded), tensors(agent), rtol=0.0, atol=0.0)


def test_recorded_rewards_are_scaled_as_observed_ones_are(make_data: Any) -> None:
    """The statistics of a pass over the data, row by row, for each learner's own."""
    fields = {"action_size": 1, "action_low": -2, "action_high": 2}
    datasets = [make_data(seed=seed, **fields) for seed in (0, 1)]
    agent = FlashSAC(datasets, seed=[0, 0], **SMALL)
    for learner, data in enumerate(datasets):
        expected = RewardScale(1, agent.config.discount, agent.config.return_bound, torch.device("cpu"))
        for reward, end in zip(data.rewards, data.terminated | data.truncated, strict=True):
            expected.observe(np.array([[reward]], np.float64), np.array([[end]]))
        for name, values in expected.statistics.items():
            torch.testing.assert_close(agent.reward_scale.statistics[name][learner : learner + 1], values)
        torch.testing.assert_close(agent.reward_scale.value[learner : learner + 1], expected.value)
    assert agent.fit(3).updates == 3


def test_returns_end_with_their_episodes_also_where_environments_change(tmp_path: Path) -> None:
    def copies(number: int) -> Any:
        keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
        return gymnasium.make_vec(ENV, number, "sync", vector_kwargs=keywords)

    agent = FlashSAC(copies(2), **SMALL).learn(40)
    agent.save(tmp_path)
    for number in (2, 3, 1, 1):
        agent.learn(2 * number, env=copies(number))
        expected = np.zeros((1, number))
        for k in range(2):
            rewards = agent.replay_buffer.gather(torch.arange(number)[None] + agent.steps - (2 - k) * number).rewards  # type: ignore[union-attr]
            expected = agent.config.discount * expected + rewards.numpy()
        np.testing.assert_allclose(agent.reward_scale.returns, expected, rtol=1e-6)
    with pytest.warns(UserWarning, match="new episodes begin"):
        other = FlashSAC.load(tmp_path, env=copies(3)).learn(3)
    assert other.collector is not None
    np.testing.assert_allclose(other.reward_scale.returns, other.collector.returns)


def test_the_entropy_counts_in_units_of_rewards(make_data: Any) -> None:
    agent = FlashSAC(make_data(action_size=1, action_low=-2, action_high=2), **SMALL)
    scale = agent.reward_scale.value
    torch.testing.assert_close(agent.entropy_weight(), 0.01 * scale)
    assert (scale != 1.0).all()


def test_rows_without_episodes_are_refused_with_what_helps(make_data: Any) -> None:
    rows = make_data(action_size=1, action_low=-2, action_high=2).with_labels(0.5).labelled()
    with pytest.raises(ValueError, match=r"scaled by the returns of episodes.*fill\(0.0\), fill\('mean'\) or Reward"):
        FlashSAC(rows, **SMALL)
