"""SAC, REDQ and DroQ: one soft actor-critic learner, three presets.

Papers: Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905; Chen et al. 2021,
"Randomized Ensembled Double Q-Learning" (REDQ), arXiv 2101.05982; Hiraoka et al. 2022, "Dropout Q-Functions for Doubly
Efficient Reinforcement Learning" (DroQ), arXiv 2110.02034.
Official code: github.com/rail-berkeley/softlearning, github.com/watchernyu/REDQ, github.com/TakuyaHiraoka/
Dropout-Q-Functions-for-Doubly-Efficient-Reinforcement-Learning.

Deviations:
* layers start as torch's linear layers do, not Xavier-uniform with zero biases;
* the actor is updated every `policy_delay` critic updates and sees the critics after their step; REDQ's code computes
  both losses first;
* the loss of the entropy coefficient is taken in its logarithm, as in all the official codes;
* None as target entropy is MBPO's table (as REDQ and DroQ have it), which SAC's own experiments do not use.

Shape key: P population, C critics, B batch, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from orl import losses
from orl.agent import Agent
from orl.agents import families
from orl.agents.flash_sac.networks import NormalizedActor
from orl.buffer import Batch, Metrics
from orl.config import check_fraction, check_positive
from orl.environment import Spaces
from orl.execution import Execution, compilable
from orl.networks import (
    CriticEnsemble,
    EntropyCoefficient,
    NextPolicy,
    SquashedGaussianActor,
    Target,
    random_subset,
    squashed,
)
from orl.noise import NoiseSpec
from orl.training import Schedule
from orl.updates import Adam, Gradients, critic_gradients, gradients


@dataclass(frozen=True)
class SACConfig:
    """Hyperparameters of the soft actor-critic learner; defaults are SAC's (appendix D)."""

    # Critic
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer, critics and actor
    num_critics: int = 2  # C
    target_subset_size: int = 2  # M in REDQ: critics whose minimum is the target, drawn for every update
    layer_norm: bool = False  # in the critics' hidden layers
    dropout_rate: float | None = 0.0  # of the critics' hidden units, in targets and actor's loss too; None: `families`
    # Actor
    actor_q: Literal["min", "mean"] = "min"  # over all critics, in the actor's loss
    policy_delay: int = 1  # critic updates per update of actor and entropy coefficient
    # Entropy
    target_entropy: float | None = None  # nats, of actions in [-1, 1]; None: `families`, -A of unknown ones
    initial_entropy_coefficient: float = 1.0  # alpha at the start
    # Optimisation
    learning_rate: float = 3e-4  # of Adam: critics, actor and entropy coefficient
    discount: float = 0.99  # gamma
    tau: float = 0.005  # target <- (1 - tau) target + tau online; rho = 1 - tau in REDQ and DroQ
    batch_size: int = 256  # transitions per update and learner
    # Online
    utd_ratio: float = 1.0  # G: updates per transition, however many environments give them
    learning_starts: int = 5_000  # environment steps with uniformly random actions and no update
    buffer_size: int = 1_000_000  # transitions per learner; the oldest are overwritten
    # Execution
    execution: Execution = "eager"  # "eager", "compile", or on CUDA "graph"

    def __post_init__(self) -> None:
        check_positive(self, "num_critics", "target_subset_size", "policy_delay", "initial_entropy_coefficient")
        check_positive(self, "learning_rate", "batch_size", "utd_ratio", "buffer_size")
        check_fraction(self, "discount", "tau")
        if self.dropout_rate is not None and not 0 <= self.dropout_rate < 1:
            raise ValueError(f"{type(self).__name__}.dropout_rate={self.dropout_rate}: must lie in [0, 1)")
        if self.target_subset_size > self.num_critics:
            raise ValueError(
                f"{type(self).__name__}.target_subset_size={self.target_subset_size}: there are only "
                f"num_critics={self.num_critics}"
            )
        if self.learning_starts < 0:
            raise ValueError(f"{type(self).__name__}.learning_starts={self.learning_starts}: must not be negative")


