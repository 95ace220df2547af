"""Stable-Baselines3's callbacks on our agents: the one adapter to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.logger import Logger

from orl.training import TrainingStep

if TYPE_CHECKING:
    from orl.agent import Agent


class Model:
    """What a callback needs of Stable-Baselines3's model, of an agent with one learner.

    `predict`, `save` and everything else not named here are the agent's.
    """

    def __init__(self, agent: Agent, logger: Logger) -> None:
        self.agent, self.logger = agent, logger
        self.verbose = 0

    @property
    def num_timesteps(self) -> int:
        """Environment steps done."""
        return self.agent.steps

    @property
    def n_envs(self) -> int:
        """Copies of the environment."""
        assert self.agent.collector is not None
        return self.agent.collector.num_envs

    def get_env(self) -> Any:
        """The training environment, a vector environment of Gymnasium."""
        assert self.agent.collector is not None
        return self.agent.collector.vector

    def get_vec_normalize_env(self) -> None:
        """There is none: observations are normalised within the agent."""

    def dump_logs(self) -> None:
        """Write what was recorded to the logger, to the outputs that a callback gave it."""
        self.logger.dump(self.num_timesteps)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder, named without the .zip that Stable-Baselines3's callbacks add."""
        self.agent.save(str(path).removesuffix(".zip"))

    def save_replay_buffer(self, path: str | Path) -> None:
        """Do nothing: `save` has the buffer in its checkpoint."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.agent, name)


def run_with_callbacks(
    agent: Agent, training_steps: Iterator[TrainingStep], callback: Any, steps: int
) -> Iterator[TrainingStep]:
    """Online training with Stable-Baselines3 callbacks: `on_step` after every step in all copies.

    Args:
        agent: one learner.
        training_steps: of its training; ends early where a callback says so.
        callback: one, or a list of them.
        steps: environment steps asked for.

    Raises:
        ValueError: the agent is a population, or `callback` is none of Stable-Baselines3's.
    """
    if agent.population > 1:
        raise ValueError(
            f"callbacks watch one learner, this agent is a population of {agent.population}; train agent.learner(k)"
        )
    called = CallbackList(callback) if isinstance(callback, list) else callback
    if not isinstance(called, BaseCallback):
        raise ValueError(f"callback={callback!r}: give a callback of Stable-Baselines3, or a list of them")
    return _call(agent, training_steps, called, steps)


def _call(
    agent: Agent, training_steps: Iterator[TrainingStep], called: BaseCallback, steps: int
) -> Iterator[TrainingStep]:
    with warnings.catch_warnings():  # the training environment is one of Gymnasium, which is no fault
        warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
        called.init_callback(Model(agent, Logger(folder=None, output_formats=[])))  # type: ignore[arg-type]
    called.on_training_start({"total_timesteps": agent.steps + steps, "self": called.model}, {})
    called.on_rollout_start()
    for training_step in training_steps:
        yield training_step
        if training_step.in_phase:
            continue
        called.update_locals({**_of_the_step(agent), "metrics": training_step.metrics})
        if not called.on_step():
            break
    called.on_rollout_end()
    called.on_training_end()


def _of_the_step(agent: Agent) -> dict[str, Any]:
    """What Stable-Baselines3 tells of a step, under its names; finished episodes are in the infos as by `Monitor`."""
    collector = agent.collector
    assert collector is not None
    assert collector.latest is not None
    infos: list[dict[str, Any]] = [{} for _ in range(collector.num_envs)]
    ended = collector.lengths[0] == 0
    returns, lengths = collector.reached
    for copy in np.flatnonzero(ended):
        infos[copy]["episode"] = {"r": float(returns[0, copy]), "l": int(lengths[0, copy])}
    return {"rewards": collector.latest.rewards[0], "dones": ended, "infos": infos}
