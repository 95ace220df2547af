"""SAC, and as presets of it REDQ, DroQ and SPEQ: one soft actor-critic agent, with or without stabilization phases.

Papers: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905; Chen et al. 2021,
"Randomized Ensembled Double Q-Learning" (REDQ), arXiv 2101.05982; Hiraoka et al. 2022, "Dropout Q-Functions for Doubly
Efficient Reinforcement Learning" (DroQ), arXiv 2110.02034; Romeo, Macaluso, Sestini & Bagdanov 2025, "SPEQ: Offline
Stabilization Phases for Efficient Q-Learning in High Update-To-Data Ratio Reinforcement Learning", arXiv 2501.08669.
Official code: github.com/rail-berkeley/softlearning, github.com/watchernyu/REDQ, github.com/TakuyaHiraoka/
Dropout-Q-Functions-for-Doubly-Efficient-Reinforcement-Learning, github.com/CarloRomeo427/SPEQ.

Deviations:
* layers start as torch's linear layers do, not Xavier-uniform with zero biases;
* the actor is updated every `policy_delay` critic updates and sees the critics after their step; REDQ's code computes
  both losses first;
* the loss of the entropy coefficient is taken in its logarithm, as in all the official codes;
* the entropy coefficient of the first update is `initial_entropy_coefficient`; SPEQ's code uses 0.2 there;
* None as target entropy is MBPO's table (as REDQ and DroQ have it), which SAC's own experiments do not use;
* those of phases are in `phases.py`.

Shape key: P population, C critics, B batch, O observation, A action.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from orl import losses
from orl.agent import Agent
from orl.agents.phases import Phases, PhasesConfig
from orl.buffer import Batch, Metrics
from orl.config import OnlineConfig, check_fraction, check_positive
from orl.environment import Spaces
from orl.networks import (
    CriticEnsemble,
    EntropyCoefficient,
    SquashedGaussianActor,
    frozen_copy,
    random_subset,
    squashed,
)
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, PolyakAverage, critic_gradients, gradients


@dataclass(frozen=True)
class SACConfig(PhasesConfig, OnlineConfig):
    """Hyperparameters of the soft actor-critic agent; defaults are SAC's (appendix D)."""

    # Critic
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer, critics and actor
    num_critics: int = 2  # C
    target_subset_size: int = 2  # M in REDQ: critics whose minimum is the target, drawn for every update
    layer_norm: bool = False  # in the critics' hidden layers
    dropout_rate: float | None = 0.0  # of the critics' hidden units, in targets and actor's loss too; None: `DROPOUT`
    # Actor
    actor_q: Literal["min", "mean"] = "min"  # over all critics, in the actor's loss
    policy_delay: int = 1  # critic updates per update of actor and entropy coefficient
    # Entropy
    target_entropy: float | None = None  # nats, of actions in [-1, 1]; None: `TARGET_ENTROPY`, -A of unknown ones
    initial_entropy_coefficient: float = 1.0  # alpha at the start
    # Optimisation
    learning_rate: float = 3e-4  # of Adam: critics, actor and entropy coefficient
    discount: float = 0.99  # gamma
    tau: float = 0.005  # target <- (1 - tau) target + tau online; rho = 1 - tau in REDQ and DroQ
    batch_size: int = 256  # transitions per update and learner

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "num_critics", "target_subset_size", "policy_delay", "initial_entropy_coefficient")
        check_positive(self, "learning_rate", "batch_size")
        check_fraction(self, "discount", "tau")
        if self.dropout_rate is not None and not 0 <= self.dropout_rate < 1:
            raise ValueError(f"SACConfig.dropout_rate={self.dropout_rate}: must lie in [0, 1)")
        if self.target_subset_size > self.num_critics:
            raise ValueError(
                f"SACConfig.target_subset_size={self.target_subset_size}: there are only num_critics={self.num_critics}"
            )
        self.check_phases()
        if self.phase_updates and self.buffer_size <= self.learning_starts:
            raise ValueError(
                f"SACConfig.buffer_size={self.buffer_size}: phases need a buffer that reaches past "
                f"learning_starts={self.learning_starts}"
            )


