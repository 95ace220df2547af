"""How many updates of which kind are due at which environment step: all that SPEQ adds to DroQ.

Steps are those of one learner, summed over its copies of the environment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Updates between environment steps, and stabilization phases every now and then."""

    utd_ratio: float  # updates per transition
    learning_starts: int  # steps without updates
    period: int | None = None  # steps between the places where a phase can begin; None: no phases

    def updates(self, before: int, after: int) -> int:
        """Updates due when the steps go from `before` to `after`; over a run they add up to the ratio exactly."""
        return self._total(after) - self._total(before)

    def _total(self, steps: int) -> int:
        return math.floor(self.utd_ratio * max(steps - self.learning_starts, 0) + 1e-9)

    def phase_place(self, steps: int) -> int | None:
        """The multiple of the period that was reached last, None before learning starts or without phases."""
        if self.period is None:
            return None
        place = steps // self.period * self.period
        return place if place > self.learning_starts else None
