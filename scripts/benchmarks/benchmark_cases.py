"""What `orl speed` times: agents of ours and Stable-Baselines3's SAC at work, on data of noise."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator

import numpy as np
import torch
from stable_baselines3 import SAC as SB3SAC
from stable_baselines3.common.buffers import ReplayBuffer as SB3Buffer
from stable_baselines3.common.logger import configure

from orl.agent import Agent
from orl.agents import SPEQ
from orl.agents.phases import Phase
from orl.buffer import Batch
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.noise import Noise, of_updates
from orl.scripts.benchmarks.timing import Work

ENVIRONMENT = "Hopper-v5"
ROWS = 100_000  # transitions of the data that updates draw from
CONTEXTS = ContextSpace((ContextVariable("gravity", "m/s^2", 5.0, 15.0, 9.81),))


@functools.cache
def random_data() -> Dataset:
    """Noise of Hopper's sizes, in twenty contexts: timing does not depend on the values."""
    generator, spaces = np.random.default_rng(0), Spaces.of(ENVIRONMENT)
    observations = generator.standard_normal((ROWS + 1, spaces.observation_size))
    return Dataset.from_arrays(
        observations[:-1],
        generator.uniform(-1, 1, (ROWS, spaces.action_size)),
        generator.standard_normal(ROWS),
        observations[1:],
        np.zeros(ROWS),
        np.arange(ROWS) % 1000 == 999,
        contexts=CONTEXTS.grid(20).repeat(ROWS // 20, axis=0),
        values=generator.standard_normal(ROWS),
        environment_id=ENVIRONMENT,
    )


def phase_updates(agent: SPEQ) -> Work:
    """One update of a stabilization phase: random numbers, batch, critics and targets."""
    phase = Phase(agent, agent.steps, torch.ones(agent.population, dtype=torch.bool, device=agent.device))
    inputs = _one_by_one(phase.batches(agent, sys.maxsize))
    return lambda: agent.run(agent.update_critic, *next(inputs))


def updates(agent: Agent, count: int = 1) -> Work:
    """So many updates at a time, with their batches and random numbers, as between two steps of an environment."""

    def work() -> None:
        for batches, noise in agent.batches(count):
            agent.gradient_steps(batches, noise)

    return work


def offline_updates(agent: Agent) -> Work:
    """One update after the other on recorded data, with their batches and random numbers."""
    inputs = _one_by_one(agent.batches(sys.maxsize))
    return lambda: agent.gradient_steps(*next(inputs))


def _one_by_one(blocks: Iterator[tuple[Batch, Noise]]) -> Iterator[tuple[Batch, Noise]]:
    for batches, noise in blocks:
        for i in range(len(batches.rewards)):
            yield of_updates(batches, noise, slice(i, i + 1))


def sb3_sac(device: str) -> SB3SAC:
    """Stable-Baselines3's SAC with a buffer of the same noise, ready to train."""
    data = random_data()
    agent = SB3SAC("MlpPolicy", ENVIRONMENT, seed=0, device=device, buffer_size=ROWS)
    agent.set_logger(configure(None, []))
    buffer = agent.replay_buffer
    assert isinstance(buffer, SB3Buffer)
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data.observations, data.next_observations
    buffer.actions[:, 0], buffer.rewards[:, 0] = data.actions, data.rewards
    buffer.full = True
    return agent