SAC_PRESET = SACConfig()  # Haarnoja et al. 2018, table 1
REDQ_PRESET = SACConfig(  # Chen et al. 2021, table 2 and section 2
    num_critics=10, target_subset_size=2, actor_q="mean", utd_ratio=20, policy_delay=20
)
DROQ_PRESET = SACConfig(  # Hiraoka et al. 2022, appendix B
    layer_norm=True, dropout_rate=None, actor_q="mean", utd_ratio=20, policy_delay=20
)
SPEQ_PRESET = SACConfig(  # Romeo et al. 2025, section 4, table 1, and the released scripts: DroQ at a ratio of 1
    layer_norm=True, dropout_rate=None, actor_q="mean", phase_updates=75_000
)
SPEQ_AUTO_PRESET = replace(  # our choice: a phase goes on while five checks bring the held-out error 10 % down
    SPEQ_PRESET, length="td_error", patience=5, tolerance=0.1
)
SOPE_PRESET = replace(SPEQ_PRESET, length="policy_value")  # Romeo et al. 2026, without prior data


class SAC(Agent):
    """Soft actor-critic (Haarnoja et al. 2018), with stabilization phases where the configuration has them."""

    Config = SACConfig
    config: SACConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """Actor, critics and their target, entropy coefficient, and phases."""
        c, sizes = self.config, (self.spaces.observation_size, self.spaces.action_size)
        self.target_entropy = (
            c.target_entropy if c.target_entropy is not None else published_target_entropy(self.spaces)
        )
        rate = c.dropout_rate if c.dropout_rate is not None else published_dropout_rate(self.spaces)
        self.actor = SquashedGaussianActor(generators, *sizes, c.hidden_sizes).to(self.device)
        self.critic = CriticEnsemble(
            generators, *sizes, c.hidden_sizes, c.num_critics, normalized=c.layer_norm, dropout_rate=rate
        ).to(self.device)
        self.critic_target = frozen_copy(self.critic)
        self.critic_average = PolyakAverage(self.critic, self.critic_target)
        self.entropy_coefficient = EntropyCoefficient(len(generators), c.initial_entropy_coefficient).to(self.device)
        trained = {"critic": self.critic, "actor": self.actor, "entropy_coefficient": self.entropy_coefficient}
        self.optimizers = {name: Adam(network.parameters(), c.learning_rate) for name, network in trained.items()}
        self.phases = Phases(self) if c.phase_updates else None

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Those of a critic update, and the actor's noise and dropped units."""
        noise = NoiseSpec("normal", (self.config.batch_size, self.spaces.action_size))
        dropped = self.critic.dropout_specs("actor_dropped", self.config.batch_size)
        return {**self.critic_noise_specs(), "actor_noise": noise, **dropped}

    def critic_noise_specs(self) -> dict[str, NoiseSpec]:
        """Random numbers of a critic update: which transitions, next actions, target critics, dropped units."""
        c = self.config
        specs = {
            "indices": NoiseSpec("uniform", (c.batch_size,)),
            "next_noise": NoiseSpec("normal", (c.batch_size, self.spaces.action_size)),
            **self.critic.dropout_specs("dropped", c.batch_size),
            **self.critic.dropout_specs("target_dropped", c.batch_size),
        }
        if c.target_subset_size < c.num_critics:
            specs["subset"] = NoiseSpec("uniform", (c.num_critics,))
        return specs

    def is_actor_update(self) -> bool:
        """Every `policy_delay` updates."""
        return (self.updates + 1) % self.config.policy_delay == 0

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """Critics and their targets; where it is due, actor and entropy coefficient."""
        metrics = self.update_critic(batch, noise)
        if is_actor_update:
            actor_step, coefficient_step, actor_metrics = self.actor_gradients(batch, noise)
            self.optimizers["actor"].step(actor_step)
            self.optimizers["entropy_coefficient"].step(coefficient_step)
            metrics |= actor_metrics
        return metrics

    def update_critic(self, batch: Batch, noise: Noise) -> Metrics:
        """REDQ, Algorithm 1, lines 6 to 9; DroQ, Algorithm 2, lines 6 to 9. Online and in stabilization phases."""
        targets = self.targets(batch, noise)
        # Minimise (Q_i(s, a) - y)^2 for every critic i
        step, metrics = critic_gradients(self.critic, batch.observations, batch.actions, targets, noise)
        self.optimizers["critic"].step(step)
        self.critic_average.update(self.config.tau)
        return metrics

    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """y = r + gamma (1 - terminated) (min_M Q'(s', a') - alpha log pi(a'|s')), a' ~ pi: (P, B), no gradient.

        Without drawn units in `noise` no unit is dropped.
        """
        c = self.config
        with torch.no_grad():
            policy = batch.next_policy
            mean, std = self.actor(batch.next_observations) if policy is None else policy.chunk(2, dim=-1)
            next_actions, log_prob = squashed(mean, std, noise["next_noise"])
            values = self.critic_target(batch.next_observations, next_actions, noise, "target_dropped")
            if "subset" in noise:
                values = random_subset(values, noise["subset"], c.target_subset_size)
            next_values = values.amin(1) - self.entropy_coefficient() * log_prob
            return losses.td_target(batch.rewards, batch.terminated, next_values, c.discount)

    def actor_gradients(self, batch: Batch, noise: Noise) -> tuple[Gradients, Gradients, Metrics]:
        """Minimise alpha log pi(a|s) - Q(s, a) with a ~ pi, and alpha (-log pi - target entropy) in alpha."""
        mean, std = self.actor(batch.observations)
        actions, log_prob = squashed(mean, std, noise["actor_noise"])
        values = self.critic(batch.observations, actions, noise, "actor_dropped")  # (P, C, B)
        value = values.amin(1) if self.config.actor_q == "min" else values.mean(1)
        coefficient = self.entropy_coefficient().detach()
        loss = coefficient * log_prob - value  # (P, B)
        entropy = -log_prob.detach().mean(-1)  # (P,)
        coefficient_loss = self.entropy_coefficient.log_value * (entropy - self.target_entropy)
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

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample."""
        return self.actor.act(observations, noise)

    # Phases.

    def phase(self) -> Iterator[Metrics]:
        """The stabilization phase that is due: critics and their targets alone, a piece of `check_every` at a time."""
        return self.phases.run(self) if self.phases else iter(())

    @torch.no_grad()
    def next_policy(self, observations: Tensor) -> Tensor:
        """Mean and standard deviation (P, B, 2A) before the tanh, without gradient."""
        return torch.cat(self.actor(observations), dim=-1)

    @torch.no_grad()
    def critic_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) with no unit dropped, without gradient."""
        return self.critic(observations, actions)

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) in units of rewards."""
        return self.critic_values(observations, actions)

    def policy_loss(self, observations: Tensor, noise: Tensor) -> Tensor:
        """alpha log pi - mean_i Q_i (P, B) at the policy's actions, no unit dropped."""
        actions, log_prob = self.actor.sample(observations, noise)
        return self.entropy_coefficient() * log_prob - self.critic(observations, actions).mean(1)

    def entropy_weight(self) -> Tensor:
        """alpha (P, 1)."""
        return self.entropy_coefficient().detach()

    # State.

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the phase that is running."""
        tensors, manifest = super().online_state()
        of_phase, about_phase = self.phases.state() if self.phases else ({}, {})
        return tensors | of_phase, manifest | about_phase

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """With the phase that was running."""
        super().load_online_state(tensors, manifest)
        if self.phases:
            self.phases.load_state(self, tensors, manifest)


class REDQ(SAC):
    """SAC with ten critics and twenty updates a step (Chen et al. 2021)."""

    preset = REDQ_PRESET


class DroQ(SAC):
    """SAC with dropout and layer normalisation in its critics and twenty updates a step (Hiraoka et al. 2022)."""

    preset = DROQ_PRESET


class SPEQ(SAC):
    """DroQ at one update a step, with stabilization phases in which its critics alone learn on (Romeo et al. 2025)."""

    preset = SPEQ_PRESET


# Hyperparameters that were published by environment.

# MBPO's (Janner et al. 2019, arXiv 1906.08253, table 1), as REDQ and DroQ use them.
TARGET_ENTROPY = {"Hopper": -1.0, "HalfCheetah": -3.0, "Walker2d": -3.0, "Ant": -4.0, "Humanoid": -2.0}

# DroQ's and SPEQ's (their released scripts); where it has no entry, OTHER_DROPOUT.
DROPOUT = {"Hopper": 1e-4, "HalfCheetah": 5e-3, "Walker2d": 5e-3, "Ant": 1e-2, "Humanoid": 1e-1}
OTHER_DROPOUT = 0.01  # DroQ's second code has this rate for all environments


def family(environment_id: str | None) -> str:
    """The environment's name without its version, v2 to v5: `Hopper` of `Hopper-v5`, and of `orl/ContextHopper-v0`."""
    return re.sub(r"^orl/Context(\w+)-v0$|-v[2-5]$", r"\1", environment_id or "")


def published_target_entropy(spaces: Spaces) -> float:
    """The published target entropy of an environment's family; of an unknown one, -A, with a warning."""
    if family(spaces.environment_id) in TARGET_ENTROPY:
        return TARGET_ENTROPY[family(spaces.environment_id)]
    warnings.warn(
        f"no published target entropy for {spaces.environment_id}: using -{spaces.action_size}, minus the number of "
        "action dimensions; target_entropy sets another",
        stacklevel=2,
    )
    return -float(spaces.action_size)


def published_dropout_rate(spaces: Spaces) -> float:
    """The rate of an environment's family."""
    return DROPOUT.get(family(spaces.environment_id), OTHER_DROPOUT)
