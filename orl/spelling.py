"""What a message says to somebody who wrote an unknown name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str], otherwise: str | None = None, *, alike: float = 0.6) -> str:
    """`did you mean ...?` where one of the names is nearly the same, else what to choose from.

    Args:
        name: what was written.
        names: those that there are.
        otherwise: said instead of all names where none is nearly the same.
        alike: `difflib`'s cutoff, in [0, 1]: how alike two names have to be.
    """
    names = list(names)
    near = difflib.get_close_matches(name, names, 1, alike)
    if near:
        return f"did you mean {near[0]}?"
    return otherwise if otherwise is not None else f"choose one of {', '.join(names)}"
