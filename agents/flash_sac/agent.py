"""FlashSAC: a soft actor-critic whose networks cannot grow, with a categorical value; here also with phases.

Source: Holiday-Robot 2026, FlashSAC, github.com/Holiday-Robot/FlashSAC (its code; the paper could not be read). The
categorical value is C51's (Bellemare et al. 2017, arXiv 1707.06887), the reward scale SimbaV2's (Lee et al. 2025).
Stabilization phases on such critics are unpublished: their length and timing are our choice; checks of an
automatic length look at expected values, with running statistics.

Deviations:
* actions are explored by the policy's own samples; FlashSAC holds a noise vector for several steps;
* the discounted return that scales rewards ends with its episode; the official code lets the last reward leak into
  the next episode;
* `return_bound` 4 instead of 5 leaves ten bins above the best return seen, which a long phase would otherwise touch;
* the learning rate falls with environment steps, not with updates, so that phases do not exhaust it.

Shape key: P population, C critics, B batch, K bins, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.agents.flash_sac.networks import CategoricalCritic, NormalizedActor, project
from orl.agents.flash_sac.reward_scale import RewardScale
from orl.agents.phases import Phases, PhasesConfig
from orl.buffer import Batch, Metrics
from orl.config import OnlineConfig, check_fraction, check_positive
from orl.dataset import Dataset
from orl.environment import Environment
from orl.networks import EntropyCoefficient, frozen_copy, squashed
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, PolyakAverage, gradients


@dataclass(frozen=True)
class FlashSACConfig(PhasesConfig, OnlineConfig):
    """Hyperparameters of FlashSAC; defaults of its MuJoCo runs."""

    # Critic
    critic_width: int = 256  # of the residual stream
    critic_blocks: int = 2  # residual blocks
    num_critics: int = 2  # C; the one of lower value gives the target distribution
    num_bins: int = 101  # K
    value_bound: float = 5.0  # bins lie evenly in [-value_bound, value_bound], in units of scaled rewards
    return_bound: float = 4.0  # rewards are scaled so that no discounted return seen exceeds it
    # Actor
    actor_width: int = 128  # of the residual stream
    actor_blocks: int = 2  # residual blocks
    policy_delay: int = 2  # critic updates per update of actor and entropy coefficient
    # Entropy
    target_std: float = 0.15  # sigma: the target entropy is that of a normal of this width in every action dimension
    initial_entropy_coefficient: float = 0.01  # alpha at the start
    # Optimisation
    learning_rate: float = 3e-4  # of Adam, at the start of the cosine
    final_learning_rate: float = 1.5e-4  # at its end and after it
    cosine_horizon: int = 1_000_000  # environment steps
    discount: float = 0.99  # gamma
    tau: float = 0.01  # target <- (1 - tau) target + tau online, parameters only
    batch_size: int = 512  # transitions per update and learner

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(
            self, "critic_width", "critic_blocks", "num_critics", "value_bound", "return_bound", "actor_width"
        )
        check_positive(
            self, "actor_blocks", "policy_delay", "target_std", "initial_entropy_coefficient", "learning_rate"
        )
        check_positive(self, "final_learning_rate", "cosine_horizon", "batch_size")
        check_fraction(self, "discount", "tau")
        self.check_phases()
        if self.num_bins < 2 or self.batch_size < 2:
            raise ValueError(f"FlashSACConfig.num_bins={self.num_bins}, batch_size={self.batch_size}: give 2 or more")


FLASH_SAC_PRESET = FlashSACConfig()
FLASH_SPEQ_PRESET = FlashSACConfig(phase_updates=20_000)  # two e-folds of 1 / (tau (1 - gamma)) updates


class FlashSAC(Agent):
    """A soft actor-critic with normalised networks and a categorical value (FlashSAC 2026)."""

    Config = FlashSACConfig
    config: FlashSACConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """Normalised actor, categorical critics and their target, entropy coefficient, reward scale, and phases."""
        c, action_size = self.config, self.spaces.action_size
        sizes = self.spaces.observation_size, action_size
        self.target_entropy = 0.5 * action_size * math.log(2.0 * math.pi * math.e * c.target_std**2)
        self.actor = NormalizedActor(generators, *sizes, c.actor_width, c.actor_blocks).to(self.device)
        self.critic = CategoricalCritic(
            generators, sum(sizes), c.critic_width, c.critic_blocks, c.num_critics, c.num_bins, c.value_bound
        ).to(self.device)
        self.critic_target = frozen_copy(self.critic)
        self.critic_average = PolyakAverage(self.critic, self.critic_target)
        self.entropy_coefficient = EntropyCoefficient(len(generators), c.initial_entropy_coefficient).to(self.device)
        trained = {"critic": self.critic, "actor": self.actor, "entropy_coefficient": self.entropy_coefficient}
        self.optimizers = {name: Adam(network.parameters(), c.learning_rate) for name, network in trained.items()}
        self.reward_scale = RewardScale(len(generators), c.discount, c.return_bound, self.device)
        self.buffers = dict(self.reward_scale.statistics)
        self.phases = Phases(self) if c.phase_updates else None

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Those of a critic update, and the actor's noise on observations and next observations."""
        noise = NoiseSpec("normal", (2 * self.config.batch_size, self.spaces.action_size))
        return {**self.critic_noise_specs(), "actor_noise": noise}

    def critic_noise_specs(self) -> dict[str, NoiseSpec]:
        """Random numbers of a critic update: which transitions, and the noise of next actions."""
        noise = NoiseSpec("normal", (self.config.batch_size, self.spaces.action_size))
        return {"indices": NoiseSpec("uniform", (self.config.batch_size,)), "next_noise": noise}

    def is_actor_update(self) -> bool:
        """Every `policy_delay` updates, the first one among them."""
        return self.updates % self.config.policy_delay == 0

    def gradient_steps(self, batches: Batch, noise: Noise) -> Metrics:
        """With the learning rates of this environment step."""
        self._set_learning_rates()
        return super().gradient_steps(batches, noise)

    def _set_learning_rates(self) -> None:
        """The cosine schedule at the current environment step."""
        c = self.config
        share_left = 0.5 * (1.0 + math.cos(math.pi * min(self.steps / c.cosine_horizon, 1.0)))
        learning_rate = c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * share_left
        for optimizer in self.optimizers.values():
            optimizer.learning_rate.fill_(learning_rate)

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """Where it is due, actor and entropy coefficient; then the critics and their targets."""
        metrics = self.update_actor(batch, noise) if is_actor_update else {}
        return metrics | self.update_critic(batch, noise)

    def update_actor(self, batch: Batch, noise: Noise) -> Metrics:
        """One step of the actor and of the entropy coefficient."""
        actor_step, coefficient_step, metrics = self.actor_gradients(batch, noise)
        self.optimizers["actor"].step(actor_step)
        project(self.actor)
        self.optimizers["entropy_coefficient"].step(coefficient_step)
        return metrics

    def update_critic(self, batch: Batch, noise: Noise) -> Metrics:
        """One step of the critics, and their targets. Online and in stabilization phases."""
        critic_step, metrics = self.critic_gradients(batch, noise)
        self.optimizers["critic"].step(critic_step)
        project(self.critic)
        self.critic_average.update(self.config.tau)
        return metrics

    def actor_gradients(self, batch: Batch, noise: Noise) -> tuple[Gradients, Gradients, Metrics]:
        """Minimise alpha log pi - min_i Q_i; batch statistics of [s; s'], of which s counts; critics stand still."""
        rows = batch.rewards.shape[-1]
        both = torch.cat([batch.observations, batch.next_observations], dim=1)  # (P, 2B, O)
        actions, log_prob = self.actor.sample(both, noise["actor_noise"], True)
        actions, log_prob = actions[:, :rows], log_prob[:, :rows]
        value = self.critic.values(self.critic(batch.observations, actions, False)).amin(1)
        coefficient = self.entropy_coefficient().detach()
        loss = coefficient * log_prob - value  # (P, B)
        entropy = -log_prob.detach().mean(-1)  # (P,)
        coefficient_loss = self.entropy_coefficient().squeeze(-1) * (entropy - self.target_entropy)
        metrics = {
            "actor_loss": loss.detach().mean(-1),
            "entropy": entropy,
            "entropy_coefficient": coefficient.squeeze(-1),
        }
        return (
            gradients(loss, self.actor),
            gradients(coefficient_loss.unsqueeze(-1), self.entropy_coefficient),
            metrics,
        )

    def critic_gradients(self, batch: Batch, noise: Noise) -> tuple[Gradients, Metrics]:
        """Cross-entropy to the Bellman update of the less optimistic target critic's distribution."""
        rows = batch.rewards.shape[-1]
        with torch.no_grad():
            next_actions, log_prob = self.next_actions(batch, noise)
            observations = torch.cat([batch.observations, batch.next_observations], dim=1)  # (P, 2B, O)
            actions = torch.cat([batch.actions, next_actions], dim=1)
            next_logits = self.critic_target(observations, actions, True)[:, :, rows:]  # (P, C, B, K)
            target = self.target_distribution(batch, next_logits, log_prob)
        logits = self.critic(observations, actions, True)[:, :, :rows]
        critic_step = gradients(losses.cross_entropy(logits, target), self.critic)
        with torch.no_grad():
            return critic_step, {
                "critic_loss": -(target.unsqueeze(1) * logits.log_softmax(-1)).sum(-1).mean((1, 2)),
                "q_mean": self.critic.values(logits).mean((1, 2)) * self.reward_scale.value.squeeze(-1),
                "edge_mass": (target[..., 0] + target[..., -1]).mean(-1),
            }

    def target_distribution(self, batch: Batch, next_logits: Tensor, log_prob: Tensor) -> Tensor:
        """The distribution (P, B, K) of r / D + gamma (1 - terminated) (z - alpha log pi(a'|s')).

        z is distributed as the target critic of lower expectation says, sample by sample.
        """
        support = self.critic.support  # (P, K)
        lower = self.critic.values(next_logits).argmin(1)  # (P, B)
        index = lower[:, None, :, None].expand(-1, 1, -1, next_logits.shape[-1])
        probabilities = next_logits.gather(1, index).squeeze(1).softmax(-1)
        entropy_bonus = (self.entropy_coefficient() * log_prob).unsqueeze(-1)
        carried = (1.0 - batch.terminated).unsqueeze(-1) * (support.unsqueeze(1) - entropy_bonus)
        values = (batch.rewards / self.reward_scale.value).unsqueeze(-1) + self.config.discount * carried
        return losses.categorical_target(probabilities, values, support)

    def next_actions(self, batch: Batch, noise: Noise) -> tuple[Tensor, Tensor]:
        """a' ~ pi(s') and log pi(a'|s'), with running statistics."""
        following, policy = batch.next_observations, batch.next_policy
        mean, std = self.actor(following, False) if policy is None else policy.chunk(2, dim=-1)
        return squashed(mean, std, noise["next_noise"])

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample; running statistics."""
        return self.actor.mode(observations) if noise is None else self.actor.sample(observations, noise)[0]

    # The scale of rewards.

    def prepare(self, datasets: Sequence[Dataset]) -> None:
        """Begin with the scale of the recorded rewards.

        Raises:
            ValueError: rows that form no episodes.
        """
        for data in datasets:
            if not data.whole_episodes:
                raise ValueError(
                    f"{data.name}: rewards are scaled by the returns of episodes, and these rows form none; "
                    "fill hidden rewards in, with fill(0.0), fill('mean') or RewardModel.impute"
                )
        self.reward_scale.fit(datasets)

    def connect(self, env: Environment | None = None) -> None:
        """As for every agent; the rewards' scale follows the episodes that run there."""
        super().connect(env)
        assert self.collector is not None
        self.reward_scale.go_on(self.collector.lengths)

    def collect(self) -> int:
        """As for every agent; the rewards' scale follows."""
        updates_due = super().collect()
        assert self.collector is not None
        assert self.collector.latest is not None
        self.reward_scale.observe(self.collector.latest.rewards, self.collector.lengths == 0)
        return updates_due

    def entropy_weight(self) -> Tensor:
        """alpha (P, 1) in units of rewards."""
        return self.entropy_coefficient().detach() * self.reward_scale.value

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) in units of rewards, with running statistics."""
        return self.critic_values(observations, actions) * self.reward_scale.value.unsqueeze(1)

    # Phases. Their values and targets are in units of scaled rewards.

    def phase(self) -> Iterator[Metrics]:
        """The stabilization phase that is due: critics and their targets alone."""
        self._set_learning_rates()
        return self.phases.run(self) if self.phases else iter(())

    @torch.no_grad()
    def next_policy(self, observations: Tensor) -> Tensor:
        """Mean and standard deviation (P, B, 2A) before the tanh, with running statistics, without gradient."""
        return torch.cat(self.actor(observations, False), dim=-1)

    @torch.no_grad()
    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """Expected value (P, B) of the target distribution, before it is projected on the bins."""
        next_actions, log_prob = self.next_actions(batch, noise)
        logits = self.critic_target(batch.next_observations, next_actions, False)
        next_values = self.critic.values(logits).amin(1) - self.entropy_coefficient() * log_prob
        rewards = batch.rewards / self.reward_scale.value
        return losses.td_target(rewards, batch.terminated, next_values, self.config.discount)

    @torch.no_grad()
    def critic_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Expected values (P, C, B), with running statistics, without gradient."""
        return self.critic.values(self.critic(observations, actions, False))

    def policy_loss(self, observations: Tensor, noise: Tensor) -> Tensor:
        """alpha log pi - mean_i Q_i (P, B) at the policy's actions."""
        actions, log_prob = self.actor.sample(observations, noise)
        return self.entropy_coefficient() * log_prob - self.critic_values(observations, actions).mean(1)

    # State.

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the phase that is running and the discounted returns of the running episodes."""
        tensors, manifest = super().online_state()
        of_phase, about_phase = self.phases.state() if self.phases else ({}, {})
        return tensors | of_phase | self.reward_scale.running_state(), manifest | about_phase

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """The inverse of `online_state`."""
        super().load_online_state(tensors, manifest)
        self.reward_scale.load_running(tensors)
        if self.phases:
            self.phases.load_state(self, tensors, manifest)
