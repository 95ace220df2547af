"""Which contexts are trained on, which choose a checkpoint, and which are never seen.

Source: the random split of Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457) with 15 % held out, that with
80 % of HyPoGen (ICLR 2025), and one whose held-out contexts lie beyond the others.

Shape key: N contexts, d variables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orl import seeding
from orl.arrays import Float64Array
from orl.context import ContextSpace

VALIDATION_SHARE = 0.15  # of the contexts that are not held out
INNER = 0.7  # normalised: beyond it lie the outer 15 % of the range, at each end
HELD_OUT = {"interpolation-15": 0.15, "interpolation-80": 0.80, "extrapolation": None}  # None: the outer ones
LEAST = 8  # contexts
LEAST_TRAINED = 3  # contexts of a split; one with fewer is left out

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of contexts."""

    name: str
    train: Indices
    validation: Indices
    test: Indices


def splits(space: ContextSpace, contexts: Float64Array, seed: int) -> list[Split]:
    """The splits named in `HELD_OUT` that leave three contexts or more to train on.

    Args:
        space: d variables; its ends are the range's.
        contexts: (N, d), at least 8.
        seed: of what is random in them.

    Raises:
        ValueError: too few contexts, or none inside the outer 15 % of the range.
    """
    count = len(contexts)
    if count < LEAST:
        raise ValueError(f"{count} contexts: give at least {LEAST}, so that some can be held out")
    farthest = np.abs(space.normalize(contexts)).max(axis=1)
    outer, inner = (np.flatnonzero(chosen) for chosen in (farthest > INNER, farthest <= INNER))
    if len(inner) < 2:
        raise ValueError(
            "contexts: fewer than two lie inside the outer 15 % of the range; give more values per variable"
        )
    generator = seeding.numpy_generator(seed, "split")
    every = []
    for name, share in HELD_OUT.items():
        if share is None:
            test, others = outer, generator.permutation(inner)
        else:
            test, others = np.split(generator.permutation(count), [round(share * count)])
        validation, train = np.split(others, [max(1, round(VALIDATION_SHARE * len(others)))])
        if len(train) >= LEAST_TRAINED:
            every.append(Split(name, np.sort(train), np.sort(validation), np.sort(test)))
    return every
