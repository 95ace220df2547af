"""IQL: implicit Q-learning, values from expectile regression and a policy by advantage-weighted regression.

Paper: Kostrikov, Nair & Levine 2021, "Offline Reinforcement Learning with Implicit Q-Learning", arXiv 2110.06169.
Official code: github.com/ikostrikov/implicit_q_learning.

Deviations from the paper:
* observations are normalised, as CORL does and the official code does not (`normalize_observations`);
* the actor's cosine schedule ends after `cosine_horizon` updates, however many are asked for, and stays at 0;
* the paper multiplies locomotion rewards by 1000 / (max - min episode return), for episodes of at most 1,000 steps;
  here the 1000 is the length of the longest episode, which is the same there and keeps rewards comparable elsewhere;
* where episodes are not whole (labels picked out one by one), no range of returns exists and rewards are not scaled.

Shape key: P population, C critics, B batch, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.buffer import Batch, Metrics
from orl.config import OnlineConfig, check_fraction, check_positive
from orl.dataset import Dataset
from orl.networks import CriticEnsemble, GaussianActor, StackedMLP, frozen_copy
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, PolyakAverage, critic_gradients, gradients


@dataclass(frozen=True)
class IQLConfig(OnlineConfig):
    """Hyperparameters of IQL; defaults of the paper's locomotion experiments (appendix B)."""

    # Values
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer, all networks
    num_critics: int = 2  # C; the value regresses on the minimum of their targets
    critic_learning_rate: float = 3e-4  # of Adam, critics and value function
    expectile: float = 0.7  # tau in Eq. 5
    # Actor
    actor_learning_rate: float = 3e-4  # of Adam, at the start of the cosine
    cosine_horizon: int | None = 1_000_000  # updates until the actor's learning rate is 0; None: constant
    advantage_temperature: float = 3.0  # beta in Eq. 7: multiplies the advantage
    maximum_weight: float = 100.0  # clip of exp(beta A)
    # Targets
    discount: float = 0.99  # gamma
    tau: float = 0.005  # target <- (1 - tau) target + tau online; alpha in Algorithm 1
    scale_rewards: bool = True  # times longest episode / (max - min episode return), of the rewards that are given
    # Data
    batch_size: int = 256  # transitions per update and learner
    normalize_observations: bool = True  # by the data's mean and std

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self, "critic_learning_rate", "actor_learning_rate", "batch_size", "num_critics", "maximum_weight"
        )
        check_positive(self, "cosine_horizon")
        check_fraction(self, "discount", "tau", "expectile")


class IQL(Agent):
    """Implicit Q-learning (Kostrikov et al. 2021)."""

    Config = IQLConfig
    config: IQLConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """Twin critics with a target, a value function and a Gaussian actor."""
        c, sizes = self.config, (self.spaces.observation_size, self.spaces.action_size)
        self.critic = CriticEnsemble(generators, *sizes, c.hidden_sizes, c.num_critics).to(self.device)
        self.value = StackedMLP(generators, (sizes[0], *c.hidden_sizes, 1)).to(self.device)
        self.actor = GaussianActor(generators, *sizes, c.hidden_sizes).to(self.device)
        self.critic_target = frozen_copy(self.critic)
        self.critic_average = PolyakAverage(self.critic, self.critic_target)
        self.optimizers = {
            "critic": Adam(self.critic.parameters(), c.critic_learning_rate),
            "value": Adam(self.value.parameters(), c.critic_learning_rate),
            "actor": Adam(self.actor.parameters(), c.actor_learning_rate),
        }
        self.reward_scale = torch.ones(self.population, 1, device=self.device)
        self.buffers = {"reward_scale": self.reward_scale}

    def prepare(self, datasets: Sequence[Dataset]) -> None:
        """Scale rewards by the range of the returns that the learner can see (imputed ones, not true ones)."""
        if not self.config.scale_rewards:
            return
        for learner, data in enumerate(datasets):
            if data.whole_episodes:
                returns = data.episode_returns()
                longest = max(rows.stop - rows.start for rows in data.episode_slices)
                spread = float(np.ptp(returns))
                self.reward_scale[learner] = longest / spread if spread > 0 else 1.0

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Which transitions."""
        return {"indices": NoiseSpec("uniform", (self.config.batch_size,))}

    def gradient_steps(self, batches: Batch, noise: Noise) -> Metrics:
        """With the actor's learning rate of each update, a cosine to 0."""
        rate, horizon = self.config.actor_learning_rate, self.config.cosine_horizon
        counts = range(self.updates, self.updates + len(batches.rewards))
        shares = [0.5 * (1.0 + math.cos(math.pi * min(i / horizon, 1.0))) if horizon else 1.0 for i in counts]
        rates = torch.tensor([rate * share for share in shares], dtype=torch.float64, device=self.device)
        return super().gradient_steps(batches, {**noise, "actor_learning_rate": rates})

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """Value, actor, critics, target (Algorithm 1, in the order of the official code)."""
        value_step, target_values, metrics = self.value_gradients(batch)
        self.optimizers["value"].step(value_step)
        actor_step, actor_metrics = self.actor_gradients(batch, target_values)
        self.optimizers["actor"].learning_rate.copy_(noise["actor_learning_rate"])
        self.optimizers["actor"].step(actor_step)
        # Eq. 6: Q(s, a) towards r + gamma V(s')
        with torch.no_grad():
            next_values = self.value(batch.next_observations).squeeze(-1)
        rewards = batch.rewards * self.reward_scale
        targets = losses.td_target(rewards, batch.terminated, next_values, self.config.discount)
        critic_step, critic_metrics = critic_gradients(self.critic, batch.observations, batch.actions, targets)
        self.optimizers["critic"].step(critic_step)
        self.critic_average.update(self.config.tau)
        return metrics | actor_metrics | critic_metrics

    def value_gradients(self, batch: Batch) -> tuple[Gradients, Tensor, Metrics]:
        """Eq. 5: V(s) towards an upper expectile of Q(s, a) over the data's actions; also gives these Q (P, B)."""
        with torch.no_grad():
            target_values = self.critic_target(batch.observations, batch.actions).amin(1)
        values = self.value(batch.observations).squeeze(-1)
        loss = losses.expectile_loss(values, target_values, self.config.expectile)
        return gradients(loss, self.value), target_values, {"value_mean": values.detach().mean(-1)}

    def actor_gradients(self, batch: Batch, target_values: Tensor) -> tuple[Gradients, Metrics]:
        """Eq. 7: maximise exp(beta (Q(s, a) - V(s))) log pi(a | s)."""
        c = self.config
        with torch.no_grad():
            advantages = target_values - self.value(batch.observations).squeeze(-1)
            weights = (c.advantage_temperature * advantages).exp().clamp(max=c.maximum_weight)
        log_probs = self.actor.log_prob(batch.observations, batch.actions)
        metrics = {"actor_loss": (-weights * log_probs.detach()).mean(-1), "advantage_weight": weights.mean(-1)}
        return gradients(-weights * log_probs, self.actor), metrics

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """The mean, or a sample clipped to [-1, 1]."""
        return self.actor.act(observations, noise)
