"""TD3+BC: twin-delayed deterministic policy gradient with a behaviour-cloning term.

Paper: Fujimoto & Gu 2021, "A Minimalist Approach to Offline Reinforcement Learning", arXiv 2106.06860.
Official code: github.com/sfujim/TD3_BC.

Deviations: none in the equations. All learners of a population share one delay counter.

Shape key: P population, C critics, B batch, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.buffer import Batch, Metrics
from orl.config import AgentConfig, check_fraction, check_positive
from orl.networks import CriticEnsemble, DeterministicActor, frozen_copy
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, PolyakAverage, critic_gradients, gradients


@dataclass(frozen=True)
class TD3BCConfig(AgentConfig):
    """Hyperparameters of TD3+BC; defaults of the paper's table 5."""

    # Critic
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer, critics and actor
    num_critics: int = 2  # C; the target takes their minimum
    critic_learning_rate: float = 3e-4  # of Adam
    # Actor
    actor_learning_rate: float = 3e-4  # of Adam
    q_weight: float = 2.5  # alpha in Eq. 5: weight of the value against cloning
    policy_delay: int = 2  # critic updates per actor update
    # Targets
    discount: float = 0.99  # gamma
    tau: float = 0.005  # target <- (1 - tau) target + tau online
    target_noise: float = 0.2  # std of the noise on the target action, in action units of [-1, 1]
    target_noise_clip: float = 0.5  # bound of that noise
    # Data
    batch_size: int = 256  # transitions per update and learner
    normalize_observations: bool = True  # by the data's mean and std, section 5

    def __post_init__(self) -> None:
        check_positive(self, "critic_learning_rate", "actor_learning_rate", "batch_size", "policy_delay", "num_critics")
        check_fraction(self, "discount", "tau")


class TD3BC(Agent):
    """TD3+BC (Fujimoto & Gu 2021)."""

    Config = TD3BCConfig
    config: TD3BCConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """Twin critics, an actor, and a target of each."""
        c, sizes = self.config, (self.spaces.observation_size, self.spaces.action_size)
        self.critic = CriticEnsemble(generators, *sizes, c.hidden_sizes, c.num_critics).to(self.device)
        self.actor = DeterministicActor(generators, *sizes, c.hidden_sizes).to(self.device)
        self.critic_target, self.actor_target = frozen_copy(self.critic), frozen_copy(self.actor)
        self.averages = (
            PolyakAverage(self.critic, self.critic_target),
            PolyakAverage(self.actor, self.actor_target),
        )
        self.optimizers = {
            "critic": Adam(self.critic.parameters(), c.critic_learning_rate),
            "actor": Adam(self.actor.parameters(), c.actor_learning_rate),
        }

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Which transitions, and the noise on target actions."""
        batch_size = self.config.batch_size
        return {
            "indices": NoiseSpec("uniform", (batch_size,)),
            "target_noise": NoiseSpec("normal", (batch_size, self.spaces.action_size)),
        }

    def is_actor_update(self) -> bool:
        """Every `policy_delay` updates, also of the targets."""
        return (self.updates + 1) % self.config.policy_delay == 0

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """Critics; where it is due, the actor and the targets."""
        critic_step, metrics = self.critic_gradients(batch, noise["target_noise"])
        self.optimizers["critic"].step(critic_step)
        if is_actor_update:
            actor_step, actor_metrics = self.actor_gradients(batch)
            self.optimizers["actor"].step(actor_step)
            for average in self.averages:
                average.update(self.config.tau)
            metrics |= actor_metrics
        return metrics

    def critic_gradients(self, batch: Batch, noise: Tensor) -> tuple[Gradients, Metrics]:
        """Clipped double Q-learning with a smoothed target policy (Fujimoto et al. 2018, Eq. 10 and 14)."""
        c = self.config
        with torch.no_grad():
            noise = (noise * c.target_noise).clamp(-c.target_noise_clip, c.target_noise_clip)
            next_actions = (self.actor_target(batch.next_observations) + noise).clamp(-1.0, 1.0)
            next_values = self.critic_target(batch.next_observations, next_actions).amin(1)  # min_i Q'_i(s', a')
            targets = losses.td_target(batch.rewards, batch.terminated, next_values, c.discount)
        return critic_gradients(self.critic, batch.observations, batch.actions, targets)

    def actor_gradients(self, batch: Batch) -> tuple[Gradients, Metrics]:
        """Eq. 5: maximise lambda Q(s, pi(s)) - (pi(s) - a)^2 with lambda = alpha / mean |Q|, per learner."""
        actions = self.actor(batch.observations)
        values = self.critic(batch.observations, actions)[:, 0]  # (P, B), the first critic, as in TD3
        q_scale = self.config.q_weight / values.detach().abs().mean(-1, keepdim=True).clamp(min=1e-8)
        cloning = losses.over_batch(losses.behaviour_cloning_loss(actions, batch.actions))
        actor_step = gradients(cloning - losses.over_batch(q_scale * values), self.actor)
        with torch.no_grad():
            error = (actions - batch.actions).square().mean((1, 2))
            return actor_step, {"actor_loss": error - (q_scale * values).mean(-1), "cloning_error": error}

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """The policy's action; it has no noise of its own."""
        return self.actor.act(observations, noise)
