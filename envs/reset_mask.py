"""Gymnasium's reset option `reset_mask`: which copies of a vector environment begin a new episode."""

from __future__ import annotations

from typing import Any

import numpy as np
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
