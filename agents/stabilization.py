"""One stabilization phase of a population: critics and targets alone, on a buffer and a policy that stand still.

Learners that stop early, or take no part, compute along with the others and are put back at the end: shapes stay
fixed, and each learner ends as it would have alone.

Shape key: P population, B batch, H held-out transitions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from orl import seeding
from orl.actor import NextPolicy
from orl.agents.sac import SoftActorCritic
from orl.batch import Batch, Metrics
from orl.seeding import RandomBlocks
from orl.state import flatten_state, own, restore_state

if TYPE_CHECKING:
    from orl.agents.flash_sac import FlashSAC
    from orl.agents.speq import SPEQ

MOST_HELD_OUT = 10_000  # transitions
CHUNK = 10_000  # transitions whose next actions are computed at once


class Phase:
    """What a phase holds between two of its pieces.

    Attributes:
        counts: critic updates that each learner has done (P,).
        is_running: learners that have not stopped (P,).
    """

    kept: dict[str, Tensor]  # the critics to end with, where learners can part ways
    values: Tensor  # (P, C, H), of the held-out transitions at the last check
    ratio: Tensor  # (P,), held-out TD error over that of the phase's start, as td_error compares them
    smoothed: Tensor  # (P,), moving average of the score
    best: Tensor  # (P,), the lowest of them
    waited: Tensor  # (P,), checks since then

    def __init__(self, agent: SPEQ | FlashSAC, steps: int, takes_part: Tensor) -> None:
        assert agent.buffer is not None
        self.steps, self.updates = steps, 0
        self.is_running, self.counts = takes_part, torch.zeros_like(agent.constants["last_phase"])
        self.random = RandomBlocks(agent.seeds, agent.soft.critic_draws(), agent.device, "phase", (steps,))
        self.is_over = False
        self.is_automatic = agent.config.is_automatic
        self.size = len(agent.buffer)
        self.policies = self._policies(agent)  # (P, size, 2A): of every next observation, since the actor stands still
        self.order: Tensor | None = None  # (P, size): the first H places of each learner are held out
        if agent.config.length != "fixed":
            self._hold_out(agent)

    @classmethod
    def begin(cls, agent: SPEQ | FlashSAC, takes_part: Tensor) -> Phase:
        """A new phase at the agent's present step, for the learners (P,) that take part."""
        phase = cls(agent, agent.steps, takes_part)
        if phase.is_automatic:
            phase.kept = phase._critics(agent)
        if phase.order is not None:
            assert isinstance(agent.soft, SoftActorCritic)
            phase.ratio = torch.ones_like(phase.held_out.rewards[:, 0])
            phase.values = phase._held_out_values(agent.soft)
            phase.smoothed = phase.best = phase._score(agent)
            phase.waited = torch.zeros_like(phase.counts)
        return phase

    def _policies(self, agent: SPEQ | FlashSAC) -> Tensor:
        found = []
        assert agent.buffer is not None
        for rows in torch.split(torch.arange(self.size, device=agent.device), CHUNK):
            batch = agent.normalised(agent.buffer.gather(rows.expand(agent.population, -1)))
            found.append(torch.cat(agent.soft.next_policy(batch.next_observations), dim=-1))
        return torch.cat(found, dim=1)

    def _hold_out(self, agent: SPEQ | FlashSAC) -> None:
        """Choose the held-out transitions and the noise of their checks: from the seed and the step alone."""
        c = agent.config
        held = min(max(int(c.held_out * self.size), 1), MOST_HELD_OUT)
        if held >= self.size:
            raise ValueError(f"a phase on {self.size} transitions has nothing to hold out; raise learning_starts")
        generators = [seeding.torch_generator(seed, "phase", agent.device, (self.steps, 2)) for seed in agent.seeds]
        self.order = torch.stack([torch.randperm(self.size, generator=g, device=agent.device) for g in generators])
        shape = (held, agent.spaces.action_size)
        self.noise = torch.stack([torch.randn(shape, generator=g, device=agent.device) for g in generators])
        assert agent.buffer is not None
        self.held_out: Batch = agent.normalised(agent.buffer.gather(self.order[:, :held]))

    def advance(self, agent: SPEQ | FlashSAC) -> Metrics:
        """Do `check_every` critic updates of every learner, then check where a score decides."""
        c = agent.config
        count = min(c.check_every, c.phase_updates - self.updates)
        for _ in range(count):
            metrics = self.update(agent)
        self.updates += count
        agent.phase_updates += count
        self.counts += count * self.is_running
        if self.order is not None:
            metrics["held_out_score"] = self._check(agent)
        self.is_over = self.updates >= c.phase_updates or not bool(self.is_running.any())
        return metrics | {"phase_updates": self.counts.clone()}

    def update(self, agent: SPEQ | FlashSAC) -> Metrics:
        """One critic update of every learner."""
        assert agent.buffer is not None
        random = self.random.next()
        indices = self._indices(random["indices"])
        batch = agent.normalised(agent.buffer.gather(indices))
        return agent.soft.update_critic(batch, random, self._next_policy(indices))

    def _indices(self, uniform: Tensor) -> Tensor:
        """Transitions (P, B) to train on, from uniform numbers in [0, 1)."""
        if self.order is None:
            return (uniform * self.size).long()
        held = self.noise.shape[1]
        return self.order.gather(1, held + (uniform * (self.size - held)).long())

    def _next_policy(self, indices: Tensor) -> NextPolicy:
        chosen = self.policies.gather(1, indices.unsqueeze(-1).expand(-1, -1, self.policies.shape[-1]))
        mean, std = chosen.chunk(2, dim=-1)
        return mean, std

    def _check(self, agent: SPEQ | FlashSAC) -> Tensor:
        """Score the critics; stop learners that have not improved for `patience` checks."""
        c = agent.config
        weight = 2.0 / (c.smoothing + 1.0)
        self.smoothed = self.smoothed + weight * (self._score(agent) - self.smoothed)
        improved = self.smoothed < self.best - c.tolerance * self.best.abs()
        self.best = torch.where(improved, self.smoothed, self.best)
        self.waited = torch.where(improved, 0, self.waited + 1)
        self._keep(agent, self.is_running & improved if c.restore_best else self.is_running)
        self.is_running = self.is_running & (self.waited < c.patience)
        return self.smoothed

    def _score(self, agent: SPEQ | FlashSAC) -> Tensor:
        """What falls as long as a phase is worth its updates, (P,).

        td_error: by which factor the held-out TD error has shrunk, check by check: the critics of this check and of the
        last one are compared on the same targets, those of now, so that targets that move do not count. policy_value:
        alpha log pi - mean_i Q_i at the policy's actions (SOPE).
        """
        held, soft = self.held_out, agent.soft
        assert isinstance(soft, SoftActorCritic)
        with torch.no_grad():
            if agent.config.length == "td_error":
                targets = soft.targets(held, {"next_noise": self.noise}).unsqueeze(1)
                values = self._held_out_values(soft)
                before, now = ((each - targets).square().mean((1, 2)) for each in (self.values, values))
                self.ratio, self.values = self.ratio * now / before.clamp(min=1e-30), values
                return self.ratio
            actions, log_prob = soft.actor.sample(held.observations, self.noise)
            values = soft.critic(held.observations, actions)
            score: Tensor = (soft.entropy_coefficient() * log_prob - values.mean(1)).mean(1)
            return score

    @torch.no_grad()
    def _held_out_values(self, soft: SoftActorCritic) -> Tensor:
        values: Tensor = soft.critic(self.held_out.observations, self.held_out.actions)
        return values

    def _critics(self, agent: SPEQ | FlashSAC) -> dict[str, Tensor]:
        names = ("critic", "critic_target")
        return flatten_state({n: agent.networks[n] for n in names}, {"critic": agent.optimizers["critic"]}, {})

    def _keep(self, agent: SPEQ | FlashSAC, learners: Tensor) -> None:
        """Remember the critics of these learners (P,) as those to end with; not Adam's step, which all share."""
        for name, tensor in self._critics(agent).items():
            self.kept.setdefault(name, torch.zeros_like(tensor))  # moments, where the phase had the first update
            if not name.endswith("/step"):
                chosen = learners.view(-1, *[1] * (tensor.dim() - 1))
                self.kept[name] = torch.where(chosen, tensor, self.kept[name])

    def finish(self, agent: SPEQ | FlashSAC) -> None:
        """Put learners that parted ways to the critics they end with."""
        if not self.is_automatic:
            return
        if agent.config.length == "fixed":
            self._keep(agent, self.is_running)
        names = ("critic", "critic_target")
        critic = {"critic": agent.optimizers["critic"]}
        restore_state({name: agent.networks[name] for name in names}, critic, {}, self.kept)

    # State: every tensor has the population as its first axis; the rest follows from the seed and the step.

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest."""
        block_start, position = self.random.state()
        tensors = {"is_running": self.is_running, "counts": self.counts, "block_start": block_start}
        for name in ("values", "ratio", "smoothed", "best", "waited"):
            if hasattr(self, name):
                tensors[name] = getattr(self, name)
        if self.is_automatic:
            tensors |= {f"kept/{name}": tensor for name, tensor in self.kept.items()}
        return tensors, {"steps": self.steps, "updates": self.updates, "position": position}

    @classmethod
    def load(cls, agent: SPEQ | FlashSAC, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Phase:
        """The inverse of `state`."""
        saved = {name: tensor.to(agent.device) for name, tensor in tensors.items() if name != "block_start"}
        phase = cls(agent, manifest["steps"], saved["is_running"])
        phase.updates = manifest["updates"]
        phase.random.load(tensors["block_start"], manifest["position"])
        phase.kept = own(saved, "kept/")
        for name in ("values", "ratio", "smoothed", "best", "waited", "counts"):
            if name in saved:
                setattr(phase, name, saved[name])
        return phase
