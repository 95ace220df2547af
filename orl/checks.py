"""Check the observations that a policy is to act on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from orl.arrays import Array, Float32Array

Floats = Float32Array


def check_observations(observations: ArrayLike, *shapes: tuple[int, ...]) -> Array:
    """Observations as an array.

    Raises:
        ValueError: not finite, or of none of these shapes (-1 stands for any length).
    """
    array = np.asarray(observations)
    if array.shape not in shapes and not any(_fits(array.shape, shape) for shape in shapes):
        wanted = " or ".join(str(shape).replace("-1", "n") for shape in shapes)
        raise ValueError(f"observations have shape {array.shape}; give {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"observations hold NaN or infinity: {array[~np.isfinite(array)][0]}")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(n in (-1, m) for n, m in zip(wanted, shape, strict=True))
