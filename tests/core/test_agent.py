"""The conveniences of the one abstract class, on the smallest agent that there can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orl import device, losses
from orl.agent import Agent
from orl.buffer import Batch, Metrics
from orl.checkpoint import learner_names
from orl.config import AgentConfig
from orl.dataset import Dataset
from orl.device import pick_device
from orl.evaluation import evaluate
from orl.networks import EPSILON, GaussianActor
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, gradients

MakeData = Callable[..., Dataset]


@dataclass(frozen=True)
class CloneConfig(AgentConfig):
    """Of the agent below."""

    normalize_observations: bool = True


class Clone(Agent):
    """Maximises the likelihood of the data's actions; remembers the batch that it was given."""

    Config = CloneConfig
    prepared = 0

    def build(self, generators: list[torch.Generator]) -> None:
        sizes = self.spaces.observation_size, self.spaces.action_size
        self.actor = GaussianActor(generators, *sizes, (8,)).to(self.device)
        self.optimizers = {"actor": Adam(self.actor.parameters(), 1e-2)}

    def noise_specs(self) -> dict[str, NoiseSpec]:
        return {"indices": NoiseSpec("uniform", (16,))}

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        self.batch = batch
        log_probs = self.actor.log_prob(batch.observations, batch.actions)
        self.optimizers["actor"].step(gradients(losses.over_batch(-log_probs), self.actor))
        return {"log_prob": log_probs.detach().mean(-1)}

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        zero = torch.zeros(self.spaces.action_size)
        return self.actor.sample(observations, zero if noise is None else noise)

    def prepare(self, datasets: Any) -> None:
        self.prepared += 1


