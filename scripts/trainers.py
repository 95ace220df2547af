"""Who trains in given contexts: agents of ours, side by side in one population, or an algorithm of Stable-Baselines3.

Shape key: P policies, n copies of the environment for each, d context variables, E episodes, O observation, A action.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl import checkpoint, loop
from orl.agent import Agent
from orl.configuration import make_config
from orl.context import ContextSpace, Floats
from orl.evaluation import Policy, make_vector
from orl.scripts.registry import ACTING, PRESETS
from orl.spaces import Spaces, make

# Of our agents, unless settings say otherwise: small networks that learn small tasks in a few thousand steps.
SMALL = {"hidden_sizes": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "learning_starts": 500}
SB3 = "sb3:"


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
    def train(self, contexts: Floats, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
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
        """Keep policy k."""


class PopulationTrainer(Trainer):
    """A preset that acts; all policies are learners of one population."""

    def check(self, steps: int) -> None:
        """See the base class."""
        try:
            Spaces.of(self.env)
        except ValueError as error:
            raise ValueError(f"--trainer {self.name}: {error}; sb3:PPO and sb3:DQN take discrete ones") from None
        starts = self._config(steps).learning_starts
        if steps <= starts:
            raise ValueError(f"--steps {steps}: the first {starts} are random (--settings learning_starts); give more")

    def train(self, contexts: Floats, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; a stopped training goes on exactly."""
        rows = contexts.reshape(-1, contexts.shape[-1]).tolist()
        environment = make_vector(self.env, len(rows), contexts=self.space.ranges, context=rows)
        place = folder / checkpoint.learner_names(seeds)[0] if len(seeds) == 1 else folder
        agent: Any
        if all(checkpoint.numbers(folder / name) for name in checkpoint.learner_names(seeds)):
            agent = self._kind.load(place, device=self.device)
        else:
            agent = self._kind(self.env, self._config(steps), seed=list(seeds), device=self.device)
        agent.connect(environment)
        saved = agent.steps
        for moment in loop.online(agent, steps - agent.steps, progress_bar=True) if agent.steps < steps else ():
            if not moment.in_phase and (agent.steps - saved >= every or agent.steps >= steps):
                saved = agent.steps
                agent.save(place)
        environment.close()
        policy: Policy = agent
        return policy

    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """A checkpoint without data."""
        assert isinstance(policy, Agent)
        policy.learner(k).save(folder)

    @property
    def _kind(self) -> Any:
        return PRESETS[self.name][0]

    def _config(self, steps: int) -> Any:
        """The preset, small, with the settings; a buffer that is never full need not be larger than the steps."""
        config = make_config(self._kind.Config, PRESETS[self.name][1], SMALL | dict(self.settings))
        room = max(steps, config.learning_starts + 1)
        return dataclasses.replace(config, buffer_size=min(config.buffer_size, room))


class SB3Trainer(Trainer):
    """An algorithm of Stable-Baselines3; policies are trained one after another, and a stopped one begins again."""

    def check(self, steps: int) -> None:
        """See the base class; the algorithm itself says what it refuses."""
        import stable_baselines3
        from stable_baselines3.common.base_class import BaseAlgorithm

        kind = getattr(stable_baselines3, self._algorithm, None)
        if not (isinstance(kind, type) and issubclass(kind, BaseAlgorithm)):
            raise ValueError(f"--trainer {self.name}: Stable-Baselines3 has no such algorithm; give sb3:PPO or sb3:DQN")
        environment = make(self.env)
        try:
            self._make(environment, 0)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"--trainer {self.name} in {self.env}: {error}") from error
        finally:
            environment.close()

    def train(self, contexts: Floats, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; checkpoints are those of whole policies."""
        from stable_baselines3.common.vec_env import DummyVecEnv

        models = []
        for rows, seed in zip(contexts.tolist(), seeds, strict=True):
            kept = folder / f"seed-{seed}.zip"
            copies = [partial(make, self.env, contexts=self.space.ranges, context=row) for row in rows]
            if kept.exists():
                models.append(self._kind.load(kept, device=self.device))
                continue
            environment = DummyVecEnv([*copies])
            models.append(self._make(environment, seed).learn(steps, progress_bar=False))
            environment.close()
            models[-1].save(folder / ".part.zip")
            (folder / ".part.zip").replace(kept)
        return _Predicting(models)

    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """Stable-Baselines3's own archive."""
        assert isinstance(policy, _Predicting)
        folder.mkdir(parents=True, exist_ok=True)
        policy.models[k].save(folder / "policy.zip")

    @property
    def _algorithm(self) -> str:
        return self.name.removeprefix(SB3)

    @property
    def _kind(self) -> Any:
        import stable_baselines3

        return getattr(stable_baselines3, self._algorithm)

    def _make(self, environment: Any, seed: int) -> Any:
        keywords = {"policy": "MlpPolicy", "device": self.device, **self.settings}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on batch sizes and devices
            return self._kind(env=environment, seed=seed, **keywords)


class _Predicting:
    """Models of Stable-Baselines3 as policies for `orl.evaluation`."""

    def __init__(self, models: Sequence[Any]) -> None:
        self.models, self.population = models, len(models)

    def act(self, observations: NDArray[Any], *, deterministic: bool = True) -> NDArray[Any]:
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
    acting = [preset for preset, (kind, _) in PRESETS.items() if kind in ACTING]
    if name not in acting and not name.startswith(SB3):
        raise ValueError(f"--trainer {name}: choose one of {', '.join(acting)}, or sb3:PPO for Stable-Baselines3's PPO")
    values = dict(_setting(text) for text in settings)
    return (SB3Trainer if name.startswith(SB3) else PopulationTrainer)(name, values, env, space, device)


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--settings {text}: write NAME=VALUE, as in hidden_sizes=[64,64] batch_size=64")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
