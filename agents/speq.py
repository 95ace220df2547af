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

from orl import seeding
from orl.agent import Agent
from orl.agents.sac import SACConfig, SoftActorCritic
from orl.agents.stabilization import Phase
from orl.batch import Batch, Metrics
from orl.configuration import positive, share
from orl.schedule import Schedule
from orl.seeding import Draw


@dataclass(frozen=True)
class SPEQConfig(SACConfig):
    """Hyperparameters of SPEQ: those of the learner, as DroQ's at a ratio of 1, and of its phases."""

    # Learner (table 1 of section 4 and the released scripts)
    layer_norm: bool = True
    dropout_rate: float | None = None  # of the critics' hidden units; None: the table of the released scripts
    actor_q: Literal["min", "mean"] = "mean"
    # Phases
    period: int = 10_000  # F: environment steps between phases, or between the times that `timing` decides
    phase_updates: int = 75_000  # N: critic updates of a phase; the most of them where `length` decides
    # Automatic timing (our choice)
    timing: Literal["fixed", "new_data", "td_error"] = "fixed"  # what a phase waits for at each period
    new_share: float = 0.1  # new_data: share of the buffer that is newer than the last phase
    error_ratio: float = 1.2  # td_error: mean absolute TD error of the newest `period` transitions over the buffer's
    # Automatic length
    length: Literal["fixed", "td_error", "policy_value"] = "fixed"  # held-out score that stops a phase
    check_every: int = 1_000  # critic updates between checks
    patience: int = 10  # checks without improvement that stop a phase
    tolerance: float = 0.001  # share of the best score that an improvement must exceed
    smoothing: int = 3  # checks that the score's moving average is taken over
    held_out: float = 0.1  # share of the buffer that a phase does not train on, at most 10,000 transitions
    restore_best: bool = True  # end with the critics of the best check

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "period", "phase_updates", "new_share", "error_ratio", "check_every", "patience", "smoothing")
        share(self, "tolerance", "held_out")
        if self.length != "fixed" and not 0 < self.held_out < 1:
            raise ValueError(f"SPEQConfig.held_out={self.held_out}: an automatic length needs a share in (0, 1)")
        if self.buffer_size <= self.learning_starts:
            raise ValueError(
                f"SPEQConfig.buffer_size={self.buffer_size}: phases need a buffer that reaches past "
                f"learning_starts={self.learning_starts}"
            )

    @property
    def is_automatic(self) -> bool:
        """Whether learners of a population can part ways in a phase."""
        return self.timing != "fixed" or self.length != "fixed"


SPEQ_PRESET = SPEQConfig()  # Romeo et al. 2025, section 4
SPEQ_AUTO_PRESET = SPEQConfig(length="td_error")


class SPEQ(Agent):
    """Alternating online training and stabilization phases (Romeo et al. 2025)."""

    Config = SPEQConfig
    config: SPEQConfig

    def build(self, generators: list[torch.Generator]) -> None:
        """The soft actor-critic learner, and when each learner's last phase began."""
        self.soft = SoftActorCritic(self.config, self.spaces, generators, self.device)
        self.networks, self.optimizers = self.soft.networks, self.soft.optimizers
        counts = torch.zeros(self.population, dtype=torch.int64, device=self.device)
        self.constants = {"last_phase": counts, "stabilization_updates": counts.clone()}
        self.running: Phase | None = None
        self.checked_at = 0  # the last place where a phase could begin

    def schedule(self) -> Schedule:
        """Updates at `utd_ratio`, and a place for a phase every `period` steps."""
        return Schedule(self.config.utd_ratio, self.config.learning_starts, self.config.period)

    def draws(self) -> dict[str, Draw]:
        """Those of critics and actor."""
        return self.soft.draws()

    def update(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """The online update: critics; every `policy_delay` updates the actor and the entropy coefficient."""
        metrics = self.soft.update_critic(batch, random)
        if (self.updates + 1) % self.config.policy_delay == 0:
            metrics |= self.soft.update_actor(batch, random)
        return metrics

    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """tanh of the mean, or a sample."""
        return self.soft.actor.mode(observations) if noise is None else self.soft.actor.sample(observations, noise)[0]

    def phase(self) -> Iterator[Metrics]:
        """The stabilization phase that is due: critics and their targets alone, a piece of `check_every` at a time."""
        if self.running is None:
            place = self._schedule.phase_place(self.steps)
            if place is None or place <= self.checked_at:
                return
            self.checked_at = place
            takes_part = self.due(place)
            if not takes_part.any():
                return
            self.constants["last_phase"][takes_part] = self.steps
            self.running = Phase.begin(self, takes_part)
        while not self.running.is_over:
            metrics = self.running.advance(self)
            if self.running.is_over:
                self.constants["stabilization_updates"] += self.running.done
                self.running.finish(self)
                self.running = None
                yield metrics
                return
            yield metrics

    def due(self, place: int) -> Tensor:
        """Which learners (P,) begin a phase at a multiple of the period."""
        assert self.buffer is not None
        timing = self.config.timing
        if timing == "new_data":
            return (self.steps - self.constants["last_phase"]) >= self.config.new_share * len(self.buffer)
        if timing == "td_error":
            newest, all_of_it = (self._td_error(place, most) for most in (self.config.period, len(self.buffer)))
            return newest > self.config.error_ratio * all_of_it
        return torch.ones(self.population, dtype=torch.bool, device=self.device)

    @torch.no_grad()
    def _td_error(self, place: int, most: int) -> Tensor:
        """Mean absolute TD error (P,) of a sample of the `most` newest transitions, no unit dropped."""
        assert self.buffer is not None
        size = len(self.buffer)
        count = 10 * self.config.batch_size
        generators = [seeding.torch_generator(seed, "phase", self.device, (place, 1)) for seed in self.seeds]
        ages, noise = (
            torch.stack([draw.sample(1, generator, self.device)[0] for generator in generators])
            for draw in (Draw("uniform", (count,)), Draw("normal", (count, self.spaces.action_size)))
        )
        indices = (self.buffer.position - 1 - (ages * min(most, size)).long()) % size
        batch = self.normalised(self.buffer.gather(indices))
        targets = self.soft.targets(batch, {"next_noise": noise})
        values: Tensor = self.soft.critic(batch.observations, batch.actions)
        return (values - targets.unsqueeze(1)).abs().mean((1, 2))

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the phase that is running."""
        tensors, manifest = super().online_state()
        manifest["checked_at"] = self.checked_at
        if self.running is not None:
            more, manifest["phase"] = self.running.state()
            tensors |= {f"phase/{name}": tensor for name, tensor in more.items()}
        return tensors, manifest

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """With the phase that was running."""
        super().load_online_state(tensors, manifest)
        self.checked_at = manifest.get("checked_at", 0)
        if "phase" in manifest:
            own = {name.removeprefix("phase/"): value for name, value in tensors.items() if name.startswith("phase/")}
            self.running = Phase.load(self, own, manifest["phase"])
