"""SAC, REDQ and DroQ: twins in plain torch, the table of target entropies, what an update leaves alone."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from orl.agents import SAC, SPEQ
from orl.agents.sac import DROQ_PRESET, REDQ_PRESET, SAC_PRESET
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.evaluation import evaluate
from orl.networks import StackedMLP

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 6), "batch_size": 16, "target_entropy": -2.0}
REDQ: dict[str, Any] = {"num_critics": 4, "target_subset_size": 2, "actor_q": "mean", "policy_delay": 3}
DROQ: dict[str, Any] = {"layer_norm": True, "dropout_rate": 0.3, "actor_q": "mean", "policy_delay": 2}


class PlainCritic(nn.Module):
    """torch's own layers with the weights of one critic of learner 0."""

    def __init__(self, stacked: StackedMLP, member: int, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for source in stacked.layers:
            linear = nn.Linear(*source.weight.shape[-2:])
            linear.weight.data.copy_(source.weight[0, member].T)
            linear.bias.data.copy_(source.bias[0, member, 0])
            self.linears.append(linear)
        for _ in stacked.norms:
            self.norms.append(nn.LayerNorm(self.linears[len(self.norms)].out_features))

    def forward(self, s: Tensor, a: Tensor, keeps: list[Tensor] | None = None) -> Tensor:
        hidden = torch.cat([s, a], dim=1)
        for i, linear in enumerate(self.linears[:-1]):
            hidden = linear(hidden)
            if keeps:
                hidden = hidden * keeps[i] / (1 - self.rate)
            if self.norms:
                hidden = self.norms[i](hidden)
            hidden = hidden.relu()
        values: Tensor = self.linears[-1](hidden)[:, 0]
        return values


class PlainSAC:
    """Lists of modules, one optimizer each, torch.distributions, and the formulas one after the other."""

    def __init__(self, agent: SAC, data: Dataset, twin: Any) -> None:
        self.config = c = agent.config
        self.source = twin(agent, data)
        dtype = torch.get_default_dtype()
        self.source.observations = torch.from_numpy(data.observations).to(dtype)  # they are not normalised here
        self.source.next_observations = torch.from_numpy(data.next_observations).to(dtype)
        rate = c.dropout_rate or 0.0
        self.critics = [PlainCritic(agent.critic.network, i, rate) for i in range(c.num_critics)]
        self.targets = copy.deepcopy(self.critics)
        self.actor = twin.network(agent.actor.network)
        self.log_alpha = torch.zeros((), requires_grad=True)
        rates = {"lr": c.learning_rate}
        self.critic_optimizers = [torch.optim.Adam(critic.parameters(), **rates) for critic in self.critics]
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), **rates)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], **rates)

    def sample(self, s: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(s).chunk(2, dim=1)
        normal = Independent(Normal(mean, log_std.clamp(-20, 2).exp()), 1)
        transform = TanhTransform(cache_size=1)
        action = transform(mean + normal.base_dist.scale * noise)
        return action, TransformedDistribution(normal, [transform]).log_prob(action)

    def keeps(self, numbers: dict[str, Tensor], name: str, member: int) -> list[Tensor]:
        """0 for dropped units and 1 for others, of one critic: (B, H) for each hidden layer."""
        found = []
        for i, size in enumerate(self.config.hidden_sizes if self.config.dropout_rate else ()):
            units = self.config.num_critics * self.config.batch_size * size
            keep = torch.ones(units + 1)
            keep[numbers[f"{name}/{i}"][numbers[f"{name}/{i}/factors"] == 0]] = 0.0
            found.append(keep[:units].view(self.config.num_critics, self.config.batch_size, size)[member])
        return found

    def update(self, number: int) -> None:
        c = self.config
        s, a, r, s_next, terminated, numbers = self.source.batch()
        with torch.no_grad():
            a_next, log_prob = self.sample(s_next, numbers["next_noise"])
            values = [
                target(s_next, a_next, self.keeps(numbers, "target_dropped", i))
                for i, target in enumerate(self.targets)
            ]
            if "subset" in numbers:
                values = [values[i] for i in numbers["subset"].argsort()[: c.target_subset_size]]
            soft_value = torch.stack(values).min(0).values - self.log_alpha.exp() * log_prob
            y = torch.where(terminated > 0, r, r + c.discount * soft_value)
        for i, (critic, optimizer) in enumerate(zip(self.critics, self.critic_optimizers, strict=True)):
            optimizer.zero_grad()
            nn.functional.mse_loss(critic(s, a, self.keeps(numbers, "dropped", i)), y).backward()
            optimizer.step()
        for target, critic in zip(self.targets, self.critics, strict=True):
            for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                slow.data = (1 - c.tau) * slow.data + c.tau * fast.data
        if number % c.policy_delay:
            return
        action, log_prob = self.sample(s, numbers["actor_noise"])
        values = [critic(s, action, self.keeps(numbers, "actor_dropped", i)) for i, critic in enumerate(self.critics)]
        stacked = torch.stack(values)
        q = stacked.min(0).values if c.actor_q == "min" else stacked.mean(0)
        self.actor_optimizer.zero_grad()
        (self.log_alpha.exp().detach() * log_prob - q).mean().backward()
        self.actor_optimizer.step()
        self.alpha_optimizer.zero_grad()
        assert c.target_entropy is not None
        (-self.log_alpha * (log_prob.detach() + c.target_entropy)).mean().backward()
        self.alpha_optimizer.step()


@pytest.mark.parametrize("settings", [{}, REDQ, DROQ, {"layer_norm": True}], ids=["sac", "redq", "droq", "norm"])
def test_updates_equal_a_naive_implementation(
    make_data: MakeData, twin: Any, float64: None, settings: dict[str, Any]
) -> None:
    data = make_data()
    agent = SAC(data, seed=3, learning_rate=1e-2, tau=0.1, discount=0.9, **SMALL, **settings)
    naive = PlainSAC(agent, data, twin)
    for number in range(1, 13):
        naive.update(number)
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert ("actor_loss" in metrics) == (number % agent.config.policy_delay == 0)
    soft = agent
    for networks, stacked in (
        (naive.critics, soft.critic.network),
        (naive.targets, soft.critic_target.network),
    ):
        for i, plain in enumerate(networks):
            twin.check(plain, stacked, i)
            for norm, source in zip(plain.norms, stacked.norms, strict=True):
                torch.testing.assert_close(norm.weight, source.weight[0, i, 0], rtol=0, atol=1e-10)
                torch.testing.assert_close(norm.bias, source.bias[0, i, 0], rtol=0, atol=1e-10)
    twin.check(naive.actor, soft.actor.network)
    torch.testing.assert_close(naive.log_alpha, soft.entropy_coefficient.log_value[0], rtol=0, atol=1e-10)
    assert soft.entropy_coefficient.log_value.item() != 0.0


def test_a_critic_update_leaves_the_actor_alone_and_an_actor_update_the_critics(make_data: MakeData) -> None:
    agent = SAC(make_data(), **SMALL).fit(2)
    assert agent.replay_buffer is not None
    random = agent.noise.next()
    batch = agent.replay_buffer.sample(random["indices"])
    before, critics_alone = agent.state()[0], agent.learner(0)
    critics_alone.update_critic(batch, random)
    after_critics = critics_alone.state()[0]
    agent.update(batch, random, True)
    for states, moves in (
        ((before, after_critics), ("critic", "critic_target")),
        ((after_critics, agent.state()[0]), ("actor", "entropy_coefficient")),
    ):
        for name, values in states[1].items():
            module = name.removeprefix("optimizer/").split("/")[0]
            if module in agent.networks and not name.endswith("bias"):
                assert values.equal(states[0][name]) != (module in moves), name


def test_the_entropy_coefficient_moves_towards_the_target(make_data: MakeData) -> None:
    """It grows where the entropy is below the target and falls where it is above; each learner has its own."""
    low, high = (SAC(make_data(), hidden_sizes=(8,), batch_size=16, target_entropy=t).fit(20) for t in (-50.0, 50.0))
    assert low.entropy_coefficient().item() < 1.0 < high.entropy_coefficient().item()
    together = SAC(make_data(), seed=[0, 1], initial_entropy_coefficient=0.3, **SMALL).fit(30)
    first, second = together.entropy_coefficient().flatten().tolist()
    assert first != second


@pytest.mark.parametrize("form", ["{}-v2", "{}-v3", "{}-v4", "{}-v5", "orl/Context{}-v0"])
@pytest.mark.parametrize(
    ("family", "target"), [("Hopper", -1), ("HalfCheetah", -3), ("Walker2d", -3), ("Ant", -4), ("Humanoid", -2)]
)
def test_target_entropies_are_the_published_ones(family: str, target: float, form: str) -> None:
    size = 3  # the table does not depend on it
    spaces = Spaces(4, -np.ones(size, np.float32), np.ones(size, np.float32), form.format(family))
    assert of_spaces(spaces).target_entropy == target


def of_spaces(spaces: Spaces, kind: type[SAC | SPEQ] = SAC, **settings: Any) -> SAC | SPEQ:
    """An agent for an environment that need not exist."""
    agent = kind.__new__(kind)
    agent._create(spaces, kind.Config(hidden_sizes=(4,), **settings), [0], torch.device("cpu"))
    return agent


@pytest.mark.parametrize("name", ["Swimmer-v5", "HopperStand-v5", "Hopper-v5x", None])
def test_an_unknown_environment_takes_minus_the_action_size_and_says_so(name: str | None) -> None:
    spaces = Spaces(4, -np.ones(3, np.float32), np.ones(3, np.float32), name)
    with pytest.warns(UserWarning, match=f"no published target entropy for {name}: using -3, minus the number"):
        assert of_spaces(spaces).target_entropy == -3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert of_spaces(spaces, target_entropy=-1.5).target_entropy == -1.5


@pytest.mark.parametrize(
    ("name", "rate"),
    [("Hopper-v5", 1e-4), ("HalfCheetah-v4", 5e-3), ("Walker2d-v5", 5e-3), ("Ant-v5", 1e-2), ("Humanoid-v5", 0.1),
     ("Swimmer-v5", 0.01)],
)  # fmt: skip
def test_dropout_rates_are_the_published_ones(name: str, rate: float) -> None:
    spaces = Spaces(4, -np.ones(3, np.float32), np.ones(3, np.float32), name)
    for kind in (SAC, SPEQ):
        assert of_spaces(spaces, kind, dropout_rate=None, target_entropy=-1.0).critic.dropout_rate == rate
    assert of_spaces(spaces, SPEQ, dropout_rate=0.0, target_entropy=-1.0).critic.dropout_rate == 0.0


def test_presets_are_those_of_the_papers() -> None:
    assert (SAC_PRESET.num_critics, SAC_PRESET.utd_ratio, SAC_PRESET.actor_q) == (2, 1, "min")
    assert (REDQ_PRESET.num_critics, REDQ_PRESET.target_subset_size, REDQ_PRESET.utd_ratio) == (10, 2, 20)
    assert (DROQ_PRESET.num_critics, DROQ_PRESET.layer_norm, DROQ_PRESET.utd_ratio) == (2, True, 20)
    for preset in (REDQ_PRESET, DROQ_PRESET):
        assert (preset.actor_q, preset.policy_delay) == ("mean", 20)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dropout_rate": 1.0}, r"dropout_rate=1.0: must lie in \[0, 1\)"),
        ({"dropout_rate": -0.1}, r"dropout_rate=-0.1: must lie in \[0, 1\)"),
        ({"target_subset_size": 3}, r"target_subset_size=3: there are only num_critics=2"),
        ({"num_critics": 0}, r"num_critics=0: must be above 0"),
        ({"utd_ratio": 0.0}, r"utd_ratio=0.0: must be above 0"),
        ({"policy_delay": 0}, r"policy_delay=0: must be above 0"),
        ({"initial_entropy_coefficient": 0.0}, r"initial_entropy_coefficient=0.0: must be above 0"),
        ({"learning_starts": -1}, r"learning_starts=-1: must not be negative"),
        ({"tau": 1.5}, r"tau=1.5: must lie in \[0, 1\]"),
        ({"hidden_size": (8,)}, r"'hidden_size' is not a field of SACConfig; did you mean hidden_sizes"),
    ],
)
def test_settings_that_cannot_be_are_refused(make_data: MakeData, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SAC(make_data(), **settings)


@pytest.mark.parametrize("copies", [1, 3])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 8.1])
def test_updates_are_per_transition_whatever_the_number_of_copies(stroll: str, copies: int, ratio: float) -> None:
    settings = {**SMALL, "hidden_sizes": (4,), "batch_size": 2, "target_entropy": -1.0}
    environment = gymnasium.make_vec(stroll, copies, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    agent = SAC(environment, utd_ratio=ratio, learning_starts=12, **settings)
    agent.learn(12)
    assert (agent.steps, agent.updates) == (12, 0)
    agent.learn(30)
    assert (agent.steps, agent.updates) == (42, int(ratio * 30))
    assert agent.replay_buffer is not None
    assert len(agent.replay_buffer) == 42


def test_random_actions_come_first_and_fill_the_range(stroll: str) -> None:
    agent = SAC(stroll, learning_starts=300, **{**SMALL, "target_entropy": -1.0})
    with torch.no_grad():
        for parameter in agent.actor.parameters():
            parameter.fill_(3.0)  # the policy alone would always act with 1
    agent.learn(310)
    assert agent.replay_buffer is not None
    actions = agent.replay_buffer.state()["table"][0, :, 3].numpy()
    assert np.histogram(actions[:300], 10, (-1, 1))[0].min() > 15
    assert (actions[301:] > 0.99).all()


def test_truncated_episodes_bootstrap(stroll: str) -> None:
    """Nothing that the time limit ended is stored as terminated, and its successor is not the next episode's start."""
    agent = SAC(gymnasium.make(stroll, ends="truncated"), learning_starts=100, **{**SMALL, "target_entropy": -1.0})
    agent.learn(60)
    assert agent.replay_buffer is not None
    table = agent.replay_buffer.state()["table"][0]
    assert (table[:, -1] == 0).all()
    assert (table[:, 6] == table[:, 2] + 1).all()  # the successor's step is the next one of the same episode
    assert (table[:, 5] == table[:, 1]).all()
    ended = SAC(gymnasium.make(stroll, ends="terminated"), learning_starts=100, **{**SMALL, "target_entropy": -1.0})
    ended.learn(60)
    assert ended.collector is not None
    assert ended.replay_buffer is not None
    assert ended.replay_buffer.state()["table"][0, :, -1].sum().item() == ended.collector.episodes[0]


@pytest.mark.slow
def test_pendulum_is_solved() -> None:
    """In less than 90 s of one core."""
    began = time.process_time()
    settings: dict[str, Any] = {"hidden_sizes": (64, 64), "batch_size": 128, "learning_rate": 1e-3}
    agent = SAC("Pendulum-v1", learning_starts=500, target_entropy=-1.0, **settings).learn(5_000)
    assert time.process_time() - began < 90
    assert evaluate(agent, "Pendulum-v1", episodes=20).returns.mean() > -200