def parameters(agent: Agent) -> list[Tensor]:
    return [p.detach().clone() for network in agent.networks.values() for p in network.parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_agent_of_an_environment_gets_its_data_in_fit(make_data: MakeData) -> None:
    agent = Clone("Pendulum-v1")
    with pytest.raises(ValueError, match=r"Clone has no data; give a dataset to the constructor or to fit\(\)"):
        agent.fit(1)
    data = make_data(action_size=1, action_low=-2, action_high=2)
    assert agent.fit(3, data) is agent
    assert agent.updates == 3
    assert equal(parameters(agent), parameters(Clone(data).fit(3)))


def test_observations_of_a_batch_are_normalised_by_the_data(make_data: MakeData) -> None:
    data = make_data(rows=500)
    agent = Clone(data).fit(1)
    mean, std = data.observations.mean(0), data.observations.std(0) + EPSILON
    for name in ("observations", "next_observations"):
        seen = getattr(agent.batch, name)[0].numpy()
        originals = (getattr(data, name) - mean) / std  # next observations with the statistics of observations
        assert (np.abs(seen[:, None] - originals[None]).max(-1).min(1) < 1e-4).all()
    raw = Clone(data, normalize_observations=False).fit(1)
    assert all((data.observations == row).all(1).any() for row in raw.batch.observations[0].numpy())


def test_actions_see_observations_as_updates_do(make_data: MakeData) -> None:
    data = make_data(rows=200)
    agent = Clone(data)
    observations = data.observations[:4]
    normalised = torch.from_numpy((observations - data.observations.mean(0)) / (data.observations.std(0) + EPSILON))
    expected = agent.actor(normalised[None])[0][0].detach().numpy()
    np.testing.assert_allclose(agent.predict(observations, deterministic=True)[0], expected, atol=1e-5)


def test_statistics_are_taken_once(make_data: MakeData) -> None:
    agent = Clone(make_data(seed=1)).fit(1)
    mean = agent.normalizer.mean.clone()
    agent.fit(1, make_data(seed=2))
    assert torch.equal(agent.normalizer.mean, mean)
    assert agent.prepared == 1
    loaded = agent.learner(0)
    loaded.attach(make_data(seed=3))
    assert torch.equal(loaded.normalizer.mean, mean)
    assert loaded.prepared == 0


def test_datasets_must_match_the_seeds(make_data: MakeData) -> None:
    with pytest.raises(ValueError, match="2 datasets for 3 seeds; give one dataset, or one per seed"):
        Clone([make_data(), make_data()], seed=[0, 1, 2])
    assert Clone([make_data(), make_data()], seed=[0, 0]).population == 2


def test_the_names_of_the_error_are_the_data_s(make_data: MakeData) -> None:
    with pytest.raises(ValueError, match=r"^other: .*sizes are \(4, 2\), the agent has \(3, 2\)"):
        Clone(make_data(), seed=0).fit(1, make_data(observation_size=4, name="other"))


def test_sampled_actions_repeat_with_the_seed_and_differ_between_learners(make_data: MakeData) -> None:
    data = make_data()
    observations = np.zeros((2, 50, 3), np.float32)
    agent, again = (Clone(data, seed=[0, 1]) for _ in range(2))
    actions = agent.act(observations, deterministic=False)
    assert np.array_equal(actions, again.act(observations, deterministic=False))
    assert not np.array_equal(actions, agent.act(observations, deterministic=False))
    assert not np.array_equal(actions[0], actions[1])
    alone = Clone(data, seed=1).act(observations[:1], deterministic=False)
    np.testing.assert_allclose(alone[0], actions[1], atol=1e-6)


def test_a_sampling_learner_continues_as_in_the_population(make_data: MakeData) -> None:
    agent = Clone(make_data(), seed=[0, 1, 2])
    observations = np.zeros((3, 4, 3), np.float32)
    agent.act(observations, deterministic=False)
    one = agent.learner(2)
    expected = agent.act(observations, deterministic=False)[2]
    np.testing.assert_allclose(one.predict(observations[0])[0], expected, atol=1e-6)


@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_never_changes_training(make_data: MakeData, deterministic: bool) -> None:
    data = make_data(action_size=1, action_low=-2, action_high=2)
    agent = Clone(data, seed=[0, 1]).fit(7)
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    evaluate(agent, "Pendulum-v1", episodes=2, deterministic=deterministic)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    agent.fit(7)
    assert equal(parameters(agent), parameters(Clone(data, seed=[0, 1]).fit(14)))


def test_select_takes_learners_in_the_order_given_and_refuses_others(make_data: MakeData) -> None:
    agent = Clone(make_data(), seed=[5, 6, 7]).fit(2)
    two = agent.select([2, 0])
    assert (two.seeds, two.population, two.updates) == ([7, 5], 2, 2)
    assert torch.equal(two.actor.log_std[1], agent.actor.log_std[0])
    for k in (3, -1):
        with pytest.raises(ValueError, match=f"learner {k}: this population has learners 0 to 2"):
            agent.learner(k)
    with pytest.raises(ValueError, match="no learner is named; this population has learners 0 to 2"):
        agent.select([])
    with pytest.raises(ValueError, match="learner True: "):
        agent.select([True, False, True])  # a mask is no list of learners


def test_a_learner_is_a_copy(make_data: MakeData) -> None:
    data = make_data()
    agent = Clone(data, seed=[0, 1]).fit(2)
    before = parameters(agent)
    agent.learner(1).fit(2, data)
    assert equal(parameters(agent), before)


def test_folder_names_of_learners() -> None:
    assert learner_names([0, 3]) == ["seed-0", "seed-3"]
    assert learner_names([0, 3, 0]) == ["seed-0-learner-0", "seed-3", "seed-0-learner-2"]


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device='cuda:1': this machine has no CUDA device; use 'auto' or 'cpu'"):
        pick_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"device='cuda:2': this machine has CUDA devices 0 to 1"):
        pick_device("cuda:2")
    with pytest.raises(ValueError, match=r"device='mps': give 'auto', 'cpu', 'cuda' or 'cuda:1'"):
        pick_device("mps")
    with pytest.raises(ValueError, match=r"device='gpu': give 'auto', 'cpu', 'cuda' or 'cuda:1'"):
        pick_device("gpu")


def test_networks_that_do_not_fit_are_refused_before_they_are_made(
    make_data: MakeData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 5 learners with 52 parameters, each with a gradient and two moments: 3 * 8 + 8, 8 * 2 + 2 and 2 log-stds."""
    needed = 5 * 4 * 4 * (3 * 8 + 8 + 8 * 2 + 2 + 2)
    for free in (needed, needed - 1):
        monkeypatch.setattr(device, "available_memory", lambda _, free=free: free)
        monkeypatch.setattr("orl.buffer.refuse_memory", lambda *_: None)
        if free == needed:
            assert Clone(make_data(), seed=range(5)).population == 5
        else:
            with pytest.raises(MemoryError, match=r"networks of 5 learners: 0\.0 GiB needed, and cpu has .* fewer"):
                Clone(make_data(), seed=range(5))
