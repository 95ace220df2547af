"""One parameter of a task: its range, its scale, and what it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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

    def check(self, values: Floats, *, allow_extrapolation: bool) -> Floats:
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

    def normalize(self, values: Floats) -> Floats:
        """Values to [-1, 1], evenly in the scale."""
        if self.scale == "log":
            return np.asarray(2.0 * np.log(values / self.low) / np.log(self.high / self.low) - 1.0)
        return 2.0 * (values - self.low) / (self.high - self.low) - 1.0

    def denormalize(self, normalized: Floats) -> Floats:
        """The inverse of `normalize`, to the nearest whole number on an integer scale."""
        share = (normalized + 1.0) / 2.0
        if self.scale == "log":
            return np.asarray(self.low * (self.high / self.low) ** share)
        values = self.low + share * (self.high - self.low)
        return np.round(values) if self.scale == "integer" else values

    def at(self, share: float) -> float:
        """The value below which lies a share in [0, 1) of the scale; whole numbers have equal shares."""
        if self.scale == "integer":
            return float(np.floor(self.low + share * (self.high - self.low + 1.0)))
        return float(np.clip(self.denormalize(np.array(2.0 * share - 1.0)), self.low, self.high))

    def axis(self, number: int) -> Floats:
        """`number` >= 2 evenly spaced values in the scale, both ends among them.

        Raises:
            ValueError: fewer than two, or more than there are whole numbers.
        """
        if number < 2 or (self.scale == "integer" and number > self.high - self.low + 1.0):
            raise ValueError(f"context {self.name}: a grid of {number}; give at least 2, and no whole number twice")
        values = (np.geomspace if self.scale == "log" else np.linspace)(self.low, self.high, number)
        return np.round(values) if self.scale == "integer" else values
