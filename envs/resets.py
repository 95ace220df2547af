"""Which copies of a vector environment begin a new episode (Gymnasium's reset option `reset_mask`), and their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from numpy.typing import NDArray


def checked_mask(mask: Any, num_envs: int) -> NDArray[np.bool_]:
    """The mask (E,); all copies where there is none.

    Raises:
        ValueError: a mask that is not (E,) bool with a True in it.
    """
    if mask is None:
        return np.ones(num_envs, dtype=np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise ValueError(f"reset_mask must be a bool array of shape ({num_envs},), got {mask!r}")
    if not mask.any():
        raise ValueError(f"reset_mask must hold at least one True, got {mask!r}")
    return mask


def new_generators(
    seed: int | Sequence[int | None] | None, mask: NDArray[np.bool_], names: tuple[str, str] = ("copy", "copies")
) -> dict[int, np.random.Generator]:
    """Generators, by copy, of those in the mask (E,) that get a seed: copy i gets seed + i, or its own of a sequence.

    Raises:
        ValueError: seeds that are not one per copy; `names` is what the message calls one and several.
    """
    if seed is None:
        return {}
    seeds = range(int(seed), int(seed) + len(mask)) if isinstance(seed, int | np.integer) else seed
    if len(seeds) != len(mask):
        one, several = names
        raise ValueError(f"seed has {len(seeds)} values for {len(mask)} {several}: give one, or one per {one}")
    return {i: seeding.np_random(each)[0] for i, each in enumerate(seeds) if each is not None and mask[i]}
