"""When stabilization phases begin, for the agents that have them; what one does is in `stabilization`.

Source: Romeo et al. 2025 (SPEQ, arXiv 2501.08669); automatic timing and length as `agents/speq.py` says.

Shape key: P population.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from orl import seeding
from orl.agents.phases_config import AutomaticPhasesConfig
from orl.agents.sac import SoftActorCritic
from orl.agents.stabilization import Phase
from orl.buffer import Metrics
from orl.noise import NoiseSpec
from orl.state import strip_prefix

if TYPE_CHECKING:
    from orl.agents.flash_sac.agent import FlashSAC
    from orl.agents.speq import SPEQ


class Phases:
    """The phases of an agent's life: which one runs, and when each learner's last one began."""

    def __init__(self, agent: SPEQ | FlashSAC) -> None:
        counts = torch.zeros(agent.population, dtype=torch.int64, device=agent.device)
        agent.buffers |= {"last_phase": counts, "stabilization_updates": counts.clone()}
        self.running: Phase | None = None
        self.checked_at = 0  # the last multiple of the period where a phase could begin

    def run(self, agent: SPEQ | FlashSAC) -> Iterator[Metrics]:
        """The phase that is due, a piece of `check_every` updates at a time.

        A phase that was left ends where it is if transitions were replaced or the actor was trained meanwhile.
        """
        if self.running is not None and self.running.basis != (agent.replay_buffer, agent.updates):
            self._end(agent, self.running)
        if self.running is None:
            place = agent.present_schedule().phase_place(agent.steps)
            if place is None or place <= self.checked_at:
                return
            self.checked_at = place
            takes_part = self.due(agent, place)
            if not takes_part.any():
                return
            agent.buffers["last_phase"][takes_part] = agent.steps
            self.running = Phase.begin(agent, takes_part)
        while self.running is not None:
            metrics = self.running.advance(agent)
            if self.running.is_over:
                self._end(agent, self.running)
            yield metrics

    def _end(self, agent: SPEQ | FlashSAC, phase: Phase) -> None:
        agent.buffers["stabilization_updates"] += phase.counts
        phase.finish(agent)
        self.running = None

    def were_last(self, agent: SPEQ | FlashSAC) -> bool:
        """Whether the last thing that the agent did was a piece of a phase, also one that ended with it."""
        return agent.steps > 0 and bool((agent.buffers["last_phase"] == agent.steps).any())

    def due(self, agent: SPEQ | FlashSAC, place: int) -> Tensor:
        """Which learners (P,) begin a phase at a multiple of the period."""
        config = agent.config
        assert agent.replay_buffer is not None
        if config.timing == "new_data":
            return (agent.steps - agent.buffers["last_phase"]) >= config.new_share * len(agent.replay_buffer)
        if config.timing == "td_error":
            assert isinstance(config, AutomaticPhasesConfig)
            newest, all_of_it = (_td_error(agent, place, most) for most in (config.period, len(agent.replay_buffer)))
            return newest > config.error_ratio * all_of_it
        return torch.ones(agent.population, dtype=torch.bool, device=agent.device)

    def add_state(
        self, tensors: dict[str, Tensor], manifest: dict[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """An agent's online state, and the phase that is running."""
        manifest["checked_at"] = self.checked_at
        if self.running is not None:
            more, manifest["phase"] = self.running.state()
            tensors |= {f"phase/{name}": tensor for name, tensor in more.items()}
        return tensors, manifest

    def load_state(self, agent: SPEQ | FlashSAC, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """Go on in the phase that was running."""
        self.checked_at = manifest["checked_at"]
        if "phase" in manifest:
            self.running = Phase.load(agent, strip_prefix(tensors, "phase/"), manifest["phase"])


@torch.no_grad()
def _td_error(agent: SPEQ | FlashSAC, place: int, most: int) -> Tensor:
    """Mean absolute TD error (P,) of a sample of the `most` newest transitions, no unit dropped."""
    assert agent.replay_buffer is not None
    assert isinstance(agent.soft, SoftActorCritic)
    size = len(agent.replay_buffer)
    count = 10 * agent.config.batch_size
    generators = [seeding.torch_generator(seed, "phase", agent.device, (place, 1)) for seed in agent.seeds]
    ages, noise = (
        torch.stack([draw.sample(1, generator, agent.device)[0] for generator in generators])
        for draw in (NoiseSpec("uniform", (count,)), NoiseSpec("normal", (count, agent.spaces.action_size)))
    )
    indices = (agent.replay_buffer.position - 1 - (ages * min(most, size)).long()) % size
    batch = agent.normalizer.batch(agent.replay_buffer.gather(indices))
    targets = agent.soft.targets(batch, {"next_noise": noise})
    values: Tensor = agent.soft.critic(batch.observations, batch.actions)
    return (values - targets.unsqueeze(1)).abs().mean((1, 2))
