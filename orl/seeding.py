"""Every random number comes from one `SeedSequence` per seed, split into named streams that never touch each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

Stream = Literal[
    "initialisation", "updates", "actions", "evaluation", "split", "bootstrap", "environment", "exploration", "phase"
]
STREAMS: tuple[Stream, ...] = get_args(Stream)


def sequence(seed: int, stream: Stream, *key: int) -> np.random.SeedSequence:
    """The stream's own child of `SeedSequence(seed)`; `key` tells streams of one name apart."""
    return np.random.SeedSequence(seed, spawn_key=(STREAMS.index(stream), *key))


def numpy_generator(seed: int, stream: Stream) -> np.random.Generator:
    """A NumPy generator for one stream of one seed."""
    return np.random.default_rng(sequence(seed, stream))


def torch_generator(
    seed: int, stream: Stream, device: torch.device | str = "cpu", key: tuple[int, ...] = ()
) -> torch.Generator:
    """A torch generator for one stream of one seed."""
    words = sequence(seed, stream, *key).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(words[0] >> np.uint64(1)))


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
            generator.manual_seed(int(np.random.SeedSequence(state.tolist()).generate_state(1)[0]))
        else:
            generator.set_state(state.clone(memory_format=torch.contiguous_format))  # other strides crash torch


def check_seeds(seed: int | Sequence[int]) -> list[int]:
    """One seed per learner, from `seed=0` or `seed=[0, 1, 2]`.

    Raises:
        ValueError: no seed, or one that is not an integer >= 0.
    """
    seeds = list(seed) if isinstance(seed, Sequence | np.ndarray) else [seed]
    if not seeds or not all(isinstance(s, int | np.integer) and s >= 0 for s in seeds):
        raise ValueError(f"seed={seed!r}: give an integer >= 0, or a non-empty list of them")
    return [int(s) for s in seeds]
