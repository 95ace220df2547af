"""Stabilization phases: when they begin, what one does, and when it ends.

In a phase the critics and their targets alone learn on, while transitions and actor stand still.

Source: Romeo et al. 2025 (SPEQ, arXiv 2501.08669), github.com/CarloRomeo427/SPEQ. Automatic length: the same authors'
SOPE 2026, arXiv 2605.05863, github.com/CarloRomeo427/SOPE, and our own rule. Automatic timing is our choice.

Deviations:
* a phase follows the online update of its step, where the code has it before; none follows the last step of training;
* a phase's loss has the scale of the online loss; the released code halves it, under the same Adam moments;
* SOPE's test J < 0.999 J_best accepts worse values where J < 0; here the tolerance is taken from |J_best|;
* SOPE keeps the critics of the stop; `restore_best` goes back to those of the best check;
* next actions that check a phase are drawn once (common random numbers), and no unit is dropped in a check;
* our own rule of length compares the critics of two checks on the same targets, as `docs/decisions/0010` says;
* after a phase of automatic length or timing Adam's step count is what it was before, since learners of a population
  share it; it only matters for the bias correction of the first thousands of steps.

Shape key: P population, C critics, B batch, H held-out transitions, A action.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from orl import seeding
from orl.buffer import Batch, Metrics, ReplayBuffer, gather_per_learner
from orl.checkpoint import flatten_state, restore_state, strip_prefix
from orl.config import check_fraction, check_positive
from orl.environment import Spaces
from orl.networks import Normalizer
from orl.noise import Noise, NoiseBlocks, NoiseSpec
from orl.updates import Adam

CHUNK = 10_000  # transitions whose next actions are computed at once
MOST_HELD_OUT = 10_000  # transitions


@dataclass(frozen=True)
class PhasesConfig:
    """When phases begin and end."""

    # Phases
    period: int = 10_000  # F: environment steps between phases, or between the times that `timing` decides
    phase_updates: int = 0  # N: critic updates of a phase, the most of them where its length is automatic; 0: no phases
    check_every: int = 1_000  # critic updates of a piece: between metrics, and checks of an automatic length
    # Automatic timing (our choice)
    timing: Literal["fixed", "new_data", "td_error"] = "fixed"  # what a phase waits for at each period
    new_share: float = 0.1  # new_data: share of the buffer that is newer than the last phase
    error_ratio: float = 1.2  # td_error: mean absolute TD error of the newest `period` transitions over the buffer's
    # Automatic length
    length: Literal["fixed", "td_error", "policy_value"] = "fixed"  # held-out score that stops a phase
    patience: int = 10  # checks without improvement that stop a phase
    tolerance: float = 0.001  # share of the best score that an improvement must exceed
    smoothing: int = 3  # checks that the score's moving average is taken over
    held_out: float = 0.1  # share of the buffer that a phase does not train on, at most 10,000 transitions
    restore_best: bool = True  # end with the critics of the best check

    def check_phases(self) -> None:
        """Refuse values that no phase can have."""
        name = type(self).__name__
        check_positive(self, "period", "new_share", "check_every", "error_ratio", "patience", "smoothing")
        check_fraction(self, "tolerance", "held_out")
        if self.phase_updates < 0:
            raise ValueError(f"{name}.phase_updates={self.phase_updates}: must not be negative")
        if self.length != "fixed" and not 0 < self.held_out < 1:
            raise ValueError(f"{name}.held_out={self.held_out}: an automatic length needs a share in (0, 1)")


class PhasedAgent(Protocol):
    """What a phase needs of an agent."""

    seeds: list[int]
    device: torch.device
    spaces: Spaces
    steps: int
    updates: int
    total_phase_updates: int
    first_update: int  # the environment step after which updates begin
    replay_buffer: ReplayBuffer | None
    normalizer: Normalizer
    networks: dict[str, nn.Module]  # with critic and critic_target
    optimizers: dict[str, Adam]  # with critic
    buffers: dict[str, Tensor]
    run: Callable[..., Metrics]  # updates

    @property
    def config(self) -> PhasesConfig:
        """With the settings of phases."""
        ...

    def critic_noise_specs(self) -> dict[str, NoiseSpec]:
        """Random numbers of a critic update."""
        ...

    def next_policy(self, observations: Tensor) -> Tensor:
        """Mean and standard deviation (P, B, 2A) before the tanh, without gradient."""
        ...

    def update_critic(self, batch: Batch, noise: Noise) -> Metrics:
        """One step of the critics, and their targets."""
        ...

    def targets(self, batch: Batch, noise: Noise) -> Tensor:
        """What the critics learn to say, (P, B), without gradient; no unit is dropped without its random numbers."""
        ...

    def critic_values(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q (P, C, B) in the unit of `targets`, with no unit dropped, without gradient."""
        ...

    def policy_loss(self, observations: Tensor, noise: Tensor) -> Tensor:
        """alpha log pi - mean_i Q_i (P, B) at the policy's actions, in the unit of `targets`."""
        ...


