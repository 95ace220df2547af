"""Contexts: the parameters of a task, with their ranges, scales, grids and checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from orl.arrays import Float64Array

_ROUNDING = 1e-6  # of the range: how far beyond it a value may lie, as single precision does


@dataclass(frozen=True)
class ContextVariable:
    """One parameter of a task.

    Attributes:
        name: what it is called, everywhere.
        unit: "kg", "m/s"; "x" is a factor on what the environment has anyway.
        low, high: range, `low < high`, both ends included.
        default: of the ordinary task.
        scale: how it is sampled, gridded and normalized: linear, log (positive numbers), or integer (whole ones).

    Raises:
        ValueError: a range that is empty, not finite, or does not suit the scale.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    scale: Literal["linear", "log", "integer"] = "linear"

    def __post_init__(self) -> None:
        for name in ("low", "high", "default"):  # plain numbers, which go into JSON
            object.__setattr__(self, name, np.asarray(getattr(self, name)).item())
        self.check(np.array([self.low, self.high, self.default]), allow_extrapolation=True)
        if self.low >= self.high:
            raise ValueError(f"context {self.name}: range [{self.low:g}, {self.high:g}] is empty; give low < high")

    def check(self, values: Float64Array, *, allow_extrapolation: bool) -> Float64Array:
        """Return values (N,), those that only rounding took out of the range brought back into it.

        Raises:
            ValueError: NaN, infinity, a fraction where whole numbers are, zero or less on a log scale, out of range.
        """
        for wrong, why in (
            (~np.isfinite(values), "is not finite"),
            ((self.scale == "log") & (values <= 0.0), "must be > 0"),
            ((self.scale == "integer") & (values != np.round(values)), "must be a whole number"),
        ):
            if wrong.any():
                raise ValueError(f"context {self.name}={values[wrong][0]:g} {why}")
        inside = np.clip(values, self.low, self.high)
        outside = np.abs(values - inside) > _ROUNDING * (self.high - self.low)
        if outside.any() and not allow_extrapolation:
            raise ValueError(
                f"context {self.name}={values[outside][0]:g} is outside [{self.low:g}, {self.high:g}] {self.unit}; "
                "it is taken with allow_extrapolation"
            )
        return np.where(outside, values, inside)

    def normalize(self, values: Float64Array) -> Float64Array:
        """Values to [-1, 1], evenly in the scale."""
        if self.scale == "log":
            return np.asarray(2.0 * np.log(values / self.low) / np.log(self.high / self.low) - 1.0)
        return 2.0 * (values - self.low) / (self.high - self.low) - 1.0

    def denormalize(self, normalized: Float64Array) -> Float64Array:
        """The inverse of `normalize`, to the nearest whole number on an integer scale."""
        share = (normalized + 1.0) / 2.0
        if self.scale == "log":
            return np.asarray(self.low * (self.high / self.low) ** share)
        values = self.low + share * (self.high - self.low)
        return np.round(values) if self.scale == "integer" else values

    def quantile(self, share: float) -> float:
        """The value below which a share in [0, 1) of the scale lies; whole numbers have equal shares."""
        if self.scale == "integer":
            return float(np.floor(self.low + share * (self.high - self.low + 1.0)))
        return float(np.clip(self.denormalize(np.array(2.0 * share - 1.0)), self.low, self.high))

    def grid(self, number: int) -> Float64Array:
        """`number` >= 2 evenly spaced values in the scale, both ends among them.

        Raises:
            ValueError: fewer than two, or more than there are whole numbers.
        """
        if number < 2 or (self.scale == "integer" and number > self.high - self.low + 1.0):
            raise ValueError(f"context {self.name}: a grid of {number}; give at least 2, and no whole number twice")
        values = (np.geomspace if self.scale == "log" else np.linspace)(self.low, self.high, number)
        return np.round(values) if self.scale == "integer" else values


