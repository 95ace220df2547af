"""Every random number comes from one `SeedSequence` per seed, split into named streams that never touch each other."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Stream = Literal[
    "initialisation", "updates", "actions", "evaluation", "split", "bootstrap", "environment", "exploration", "phase"
]
STREAMS: tuple[Stream, ...] = get_args(Stream)


def sequence(seed: int, stream: Stream, *place: int) -> np.random.SeedSequence:
    """The stream's own child of `SeedSequence(seed)`; `place` tells streams of one name apart."""
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), *place))


def numpy_generator(seed: int, stream: Stream) -> np.random.Generator:
    """A NumPy generator for one stream of one seed."""
    return np.random.default_rng(sequence(seed, stream))


def torch_generator(
    seed: int, stream: Stream, device: torch.device | str = "cpu", place: tuple[int, ...] = ()
) -> torch.Generator:
    """A torch generator for one stream of one seed."""
    return torch.Generator(device).manual_seed(_seed(sequence(seed, stream, *place)))


def set_states(generators: Sequence[torch.Generator], states: Tensor) -> None:
    """Put each generator in its state, a row of (generators, bytes).

    A state of another kind of device becomes a seed, with a warning: what follows is as random, but not the same.
    """
    is_foreign = bool(generators) and states.shape[-1] != generators[0].get_state().numel()
    if is_foreign:
        device = generators[0].device
        warnings.warn(
            f"random numbers go on differently: they come from another kind of device than {device}", stacklevel=3
        )
    for generator, state in zip(generators, states.cpu(), strict=True):
        if is_foreign:
            generator.manual_seed(_seed(np.random.SeedSequence(state.tolist())))
        else:
            generator.set_state(state.clone(memory_format=torch.contiguous_format))  # other strides crash torch


def _seed(entropy: np.random.SeedSequence) -> int:
    return int(entropy.generate_state(1, np.uint64)[0] >> np.uint64(1))


def check_seeds(seed: int | Sequence[int]) -> list[int]:
    """One seed per learner, from `seed=0` or `seed=[0, 1, 2]`.

    Raises:
        ValueError: no seed, or one that is not an integer >= 0.
    """
    seeds = list(seed) if isinstance(seed, Sequence | np.ndarray) else [seed]
    if not seeds or not all(isinstance(s, int | np.integer) and s >= 0 for s in seeds):
        raise ValueError(f"seed={seed!r}: give an integer >= 0, or a non-empty list of them")
    return [int(s) for s in seeds]


@dataclass(frozen=True)
class Draw:
    """One kind of random number that an update consumes."""

    kind: Literal["uniform", "normal", "dropout"]  # uniform in [0, 1), float64 (indices); normal: default dtype
    shape: tuple[int, ...]  # per learner
    rate: float = 0.0  # of dropout: probability of each of the units in `shape`

    def sample(self, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
        """`count` of them: (count, *shape); of dropout, places of dropped units (count, K), int64.

        N ~ Poisson(-n log(1 - rate)) throws at n units with replacement hit each one independently with probability
        `rate`, which is far cheaper than n Bernoulli numbers. Throws beyond N go to place n, which is no unit. K is
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
        places = torch.randint(units, (count, most), generator=generator, device=device)
        return torch.where(torch.arange(most, device=device) < throws, places, units)


class RandomBlocks:
    """Random numbers for updates, drawn many updates ahead from one generator per learner.

    They enter an update as tensors of shape (population, *shape), so that an update is a function of its inputs and
    learner k of a population sees the numbers that it would see alone.
    """

    BLOCK = 64  # updates a block
    AHEAD = 16  # updates whose batches are gathered at once; more take memory, and no less time

    def __init__(
        self,
        seeds: Sequence[int],
        draws: Mapping[str, Draw],
        device: torch.device,
        stream: Stream = "updates",
        place: tuple[int, ...] = (),
    ) -> None:
        self.draws = dict(draws)
        self.device = device
        self.generators = [torch_generator(seed, stream, device, place) for seed in seeds]
        self.block_start = self._generator_states()
        self.position = self.BLOCK  # updates of the block that were handed out
        self.block: dict[str, Tensor] = {}

    def next(self) -> dict[str, Tensor]:
        """The numbers of one update: a tensor (population, *shape) for each draw."""
        self._begin_block()
        numbers = {name: values[self.position] for name, values in self.block.items()}
        self.position += 1
        return numbers

    def with_batches(
        self, updates: int, sample: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
    ) -> Iterator[dict[str, Tensor]]:
        """The numbers of so many updates, one after the other, and what they point at while it stands still.

        One call for many updates takes a fraction of the time of many calls.

        Args:
            updates: how many.
            sample: from the numbers of n updates, (n, population, *shape) each, tensors (n, population, ...) by name.
        """
        while updates > 0:
            self._begin_block()
            coming = slice(self.position, self.position + min(updates, self.AHEAD))
            found = sample({name: values[coming] for name, values in self.block.items()})
            for values in zip(*(each.contiguous().unbind() for each in found.values()), strict=True):
                yield self.next() | dict(zip(found, values, strict=True))
                updates -= 1

    def _begin_block(self) -> None:
        """Draw another block where the last one is used up."""
        if self.position == self.BLOCK:
            self.block_start = self._generator_states()
            self._draw()
            self.position = 0

    def _draw(self) -> None:
        columns: dict[str, list[Tensor]] = {name: [] for name in self.draws}
        for generator in self.generators:
            for name, draw in self.draws.items():
                columns[name].append(draw.sample(self.BLOCK, generator, self.device))
        self.block = {name: torch.stack(values, dim=1) for name, values in columns.items()}

    def state(self) -> tuple[Tensor, int]:
        """Generator states at the start of the current block (population, bytes), and the position in it.

        A block that was used up counts as the start of the next one.
        """
        if self.position == self.BLOCK:
            return self._generator_states(), 0
        return self.block_start, self.position

    def _generator_states(self) -> Tensor:
        return torch.stack([generator.get_state() for generator in self.generators])

    def load(self, block_start: Tensor, position: int) -> None:
        """Continue exactly where `state` was taken."""
        set_states(self.generators, block_start)
        self.block_start, self.position = self._generator_states(), position
        self._draw()
