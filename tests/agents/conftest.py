"""Shared: one thread, float64 on request, small datasets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orl.dataset import Dataset
from orl.networks import StackedMLP
from orl.noise import NoiseBlocks


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64() -> Iterator[None]:
    """float64 as the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make_data() -> Callable[..., Dataset]:
    """Random transitions in episodes of ten rows, of which half terminate; rewards depend on state and action."""

    def make(rows: int = 60, observation_size: int = 3, action_size: int = 2, seed: int = 0, **fields: Any) -> Dataset:
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

    return make


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
