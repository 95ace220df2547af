"""FlashSAC: a soft actor-critic whose networks cannot grow, with a categorical value; here also with phases.

Source: Holiday-Robot 2026, FlashSAC, github.com/Holiday-Robot/FlashSAC (its code; the paper could not be read). The
categorical value is C51's (Bellemare et al. 2017, arXiv 1707.06887), the reward scale SimbaV2's (Lee et al. 2025).
Stabilization phases on such critics are unpublished: their length and timing are our choice.

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
from orl.agents.phases import Phases
from orl.agents.phases_config import PhasesConfig
from orl.agents.sac import mode_or_sample, one_adam_each
from orl.buffer import Batch, Metrics
from orl.config import check_fraction, check_positive
from orl.dataset import Dataset
from orl.environment import Environment, Spaces
from orl.execution import Execution, compilable
from orl.networks import EntropyCoefficient, NextPolicy, Target, squashed
from orl.noise import NoiseSpec
from orl.rollout import Step
from orl.training import Schedule
from orl.updates import Gradients, gradients


@dataclass(frozen=True)
class FlashSACConfig(PhasesConfig):
    """Hyperparameters of FlashSAC; defaults of its MuJoCo runs."""

    phase_updates: int = 0  # N: critic updates of a phase; 0: no phases
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
    # Online
    utd_ratio: float = 1.0  # updates per transition
    learning_starts: int = 5_000  # environment steps with uniformly random actions and no update; FlashSAC: 10,000
    buffer_size: int = 1_000_000  # transitions per learner
    # Execution
    execution: Execution = "eager"  # "eager", "compile", or on CUDA "graph"

    def __post_init__(self) -> None:
        check_positive(
            self, "critic_width", "critic_blocks", "num_critics", "value_bound", "return_bound", "actor_width"
        )
        check_positive(
            self, "actor_blocks", "policy_delay", "target_std", "initial_entropy_coefficient", "learning_rate"
        )
        check_positive(self, "final_learning_rate", "cosine_horizon", "utd_ratio", "buffer_size")
        check_fraction(self, "discount", "tau")
        self.check_phases()
        if self.num_bins < 2 or self.batch_size < 2:
            raise ValueError(f"FlashSACConfig.num_bins={self.num_bins}, batch_size={self.batch_size}: give 2 or more")
        if self.timing == "td_error":
            raise ValueError("FlashSACConfig.timing='td_error': give 'fixed' or 'new_data'")
        if self.phase_updates < 0:
            raise ValueError(f"FlashSACConfig.phase_updates={self.phase_updates}: must not be negative")


FLASH_SAC_PRESET = FlashSACConfig()
FLASH_SPEQ_PRESET = FlashSACConfig(phase_updates=20_000)  # two e-folds of 1 / (tau (1 - gamma)) updates


class CategoricalSoftActorCritic:
    """The networks of a population of FlashSAC learners and their equations."""

    def __init__(
        self, config: FlashSACConfig, spaces: Spaces, generators: list[torch.Generator], device: torch.device
    ) -> None:
        c, self.config, self.action_size = config, config, spaces.action_size
        sizes = spaces.observation_size, spaces.action_size
        self.target_entropy = 0.5 * spaces.action_size * math.log(2.0 * math.pi * math.e * c.target_std**2)
        self.actor = NormalizedActor(generators, *sizes, c.actor_width, c.actor_blocks)
        self.critic = CategoricalCritic(
            generators, sum(sizes), c.critic_width, c.critic_blocks, c.num_critics, c.num_bins, c.value_bound
        )
        self.critic_target = Target(self.critic)
        self.entropy_coefficient = EntropyCoefficient(len(generators), c.initial_entropy_coefficient)
        self.networks: dict[str, torch.nn.Module] = {
            "critic": self.critic.to(device),
            "critic_target": self.critic_target.to(device),
            "actor": self.actor.to(device),
            "entropy_coefficient": self.entropy_coefficient.to(device),
        }
        self.optimizers = one_adam_each(self.networks, c.learning_rate)
        self.reward_scale = RewardScale(len(generators), c.discount, c.return_bound, device)

    def critic_draws(self) -> dict[str, NoiseSpec]:
        """Random numbers of a critic update: which transitions, and the noise of next actions."""
        noise = NoiseSpec("normal", (self.config.batch_size, self.action_size))
        return {"indices": NoiseSpec("uniform", (self.config.batch_size,)), "next_noise": noise}

    def draws(self) -> dict[str, NoiseSpec]:
        """Those of a critic update, and the actor's noise on observations and next observations."""
        return {
            **self.critic_draws(),
            "actor_noise": NoiseSpec("normal", (2 * self.config.batch_size, self.action_size)),
        }

    def update_actor(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """One step of the actor and of the entropy coefficient."""
        found, coefficient_found, metrics = self.actor_gradients(batch, random)
        self.optimizers["actor"].step(found)
        project(self.actor)
        self.optimizers["entropy_coefficient"].step(coefficient_found)
        return metrics

    def next_policy(self, observations: Tensor) -> NextPolicy:
        """Mean and standard deviation (P, B, A) before the tanh, with running statistics, without gradient."""
        with torch.no_grad():
            mean, std = self.actor(observations, False)
            return mean, std

    def update_critic(self, batch: Batch, random: Mapping[str, Tensor], policy: NextPolicy | None = None) -> Metrics:
        """One step of the critics, and their targets; `policy` is that of the next observations where it is known."""
        found, metrics = self.critic_gradients(batch, random, policy)
        self.optimizers["critic"].step(found)
        project(self.critic)
        self.critic_target.polyak_update(self.config.tau)
        return metrics

    @compilable
    def actor_gradients(self, batch: Batch, random: Mapping[str, Tensor]) -> tuple[Gradients, Gradients, Metrics]:
        """Minimise alpha log pi - min_i Q_i; batch statistics of [s; s'], of which s counts; critics stand still."""
        rows = batch.rewards.shape[-1]
        both = torch.cat([batch.observations, batch.next_observations], dim=1)  # (P, 2B, O)
        actions, log_prob = self.actor.sample(both, random["actor_noise"], True)
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
            gradients(losses.over_batch(loss), self.actor),
            gradients(coefficient_loss.sum(), self.entropy_coefficient),
            metrics,
        )

    @compilable
    def critic_gradients(
        self, batch: Batch, random: Mapping[str, Tensor], policy: NextPolicy | None
    ) -> tuple[Gradients, Metrics]:
        """Cross-entropy to the Bellman update of the less optimistic target critic's distribution."""
        rows = batch.rewards.shape[-1]
        with torch.no_grad():
            mean, std = policy or self.next_policy(batch.next_observations)
            next_actions, log_prob = squashed(mean, std, random["next_noise"])
            observations = torch.cat([batch.observations, batch.next_observations], dim=1)  # (P, 2B, O)
            actions = torch.cat([batch.actions, next_actions], dim=1)
            next_logits = self.critic_target(observations, actions, True)[:, :, rows:]  # (P, C, B, K)
            target = self.target_distribution(batch, next_logits, log_prob)
        logits = self.critic(observations, actions, True)[:, :, :rows]
        found = gradients(losses.cross_entropy(logits, target), self.critic)
        with torch.no_grad():
            return found, {
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

    def entropy_weight(self) -> Tensor:
        """alpha (P, 1) in units of rewards."""
        weight: Tensor = self.entropy_coefficient().detach() * self.reward_scale.value
        return weight

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) in units of rewards, with running statistics."""
        return self.critic.values(self.critic(observations, actions, False)) * self.reward_scale.value.unsqueeze(1)


class FlashSAC(Agent):
    """A soft actor-critic with normalised networks and a categorical value (FlashSAC 2026)."""

    Config = FlashSACConfig
    config: FlashSACConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """The learner, its reward scale and its phases."""
        self.soft = CategoricalSoftActorCritic(self.config, self.spaces, generators, self.device)
        self.networks, self.optimizers = self.soft.networks, self.soft.optimizers
        self.buffers = dict(self.soft.reward_scale.statistics)
        self.phases = Phases(self)

    def schedule(self) -> Schedule:
        """Updates at `utd_ratio`, and a place for a phase every `period` steps where there are phases."""
        c = self.config
        return Schedule(c.utd_ratio, c.learning_starts, c.period if c.phase_updates else None)

    def draws(self) -> dict[str, NoiseSpec]:
        """Those of critics and actor."""
        return self.soft.draws()

    def connect(self, environment: Environment | None = None) -> None:
        """As for every agent; the rewards' scale follows the episodes that run there."""
        super().connect(environment)
        assert self.collector is not None
        self.soft.reward_scale.go_on(self.collector.lengths)

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
        self.soft.reward_scale.fit(datasets)

    def observe(self, step: Step) -> None:
        """Follow the rewards' scale."""
        assert self.collector is not None
        self.soft.reward_scale.observe(step.rewards, self.collector.lengths == 0)

    def step(self, inputs: Mapping[str, Tensor] | None = None) -> Metrics:
        """With the learning rates of the moment."""
        self._set_learning_rates()
        return super().step(inputs)

    def _set_learning_rates(self) -> None:
        """The cosine schedule at the current environment step."""
        c = self.config
        share_left = 0.5 * (1.0 + math.cos(math.pi * min(self.steps / c.cosine_horizon, 1.0)))
        learning_rate = c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * share_left
        for optimizer in self.optimizers.values():
            optimizer.learning_rate.fill_(learning_rate)

    def turn(self) -> bool:
        """Whether the actor has its turn."""
        return self.updates % self.config.policy_delay == 0

    def update(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """Every `policy_delay` updates actor and entropy coefficient; then the critics."""
        metrics: Metrics = {}
        if self.turn():
            metrics |= self.soft.update_actor(batch, random)
        return metrics | self.soft.update_critic(batch, random)

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample; running statistics."""
        return mode_or_sample(self.soft.actor, observations, noise)

    def phase(self) -> Iterator[Metrics]:
        """The stabilization phase that is due: critics and their targets alone."""
        self._set_learning_rates()
        return self.phases.run(self)

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the phase that is running and the discounted returns of the running episodes."""
        tensors, manifest = self.phases.add_state(*super().online_state())
        return tensors | self.soft.reward_scale.running_state(), manifest

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """The inverse of `online_state`."""
        super().load_online_state(tensors, manifest)
        self.soft.reward_scale.load_running(tensors)
        self.phases.load_state(self, tensors, manifest)
