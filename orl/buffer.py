"""Batches, and the replay buffer on the training device that they are drawn from.

Transitions lie in one row-major table, so that a batch is one gather. A learner owns a stretch of its rows and a
stretch of the rewards; learners that differ in their rewards alone share the rows.

Shape key: P population, B batch, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from orl.arrays import Array
from orl.dataset import Dataset, require_rewards
from orl.device import refuse_memory

Metrics = dict[str, Tensor]  # each (P,), on the training device


class Batch(NamedTuple):
    """One batch per learner; actions in [-1, 1]."""

    observations: Tensor  # (P, B, O)
    actions: Tensor  # (P, B, A)
    rewards: Tensor  # (P, B)
    next_observations: Tensor  # (P, B, O), the true successor also where the episode was truncated
    terminated: Tensor  # (P, B), 1.0 where the environment ended; truncation bootstraps and has no flag here
    values: Tensor | None = None  # (P, B), what a critic said of the actions, where data have it
    next_policy: Tensor | None = None  # (P, B, 2A), mean and std before the tanh at s', where the policy stands still


def gather_per_learner(tables: Tensor, indices: Tensor) -> Tensor:
    """Each learner's entries of its own table: of (P, N, ...) at (..., P, B) those of (..., P, B, ...)."""
    return tables[torch.arange(len(tables), device=tables.device).unsqueeze(1), indices]