class Phases:
    """The phases of an agent's life: which one runs, and when each learner's last one began."""

    def __init__(self, agent: PhasedAgent) -> None:
        counts = torch.zeros(len(agent.seeds), dtype=torch.int64, device=agent.device)
        agent.buffers |= {"last_phase": counts, "stabilization_updates": counts.clone()}
        self.running: Phase | None = None
        self.checked_at = 0  # the last multiple of the period where a phase could begin

    def run(self, agent: PhasedAgent) -> Iterator[Metrics]:
        """The phase that is due, a piece of `check_every` updates at a time.

        A phase that was left ends where it is if transitions were replaced or the actor was trained meanwhile.
        """
        if self.running is not None and self.running.basis != (agent.replay_buffer, agent.updates):
            self.running.finish(agent)
            self.running = None
        if self.running is None:
            start = phase_start(agent.steps, agent.config.period, agent.first_update)
            if start is None or start <= self.checked_at:
                return
            self.checked_at = start
            takes_part = self.due(agent, start)
            if not takes_part.any():
                return
            agent.buffers["last_phase"][takes_part] = agent.steps
            self.running = Phase(agent, agent.steps, takes_part)
        while self.running is not None:
            metrics = self.running.advance(agent)
            if self.running.is_over:
                self.running.finish(agent)
                self.running = None
            yield metrics

    def were_last(self, agent: PhasedAgent) -> bool:
        """Whether the last thing that the agent did was a piece of a phase, also one that ended with it."""
        return agent.steps > 0 and bool((agent.buffers["last_phase"] == agent.steps).any())

    def due(self, agent: PhasedAgent, start: int) -> Tensor:
        """Which learners (P,) begin a phase at a multiple of the period."""
        config, last = agent.config, agent.buffers["last_phase"]
        assert agent.replay_buffer is not None
        if config.timing == "new_data":
            return (agent.steps - last) >= config.new_share * agent.replay_buffer.size
        if config.timing == "td_error":
            newest, all_of_it = (_td_error(agent, start, most) for most in (config.period, agent.replay_buffer.size))
            return newest > config.error_ratio * all_of_it
        return torch.ones_like(last, dtype=torch.bool)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The phase that is running: tensors by name and a JSON-able manifest."""
        if self.running is None:
            return {}, {"checked_at": self.checked_at}
        tensors, manifest = self.running.state()
        return {f"phase/{name}": tensor for name, tensor in tensors.items()}, {
            "checked_at": self.checked_at,
            "phase": manifest,
        }

    def load_state(self, agent: PhasedAgent, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """Go on in the phase that was running."""
        self.checked_at = manifest["checked_at"]
        if "phase" in manifest:
            self.running = Phase.load(agent, strip_prefix(tensors, "phase/"), manifest["phase"])


def phase_start(steps: int, period: int, first_update: int) -> int | None:
    """The multiple of the period that was reached last, None before anything was learned."""
    start = steps // period * period
    return start if start > first_update else None


class Phase:
    """What a phase holds between two of its pieces.

    Learners that stop early, or take no part, compute along with the others and are put back at the end: shapes stay
    fixed, and each learner ends as it would have alone.

    Attributes:
        counts: critic updates that each learner has done (P,).
        is_running: learners that have not stopped (P,).
        policies: mean and standard deviation (P, size, 2A) at every next observation, since the actor stands still.
    """

    smoothed: Tensor  # (P,), moving average of the score
    best: Tensor  # (P,), the lowest of them
    waited: Tensor  # (P,), checks since then

    def __init__(self, agent: PhasedAgent, steps: int, takes_part: Tensor) -> None:
        assert agent.replay_buffer is not None
        config = agent.config
        self.steps, self.updates = steps, 0
        self.is_running, self.counts = takes_part, torch.zeros_like(agent.buffers["last_phase"])
        self.noise = NoiseBlocks(agent.seeds, agent.critic_noise_specs(), agent.device, "phase", (steps,))
        self.is_over = False
        self.can_part_ways = config.timing != "fixed" or config.length != "fixed"  # learners of a population
        self.basis = agent.replay_buffer, agent.updates  # what stands still in a phase: transitions and actor
        self.size = agent.replay_buffer.size
        chunks = torch.split(torch.arange(self.size, device=agent.device).expand(len(agent.seeds), -1), CHUNK, dim=1)
        self.policies = torch.cat(
            [agent.next_policy(_normalised_batch(agent, rows).next_observations) for rows in chunks], dim=1
        )
        self.final_critics = self._critics(agent) if self.can_part_ways else {}  # to end with
        self.held_out = HeldOut(agent, steps) if config.length != "fixed" else None
        if self.held_out is not None:
            self.smoothed = self.best = self.held_out.score(agent)
            self.waited = torch.zeros_like(self.counts)

    def advance(self, agent: PhasedAgent) -> Metrics:
        """Do `check_every` critic updates of every learner, then check where a score decides."""
        c = agent.config
        count = min(c.check_every, c.phase_updates - self.updates)
        for batches, noise in self.batches(agent, count):
            metrics = agent.run(agent.update_critic, batches, noise)
        self.updates += count
        agent.total_phase_updates += count
        self.counts += count * self.is_running
        if self.held_out is not None:
            metrics["held_out_score"] = self._check(agent, self.held_out)
        self.is_over = self.updates >= c.phase_updates or not bool(self.is_running.any())
        return metrics | {"phase_updates": self.counts.clone()}

    def batches(self, agent: PhasedAgent, updates: int) -> Iterator[tuple[Batch, Noise]]:
        """Batches, with the policy of their next observations, and random numbers of so many updates."""

        def sample(noise: Noise) -> Batch:
            uniform = noise["indices"]
            indices = (uniform * self.size).long() if self.held_out is None else self.held_out.indices(uniform)
            batch = _normalised_batch(agent, indices)
            return batch._replace(next_policy=gather_per_learner(self.policies, indices))

        return self.noise.with_batches(updates, sample)

    def _check(self, agent: PhasedAgent, held_out: HeldOut) -> Tensor:
        """Score the critics; stop learners that have not improved for `patience` checks."""
        c = held_out.config
        weight = 2.0 / (c.smoothing + 1.0)
        self.smoothed = self.smoothed + weight * (held_out.score(agent) - self.smoothed)
        improved = self.smoothed < self.best - c.tolerance * self.best.abs()
        self.best = torch.where(improved, self.smoothed, self.best)
        self.waited = torch.where(improved, 0, self.waited + 1)
        self._remember(agent, self.is_running & improved if c.restore_best else self.is_running)
        self.is_running = self.is_running & (self.waited < c.patience)
        return self.smoothed

    def _critics(self, agent: PhasedAgent) -> dict[str, Tensor]:
        names = ("critic", "critic_target")
        return flatten_state({n: agent.networks[n] for n in names}, {"critic": agent.optimizers["critic"]}, {})

    def _remember(self, agent: PhasedAgent, learners: Tensor) -> None:
        """Remember the critics of these learners (P,) as those to end with; not Adam's step, which all share."""
        for name, tensor in self._critics(agent).items():
            if not name.endswith("/step"):
                chosen = learners.view(-1, *[1] * (tensor.dim() - 1))
                self.final_critics[name] = torch.where(chosen, tensor, self.final_critics[name])

    def finish(self, agent: PhasedAgent) -> None:
        """Count its updates; put learners that parted ways to the critics they end with."""
        agent.buffers["stabilization_updates"] += self.counts
        if not self.can_part_ways:
            return
        if self.held_out is None:
            self._remember(agent, self.is_running)
        critics = {name: agent.networks[name] for name in ("critic", "critic_target")}
        restore_state(critics, {"critic": agent.optimizers["critic"]}, {}, self.final_critics)

    # State: every tensor has the population as its first axis; the rest follows from the seed and the step.

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest."""
        block_start, position = self.noise.state()
        tensors = {"is_running": self.is_running, "counts": self.counts, "block_start": block_start}
        if self.held_out is not None:
            tensors |= {"values": self.held_out.values, "ratio": self.held_out.ratio}
            tensors |= {"smoothed": self.smoothed, "best": self.best, "waited": self.waited}
        if self.can_part_ways:
            tensors |= {f"critics/{name}": tensor for name, tensor in self.final_critics.items()}
        return tensors, {"steps": self.steps, "updates": self.updates, "position": position}

    @classmethod
    def load(cls, agent: PhasedAgent, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Phase:
        """The inverse of `state`."""
        saved = {name: tensor.to(agent.device) for name, tensor in tensors.items() if name != "block_start"}
        phase = cls(agent, manifest["steps"], saved["is_running"])
        phase.updates = manifest["updates"]
        phase.noise.load(tensors["block_start"], manifest["position"])
        phase.final_critics = strip_prefix(saved, "critics/")
        phase.counts = saved["counts"]
        if phase.held_out is not None:
            phase.held_out.values, phase.held_out.ratio = saved["values"], saved["ratio"]
            phase.smoothed, phase.best, phase.waited = (saved[name] for name in ("smoothed", "best", "waited"))
        return phase


class HeldOut:
    """Transitions that a phase does not train on, and how its critics do on them; chosen by seed and step alone.

    Args:
        agent: with a buffer.
        steps: environment steps at which the phase began.

    Attributes:
        values: of the critics at the last check, (P, C, H).
        ratio: held-out TD error over that of the phase's start, as `score` compares them, (P,).

    Raises:
        ValueError: too few transitions.
    """

    def __init__(self, agent: PhasedAgent, steps: int) -> None:
        assert agent.replay_buffer is not None
        self.config, size = agent.config, agent.replay_buffer.size
        count = min(max(int(self.config.held_out * size), 1), MOST_HELD_OUT)
        if count >= size:
            raise ValueError(f"a phase on {size} transitions has nothing to hold out; raise learning_starts")
        generators = [seeding.torch_generator(seed, "phase", agent.device, (steps, 2)) for seed in agent.seeds]
        order = torch.stack([torch.randperm(size, generator=g, device=agent.device) for g in generators])
        shape = (count, agent.spaces.action_size)
        self.noise = torch.stack([torch.randn(shape, generator=g, device=agent.device) for g in generators])
        self.others = order[:, count:]
        self.batch = _normalised_batch(agent, order[:, :count])
        self.values = agent.critic_values(self.batch.observations, self.batch.actions)
        self.ratio = torch.ones_like(self.batch.rewards[:, 0])

    def indices(self, uniform: Tensor) -> Tensor:
        """Transitions (..., P, B) to train on, from uniform numbers in [0, 1)."""
        return gather_per_learner(self.others, (uniform * self.others.shape[1]).long())

    @torch.no_grad()
    def score(self, agent: PhasedAgent) -> Tensor:
        """What falls as long as a phase is worth its updates, (P,).

        td_error: by which factor the held-out TD error has shrunk, check by check: the critics of this check and of the
        last one are compared on the same targets, those of now, so that targets that move do not count. policy_value:
        alpha log pi - mean_i Q_i at the policy's actions (SOPE).
        """
        if self.config.length == "policy_value":
            return agent.policy_loss(self.batch.observations, self.noise).mean(1)
        targets = agent.targets(self.batch, {"next_noise": self.noise}).unsqueeze(1)
        values = agent.critic_values(self.batch.observations, self.batch.actions)
        before, now = ((predicted - targets).square().mean((1, 2)) for predicted in (self.values, values))
        self.ratio, self.values = self.ratio * now / before.clamp(min=1e-30), values
        return self.ratio


def _normalised_batch(agent: PhasedAgent, indices: Tensor) -> Batch:
    """The transitions at indices (..., P, B), as networks take them."""
    assert agent.replay_buffer is not None
    return agent.normalizer.batch(agent.replay_buffer.gather(indices))


@torch.no_grad()
def _td_error(agent: PhasedAgent, start: int, most: int) -> Tensor:
    """Mean absolute TD error (P,) of a sample of the `most` newest transitions, no unit dropped."""
    assert agent.replay_buffer is not None
    size = agent.replay_buffer.size
    count = 10 * agent.critic_noise_specs()["indices"].shape[0]
    generators = [seeding.torch_generator(seed, "phase", agent.device, (start, 1)) for seed in agent.seeds]
    ages, noise = (
        torch.stack([spec.sample(1, generator, agent.device)[0] for generator in generators])
        for spec in (NoiseSpec("uniform", (count,)), NoiseSpec("normal", (count, agent.spaces.action_size)))
    )
    batch = _normalised_batch(agent, (agent.replay_buffer.position - 1 - (ages * min(most, size)).long()) % size)
    targets = agent.targets(batch, {"next_noise": noise})
    values = agent.critic_values(batch.observations, batch.actions)
    return (values - targets.unsqueeze(1)).abs().mean((1, 2))
