"""What keywords and options may be, and what is said of those that may not."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np


def require(is_right: bool, name: str, wanted: str, value: object) -> None:
    """Raise a ValueError that names the value and what was wanted, unless it is right."""
    if not is_right:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")


def check_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raise a ValueError unless the value is one of these words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {name} {value!r}: choose one of {', '.join(choices)}")


def check_render_mode(render_mode: str | None, modes: Sequence[str]) -> None:
    """Raise a ValueError unless the mode is None or one of these."""
    if render_mode is not None and render_mode not in modes:
        choices = " or ".join(map(repr, (None, *modes)))
        raise ValueError(f"unknown render_mode {render_mode!r}: choose {choices}")


def check_started(is_started: bool, method: str) -> None:
    """Raise a ValueError unless there was a reset."""
    if not is_started:
        raise ValueError(f"{method}() was called before reset(): call reset() first")


def is_number(value: object) -> bool:
    """Whether it is a finite number, and no truth value."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether it is a whole number, and no truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
