"""SPEQ: a soft actor-critic learner at a low update ratio, with stabilization phases that train its critics alone.

Paper: Romeo, Macaluso, Sestini & Bagdanov 2025, "SPEQ: Offline Stabilization Phases for Efficient Q-Learning in High
Update-To-Data Ratio Reinforcement Learning", arXiv 2501.08669. Official code: github.com/CarloRomeo427/SPEQ.
Automatic length: the same authors' SOPE 2026, arXiv 2605.05863, github.com/CarloRomeo427/SOPE, and our own rule.

Deviations:
* a phase follows the online update of its step, where the code has it before; none follows the last step of training;
* a phase's loss has the scale of the online loss; the released code halves it, under the same Adam moments;
* the entropy coefficient of the first update is `initial_entropy_coefficient`; the released code uses 0.2 there;
* SOPE's test J < 0.999 J_best accepts worse values where J < 0; here the tolerance is taken from |J_best|;
* SOPE keeps the critics of the stop; `restore_best` goes back to those of the best check;
* next actions that check a phase are drawn once (common random numbers), and no unit is dropped in a check;
* our own rule of length compares the critics of two checks on the same targets, as `docs/decisions/0010` says;
* after a phase of automatic length or timing Adam's step count is what it was before, since learners of a population
  share it; it only matters for the bias correction of the first thousands of steps.

Shape key: P population, C critics, B batch, H held-out transitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from orl.agent import Agent
from orl.agents.phases import Phases
from orl.agents.phases_config import AutomaticPhasesConfig
from orl.agents.sac import SACConfig, SoftActorCritic, mode_or_sample
from orl.buffer import Batch, Metrics
from orl.noise import NoiseSpec
from orl.training import Schedule


@dataclass(frozen=True)
class SPEQConfig(AutomaticPhasesConfig, SACConfig):
    """Hyperparameters of SPEQ: those of the learner, as DroQ's at a ratio of 1, and of its phases."""

    # Learner (table 1 of section 4 and the released scripts)
    layer_norm: bool = True  # in the critics' hidden layers
    dropout_rate: float | None = None  # of the critics' hidden units; None: `families`
    actor_q: Literal["min", "mean"] = "mean"  # over all critics, in the actor's loss

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_phases()
        if self.buffer_size <= self.learning_starts:
            raise ValueError(
                f"SPEQConfig.buffer_size={self.buffer_size}: phases need a buffer that reaches past "
                f"learning_starts={self.learning_starts}"
            )


SPEQ_PRESET = SPEQConfig()  # Romeo et al. 2025, section 4
SPEQ_AUTO_PRESET = SPEQConfig(  # our choice: a phase goes on while five checks bring the held-out error 10 % down
    length="td_error", patience=5, tolerance=0.1
)
SOPE_PRESET = SPEQConfig(length="policy_value")  # Romeo et al. 2026, without prior data


class SPEQ(Agent):
    """Alternating online training and stabilization phases (Romeo et al. 2025)."""

    Config = SPEQConfig
    config: SPEQConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """The soft actor-critic learner, and when each learner's last phase began."""
        self.soft = SoftActorCritic(self.config, self.spaces, generators, self.device)
        self.networks, self.optimizers = self.soft.networks, self.soft.optimizers
        self.phases = Phases(self)

    def schedule(self) -> Schedule:
        """Updates at `utd_ratio`, and a place for a phase every `period` steps."""
        return Schedule(self.config.utd_ratio, self.config.learning_starts, self.config.period)

    def draws(self) -> dict[str, NoiseSpec]:
        """Those of critics and actor."""
        return self.soft.draws()

    def turn(self) -> bool:
        """Whether the actor has its turn."""
        return (self.updates + 1) % self.config.policy_delay == 0

    def update(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """The online update: critics; every `policy_delay` updates the actor and the entropy coefficient."""
        return self.soft.update(batch, random, self.turn())

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample."""
        return mode_or_sample(self.soft.actor, observations, noise)

    def phase(self) -> Iterator[Metrics]:
        """The stabilization phase that is due: critics and their targets alone, a piece of `check_every` at a time."""
        return self.phases.run(self)

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the phase that is running."""
        return self.phases.add_state(*super().online_state())

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """With the phase that was running."""
        super().load_online_state(tensors, manifest)
        self.phases.load_state(self, tensors, manifest)
