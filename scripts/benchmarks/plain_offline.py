"""TD3+BC and IQL as one would first write them in a single file, for `orl speed` to compare with.

Separate modules, one Adam each, `backward()`, Polyak averaging in a Python loop, data as tensors on the device: the
style of CORL's single files, in our own words. Equations and hyperparameters are those of `orl.agents`.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from orl.dataset import Dataset

HIDDEN, BATCH = 256, 256
Batch = list[Tensor]  # observations, actions, rewards, next observations, terminated


def mlp(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    """Two hidden layers of ReLU."""
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs), *last
    )


class PlainOffline(ABC):
    """What both have: data, an actor with a bounded output, two critics and their targets.

    Args:
        data: what batches are drawn from.
        device: of data and networks.
    """

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        self.device = torch.device(device)
        observations = (data.observations - data.observations.mean(0)) / (data.observations.std(0) + 1e-3)
        following = (data.next_observations - data.observations.mean(0)) / (data.observations.std(0) + 1e-3)
        arrays = (observations, data.actions, data.rewards[:, None], following, data.terminated[:, None])
        self.data = [torch.as_tensor(array, dtype=torch.float32, device=self.device) for array in arrays]
        self.sizes = data.observation_size, data.action_size
        self.actor = mlp(*self.sizes, nn.Tanh()).to(self.device)
        self.critics = [mlp(sum(self.sizes), 1).to(self.device) for _ in range(2)]
        self.targets = copy.deepcopy(self.critics)
        self.critic_optimizers = [torch.optim.Adam(critic.parameters(), lr=3e-4) for critic in self.critics]
        self.updates = 0

    def sample(self) -> Batch:
        """A batch drawn with replacement."""
        rows = torch.randint(len(self.data[0]), (BATCH,), device=self.device)
        return [each[rows] for each in self.data]

    @abstractmethod
    def update(self) -> None:
        """One update of everything that is due."""

    def update_critics(self, batch: Batch, goal: Tensor) -> None:
        """Towards the goal, (B, 1)."""
        inputs = torch.cat(batch[:2], 1)
        loss = torch.stack([mse_loss(critic(inputs), goal) for critic in self.critics]).sum()
        for optimizer in self.critic_optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.critic_optimizers:
            optimizer.step()

    def follow(self, targets: list[nn.Sequential], networks: list[nn.Sequential]) -> None:
        """target <- 0.995 target + 0.005 network."""
        for target, network in zip(targets, networks, strict=True):
            for own, followed in zip(target.parameters(), network.parameters(), strict=True):
                own.data.copy_(0.995 * own.data + 0.005 * followed.data)


class PlainTD3BC(PlainOffline):
    """TD3+BC (Fujimoto & Gu 2021)."""

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.actor_target = copy.deepcopy(self.actor)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), lr=3e-4)

    def update(self) -> None:
        """Critics; every second time the actor and the targets."""
        self.updates += 1
        batch = self.sample()
        observations, actions, rewards, following, terminated = batch
        with torch.no_grad():
            noise = (torch.randn_like(actions) * 0.2).clamp(-0.5, 0.5)
            next_actions = (self.actor_target(following) + noise).clamp(-1, 1)
            inputs = torch.cat([following, next_actions], 1)
            goal = rewards + 0.99 * (1 - terminated) * torch.min(*(target(inputs) for target in self.targets))
        self.update_critics(batch, goal)
        if self.updates % 2 == 0:
            chosen = self.actor(observations)
            values = self.critics[0](torch.cat([observations, chosen], 1))
            loss = -(2.5 / values.abs().mean().detach()) * values.mean() + mse_loss(chosen, actions)
            self.actor_optimizer.zero_grad()
            loss.backward()
            self.actor_optimizer.step()
            self.follow([*self.targets, self.actor_target], [*self.critics, self.actor])


class PlainIQL(PlainOffline):
    """IQL (Kostrikov et al. 2021)."""

    def __init__(self, data: Dataset, device: str = "cpu") -> None:
        super().__init__(data, device)
        self.value = mlp(self.sizes[0], 1).to(self.device)
        self.log_std = nn.Parameter(torch.zeros(self.sizes[1], device=self.device))
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=3e-4)
        self.actor_optimizer = torch.optim.Adam([*self.actor.parameters(), self.log_std], lr=3e-4)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.actor_optimizer, 1_000_000)

    def update(self) -> None:
        """Value, critics, their targets, actor."""
        batch = self.sample()
        observations, actions, rewards, following, terminated = batch
        with torch.no_grad():
            inputs = torch.cat([observations, actions], 1)
            target_values = torch.min(*(target(inputs) for target in self.targets))
            next_values = self.value(following)
        advantages = target_values - self.value(observations)
        loss = (torch.abs(0.7 - (advantages < 0).float()) * advantages**2).mean()
        self.value_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.value_optimizer.step()
        self.update_critics(batch, rewards + 0.99 * (1 - terminated) * next_values)
        self.follow(self.targets, self.critics)
        weights = torch.exp(3.0 * advantages.detach()).clamp(max=100.0)
        normal = torch.distributions.Normal(self.actor(observations), self.log_std.clamp(-20, 2).exp())
        log_prob = normal.log_prob(actions).sum(1, keepdim=True)  # type: ignore[no-untyped-call]
        loss = (-weights * log_prob).mean()
        self.actor_optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.actor_optimizer.step()
        self.schedule.step()
