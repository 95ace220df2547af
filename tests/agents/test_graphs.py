"""A graph never trains what an agent no longer has: whatever a user replaces between updates, eager twins agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from orl.agents import SAC
from orl.dataset import Dataset
from orl.execution import GraphRunner
from orl.networks import frozen_copy
from orl.updates import Adam, PolyakAverage


def assigns_learning_rate(agent: SAC) -> None:
    agent.optimizers["critic"].learning_rate = torch.tensor(1e-5, dtype=torch.float64)


def sets_a_learning_rate(agent: SAC) -> None:
    agent.optimizers["critic"].learning_rate = 1e-5  # type: ignore[assignment]


def makes_an_optimizer(agent: SAC) -> None:
    agent.optimizers["critic"] = Adam(agent.critic.parameters(), 1e-3)


def forgets_moments(agent: SAC) -> None:
    optimizer = agent.optimizers["actor"]
    for i, average in enumerate(optimizer.exp_avg):
        optimizer.exp_avg[i] = torch.zeros_like(average)


def makes_a_target(agent: SAC) -> None:
    agent.critic_target = frozen_copy(agent.critic)
    agent.critic_average = PolyakAverage(agent.critic, agent.critic_target)


def gives_parameters_other_memory(agent: SAC) -> None:
    vector_to_parameters(0.5 * parameters_to_vector(agent.critic.parameters()), agent.critic.parameters())


def assigns_parameters(agent: SAC) -> None:
    halved = {name: 0.5 * values for name, values in agent.actor.state_dict().items()}
    agent.actor.load_state_dict(halved, assign=True)


def loads_parameters(agent: SAC) -> None:
    agent.actor.load_state_dict({name: 0.5 * values for name, values in agent.actor.state_dict().items()})


def makes_a_configuration(agent: SAC) -> None:
    agent.config = dataclasses.replace(agent.config, discount=0.5)


def sets_a_number(agent: SAC) -> None:
    agent.target_entropy = -7.0


@pytest.mark.filterwarnings("ignore:no published")
@pytest.mark.parametrize(
    "change",
    [
        assigns_learning_rate, sets_a_learning_rate, makes_an_optimizer, forgets_moments, makes_a_target,
        gives_parameters_other_memory, assigns_parameters, loads_parameters, makes_a_configuration, sets_a_number,
    ],
)  # fmt: skip
def test_what_a_user_replaces_is_replaced(change: Callable[[SAC], None], make_data: Callable[..., Dataset]) -> None:
    states = []
    for execution in ("eager", "graph"):
        agent = SAC(make_data(), seed=[0, 1], hidden_sizes=(8, 8), batch_size=4, execution=execution, device="cpu")
        agent.fit(6)
        change(agent)
        agent.fit(12)
        states.append(agent.state()[0])
    assert agent.run.graphs  # type: ignore[attr-defined]
    for name, values in states[0].items():
        assert torch.equal(values, states[1][name]), name


@pytest.mark.filterwarnings("ignore:no published")
def test_an_agent_may_hold_what_is_nested_deeply(make_data: Callable[..., Dataset]) -> None:
    agent = SAC(make_data(), hidden_sizes=(8, 8), batch_size=4, device="cpu")
    agent.history = chain = []  # type: ignore[attr-defined]
    for _ in range(3_000):
        chain.append([])
        chain = chain[0]
    assert agent.fit(6).run.graphs  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:no published")
def test_what_is_replaced_all_the_time_is_seldom_recorded(
    make_data: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    make = GraphRunner._make_graph
    monkeypatch.setattr(GraphRunner, "_make_graph", lambda self, *about: made.append(about) or make(self, *about))
    agent = SAC(make_data(), hidden_sizes=(8, 8), batch_size=4, device="cpu")
    for i in range(60):
        agent.target_entropy = -float(i)
        agent.fit(1)
    assert len(made) == 4  # at the updates 4, 11, 24 and 49