_GRID_PART = re.compile(r"\s*(\w+)\s*=([^:=]+):([^:=]+):([^:=]+)")
_CONTEXT_PART = re.compile(r"\s*(\w+)\s*=([^:=]+)")
_CONTEXT_FORM = "write name=value for each variable, as in mass=1.4,length=0.7"
_GRID_FORM = "write name=low:high:number for each axis, as in mass=0.5:2:20,length=0.5:2:20"


@dataclass(frozen=True)
class ContextSpace:
    """Variables in a fixed order; a context is an array (d,) in their units.

    Raises:
        ValueError: no variable, or a name that occurs twice.
    """

    variables: tuple[ContextVariable, ...]

    def __post_init__(self) -> None:
        if not self.variables or len(set(self.names)) < len(self.names):
            raise ValueError(f"contexts {list(self.names)}: name at least one, and each once")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables, d of them."""
        return tuple(variable.name for variable in self.variables)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """(low, high) by name: what `select` and the environments' `contexts` take."""
        return {variable.name: (variable.low, variable.high) for variable in self.variables}

    @property
    def default(self) -> Float64Array:
        """The default context, (d,)."""
        return np.array([variable.default for variable in self.variables])

    def select(
        self, chosen: Sequence[str] | Mapping[str, tuple[float, float]], *, allow_extrapolation: bool = False
    ) -> ContextSpace:
        """Some of the variables, in the order given, over their whole range or over another one.

        Args:
            chosen: names, or a mapping from names to (low, high) in the variable's unit; a default outside them
                becomes the end that is nearest.
            allow_extrapolation: whether such a range may be wider than this space's.

        Raises:
            ValueError: an unknown name, or a range that is empty or too wide.
        """
        names = [chosen] if isinstance(chosen, str) else chosen
        self._check_names(names)
        selected = [self.variables[self.names.index(name)] for name in names]
        if isinstance(chosen, Mapping):
            for i, variable in enumerate(selected):
                ends = np.array(chosen[variable.name], np.float64)
                if ends.shape != (2,):
                    raise ValueError(f"context {variable.name}: range {chosen[variable.name]}; give (low, high)")
                low, high = variable.check(ends, allow_extrapolation=allow_extrapolation).tolist()
                selected[i] = replace(variable, low=low, high=high, default=float(np.clip(variable.default, low, high)))
        return ContextSpace(tuple(selected))

    def array(self, context: Mapping[str, float] | ArrayLike, *, allow_extrapolation: bool = False) -> Float64Array:
        """One context (d,) from a mapping that names every variable, or from an array; checked.

        Raises:
            ValueError: an unknown or a missing name, another shape, not finite, or out of range.
        """
        if isinstance(context, Mapping):
            self._check_names(context)
            missing = [name for name in self.names if name not in context]
            if missing:
                raise ValueError(f"context {dict(context)} lacks {', '.join(missing)}; name every one of {self.names}")
            context = [context[name] for name in self.names]
        values = self._numbers(context)
        if values.shape != (len(self.names),):
            raise ValueError(f"context has shape {values.shape}; give one number for each of {self.names}")
        return self.rows(values[None], allow_extrapolation=allow_extrapolation).reshape(-1)

    def rows(
        self, contexts: Sequence[Mapping[str, float]] | ArrayLike, *, allow_extrapolation: bool = False
    ) -> Float64Array:
        """Contexts (N, d) from an array, or from mappings that name every variable; checked.

        Raises:
            ValueError: what `array` refuses.
        """
        if are_mappings(contexts):
            contexts = [self.array(context, allow_extrapolation=allow_extrapolation) for context in contexts]
        values = self._numbers(contexts)
        if values.ndim != 2 or values.shape[1] != len(self.names):
            raise ValueError(f"contexts have shape {values.shape}; give rows of one number for each of {self.names}")
        columns = zip(self.variables, values.T, strict=True)
        return np.stack([v.check(column, allow_extrapolation=allow_extrapolation) for v, column in columns], axis=1)

    def sample(self, generator: np.random.Generator) -> Float64Array:
        """One context (d,), each variable uniform in its scale; takes d numbers from the generator."""
        shares = generator.random(len(self.names)).tolist()
        return np.array([variable.quantile(share) for variable, share in zip(self.variables, shares, strict=True)])

    def grid(self, numbers: int | Sequence[int]) -> Float64Array:
        """All combinations (N, d) of evenly spaced values, ends included; the last variable changes fastest.

        Args:
            numbers: values per variable, >= 2: one number for all, or one each.

        Raises:
            ValueError: fewer than two values of a variable, or more than there are whole numbers.
        """
        counts = [numbers] * len(self.names) if isinstance(numbers, int) else numbers
        axes = [variable.grid(count) for variable, count in zip(self.variables, counts, strict=True)]
        return np.array(list(product(*axes)))

    def parse(self, text: str) -> tuple[ContextSpace, Float64Array]:
        """Read a grid as the command line has it: `mass=0.5:2:20,length=0.5:2:20` (low, high, number of values).

        Returns:
            The space of the variables named, over the ranges given, and the grid (N, d), evenly spaced in their scales.

        Raises:
            ValueError: not of this form, an unknown name, or a range or number that is refused elsewhere.
        """
        ranges: dict[str, tuple[float, float]] = {}
        numbers = []
        for part in text.split(","):
            match = _GRID_PART.fullmatch(part)
            if match is None or match[1] in ranges:
                raise ValueError(f"contexts {part!r}: {_GRID_FORM}, each name once")
            try:
                ranges[match[1]] = (float(match[2]), float(match[3]))
                numbers.append(int(match[4]))
            except ValueError:
                raise ValueError(f"contexts {part!r}: not numbers; {_GRID_FORM}") from None
        space = self.select(ranges)
        return space, space.grid(numbers)

    def text(self, context: Float64Array) -> str:
        """A context (d,) as `name=value,...`, to four digits."""
        return ",".join(f"{name}={value:.4g}" for name, value in zip(self.names, context.tolist(), strict=True))

    def normalize(self, contexts: ArrayLike) -> Float64Array:
        """Contexts (..., d) to [-1, 1], evenly in the scale of each variable; beyond it where they extrapolate."""
        values = np.asarray(contexts, np.float64)
        return np.stack([v.normalize(values[..., i]) for i, v in enumerate(self.variables)], axis=-1)

    def denormalize(self, normalized: ArrayLike) -> Float64Array:
        """The inverse of `normalize`; whole numbers on integer scales."""
        values = np.asarray(normalized, np.float64)
        return np.stack([v.denormalize(values[..., i]) for i, v in enumerate(self.variables)], axis=-1)

    def nearest(self, contexts: Float64Array, context: Float64Array) -> int:
        """Index of the first of contexts (N, d) that is nearest to a context (d,), in the variables' scales."""
        return int(np.square(self.normalize(contexts) - self.normalize(context)).sum(axis=1).argmin())

    def _numbers(self, contexts: object) -> Float64Array:
        try:
            return np.array(contexts, np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"context {contexts!r}: give one number for each of {self.names}") from None

    def _check_names(self, names: Iterable[str]) -> None:
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"unknown context {', '.join(map(repr, unknown))}; choose from {', '.join(self.names)}")


def are_mappings(contexts: object) -> TypeGuard[Sequence[Mapping[str, float]]]:
    """Whether these are contexts by name, one mapping each."""
    return isinstance(contexts, Sequence) and any(isinstance(context, Mapping) for context in contexts)


def read_context(text: str) -> dict[str, float]:
    """Read one context as the command line has it, `mass=1.4,length=0.7`; `ContextSpace.array` checks it.

    Raises:
        ValueError: not of this form.
    """
    context: dict[str, float] = {}
    for part in text.split(","):
        match = _CONTEXT_PART.fullmatch(part)
        if match is None or match[1] in context:
            raise ValueError(f"context {part!r}: {_CONTEXT_FORM}, each name once")
        try:
            context[match[1]] = float(match[2])
        except ValueError:
            raise ValueError(f"context {part!r}: not a number; {_CONTEXT_FORM}") from None
    return context
