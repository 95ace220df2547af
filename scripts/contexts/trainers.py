"""Who trains in given contexts: what all trainers do, and agents of ours, side by side in one population.

Shape key: P policies, n copies of the environment for each, d context variables.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orl import checkpoint, training
from orl.agent import Agent
from orl.agents.sac import TARGET_ENTROPY, family
from orl.config import make_config
from orl.context import ContextSpace, Floats
from orl.environment import Spaces, make_vector
from orl.rollout import Policy
from orl.scripts.running.registry import PRESETS

# Of our agents, unless settings say otherwise: small networks that learn small tasks in a few thousand steps.
SMALL = {"hidden_sizes": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "learning_starts": 500}
BODY = {"hidden_sizes": (128, 128), "batch_size": 128, "learning_starts": 1_000}
SUITED: dict[str, dict[str, Any]] = {  # by environment, on top of that
    # A reward of 1 per step: values climb to 1 / (1 - discount) as fast as the targets follow.
    "orl/ContextCartPole-v0": {"batch_size": 128, "tau": 0.05},
    **{f"orl/Context{body}-v0": BODY for body in ("Hopper", "HalfCheetah", "Walker2d", "Ant")},
}


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
        self.config(steps)

    def train(self, contexts: Floats, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; a stopped training goes on exactly."""
        rows = contexts.reshape(-1, contexts.shape[-1]).tolist()
        environment = make_vector(self.env, len(rows), contexts=self.space.ranges, context=rows)
        place = folder / checkpoint.learner_names(seeds)[0] if len(seeds) == 1 else folder
        agent: Any
        if all(checkpoint.numbers(folder / name) for name in checkpoint.learner_names(seeds)):
            agent = self._kind.load(place, device=self.device)
        else:
            agent = self._kind(self.env, self.config(steps), seed=list(seeds), device=self.device)
        agent.connect(environment)
        saved = agent.steps
        for moment in training.online(agent, steps - agent.steps, progress_bar=True) if agent.steps < steps else ():
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

    def config(self, steps: int) -> Any:
        """The preset made small, as it suits the environment, with the settings.

        A buffer that is never full need not be larger than the steps; where no target entropy is published, it is minus
        the number of action dimensions.

        Raises:
            ValueError: an unknown setting, a value that is refused, or steps before anything is learned.
        """
        kind, preset = PRESETS[self.name]
        config: Any = make_config(kind.Config, preset, SMALL | SUITED.get(self.env, {}) | dict(self.settings))
        starts, period = config.learning_starts, getattr(config, "period", 0)
        if steps <= starts:
            raise ValueError(f"--steps {steps}: the first {starts} are random (--settings learning_starts); give more")
        if steps < period:
            raise ValueError(f"--steps {steps}: the first phase comes after {period} (--settings period); give more")
        spaces, entropy = Spaces.of(self.env), config.target_entropy
        if entropy is None and family(spaces) not in TARGET_ENTROPY:
            entropy = -float(spaces.action_size)
        return dataclasses.replace(config, buffer_size=min(config.buffer_size, steps), target_entropy=entropy)


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
