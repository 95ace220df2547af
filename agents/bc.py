"""Behaviour cloning: regress the actions of the data.

Paper: Pomerleau 1991, "Efficient Training of Artificial Neural Networks for Autonomous Navigation". The variant on the
best tenth of the episodes is the 10 % BC of Chen et al. 2021 (Decision Transformer, arXiv 2106.01345, section 5).

Deviations: the policy is deterministic and the loss is the mean squared error, as is usual in offline comparisons.

Shape key: P population, B batch, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.buffer import Batch, Metrics
from orl.config import AgentConfig, check_positive
from orl.networks import DeterministicActor
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, gradients


@dataclass(frozen=True)
class BCConfig(AgentConfig):
    """Hyperparameters of behaviour cloning."""

    # Actor
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer
    learning_rate: float = 3e-4  # of Adam
    # Data
    batch_size: int = 256  # transitions per update and learner
    normalize_observations: bool = True  # by the data's mean and std

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "batch_size")


class BC(Agent):
    """Behaviour cloning. For the best 10 % of episodes give `data.best_episodes(0.1)`."""

    Config = BCConfig
    config: BCConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """One actor and its optimizer."""
        sizes = self.spaces.observation_size, self.spaces.action_size
        self.actor = DeterministicActor(generators, *sizes, self.config.hidden_sizes).to(self.device)
        self.optimizers = {"actor": Adam(self.actor.parameters(), self.config.learning_rate)}

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Which transitions."""
        return {"indices": NoiseSpec("uniform", (self.config.batch_size,))}

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """One step of the actor."""
        actor_step, metrics = self.actor_gradients(batch)
        self.optimizers["actor"].step(actor_step)
        return metrics

    def actor_gradients(self, batch: Batch) -> tuple[Gradients, Metrics]:
        """minimise mean (pi(s) - a)^2."""
        actions = self.actor(batch.observations)
        actor_step = gradients(losses.behaviour_cloning_loss(actions, batch.actions), self.actor)
        return actor_step, {"actor_loss": (actions.detach() - batch.actions).square().mean((1, 2))}

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """The policy's action; it has no noise of its own."""
        return self.actor.act(observations, noise)
