"""DroQ as one would first write it, for `orl speed` to compare with.

A list of critic modules, `nn.Dropout` and `nn.LayerNorm`, one Adam each, Polyak averaging in a Python loop, batches
from NumPy: the formulation of SPEQ's released code, in our own words.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from orl.dataset import Dataset

Batch = list[Tensor]  # observations, actions, rewards, next observations, terminated


class PlainDroQ:
    """Two DroQ critics with targets, an actor and an entropy coefficient.

    Args:
        data: what batches are drawn from.
        hidden: units of both hidden layers.
        batch_size: transitions per update.
        dropout_rate: of the critics' hidden units.
        device: of the networks.
    """

    def __init__(
        self,
        data: Dataset,
        *,
        hidden: int = 256,
        batch_size: int = 256,
        dropout_rate: float = 0.01,
        device: str = "cpu",
    ) -> None:
        self.data, self.batch_size, self.device = data, batch_size, torch.device(device)
        observation_size, action_size = data.observations.shape[1], data.actions.shape[1]

        def critic() -> nn.Module:
            layers: list[nn.Module] = []
            for inputs in (observation_size + action_size, hidden):
                layers += [nn.Linear(inputs, hidden), nn.Dropout(dropout_rate), nn.LayerNorm(hidden), nn.ReLU()]
            return nn.Sequential(*layers, nn.Linear(hidden, 1)).to(self.device)

        self.critics, self.targets = [critic(), critic()], [critic(), critic()]
        self.optimizers = [torch.optim.Adam(each.parameters(), lr=3e-4) for each in self.critics]
        self.actor = nn.Sequential(
            nn.Linear(observation_size, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * action_size),
        ).to(self.device)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.log_coefficient = torch.zeros(1, requires_grad=True, device=self.device)
        self.coefficient_optimizer = torch.optim.Adam([self.log_coefficient], lr=3e-4)
        self.target_entropy = -float(action_size)

    def step(self, updates: int) -> None:
        """What follows one environment step: critic updates and one of the actor, on the last batch."""
        for _ in range(updates):
            batch = self.update_critics()
        self.update_actor(batch[0])

    def update_critics(self) -> Batch:
        """One update of both critics and their targets."""
        rows = np.random.randint(0, len(self.data), self.batch_size)  # noqa: NPY002  as plain code has it
        data = self.data
        arrays = (data.observations, data.actions, data.rewards, data.next_observations, data.terminated)
        batch = [torch.as_tensor(each[rows], dtype=torch.float32).to(self.device) for each in arrays]
        observations, actions, rewards, next_observations, terminated = batch
        with torch.no_grad():
            next_actions, log_prob = self._sample(next_observations)
            inputs = torch.cat([next_observations, next_actions], 1)
            values = torch.min(*(target(inputs).squeeze(1) for target in self.targets))
            goal = rewards + 0.99 * (1 - terminated) * (values - self.log_coefficient.exp() * log_prob)
        for critic, optimizer in zip(self.critics, self.optimizers, strict=True):
            loss = nn.functional.mse_loss(critic(torch.cat([observations, actions], 1)).squeeze(1), goal)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        for critic, target in zip(self.critics, self.targets, strict=True):
            for own, followed in zip(target.parameters(), critic.parameters(), strict=True):
                own.data.copy_(0.995 * own.data + 0.005 * followed.data)
        return batch

    def update_actor(self, observations: Tensor) -> None:
        """One update of the actor and of the entropy coefficient."""
        actions, log_prob = self._sample(observations)
        inputs = torch.cat([observations, actions], 1)
        value = torch.stack([critic(inputs).squeeze(1) for critic in self.critics]).mean(0)
        loss = (self.log_coefficient.exp().detach() * log_prob - value).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.actor_optimizer.step()
        loss = (-self.log_coefficient * (log_prob.detach() + self.target_entropy)).mean()
        self.coefficient_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.coefficient_optimizer.step()

    def _sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(observations).chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        raw = normal.rsample()
        log_slope = 2 * (math.log(2) - raw - softplus(-2 * raw))
        return torch.tanh(raw), (normal.log_prob(raw) - log_slope).sum(1)  # type: ignore[no-untyped-call]
