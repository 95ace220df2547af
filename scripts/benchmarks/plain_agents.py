"""DroQ, TD3+BC and IQL as one would first write them, for `orl speed` to compare with.

Separate modules, one Adam each, `backward()`, Polyak averaging in a Python loop: the style of CORL's single files and
of SPEQ's released code, in our own words. Equations and hyperparameters are those of `orl.agents`.

Shape key: B batch.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss, softplus

from orl.dataset import Dataset

HIDDEN, BATCH = 256, 256
Batch = list[Tensor]  # observations, actions, rewards, next observations, terminated


def mlp(inputs: int, outputs: int, *last: nn.Module, dropout_rate: float | None = None) -> nn.Sequential:
    """Two hidden layers of ReLU, with dropout and LayerNorm before it where there is a rate."""
    layers: list[nn.Module] = []
    for size in (inputs, HIDDEN):
        layers.append(nn.Linear(size, HIDDEN))
        if dropout_rate is not None:
            layers += [nn.Dropout(dropout_rate), nn.LayerNorm(HIDDEN)]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers, nn.Linear(HIDDEN, outputs), *last)


def adam(parameters: Iterable[nn.Parameter | Tensor]) -> torch.optim.Adam:
    """With the learning rate of all these agents."""
    return torch.optim.Adam(parameters, lr=3e-4)


def minimize(loss: Tensor, *optimizers: torch.optim.Optimizer) -> None:
    """One step of these optimizers."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for optimizer in optimizers:
        optimizer.step()


def polyak_update(targets: Sequence[nn.Module], networks: Sequence[nn.Module]) -> None:
    """target <- 0.995 target + 0.005 network."""
    for target, network in zip(targets, networks, strict=True):
        for own, followed in zip(target.parameters(), network.parameters(), strict=True):
            own.data.copy_(0.995 * own.data + 0.005 * followed.data)


