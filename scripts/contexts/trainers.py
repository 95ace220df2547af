"""Trainings in given contexts, by agents of ours, side by side in one population, or by Stable-Baselines3.

Shape key: P policies, n copies of the environment for each, d context variables, E episodes, O observation, A action.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium import Env

from orl.agent import Agent
from orl.agents import SAC, small_preset
from orl.agents.sac import TARGET_ENTROPY, family
from orl.arrays import Float32Array, Float64Array
from orl.config import make_config
from orl.context import ContextSpace
from orl.environment import Spaces, make, make_vector
from orl.rollout import Policy
from orl.scripts.running.registry import online_presets, presets
from orl.scripts.running.training_run import restored, saved_to, train

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

SB3 = "sb3:"  # what names of Stable-Baselines3's algorithms begin with at the command line


@dataclass(frozen=True)
class Trainer(ABC):
    """Trains policies that do not see their contexts."""

    name: str
    settings: Mapping[str, Any]  # hyperparameters by name
    env: str
    space: ContextSpace
    device: str

    @abstractmethod
    def check(self, steps: int) -> None:
        """Refuse what does not fit, before anything is trained.

        Raises:
            ValueError: the environment's actions, the settings, or too few steps.
        """

    @abstractmethod
    def train(self, contexts: Float64Array, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """Train P policies, or go on where this was stopped.

        Args:
            contexts: (P, n, d): policy k acts in n copies, one in each of its contexts.
            seeds: P of them; policy k depends on its own and not on the others.
            steps: environment steps of each policy, over its copies.
            every: steps between checkpoints.
            folder: for checkpoints.
        """

    @abstractmethod
    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """Write policy k."""


class PopulationTrainer(Trainer):
    """A preset that acts; all policies are learners of one population."""

    def check(self, steps: int) -> None:
        """See the base class."""
        try:
            Spaces.of(self.env)
        except ValueError as error:
            raise ValueError(f"--trainer {self.name}: {error}; sb3:PPO and sb3:DQN take discrete ones") from None
        self.config(steps)

    def train(self, contexts: Float64Array, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; a stopped training goes on exactly."""
        rows = contexts.reshape(-1, contexts.shape[-1]).tolist()
        environment = make_vector(self.env, len(rows), contexts=self.space.ranges, context=rows)
        agent_class = presets()[self.name].agent_class
        agent = restored(agent_class, folder, seeds, device=self.device)
        if agent is None:
            agent = agent_class(self.env, self.config(steps), seed=list(seeds), device=self.device)
        save = partial(agent.save, saved_to(folder, seeds))
        train(agent, save, every, steps=steps, environment=environment)
        environment.close()
        return agent

    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """A checkpoint without data."""
        assert isinstance(policy, Agent)
        policy.learner(k).save(folder)

    def config(self, steps: int) -> Any:
        """The preset made small, as it suits the environment, with the settings.

        A buffer that is never full need not be larger than the steps; where no target entropy is published, it is minus
        the number of action dimensions.

        Raises:
            ValueError: an unknown setting, a value that is refused, or steps before anything is learned.
        """
        preset = presets()[self.name]
        config: Any = make_config(preset.agent_class.Config, small_preset(preset.config, self.env), self.settings)
        starts, period = config.learning_starts, config.period if config.phase_updates else 0
        if steps <= starts:
            raise ValueError(f"--steps {steps}: the first {starts} are random (--settings learning_starts); give more")
        if steps < period:
            raise ValueError(f"--steps {steps}: the first phase comes after {period} (--settings period); give more")
        spaces, entropy = Spaces.of(self.env), config.target_entropy
        if entropy is None and family(self.env) not in TARGET_ENTROPY:
            entropy = -float(spaces.action_size)
        return dataclasses.replace(config, buffer_size=min(config.buffer_size, steps), target_entropy=entropy)


