"""Configurations: frozen dataclasses, with overrides checked against their fields."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from orl.spelling import remedy


def make_config(kind: type[Any], config: Any, overrides: Mapping[str, Any]) -> Any:
    """`config`, or the defaults of `kind`, with fields replaced by name.

    Raises:
        ValueError: an override that is no field, a configuration of another kind, or a value that is none of a field's
            choices, or no number where there is to be one.
    """
    if config is None:
        config = kind()
    if not isinstance(config, kind):
        raise ValueError(f"config is a {type(config).__name__}; give a {kind.__name__}")
    names = [field.name for field in dataclasses.fields(kind)]
    for name in overrides:
        if name not in names:
            raise ValueError(f"{name!r} is not a field of {kind.__name__}; {remedy(name, names)}")
    overrides = {name: _frozen(value) for name, value in overrides.items()}
    hints = get_type_hints(type(config))
    for name, value in overrides.items():
        hint = hints[name]
        if not _suits(value, hint):
            expected = hint.__name__ if isinstance(hint, type) else hint
            raise ValueError(f"{type(config).__name__}.{name}={value!r}: give {expected}")
    config = dataclasses.replace(config, **overrides)
    for name, hint in hints.items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            choices = ", ".join(map(repr, get_args(hint)))
            raise ValueError(f"{type(config).__name__}.{name}={getattr(config, name)!r}: choose one of {choices}")
    return config


def _suits(value: Any, hint: Any) -> bool:
    """Whether a value is what a field of numbers takes; of other fields every value does."""
    choices = get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_suits(value, choice) for choice in choices)
    if get_origin(hint) is tuple and choices[0] in (int, float):
        return isinstance(value, tuple) and all(_suits(each, choices[0]) for each in value)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    return value is None if hint is type(None) else True


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def positive(config: Any, *names: str) -> None:
    """Refuse fields that are not above zero; None is allowed where the field has it."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not value > 0:
            raise ValueError(f"{type(config).__name__}.{name}={getattr(config, name)}: must be above 0")


def share(config: Any, *names: str) -> None:
    """Refuse fields that are outside [0, 1]."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{type(config).__name__}.{name}={getattr(config, name)}: must lie in [0, 1]")
