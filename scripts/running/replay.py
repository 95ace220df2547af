"""The transitions of an online training, as a dataset."""

from __future__ import annotations

import numpy as np

from orl.agents import SAC, FlashSAC
from orl.dataset import Dataset


def replay_dataset(agent: SAC | FlashSAC, learner: int) -> Dataset:
    """What a learner's buffer holds, oldest first and one copy of the environment after the other.

    An episode ended, other than by termination, where the next transition does not begin where this one led.

    Raises:
        ValueError: the agent has not acted.
    """
    if agent.replay_buffer is None or agent.collector is None:
        raise ValueError(f"{type(agent).__name__} has no replay; let it learn() first")
    state, copies = agent.replay_buffer.state(), agent.collector.num_envs
    size = len(agent.replay_buffer)
    oldest = agent.replay_buffer.position if size == agent.replay_buffer.capacity else 0
    order = (np.arange(size) + oldest) % size
    rows = np.concatenate([order[copy::copies] for copy in range(copies)])
    table, rewards = state["table"][learner].cpu().numpy()[rows], state["rewards"][learner].cpu().numpy()[rows]
    observations, actions, next_observations, terminated = np.split(
        table, np.cumsum(agent.replay_buffer.widths)[:-1], axis=1
    )
    leads_on = np.zeros(size, bool)
    leads_on[:-1] = (next_observations[:-1] == observations[1:]).all(axis=1)
    ended = terminated[:, 0] > 0
    return Dataset.from_arrays(
        observations,
        agent.spaces.to_environment(actions),
        rewards,
        next_observations,
        ended,
        ~leads_on & ~ended,
        action_low=agent.spaces.action_low,
        action_high=agent.spaces.action_high,
        name=f"replay of seed {agent.seeds[learner]}",
        environment_id=agent.spaces.environment_id,
    )