class PlainDroQ:
    """Two DroQ critics with targets, an actor and an entropy coefficient.

    Args:
        data: what batches are drawn from, in NumPy.
        dropout_rate: of the critics' hidden units.
        device: of the networks.
    """

    def __init__(self, data: Dataset, *, dropout_rate: float = 0.01, device: str = "cpu") -> None:
        self.data, self.device = data, torch.device(device)
        sizes = data.observation_size, data.action_size
        critics = [mlp(sum(sizes), 1, dropout_rate=dropout_rate).to(self.device) for _ in range(4)]
        self.critics, self.targets = critics[:2], critics[2:]
        self.optimizers = [adam(critic.parameters()) for critic in self.critics]
        self.actor = mlp(sizes[0], 2 * sizes[1]).to(self.device)
        self.actor_optimizer = adam(self.actor.parameters())
        self.log_coefficient = torch.zeros(1, requires_grad=True, device=self.device)
        self.coefficient_optimizer = adam([self.log_coefficient])
        self.target_entropy = -float(sizes[1])

    def step(self, updates: int) -> None:
        """What follows one environment step: critic updates and one of the actor, on the last batch."""
        for _ in range(updates):
            batch = self.update_critics()
        self.update_actor(batch[0])

    def update_critics(self) -> Batch:
        """One update of both critics and their targets."""
        rows = np.random.randint(0, len(self.data), BATCH)  # noqa: NPY002  as plain code has it
        data = self.data
        arrays = (data.observations, data.actions, data.rewards, data.next_observations, data.terminated)
        batch = [torch.as_tensor(array[rows], dtype=torch.float32).to(self.device) for array in arrays]
        observations, actions, rewards, next_observations, terminated = batch
        with torch.no_grad():
            next_actions, log_prob = self._sample(next_observations)
            inputs = torch.cat([next_observations, next_actions], 1)
            values = torch.min(*(target(inputs).squeeze(1) for target in self.targets))
            goal = rewards + 0.99 * (1 - terminated) * (values - self.log_coefficient.exp() * log_prob)
        for critic, optimizer in zip(self.critics, self.optimizers, strict=True):
            minimize(mse_loss(critic(torch.cat([observations, actions], 1)).squeeze(1), goal), optimizer)
        polyak_update(self.targets, self.critics)
        return batch

    def update_actor(self, observations: Tensor) -> None:
        """One update of the actor and of the entropy coefficient."""
        actions, log_prob = self._sample(observations)
        inputs = torch.cat([observations, actions], 1)
        value = torch.stack([critic(inputs).squeeze(1) for critic in self.critics]).mean(0)
        minimize((self.log_coefficient.exp().detach() * log_prob - value).mean(), self.actor_optimizer)
        loss = (-self.log_coefficient * (log_prob.detach() + self.target_entropy)).mean()
        minimize(loss, self.coefficient_optimizer)

    def _sample(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(observations).chunk(2, dim=1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        raw = normal.rsample()
        log_slope = 2 * (math.log(2) - raw - softplus(-2 * raw))
        return torch.tanh(raw), (normal.log_prob(raw) - log_slope).sum(1)  # type: ignore[no-untyped-call]


class PlainOffline(ABC):
    """What TD3+BC and IQL share: data on the device, an actor with a bounded output, two critics and their targets.

    Args:
        data: what batches are drawn from.
        device: of data and networks.
    """

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        self.device = torch.device(device)
        mean, scale = data.observations.mean(0), data.observations.std(0) + 1e-3
        observations, next_observations = (
            (each - mean) / scale for each in (data.observations, data.next_observations)
        )
        arrays = (observations, data.actions, data.rewards[:, None], next_observations, data.terminated[:, None])
        self.data = [torch.as_tensor(array, dtype=torch.float32, device=self.device) for array in arrays]
        self.sizes = data.observation_size, data.action_size
        self.actor = mlp(*self.sizes, nn.Tanh()).to(self.device)
        self.critics = [mlp(sum(self.sizes), 1).to(self.device) for _ in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.critic_optimizers = [adam(critic.parameters()) for critic in self.critics]
        self.updates = 0

    def sample(self) -> Batch:
        """A batch drawn with replacement."""
        rows = torch.randint(len(self.data[0]), (BATCH,), device=self.device)
        return [tensor[rows] for tensor in self.data]

    @abstractmethod
    def update(self) -> None:
        """One update of everything that is due."""

    def update_critics(self, batch: Batch, goal: Tensor) -> None:
        """Towards the goal, (B, 1)."""
        inputs = torch.cat(batch[:2], 1)
        loss = torch.stack([mse_loss(critic(inputs), goal) for critic in self.critics]).sum()
        minimize(loss, *self.critic_optimizers)


class PlainTD3BC(PlainOffline):
    """TD3+BC (Fujimoto & Gu 2021)."""

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.actor_target = copy.deepcopy(self.actor)
        self.actor_optimizer = adam(self.actor.parameters())

    def update(self) -> None:
        """Critics; every second time the actor and the targets."""
        self.updates += 1
        batch = self.sample()
        observations, actions, rewards, next_observations, terminated = batch
        with torch.no_grad():
            noise = (torch.randn_like(actions) * 0.2).clamp(-0.5, 0.5)
            next_actions = (self.actor_target(next_observations) + noise).clamp(-1, 1)
            inputs = torch.cat([next_observations, next_actions], 1)
            goal = rewards + 0.99 * (1 - terminated) * torch.min(*(target(inputs) for target in self.targets))
        self.update_critics(batch, goal)
        if self.updates % 2 == 0:
            chosen = self.actor(observations)
            values = self.critics[0](torch.cat([observations, chosen], 1))
            loss = -(2.5 / values.abs().mean().detach()) * values.mean() + mse_loss(chosen, actions)
            minimize(loss, self.actor_optimizer)
            polyak_update([*self.targets, self.actor_target], [*self.critics, self.actor])


class PlainIQL(PlainOffline):
    """IQL (Kostrikov et al. 2021)."""

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.value = mlp(self.sizes[0], 1).to(self.device)
        self.log_std = nn.Parameter(torch.zeros(self.sizes[1], device=self.device))
        self.value_optimizer = adam(self.value.parameters())
        self.actor_optimizer = adam([*self.actor.parameters(), self.log_std])
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optimizer, 1_000_000)

    def update(self) -> None:
        """Value, critics, their targets, actor."""
        batch = self.sample()
        observations, actions, rewards, next_observations, terminated = batch
        with torch.no_grad():
            inputs = torch.cat([observations, actions], 1)
            target_values = torch.min(*(target(inputs) for target in self.targets))
            next_values = self.value(next_observations)
        advantages = target_values - self.value(observations)
        minimize((torch.abs(0.7 - (advantages < 0).float()) * advantages**2).mean(), self.value_optimizer)
        self.update_critics(batch, rewards + 0.99 * (1 - terminated) * next_values)
        polyak_update(self.targets, self.critics)
        weights = torch.exp(3.0 * advantages.detach()).clamp(max=100.0)
        normal = torch.distributions.Normal(self.actor(observations), self.log_std.clamp(-20, 2).exp())
        log_prob = normal.log_prob(actions).sum(1, keepdim=True)  # type: ignore[no-untyped-call]
        minimize((-weights * log_prob).mean(), self.actor_optimizer)
        self.schedule.step()
