"""AWAC: an off-policy critic, and a policy by advantage-weighted regression, first from data and then while acting.

Paper: Nair, Gupta, Dalal & Levine 2020, "AWAC: Accelerating Online Reinforcement Learning with Offline Datasets",
arXiv 2006.09359. Official code: github.com/rail-berkeley/rlkit (`examples/awac`).

Deviations from the paper:
* the weights exp(A / lambda) are divided by their mean over the batch, as in the official code (`normalize_weights`);
  without that they are clipped at `maximum_weight`, which is our choice;
* values are the minimum of two critics, and V(s) is that of one sampled action, as in the official code;
* sampled actions are clipped to [-1, 1] before the critics see them, as environments take them;
* the actor sees the critics after their step, as in Algorithm 1; the official code computes both losses first;
* observations are normalised, as CORL does and the official code does not (`normalize_observations`);
* last layers start as torch's linear layers do, not within +-0.001;
* without data, acting begins with `learning_starts` uniformly random actions.

How many updates come before acting is the caller's choice; the official scripts do 25,000 and 50,000.

Shape key: P population, C critics, B batch, O observation, A action.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.buffer import Batch, Metrics
from orl.config import OnlineConfig, check_fraction, check_positive
from orl.networks import CriticEnsemble, GaussianActor, frozen_copy
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, PolyakAverage, critic_gradients, gradients

LOG_STD_BOUNDS = (-6.0, 0.0)  # of the policy's log-std, in action units of [-1, 1]; official code


@dataclass(frozen=True)
class AWACConfig(OnlineConfig):
    """Hyperparameters of AWAC; defaults of the official MuJoCo script, where nothing else is said."""

    # Critic
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer of a critic
    num_critics: int = 2  # C; targets and advantages take their minimum
    critic_learning_rate: float = 3e-4  # of Adam
    # Actor
    actor_hidden_sizes: tuple[int, ...] = (256, 256, 256, 256)  # units of each of its hidden layers
    actor_learning_rate: float = 3e-4  # of Adam
    actor_weight_decay: float = 1e-4  # times the parameters, added to their gradients
    temperature: float = 2.0  # lambda, in units of returns: divides the advantage
    normalize_weights: bool = True  # to a mean of 1 over the batch
    maximum_weight: float = 100.0  # clip of exp(A / lambda) where they are not normalised; our choice, CORL's value
    # Targets
    discount: float = 0.99  # gamma
    tau: float = 0.005  # target <- (1 - tau) target + tau online
    # Data
    batch_size: int = 1_024  # transitions per update and learner
    normalize_observations: bool = True  # by the data's mean and std; our choice

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "critic_learning_rate", "actor_learning_rate", "batch_size", "num_critics")
        check_positive(self, "temperature", "maximum_weight")
        check_fraction(self, "discount", "tau")
        if self.actor_weight_decay < 0:
            raise ValueError(f"AWACConfig.actor_weight_decay={self.actor_weight_decay}: must not be negative")


class AWAC(Agent):
    """Advantage-weighted actor-critic (Nair et al. 2020)."""

    Config = AWACConfig
    config: AWACConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """Twin critics with a target, and a Gaussian actor."""
        c, sizes = self.config, (self.spaces.observation_size, self.spaces.action_size)
        self.critic = CriticEnsemble(generators, *sizes, c.hidden_sizes, c.num_critics).to(self.device)
        self.actor = BoundedGaussianActor(generators, *sizes, c.actor_hidden_sizes).to(self.device)
        self.critic_target = frozen_copy(self.critic)
        self.critic_average = PolyakAverage(self.critic, self.critic_target)
        self.optimizers = {
            "critic": Adam(self.critic.parameters(), c.critic_learning_rate),
            "actor": Adam(self.actor.parameters(), c.actor_learning_rate),
        }

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Which transitions, and the noise of the actions at s' and at s."""
        noise = NoiseSpec("normal", (self.config.batch_size, self.spaces.action_size))
        return {
            "indices": NoiseSpec("uniform", (self.config.batch_size,)),
            "next_noise": noise,
            "actor_noise": noise,
        }

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """Critics, actor, target (Algorithm 1)."""
        critic_step, metrics = self.critic_gradients(batch, noise["next_noise"])
        self.optimizers["critic"].step(critic_step)
        actor_step, actor_metrics = self.actor_gradients(batch, noise["actor_noise"])
        self.optimizers["actor"].step(actor_step)
        self.critic_average.update(self.config.tau)
        return metrics | actor_metrics

    def critic_gradients(self, batch: Batch, noise: Tensor) -> tuple[Gradients, Metrics]:
        """Q_i(s, a) towards r + gamma (1 - terminated) min_i Q'_i(s', a'), a' ~ pi(s')."""
        with torch.no_grad():
            next_actions = self.actor.sample(batch.next_observations, noise)
            next_values = self.critic_target(batch.next_observations, next_actions).amin(1)
            targets = losses.td_target(batch.rewards, batch.terminated, next_values, self.config.discount)
        return critic_gradients(self.critic, batch.observations, batch.actions, targets)

    def actor_gradients(self, batch: Batch, noise: Tensor) -> tuple[Gradients, Metrics]:
        """Maximise exp(A(s, a) / lambda) log pi(a | s), A(s, a) = Q(s, a) - Q(s, a'), a' ~ pi(s), Q = min_i Q_i."""
        c = self.config
        with torch.no_grad():
            policy_actions = self.actor.sample(batch.observations, noise)
            values = self.critic(batch.observations, policy_actions).amin(1)  # V(s), (P, B)
            advantages = self.critic(batch.observations, batch.actions).amin(1) - values
            if c.normalize_weights:  # exp(A / lambda) / mean exp(A / lambda), per learner
                weights = (advantages / c.temperature).softmax(-1) * advantages.shape[-1]
            else:
                weights = (advantages / c.temperature).exp().clamp(max=c.maximum_weight)
        log_probs = self.actor.log_prob(batch.observations, batch.actions)
        actor_step = gradients(-weights * log_probs, self.actor)
        with torch.no_grad():
            decayed = zip(actor_step, self.actor.parameters(), strict=True)
            return tuple(gradient + c.actor_weight_decay * p for gradient, p in decayed), {
                "actor_loss": (-weights * log_probs).mean(-1),
                "advantage": advantages.mean(-1),
                "largest_weight": weights.amax(-1),
            }

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """The mean, or a sample clipped to [-1, 1]."""
        return self.actor.act(observations, noise)


class BoundedGaussianActor(GaussianActor):
    """A Gaussian actor whose log-std is low + (high - low) sigmoid(parameter), within `LOG_STD_BOUNDS`.

    Source: the policy of the official code's MuJoCo and hand scripts.
    """

    def std(self) -> Tensor:
        """Standard deviation (P, 1, A)."""
        low, high = LOG_STD_BOUNDS
        return (low + (high - low) * self.log_std.sigmoid()).exp()