class SB3Trainer(Trainer):
    """An algorithm of Stable-Baselines3; policies are trained one after another, and a stopped one begins again."""

    def check(self, steps: int) -> None:
        """See the base class; the algorithm itself says what it refuses."""
        algorithm = self._algorithm
        with closing(make(self.env)) as environment:
            try:
                self._make(algorithm, environment, 0, steps)
            except (AssertionError, TypeError, ValueError) as error:
                raise ValueError(f"--trainer {self.name} in {self.env}: {error}") from error

    def train(self, contexts: Float64Array, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; checkpoints are those of whole policies."""
        from stable_baselines3.common.vec_env import DummyVecEnv

        models: list[BaseAlgorithm] = []
        for rows, seed in zip(contexts.tolist(), seeds, strict=True):
            archive = folder / f"seed-{seed}.zip"
            if archive.exists():
                models.append(self._algorithm.load(archive, device=self.device))
                continue
            copies = [partial(make, self.env, contexts=self.space.ranges, context=row) for row in rows]
            environment = DummyVecEnv([*copies])
            models.append(self._make(self._algorithm, environment, seed, steps).learn(steps, progress_bar=False))
            environment.close()
            models[-1].save(folder / ".part.zip")
            (folder / ".part.zip").replace(archive)
        return _SB3Policies(models)

    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """Stable-Baselines3's own archive."""
        assert isinstance(policy, _SB3Policies)
        folder.mkdir(parents=True, exist_ok=True)
        policy.models[k].save(folder / "policy.zip")

    @property
    def _algorithm(self) -> type[BaseAlgorithm]:
        import stable_baselines3
        from stable_baselines3.common.base_class import BaseAlgorithm

        algorithm = getattr(stable_baselines3, self.name.removeprefix(SB3), None)
        if not (isinstance(algorithm, type) and issubclass(algorithm, BaseAlgorithm)):
            raise ValueError(f"--trainer {self.name}: Stable-Baselines3 has no such algorithm; give sb3:PPO or sb3:DQN")
        return algorithm

    def _make(
        self, algorithm: type[BaseAlgorithm], environment: Env[Any, Any] | VecEnv, seed: int, steps: int
    ) -> BaseAlgorithm:
        from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

        keywords = {"policy": "MlpPolicy", "device": self.device, **self.settings}
        if issubclass(algorithm, OnPolicyAlgorithm) and "n_steps" not in self.settings:
            rollout = inspect.signature(algorithm).parameters["n_steps"].default  # always collected as a whole
            keywords["n_steps"] = max(2, min(rollout, steps // getattr(environment, "num_envs", 1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on batch sizes and devices
            return algorithm(env=environment, seed=seed, **keywords)


class _SB3Policies:
    """Models of Stable-Baselines3 as policies for `orl.evaluation`."""

    def __init__(self, models: Sequence[BaseAlgorithm]) -> None:
        self.models, self.population = models, len(models)

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        """(P, E, O) to (P, E, A); discrete actions are (P, E)."""
        pairs = zip(self.models, observations, strict=True)
        return np.stack([model.predict(each, deterministic=deterministic)[0] for model, each in pairs])


def make_trainer(name: str, settings: Sequence[str], env: str, space: ContextSpace, device: str) -> Trainer:
    """The trainer that a command line names.

    Args:
        name: of one of our presets that act, or `sb3:` and the name of an algorithm.
        settings: `name=value`, values as in JSON.
        env: Gymnasium id.
        space: its variables that differ.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        ValueError: an unknown trainer, or a setting of another form.
    """
    ours = [preset for preset, (agent, _) in online_presets().items() if issubclass(agent, SAC)]
    if name not in ours and not name.startswith(SB3):
        raise ValueError(f"--trainer {name}: choose one of {', '.join(ours)}, or sb3:PPO for Stable-Baselines3's PPO")
    trainer = SB3Trainer if name.startswith(SB3) else PopulationTrainer
    return trainer(name, read_settings(settings), env, space, device)


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Hyperparameters of a command line, each `name=value` with a value as in JSON; other text is a string.

    Raises:
        ValueError: no `=`.
    """
    values = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--settings {text}: write NAME=VALUE, as in hidden_sizes=[64,64] batch_size=64")
        try:
            values[name] = json.loads(value)
        except json.JSONDecodeError:
            values[name] = value
    return values
