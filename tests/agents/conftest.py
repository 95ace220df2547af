"""Shared: small datasets, and every agent of `orl.agents` with small settings."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orl import agents
from orl.agent import Agent
from orl.config import AgentConfig, OnlineConfig
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset
from orl.networks import StackedMLP
from orl.noise import NoiseBlocks

MakeData = Callable[..., Dataset]


@pytest.fixture(scope="session")
def make_data() -> MakeData:
    """Random transitions in episodes of ten rows, of which half terminate; rewards depend on state and action."""
    return _transitions


@pytest.fixture(scope="session")
def make_tasks() -> MakeData:
    """Episodes of ten rows, each in one of a few contexts, in no order; values are what rewards are, and noise."""
    return _contextual_transitions


def _transitions(
    rows: int = 60, observation_size: int = 3, action_size: int = 2, seed: int = 0, **fields: Any
) -> Dataset:
    generator = np.random.default_rng(seed)
    end = np.arange(rows) % 10 == 9
    ends = generator.uniform(size=rows) < 0.5
    observations = generator.normal(size=(rows, observation_size))
    actions = generator.uniform(-1, 1, (rows, action_size))
    return Dataset.from_arrays(
        observations,
        actions * np.max(fields.get("action_high", 1.0)),
        np.sin(observations[:, 0]) + actions[:, 0],
        observations + 0.1 * generator.normal(size=(rows, observation_size)),
        end & ends,
        end & ~ends,
        **fields,
    )


SPACE = ContextSpace(
    (ContextVariable("mass", "kg", 0.5, 2.0, 1.0, "log"), ContextVariable("speed", "m/s", -1.0, 3.0, 1.0))
)


def _contextual_transitions(
    rows: int = 60, number: int | None = None, seed: int = 0, *, space: ContextSpace = SPACE, **fields: Any
) -> Dataset:
    """`number` contexts, one for twenty rows by default."""
    generator = np.random.default_rng(seed)
    data, number = _transitions(rows=rows, seed=seed, **fields), number or rows // 20
    drawn = np.stack([space.sample(generator) for _ in range(number)]).astype(np.float32)
    contexts = drawn[generator.permutation(np.arange(rows // 10) % number).repeat(10)]
    return dataclasses.replace(data, contexts=contexts, values=data.rewards + contexts[:, 0])


class Case(NamedTuple):
    """An agent with settings that train in milliseconds, and what makes data for it."""

    kind: type[Agent]
    config: AgentConfig  # a preset
    small: dict[str, Any]  # what replaces some of its fields
    make_data: MakeData

    def __call__(self, source: Any, **settings: Any) -> Agent:
        return self.kind(source, self.config, **self.small | settings)


# By the ends of fields' names: the most that a number may be.
MOST = {
    "batch_size": 8, "contexts_per_batch": 4, "rows_per_context": 4, "width": 8, "blocks": 1, "num_bins": 11,
    "num_critics": 4, "utd_ratio": 2, "policy_delay": 2, "learning_starts": 10, "buffer_size": 33, "horizon": 100,
    "period": 15, "phase_updates": 12, "check_every": 2,
}  # fmt: skip
GIVEN = {"target_entropy": -1.0, "contexts": SPACE}  # of fields that have no default for unknown environments


def small_settings(config: AgentConfig) -> dict[str, Any]:
    """Settings that train in milliseconds, of the fields that the configuration has."""
    settings: dict[str, Any] = {}
    for name, value in ((field.name, getattr(config, field.name)) for field in dataclasses.fields(config)):
        most = next((most for end, most in MOST.items() if name.endswith(end)), None)
        if name in GIVEN:
            settings[name] = GIVEN[name]
        elif name.endswith("_sizes"):  # of layers
            settings[name] = tuple(min(size, 8) for size in value[:2])
        elif most is not None and value is not None:
            settings[name] = min(value, most)
    return settings


def _case(kind: type[Agent], config: AgentConfig) -> Case:
    make = _contextual_transitions if hasattr(config, "contexts") else _transitions
    return Case(kind, config, small_settings(config), make)


def _cases() -> tuple[dict[str, Case], dict[str, Case]]:
    """Every public agent of `orl.agents`, and the presets that no class has as its default, by name."""
    public = {name: getattr(agents, name) for name in agents.__all__}
    kinds = {name: value for name, value in public.items() if inspect.isclass(value) and issubclass(value, Agent)}
    classes = {name: _case(kind, kind.preset or kind.Config()) for name, kind in kinds.items()}
    by_config = {kind.Config: kind for kind in kinds.values() if "Config" in vars(kind)}
    configs = [case.config for case in classes.values()]
    presets = {
        name: _case(by_config[type(value)], value)
        for name, value in public.items()
        if name.endswith("_PRESET") and type(value) in by_config and value not in configs
    }
    return classes, presets


AGENTS, PRESETS = _cases()
ACTING = {
    name: case
    for name, case in (AGENTS | PRESETS).items()
    if isinstance(case.config, OnlineConfig) and not hasattr(case.config, "contexts")
}


@pytest.fixture(scope="session")
def every_agent() -> dict[str, Case]:
    """The public agents of `orl.agents` by name."""
    return AGENTS


@pytest.fixture(params=AGENTS)
def agent_case(request: pytest.FixtureRequest) -> Case:
    """A public agent of `orl.agents`."""
    return AGENTS[request.param]


@pytest.fixture(params=[name for name, case in AGENTS.items() if not hasattr(case.config, "contexts")])
def plain_case(request: pytest.FixtureRequest) -> Case:
    """A public agent of `orl.agents` that needs no contexts."""
    return AGENTS[request.param]


@pytest.fixture(params=AGENTS | PRESETS)
def preset_case(request: pytest.FixtureRequest) -> Case:
    """A public agent or preset of `orl.agents`."""
    return (AGENTS | PRESETS)[request.param]


@pytest.fixture(params=ACTING)
def acting_case(request: pytest.FixtureRequest) -> Case:
    """A public agent or preset of `orl.agents` that also learns in environments."""
    return ACTING[request.param]


class Twin:
    """Plain torch modules with an agent's weights, its data normalised, and the random numbers that it will see."""

    def __init__(self, agent: Any, data: Dataset) -> None:
        self.blocks = NoiseBlocks(agent.seeds, agent.noise_specs(), torch.device("cpu"))
        dtype = torch.get_default_dtype()
        mean, std = data.observations.mean(0, dtype=np.float64), data.observations.std(0, dtype=np.float64) + 1e-3
        self.observations = torch.from_numpy((data.observations - mean) / std).to(dtype)
        self.next_observations = torch.from_numpy((data.next_observations - mean) / std).to(dtype)
        self.actions, self.rewards = (torch.from_numpy(each).to(dtype) for each in (data.actions, data.rewards))
        self.terminated = torch.from_numpy(data.terminated).to(dtype)

    def batch(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """(s, a, r, s', terminated) of the next update, and its other random numbers."""
        numbers = {name: values[0] for name, values in self.blocks.next().items()}
        rows = (numbers["indices"] * len(self.rewards)).long()
        columns = (self.observations, self.actions, self.rewards, self.next_observations, self.terminated)
        return *(column[rows] for column in columns), numbers  # type: ignore[return-value]

    @staticmethod
    def network(stacked: StackedMLP, *member: int) -> nn.Sequential:
        """A plain network with the weights of one member of learner 0."""
        modules: list[nn.Module] = []
        for source in stacked.layers:
            linear = nn.Linear(*source.weight.shape[-2:])
            linear.weight.data.copy_(source.weight[(0, *member)].T)
            linear.bias.data.copy_(source.bias[(0, *member, 0)])
            modules += [linear, nn.ReLU()]
        return nn.Sequential(*modules[:-1])

    @staticmethod
    def check(network: nn.Module, stacked: StackedMLP, *member: int) -> None:
        """The plain network still has the weights of that member."""
        plain = [module for module in network.modules() if isinstance(module, nn.Linear)]
        for linear, source in zip(plain, stacked.layers, strict=True):
            torch.testing.assert_close(linear.weight, source.weight[(0, *member)].T, rtol=0, atol=1e-10)
            torch.testing.assert_close(linear.bias, source.bias[(0, *member, 0)], rtol=0, atol=1e-10)


@pytest.fixture
def twin() -> type[Twin]:
    return Twin


@pytest.fixture
def bandit() -> Dataset:
    """One-step episodes: the reward is -(a - best(s))^2, the data's actions are uniform."""
    generator = np.random.default_rng(0)
    observations = generator.uniform(-1, 1, (2_000, 1))
    actions = generator.uniform(-1, 1, (2_000, 1))
    rewards = -np.square(actions - 0.5 * observations)[:, 0]
    ends = np.ones(2_000)
    return Dataset.from_arrays(observations, actions, rewards, observations, ends, 0 * ends)