SAC_PRESET = SACConfig()  # Haarnoja et al. 2018, table 1
REDQ_PRESET = SACConfig(  # Chen et al. 2021, table 2 and section 2
    num_critics=10, target_subset_size=2, actor_q="mean", utd_ratio=20, policy_delay=20
)
DROQ_PRESET = SACConfig(  # Hiraoka et al. 2022, appendix B
    layer_norm=True, dropout_rate=None, actor_q="mean", utd_ratio=20, policy_delay=20
)


class SoftActorCritic:
    """The networks of a population of soft actor-critic learners and their equations.

    Args:
        config: hyperparameters.
        spaces: sizes, and the environment whose target entropy is looked up.
        generators: of the initial parameters, one per learner.
        device: of the networks.
    """

    def __init__(
        self, config: SACConfig, spaces: Spaces, generators: list[torch.Generator], device: torch.device
    ) -> None:
        c, self.config, self.action_size = config, config, spaces.action_size
        self.target_entropy = c.target_entropy if c.target_entropy is not None else families.target_entropy(spaces)
        rate = c.dropout_rate if c.dropout_rate is not None else families.dropout_rate(spaces)
        self.actor = SquashedGaussianActor(generators, spaces.observation_size, spaces.action_size, c.hidden_sizes)
        self.critic = CriticEnsemble(
            generators,
            spaces.observation_size,
            spaces.action_size,
            c.hidden_sizes,
            c.num_critics,
            normalized=c.layer_norm,
            dropout_rate=rate,
        )
        self.critic_target = Target(self.critic)
        self.entropy_coefficient = EntropyCoefficient(len(generators), c.initial_entropy_coefficient)
        self.networks: dict[str, nn.Module] = {
            "critic": self.critic.to(device),
            "critic_target": self.critic_target.to(device),
            "actor": self.actor.to(device),
            "entropy_coefficient": self.entropy_coefficient.to(device),
        }
        self.optimizers = one_adam_each(self.networks, c.learning_rate)

    def critic_draws(self) -> dict[str, NoiseSpec]:
        """Random numbers of a critic update: which transitions, next actions, target critics, dropped units."""
        batch_size = self.config.batch_size
        draws = {
            "indices": NoiseSpec("uniform", (batch_size,)),
            "next_noise": NoiseSpec("normal", (batch_size, self.action_size)),
            **self.critic.dropout_draws("dropped", batch_size),
            **self.critic.dropout_draws("target_dropped", batch_size),
        }
        if self.config.target_subset_size < self.config.num_critics:
            draws["subset"] = NoiseSpec("uniform", (self.config.num_critics,))
        return draws

    def draws(self) -> dict[str, NoiseSpec]:
        """Those of a critic update, and the actor's noise and dropped units."""
        noise = NoiseSpec("normal", (self.config.batch_size, self.action_size))
        dropped = self.critic.dropout_draws("actor_dropped", self.config.batch_size)
        return {**self.critic_draws(), "actor_noise": noise, **dropped}

    def update(self, batch: Batch, random: Mapping[str, Tensor], actors_turn: bool) -> Metrics:
        """Online update: critics; actor and entropy coefficient where it is their turn."""
        metrics = self.update_critic(batch, random)
        if actors_turn:
            metrics |= self.update_actor(batch, random)
        return metrics

    def next_policy(self, observations: Tensor) -> NextPolicy:
        """Mean and standard deviation (P, B, A) before the tanh, without gradient."""
        with torch.no_grad():
            mean, std = self.actor(observations)
            return mean, std

    def targets(self, batch: Batch, random: Mapping[str, Tensor], policy: NextPolicy | None = None) -> Tensor:
        """y = r + gamma (1 - terminated) (min_M Q'(s', a') - alpha log pi(a'|s')), a' ~ pi: (P, B), no gradient.

        Without drawn units in `random` no unit is dropped. `policy` is that of the next observations where it is known.
        """
        c = self.config
        with torch.no_grad():
            mean, std = policy or self.next_policy(batch.next_observations)
            next_actions, log_prob = squashed(mean, std, random["next_noise"])
            values = self.critic_target(batch.next_observations, next_actions, dropped(random, "target_dropped"))
            if "subset" in random:
                values = random_subset(values, random["subset"], c.target_subset_size)
            next_values = values.amin(1) - self.entropy_coefficient() * log_prob
            return losses.td_target(batch.rewards, batch.terminated, next_values, c.discount)

    def update_critic(self, batch: Batch, random: Mapping[str, Tensor], policy: NextPolicy | None = None) -> Metrics:
        """REDQ, Algorithm 1, lines 6 to 9; DroQ, Algorithm 2, lines 6 to 9. Online and in stabilization phases."""
        found, metrics = self.critic_gradients(batch, random, policy)
        self.optimizers["critic"].step(found)
        self.critic_target.polyak_update(self.config.tau)
        return metrics

    def update_actor(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """One step of the actor and of the entropy coefficient."""
        found, coefficient_found, metrics = self.actor_gradients(batch, random)
        self.optimizers["actor"].step(found)
        self.optimizers["entropy_coefficient"].step(coefficient_found)
        return metrics

    @compilable
    def critic_gradients(
        self, batch: Batch, random: Mapping[str, Tensor], policy: NextPolicy | None
    ) -> tuple[Gradients, Metrics]:
        """Minimise (Q_i(s, a) - y)^2 for every critic i."""
        targets = self.targets(batch, random, policy)
        return critic_gradients(self.critic, batch.observations, batch.actions, targets, dropped(random, "dropped"))

    @compilable
    def actor_gradients(self, batch: Batch, random: Mapping[str, Tensor]) -> tuple[Gradients, Gradients, Metrics]:
        """Minimise alpha log pi(a|s) - Q(s, a) with a ~ pi, and alpha (-log pi - target entropy) in alpha."""
        actions, log_prob = self.actor.sample(batch.observations, random["actor_noise"])
        values = self.critic(batch.observations, actions, dropped(random, "actor_dropped"))  # (P, C, B)
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
            gradients(losses.over_batch(loss), self.actor),
            gradients(coefficient_loss.sum(), self.entropy_coefficient),
            metrics,
        )

    def entropy_weight(self) -> Tensor:
        """alpha (P, 1)."""
        weight: Tensor = self.entropy_coefficient().detach()
        return weight

    def q_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) with no unit dropped."""
        values: Tensor = self.critic(observations, actions)
        return values


def one_adam_each(networks: Mapping[str, nn.Module], learning_rate: float) -> dict[str, Adam]:
    """Optimizers of critics, actor and entropy coefficient; targets have none."""
    names = ("critic", "actor", "entropy_coefficient")
    return {name: Adam(networks[name].parameters(), learning_rate) for name in names}


def mode_or_sample(
    actor: SquashedGaussianActor | NormalizedActor, observations: Tensor, noise: Tensor | None
) -> Tensor:
    """Actions (P, B, A): tanh of the mean, or with noise (P, B, A) a sample."""
    return actor.mode(observations) if noise is None else actor.sample(observations, noise)[0]


def dropped(random: Mapping[str, Tensor], name: str) -> Sequence[Tensor]:
    """The drawn units of each hidden layer, in order; empty where nothing is dropped."""
    found: list[Tensor] = []
    while f"{name}/{len(found)}" in random:
        found.append(random[f"{name}/{len(found)}"])
    return found


class SAC(Agent):
    """Soft actor-critic (Haarnoja et al. 2018); `SAC(env, REDQ_PRESET)` is REDQ, `SAC(env, DROQ_PRESET)` DroQ.

    The presets (Chen et al. 2021, Hiraoka et al. 2022) are in `orl.agents.sac`.
    """

    Config = SACConfig
    config: SACConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """The soft actor-critic learner."""
        self.soft = SoftActorCritic(self.config, self.spaces, generators, self.device)
        self.networks, self.optimizers = self.soft.networks, self.soft.optimizers

    def schedule(self) -> Schedule:
        """Updates at `utd_ratio`, after the random steps."""
        return Schedule(self.config.utd_ratio, self.config.learning_starts)

    def draws(self) -> dict[str, NoiseSpec]:
        """Those of critics and actor."""
        return self.soft.draws()

    def turn(self) -> bool:
        """Whether the actor has its turn."""
        return (self.updates + 1) % self.config.policy_delay == 0

    def update(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """Critics; every `policy_delay` updates the actor and the entropy coefficient."""
        return self.soft.update(batch, random, self.turn())

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample."""
        return mode_or_sample(self.soft.actor, observations, noise)
