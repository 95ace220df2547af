"""What `orl zero-shot` knows of one seed: returns of every policy in every context, kept in a file as they come.

Shape key: N contexts, E episodes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orl.scripts.contexts.splits import Indices

Returns = NDArray[np.float64]


class ArrayCache:
    """Named arrays of one `.npz` file; a stage whose array is there is not done again.

    Args:
        path: of the file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays: dict[str, Returns] = {}
        if path.exists():
            with np.load(path, allow_pickle=False) as file:
                self.arrays |= dict(file)

    def __call__(self, name: str, make: Callable[[], Returns]) -> Returns:
        """The array of this name, made and written if it is not there."""
        if name not in self.arrays:
            self.arrays[name] = make()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
            with temporary.open("wb") as file:
                np.savez_compressed(file, **self.arrays)  # type: ignore[arg-type]
            os.replace(temporary, self.path)
        return self.arrays[name]


class Scale:
    """From returns to the zero-shot score: 0 is random actions, 1 the specialist of the same context.

    Args:
        random: (N, E), returns of random actions.
        specialist: (N, E), returns of each context's own specialist.

    Raises:
        ValueError: no specialist is better than random actions.
    """

    def __init__(self, random: Returns, specialist: Returns) -> None:
        self.low = random.mean(-1)
        span = specialist.mean(-1) - self.low
        if (span <= 0).all():
            raise ValueError("no specialist is better than random actions: train longer (--steps)")
        self.span = np.where(span > 0, span, np.nan)

    def __call__(self, returns: Returns, contexts: Indices | slice = slice(None)) -> Returns:
        """(..., n, E) of n of the contexts to scores (..., n); NaN where the specialist is no better than random."""
        return np.asarray((returns.mean(-1) - self.low[contexts]) / self.span[contexts])
