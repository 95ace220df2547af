"""One stabilization phase of a population: critics and targets alone, on a buffer and a policy that stand still.

Learners that stop early, or take no part, compute along with the others and are put back at the end: shapes stay
fixed, and each learner ends as it would have alone.

Shape key: P population, B batch, A action.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from orl.agents.held_out import HeldOut
from orl.agents.phases_config import AutomaticPhasesConfig
from orl.buffer import Batch, Metrics, gather_per_learner
from orl.noise import NoiseBlocks
from orl.state import flatten_state, restore_state, strip_prefix

if TYPE_CHECKING:
    from orl.agents.flash_sac.agent import CategoricalSoftActorCritic, FlashSAC
    from orl.agents.sac import SoftActorCritic
    from orl.agents.speq import SPEQ

CHUNK = 10_000  # transitions whose next actions are computed at once


class Phase:
    """What a phase holds between two of its pieces.

    Attributes:
        counts: critic updates that each learner has done (P,).
        is_running: learners that have not stopped (P,).
    """

    kept: dict[str, Tensor]  # the critics to end with, where learners can part ways
    smoothed: Tensor  # (P,), moving average of the score
    best: Tensor  # (P,), the lowest of them
    waited: Tensor  # (P,), checks since then

    def __init__(self, agent: SPEQ | FlashSAC, steps: int, takes_part: Tensor) -> None:
        assert agent.replay_buffer is not None
        self.steps, self.updates = steps, 0
        self.is_running, self.counts = takes_part, torch.zeros_like(agent.buffers["last_phase"])
        self.random = NoiseBlocks(agent.seeds, agent.soft.critic_draws(), agent.device, "phase", (steps,))
        self.is_over = False
        self.is_automatic = agent.config.is_automatic
        self.basis = agent.replay_buffer, agent.updates  # what stands still in a phase: transitions and actor
        self.size = len(agent.replay_buffer)
        self.policies = self._policies(agent)  # (P, size, 2A): of every next observation, since the actor stands still
        config = agent.config
        self.held_out: HeldOut | None = None
        if isinstance(config, AutomaticPhasesConfig) and config.length != "fixed":
            self.held_out = HeldOut(agent, config, steps)

    @classmethod
    def begin(cls, agent: SPEQ | FlashSAC, takes_part: Tensor) -> Phase:
        """A new phase at the agent's present step, for the learners (P,) that take part."""
        phase = cls(agent, agent.steps, takes_part)
        if phase.is_automatic:
            phase.kept = phase._critics(agent)
        if phase.held_out is not None:
            phase.smoothed = phase.best = phase._score(agent)
            phase.waited = torch.zeros_like(phase.counts)
        return phase

    def _policies(self, agent: SPEQ | FlashSAC) -> Tensor:
        found = []
        assert agent.replay_buffer is not None
        for rows in torch.split(torch.arange(self.size, device=agent.device), CHUNK):
            batch = agent.normalizer.batch(agent.replay_buffer.gather(rows.expand(agent.population, -1)))
            found.append(torch.cat(agent.soft.next_policy(batch.next_observations), dim=-1))
        return torch.cat(found, dim=1)

    def advance(self, agent: SPEQ | FlashSAC) -> Metrics:
        """Do `check_every` critic updates of every learner, then check where a score decides."""
        c = agent.config
        count = min(c.check_every, c.phase_updates - self.updates)
        for inputs in self.draw(agent, count):
            metrics = self.step(agent, inputs)
        self.updates += count
        agent.total_phase_updates += count
        self.counts += count * self.is_running
        if self.held_out is not None:
            metrics["held_out_score"] = self._check(agent)
        self.is_over = self.updates >= c.phase_updates or not bool(self.is_running.any())
        return metrics | {"phase_updates": self.counts.clone()}

    def draw(self, agent: SPEQ | FlashSAC, updates: int) -> Iterator[dict[str, Tensor]]:
        """Random numbers, batch and the policy of its next observations for each of so many updates."""
        return self.random.with_batches(updates, functools.partial(self._sample, agent))

    def step(self, agent: SPEQ | FlashSAC, inputs: Mapping[str, Tensor]) -> Metrics:
        """One critic update of every learner."""
        return agent.runner(functools.partial(_update, agent.soft), inputs, "phase")

    def _sample(self, agent: SPEQ | FlashSAC, random: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert agent.replay_buffer is not None
        uniform = random["indices"]
        indices = (uniform * self.size).long() if self.held_out is None else self.held_out.indices(uniform)
        batch = agent.normalizer.batch(agent.replay_buffer.gather(indices))
        mean, std = gather_per_learner(self.policies, indices).chunk(2, dim=-1)
        return {**batch._asdict(), "next_mean": mean, "next_std": std}

    def _check(self, agent: SPEQ | FlashSAC) -> Tensor:
        """Score the critics; stop learners that have not improved for `patience` checks."""
        assert self.held_out is not None
        c = self.held_out.config
        weight = 2.0 / (c.smoothing + 1.0)
        self.smoothed = self.smoothed + weight * (self._score(agent) - self.smoothed)
        improved = self.smoothed < self.best - c.tolerance * self.best.abs()
        self.best = torch.where(improved, self.smoothed, self.best)
        self.waited = torch.where(improved, 0, self.waited + 1)
        self._keep(agent, self.is_running & improved if c.restore_best else self.is_running)
        self.is_running = self.is_running & (self.waited < c.patience)
        return self.smoothed

    def _score(self, agent: SPEQ | FlashSAC) -> Tensor:
        assert self.held_out is not None
        return self.held_out.score(agent.soft)

    def _critics(self, agent: SPEQ | FlashSAC) -> dict[str, Tensor]:
        names = ("critic", "critic_target")
        return flatten_state({n: agent.networks[n] for n in names}, {"critic": agent.optimizers["critic"]}, {})

    def _keep(self, agent: SPEQ | FlashSAC, learners: Tensor) -> None:
        """Remember the critics of these learners (P,) as those to end with; not Adam's step, which all share."""
        for name, tensor in self._critics(agent).items():
            if not name.endswith("/step"):
                chosen = learners.view(-1, *[1] * (tensor.dim() - 1))
                self.kept[name] = torch.where(chosen, tensor, self.kept[name])

    def finish(self, agent: SPEQ | FlashSAC) -> None:
        """Put learners that parted ways to the critics they end with."""
        if not self.is_automatic:
            return
        if self.held_out is None:
            self._keep(agent, self.is_running)
        names = ("critic", "critic_target")
        critic = {"critic": agent.optimizers["critic"]}
        restore_state({name: agent.networks[name] for name in names}, critic, {}, self.kept)

    # State: every tensor has the population as its first axis; the rest follows from the seed and the step.

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest."""
        block_start, position = self.random.state()
        tensors = {"is_running": self.is_running, "counts": self.counts, "block_start": block_start}
        if self.held_out is not None:
            tensors |= {"values": self.held_out.values, "ratio": self.held_out.ratio}
            tensors |= {name: getattr(self, name) for name in ("smoothed", "best", "waited")}
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
        phase.kept = strip_prefix(saved, "kept/")
        phase.counts = saved["counts"]
        if phase.held_out is not None:
            phase.held_out.values, phase.held_out.ratio = saved["values"], saved["ratio"]
            phase.smoothed, phase.best, phase.waited = (saved[name] for name in ("smoothed", "best", "waited"))
        return phase


def _update(soft: SoftActorCritic | CategoricalSoftActorCritic, inputs: Mapping[str, Tensor]) -> Metrics:
    return soft.update_critic(Batch.of(inputs), inputs, (inputs["next_mean"], inputs["next_std"]))
