"""Settings of stabilization phases.

Source: Romeo et al. 2025 (SPEQ, arXiv 2501.08669); automatic timing and length as `agents/speq.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orl.config import check_fraction, check_positive


@dataclass(frozen=True)
class PhasesConfig:
    """When phases begin."""

    # Phases
    period: int = 10_000  # F: environment steps between phases, or between the times that `timing` decides
    phase_updates: int = 75_000  # N: critic updates of a phase; the most of them where its length is automatic
    check_every: int = 1_000  # critic updates of a piece: between metrics, and checks of an automatic length
    # Automatic timing (our choice)
    timing: Literal["fixed", "new_data", "td_error"] = "fixed"  # what a phase waits for at each period
    new_share: float = 0.1  # new_data: share of the buffer that is newer than the last phase

    def check_phases(self) -> None:
        """Refuse values that no phase can have."""
        check_positive(self, "period", "new_share", "check_every")

    @property
    def is_automatic(self) -> bool:
        """Whether learners of a population can part ways in a phase."""
        return self.timing != "fixed"


@dataclass(frozen=True)
class AutomaticPhasesConfig(PhasesConfig):
    """When phases begin and end."""

    # Automatic timing (our choice)
    error_ratio: float = 1.2  # td_error: mean absolute TD error of the newest `period` transitions over the buffer's
    # Automatic length
    length: Literal["fixed", "td_error", "policy_value"] = "fixed"  # held-out score that stops a phase
    patience: int = 10  # checks without improvement that stop a phase
    tolerance: float = 0.001  # share of the best score that an improvement must exceed
    smoothing: int = 3  # checks that the score's moving average is taken over
    held_out: float = 0.1  # share of the buffer that a phase does not train on, at most 10,000 transitions
    restore_best: bool = True  # end with the critics of the best check

    def check_phases(self) -> None:
        """Refuse values that no phase can have."""
        super().check_phases()
        check_positive(self, "phase_updates", "error_ratio", "patience", "smoothing")
        check_fraction(self, "tolerance", "held_out")
        if self.length != "fixed" and not 0 < self.held_out < 1:
            raise ValueError(
                f"{type(self).__name__}.held_out={self.held_out}: an automatic length needs a share in (0, 1)"
            )

    @property
    def is_automatic(self) -> bool:
        """Whether learners of a population can part ways in a phase."""
        return super().is_automatic or self.length != "fixed"
