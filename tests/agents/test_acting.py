"""On a CPU NumPy acts, with what torch would do up to rounding, the same wherever an agent acts."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch

from orl import seeding
from orl.agent import Agent
from orl.networks import Actor

WIDE = (64, 48)  # units, enough for every kind of kernel
ROWS = [1, 2, 7, 64]


def with_actor(case: Any, **settings: Any) -> Agent:
    """Learners with networks of a usual width, trained a little; skipped where torch acts."""
    if "hidden_sizes" in case.small:
        settings["hidden_sizes"] = WIDE
    agent: Agent = case(case.make_data(), **settings).fit(3)
    if not isinstance(agent.networks.get("actor"), Actor):
        pytest.skip("torch acts")
    return agent


def observations_of(agent: Agent, rows: int) -> np.ndarray:
    shape = agent.population, rows, agent.spaces.observation_size
    return 3 * np.random.default_rng(rows).normal(size=shape).astype(np.float32)


def put_back(agent: Agent) -> None:
    """The generators of actions, to the start."""
    agent.action_generators = [seeding.torch_generator(seed, "actions") for seed in agent.seeds]


@pytest.mark.parametrize("deterministic", [True, False])
def test_numpy_and_torch_act_alike(preset_case: Any, deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = with_actor(preset_case, seed=[0, 1])
    for rows in ROWS:
        observations = observations_of(agent, rows)
        put_back(agent)
        ours = agent.act(observations, deterministic=deterministic)
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(Actor, "act", lambda self, inputs, noise: self.actions(self.network(inputs), noise))
            put_back(agent)
            theirs = agent.act(observations, deterministic=deterministic)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        assert ours.dtype == theirs.dtype == np.float32


def test_numpy_and_torch_act_alike_in_double_precision(plain_case: Any, float64: None) -> None:
    agent = with_actor(plain_case)
    inputs, noise = (torch.randn(1, 5, size) for size in (agent.spaces.observation_size, agent.spaces.action_size))
    actor: Any = agent.networks["actor"]
    for each in (None, noise):
        expected = actor.actions(actor.network(inputs), each)
        torch.testing.assert_close(actor.act(inputs, each), expected.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_population_acts_bit_for_bit_as_its_learners_alone(plain_case: Any, deterministic: bool) -> None:
    agent = with_actor(plain_case, seed=[0, 1, 2])
    alone = [agent.learner(k) for k in range(3)]
    for rows in ROWS:
        observations = observations_of(agent, rows)
        together = agent.act(observations, deterministic=deterministic)
        for k, learner in enumerate(alone):
            actions = learner.act(observations[k : k + 1], deterministic=deterministic)
            np.testing.assert_array_equal(actions[0], together[k])


def test_what_acts_in_training_is_what_is_asked_for(acting_case: Any, stroll: str) -> None:
    """Samples with the same generators, bit for bit; of a single observation, too."""
    agent: Agent = acting_case(stroll)
    agent.learn(13)
    assert agent.collector is not None
    observations = agent.collector.observations.copy()
    agent.action_generators = [g.clone_state() for g in agent.exploration_generators]
    asked = agent.act(observations, deterministic=False)
    agent.collect()
    assert agent.collector.latest is not None
    np.testing.assert_array_equal(agent.spaces.to_environment(agent.collector.latest.actions), asked)
    row = agent.collector.observations[0, 0]
    alone, _ = agent.predict(row, deterministic=True)
    np.testing.assert_array_equal(alone, agent.act(row[None, None])[0, 0])


def test_a_copy_acts_by_its_own_parameters(plain_case: Any) -> None:
    agent = with_actor(plain_case)
    observations = observations_of(agent, 2)
    before, twin = agent.act(observations), copy.deepcopy(agent)
    twin.fit(20)
    np.testing.assert_array_equal(agent.act(observations), before)
    assert not np.allclose(twin.act(observations), before, rtol=0, atol=1e-5)
    agent.fit(20)
    np.testing.assert_array_equal(agent.act(observations), twin.act(observations))
