"""The random numbers of updates: drawn many updates ahead, from one generator per learner."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from orl import seeding
from orl.buffer import Batch
from orl.seeding import Stream

Noise = Mapping[str, Tensor]  # random numbers of an update by the algorithm's names, (population, *shape) each


def of_updates(batches: Batch, noise: Noise, which: int | slice) -> tuple[Batch, Noise]:
    """The inputs (P, ...) of one of n updates, or those (m, P, ...) of some of them."""
    fields = (values if values is None else values[which] for values in batches)
    return Batch(*fields), {name: values[which] for name, values in noise.items()}  # type: ignore[arg-type]


def tensors_of(batch: Batch, noise: Noise) -> list[Tensor]:
    """The inputs of updates in a list."""
    return [values for values in (*batch, *noise.values()) if values is not None]


@dataclass(frozen=True)
class NoiseSpec:
    """One kind of random number that an update consumes."""

    kind: Literal["uniform", "normal", "dropout"]  # uniform in [0, 1), float64 (indices); normal: default dtype
    shape: tuple[int, ...]  # per learner
    rate: float = 0.0  # of dropout: probability of each of the units in `shape`

    def sample(self, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """`count` of them: (count, *shape); of dropout, positions of dropped units (count, K), int64.

        N ~ Poisson(-n log(1 - rate)) throws at n units with replacement hit each one independently with probability
        `rate`, which is far cheaper than n Bernoulli numbers. Throws beyond N go to position n, which is no unit. K is
        ten standard deviations above the mean.
        """
        if self.kind == "uniform":
            return torch.rand((count, *self.shape), generator=generator, dtype=torch.float64, device=device)
        if self.kind == "normal":
            return torch.randn((count, *self.shape), generator=generator, device=device)
        units = math.prod(self.shape)
        mean = -units * math.log1p(-self.rate)
        most = math.ceil(mean + 10.0 * math.sqrt(mean) + 10.0)
        throws = torch.poisson(torch.full((count, 1), mean, dtype=torch.float64, device=device), generator)
        positions = torch.randint(units, (count, most), generator=generator, device=device)
        return torch.where(torch.arange(most, device=device) < throws, positions, units)


class NoiseBlocks:
    """Random numbers for updates, drawn many updates ahead from one generator per learner.

    They enter an update as tensors of shape (population, *shape), so that an update is a function of its inputs and
    learner k of a population sees the numbers that it would see alone. Dropout has two of them: positions, and under
    `NAME/factors` 0 for each of them whose unit is dropped, 1 for those that are no throws.

    Args:
        seeds: one per learner.
        specs: what one update consumes, by name.
        device: to draw on.
        stream: of the seeds.
        key: tells the blocks of one stream apart.
    """

    BLOCK = 64  # updates a block
    AHEAD = 16  # updates whose batches are gathered at once; more take memory, and no less time

    def __init__(
        self,
        seeds: Sequence[int],
        specs: Mapping[str, NoiseSpec],
        device: torch.device,
        stream: Stream = "updates",
        key: tuple[int, ...] = (),
    ) -> None:
        self.specs = dict(specs)
        self.device = device
        self.generators = [seeding.torch_generator(seed, stream, device, key) for seed in seeds]
        self.position = self.BLOCK  # updates of the block that were handed out
        self.block: dict[str, Tensor] = {}  # (BLOCK, population, *shape) each

    def next(self) -> Noise:
        """The numbers of one update."""
        if self.position == self.BLOCK:
            self._begin_block()
        self.position += 1
        return {name: values[self.position - 1] for name, values in self.block.items()}

    def with_batches(self, updates: int, sample: Callable[[Noise], Batch]) -> Iterator[tuple[Batch, Noise]]:
        """Batches and random numbers of so many updates, while the buffer stands still: those of n <= 16 at a time.

        One call for many updates takes a fraction of the time of many calls.

        Args:
            updates: how many.
            sample: from the numbers of n updates, (n, population, *shape) each, their batches (n, population, ...).
        """
        while updates > 0:
            if self.position == self.BLOCK:
                self._begin_block()
            count = min(updates, self.AHEAD, self.BLOCK - self.position)
            noise = {name: values[self.position : self.position + count] for name, values in self.block.items()}
            self.position += count
            updates -= count
            yield Batch(*(None if values is None else values.contiguous() for values in sample(noise))), noise  # type: ignore[arg-type]

    def _begin_block(self, position: int = 0) -> None:
        """Draw another block."""
        self.block_start, self.position = torch.stack([g.get_state() for g in self.generators]), position
        columns: dict[str, list[Tensor]] = {name: [] for name in self.specs}
        for generator in self.generators:
            for name, spec in self.specs.items():
                columns[name].append(spec.sample(self.BLOCK, generator, self.device))
        self.block = {name: torch.stack(values, dim=1) for name, values in columns.items()}
        for name, spec in self.specs.items():
            if spec.kind == "dropout":
                units, positions = math.prod(spec.shape), self.block[name]
                self.block[f"{name}/factors"] = (positions == units).to(torch.get_default_dtype())
                positions.clamp_(max=units - 1)

    def state(self) -> tuple[Tensor, int]:
        """Generator states at the start of the current block (population, bytes), and the position in it.

        A block that was used up counts as the start of the next one.
        """
        if self.position == self.BLOCK:
            return torch.stack([generator.get_state() for generator in self.generators]), 0
        return self.block_start, self.position

    def load(self, block_start: Tensor, position: int) -> None:
        """Continue exactly where `state` was taken."""
        seeding.set_states(self.generators, block_start)
        self._begin_block(position)