class ReplayBuffer:
    """Preallocated storage of `capacity` transitions per learner, overwritten from the oldest when full.

    Args:
        capacity: transitions per learner.
        observation_size: O.
        action_size: A.
        population: number of learners, each with a stretch of its own.
        device: where batches are needed.

    Raises:
        ValueError: capacity below 1.
        MemoryError: the size, computed first, is more than the device has free.
    """

    def __init__(
        self,
        capacity: int,
        observation_size: int,
        action_size: int,
        *,
        population: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: a buffer holds at least one transition")
        starts = [learner * capacity for learner in range(population)]
        self._allocate(population * capacity, population * capacity, observation_size, action_size, device)
        self._set_stretches(starts, starts, [0] * population)
        self.capacity = capacity
        self.position = 0

    @classmethod
    def from_datasets(cls, datasets: Sequence[Dataset], device: torch.device | str = "cpu") -> ReplayBuffer:
        """A full buffer with one dataset per learner; arrays that datasets share are stored once.

        Raises:
            ValueError: hidden rewards, or feature sizes that differ.
        """
        for data in datasets:
            require_rewards(data)
        sizes = {(data.observation_size, data.action_size) for data in datasets}
        if len(sizes) > 1:
            raise ValueError(f"datasets of one population differ in (observation, action) size: {sorted(sizes)}")
        tables = {_table_key(data): data for data in datasets}
        rewards = {id(data.rewards): data for data in datasets}
        buffer = cls.__new__(cls)
        buffer._allocate(sum(map(len, tables.values())), sum(map(len, rewards.values())), *sizes.pop(), device)
        table_starts, reward_starts, row = {}, {}, 0
        for table, data in tables.items():
            table_starts[table] = row
            buffer._write(slice(row, row := row + len(data)), data)
        row = 0
        for key, data in rewards.items():
            reward_starts[key] = row
            buffer.rewards[row : (row := row + len(data))] = torch.from_numpy(data.rewards)
        buffer._set_stretches(
            [table_starts[_table_key(data)] for data in datasets],
            [reward_starts[id(data.rewards)] for data in datasets],
            [len(data) for data in datasets],
        )
        buffer.capacity = buffer.position = 0  # nothing can be added to shared rows
        return buffer

    def _allocate(self, rows: int, rewards: int, observations: int, actions: int, device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.widths = [observations, actions, observations, 1]
        size = (rows * sum(self.widths) + rewards) * torch.get_default_dtype().itemsize
        refuse_memory(size, self.device, "the replay buffer", "lower the capacity or the population")
        self.table = torch.zeros(rows, sum(self.widths), device=self.device)
        self.rewards = torch.zeros(rewards, device=self.device)
        self.dtype = torch.empty(0).numpy().dtype  # of both, as NumPy has it

    def _set_stretches(self, starts: Sequence[int], reward_starts: Sequence[int], sizes: Sequence[int]) -> None:
        self.starts, self.reward_starts, self.sizes = (
            torch.tensor(values, device=self.device).unsqueeze(1) for values in (starts, reward_starts, sizes)
        )  # each (P, 1)
        self.size = max(sizes)  # on the host, so that nobody waits for the device to know it

    def _write(self, rows: slice, data: Dataset) -> None:
        columns = (data.observations, data.actions, data.next_observations, data.terminated[:, None])
        for column, values in zip(torch.split(self.table[rows], self.widths, dim=1), columns, strict=True):
            column.copy_(torch.from_numpy(np.ascontiguousarray(values)))

    def grown(self, capacity: int) -> ReplayBuffer:
        """A buffer with room of its own for each learner that begins with these transitions, at most the last ones."""
        population = len(self.starts)
        buffer = ReplayBuffer(capacity, self.widths[0], self.widths[1], population=population, device=self.device)
        counts = self.sizes.clamp(max=capacity)
        if (counts != counts[0]).any():
            raise ValueError(
                f"datasets of {counts.flatten().tolist()} transitions: learners that go on online need equal ones"
            )
        count = int(counts[0])
        indices = self.sizes - count + torch.arange(count, device=self.device)
        kept = self.gather(indices)
        columns = [kept.observations, kept.actions, kept.next_observations, kept.terminated.unsqueeze(-1)]
        buffer._append(torch.cat([*columns, kept.rewards.unsqueeze(-1)], dim=-1))
        return buffer

    def __len__(self) -> int:
        """Transitions of the learner that has most."""
        return self.size

    def add(
        self, observations: Array, actions: Array, rewards: Array, next_observations: Array, terminated: Array
    ) -> None:
        """Append n transitions to each learner's stretch: (P, n, features), rewards and terminated (P, n)."""
        if not self.capacity:
            raise ValueError("this buffer was filled from a dataset; make one with a capacity to add to it")
        if rewards.shape[0] != len(self.starts) or rewards.shape[1] > self.capacity:
            raise ValueError(
                f"rewards of shape {tuple(rewards.shape)}: give ({len(self.starts)}, n <= {self.capacity})"
            )
        columns = [observations, actions, next_observations, terminated[..., None], rewards[..., None]]
        rows = np.concatenate(columns, axis=-1, dtype=self.dtype, casting="unsafe")
        self._append(rows if self.device.type == "cpu" else torch.from_numpy(rows).to(self.device))

    def _append(self, rows: Tensor | Array) -> None:
        """Append rows (P, n, features + 1) that end with the reward, at most `capacity` of them."""
        population, count = len(self.starts), rows.shape[1]
        table: Any
        rewards: Any  # both of the kind of the rows
        table, rewards = (each if isinstance(rows, Tensor) else each.numpy() for each in (self.table, self.rewards))
        table, rewards = table.reshape(population, self.capacity, -1), rewards.reshape(population, self.capacity)
        room = self.capacity - self.position
        for part in (rows,) if count <= room else (rows[:, :room], rows[:, room:]):
            end = self.position + part.shape[1]
            table[:, self.position : end] = part[..., :-1]
            rewards[:, self.position : end] = part[..., -1]
            self.position = end % self.capacity
        if self.size < self.capacity:
            self.size = min(self.size + count, self.capacity)
            self.sizes.fill_(self.size)

    def sample(self, uniform: Tensor) -> Batch:
        """The batch that uniform numbers in [0, 1), (..., P, B) float64, point at; drawn with replacement."""
        return self.gather((uniform * self.sizes).long())

    def gather(self, indices: Tensor) -> Batch:
        """The transitions at indices (..., P, B), each in its learner's stretch."""
        if self.device.type == "cpu":  # where a call of NumPy takes a fraction of the time of one of torch
            rows = torch.from_numpy(self.table.numpy().take(self.starts.numpy() + indices.numpy(), axis=0))
            rewards = torch.from_numpy(self.rewards.numpy().take(self.reward_starts.numpy() + indices.numpy()))
        else:
            rows = self.table.index_select(0, (self.starts + indices).flatten()).view(*indices.shape, -1)
            rewards = self.rewards.take(self.reward_starts + indices)
        observations, actions, next_observations, terminated = torch.split(rows, self.widths, dim=-1)
        return Batch(observations, actions, rewards, next_observations, terminated.squeeze(-1))

    # State: the stretches that are filled, every tensor with the population as its first axis.

    def state(self) -> dict[str, Tensor]:
        """What was added so far; of a buffer with a capacity of its own."""
        population = len(self.starts)
        return {
            "table": self.table.view(population, self.capacity, -1)[:, : len(self)],
            "rewards": self.rewards.view(population, self.capacity)[:, : len(self)],
            "position": torch.full((population,), self.position),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue where `state` was taken, with the same capacity."""
        population, size = tensors["rewards"].shape
        self.table.view(population, self.capacity, -1)[:, :size] = tensors["table"].to(self.table)
        self.rewards.view(population, self.capacity)[:, :size] = tensors["rewards"].to(self.rewards)
        self.sizes.fill_(size)
        self.size = size
        self.position = int(tensors["position"][0])


def per_learner(data: Dataset | Sequence[Dataset], population: int) -> list[Dataset]:
    """A dataset for each learner: one for all of them, or as many as there are.

    Raises:
        ValueError: another number of datasets.
    """
    datasets = [data] * population if isinstance(data, Dataset) else list(data)
    if len(datasets) != population:
        raise ValueError(f"{len(datasets)} datasets for {population} seeds; give one dataset, or one per seed")
    return datasets


def _table_key(data: Dataset) -> tuple[int, ...]:
    """Equal for datasets that share every array but the rewards."""
    return tuple(map(id, (data.observations, data.actions, data.next_observations, data.terminated)))
