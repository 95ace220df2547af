"""Transitions that a stabilization phase does not train on, and how its critics do on them.

Shape key: P population, C critics, B batch, H held-out transitions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from orl import seeding
from orl.agents.phases_config import AutomaticPhasesConfig
from orl.agents.sac import SoftActorCritic
from orl.buffer import Batch, gather_per_learner

if TYPE_CHECKING:
    from orl.agents.flash_sac.agent import CategoricalSoftActorCritic, FlashSAC
    from orl.agents.speq import SPEQ

MOST = 10_000  # transitions


class HeldOut:
    """Held-out transitions and the noise of their checks, chosen by the seed and the step alone.

    Args:
        agent: with a buffer.
        config: the share that is held out, and what they score.
        steps: environment steps at which the phase began.

    Attributes:
        values: of the critics at the last check, (P, C, H).
        ratio: held-out TD error over that of the phase's start, as `score` compares them, (P,).

    Raises:
        ValueError: too few transitions.
    """

    def __init__(self, agent: SPEQ | FlashSAC, config: AutomaticPhasesConfig, steps: int) -> None:
        assert agent.replay_buffer is not None
        assert isinstance(agent.soft, SoftActorCritic)
        self.config, size = config, len(agent.replay_buffer)
        count = min(max(int(config.held_out * size), 1), MOST)
        if count >= size:
            raise ValueError(f"a phase on {size} transitions has nothing to hold out; raise learning_starts")
        generators = [seeding.torch_generator(seed, "phase", agent.device, (steps, 2)) for seed in agent.seeds]
        order = torch.stack([torch.randperm(size, generator=g, device=agent.device) for g in generators])
        shape = (count, agent.spaces.action_size)
        self.noise = torch.stack([torch.randn(shape, generator=g, device=agent.device) for g in generators])
        self.others = order[:, count:]
        self.batch: Batch = agent.normalizer.batch(agent.replay_buffer.gather(order[:, :count]))
        self.values = self._values(agent.soft)
        self.ratio = torch.ones_like(self.batch.rewards[:, 0])

    def indices(self, uniform: Tensor) -> Tensor:
        """Transitions (..., P, B) to train on, from uniform numbers in [0, 1)."""
        return gather_per_learner(self.others, (uniform * self.others.shape[1]).long())

    @torch.no_grad()
    def score(self, soft: SoftActorCritic | CategoricalSoftActorCritic) -> Tensor:
        """What falls as long as a phase is worth its updates, (P,).

        td_error: by which factor the held-out TD error has shrunk, check by check: the critics of this check and of the
        last one are compared on the same targets, those of now, so that targets that move do not count. policy_value:
        alpha log pi - mean_i Q_i at the policy's actions (SOPE).
        """
        assert isinstance(soft, SoftActorCritic)
        held = self.batch
        if self.config.length == "td_error":
            targets = soft.targets(held, {"next_noise": self.noise}).unsqueeze(1)
            values = self._values(soft)
            before, now = ((each - targets).square().mean((1, 2)) for each in (self.values, values))
            self.ratio, self.values = self.ratio * now / before.clamp(min=1e-30), values
            return self.ratio
        actions, log_prob = soft.actor.sample(held.observations, self.noise)
        values = soft.critic(held.observations, actions)
        score: Tensor = (soft.entropy_coefficient() * log_prob - values.mean(1)).mean(1)
        return score

    @torch.no_grad()
    def _values(self, soft: SoftActorCritic) -> Tensor:
        values: Tensor = soft.critic(self.batch.observations, self.batch.actions)
        return values
