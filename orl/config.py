"""Configurations: frozen dataclasses, what every agent's has, and overrides that are checked against their fields."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from orl.execution import Execution
from orl.spelling import did_you_mean


@dataclass(frozen=True)
class AgentConfig:
    """What the base class reads of every agent's configuration."""

    normalize_observations: bool = False  # by the mean and std of the first recorded data
    execution: Execution = "auto"  # "eager" from Python, "graph" without it, "compile"; auto: graph on a CPU


@dataclass(frozen=True)
class OnlineConfig(AgentConfig):
    """What the base class reads of the configuration of an agent that also learns in environments."""

    utd_ratio: float = 1.0  # updates per transition, however many environments give them
    learning_starts: int = 5_000  # environment steps with uniformly random actions and no update
    buffer_size: int = 1_000_000  # transitions per learner; the oldest are overwritten

    def __post_init__(self) -> None:
        check_positive(self, "utd_ratio", "buffer_size")
        if self.learning_starts < 0:
            raise ValueError(f"{type(self).__name__}.learning_starts={self.learning_starts}: must not be negative")


def make_config(kind: type[Any], config: Any, overrides: Mapping[str, Any]) -> Any:
    """`config`, or the defaults of `kind`, with fields replaced by name.

    Raises:
        ValueError: an override that is no field, a configuration of another kind, or a value that is none of a field's
            choices, or no number where there is to be one, or infinite.
    """
    if config is None:
        config = kind()
    if not isinstance(config, kind):
        raise ValueError(f"config is a {type(config).__name__}; give a {kind.__name__}")
    names = [field.name for field in dataclasses.fields(kind)]
    for name in overrides:
        if name not in names:
            raise ValueError(f"{name!r} is not a field of {kind.__name__}; {did_you_mean(name, names)}")
    given = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)} | dict(overrides)
    values = {name: _plain(value) for name, value in given.items()}
    hints = get_type_hints(type(config))
    for name, value in values.items():
        hint, field = hints[name], f"{type(config).__name__}.{name}={value!r}"
        if not _suits(value, hint):
            raise ValueError(f"{field}: give {hint.__name__ if isinstance(hint, type) else hint}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{field}: give a finite number")
        if get_origin(hint) is Literal and value not in get_args(hint):
            raise ValueError(f"{field}: choose one of {', '.join(map(repr, get_args(hint)))}")
        if get_origin(hint) is tuple and get_args(hint)[0] is int and not all(size > 0 for size in value):
            raise ValueError(f"{field}: a layer has at least one unit")
    return dataclasses.replace(config, **values)


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value is what a field of numbers takes; of other fields every value does."""
    choices = get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_suits(value, choice) for choice in choices)
    if get_origin(hint) is tuple and choices[0] in (int, float):
        return isinstance(value, tuple) and all(_suits(item, choices[0]) for item in value)
    if hint is bool:
        return isinstance(value, bool)
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    return value is None if hint is type(None) else True


def _plain(value: Any) -> Any:
    """Numbers of Python in place of NumPy's, tuples in place of lists: what a checkpoint's manifest can hold."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def check_positive(config: Any, *names: str) -> None:
    """Refuse fields that are not above zero; None is allowed where the field has it."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{type(config).__name__}.{name}={value}: must be above 0")


def check_fraction(config: Any, *names: str) -> None:
    """Refuse fields that are outside [0, 1]."""
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{type(config).__name__}.{name}={value}: must lie in [0, 1]")
