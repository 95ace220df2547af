"""Check a data set: what it consists of and what is odd about it, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orl.dataset import Dataset
from orl.datasets.episodes import find_gaps

SATURATION = 1e-3  # an action this near to a bound counts as at it
SPREAD = 1e-6  # a feature whose standard deviation is below this is constant


@dataclass(frozen=True)
class Report:
    """Counts and shares of one data set; shares lie in [0, 1]."""

    transitions: int
    episodes: int | None  # None where rows are scattered
    terminated: float  # share of episodes that the environment ended
    truncated: float  # share of episodes that the recording stopped
    labelled: float  # share of rewards that are not hidden
    duplicates: float  # share of rows equal to an earlier row in observation and action
    saturated: float  # share of action components at a bound
    constant_features: tuple[int, ...]  # observation features that never change
    gaps: int  # rows inside an episode that do not lead to the next one

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know before training; none where nothing is odd."""
        constant = ", ".join(map(str, self.constant_features))
        remarks = (
            (self.gaps > 0, f"{self.gaps} rows inside episodes do not lead to the next row"),
            (self.episodes is None, "rows are scattered: returns, best episodes and sequence methods are undefined"),
            (self.labelled < 1.0, f"{1.0 - self.labelled:.1%} of the rewards are hidden (NaN)"),
            (constant != "", f"observation features that never change, by number from 0: {constant}"),
            (self.duplicates > 0.01, f"{self.duplicates:.1%} of the rows repeat an earlier row"),
            (self.saturated > 0.5, f"{self.saturated:.1%} of the action components lie at a bound"),
        )
        return tuple(remark for holds, remark in remarks if holds)


def check(data: Dataset) -> Report:
    """Count what is in a data set."""
    ends = data.terminated | data.truncated
    episodes = len(data.episode_slices) if data.whole_episodes else None
    rows = np.concatenate([data.observations, data.actions], axis=1)
    keys = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    unique = len(np.unique(keys))
    number = max(1, episodes if episodes is not None else int(ends.sum()))
    return Report(
        transitions=len(data),
        episodes=episodes,
        terminated=float(data.terminated.sum() / number),
        truncated=float(data.truncated.sum() / number),
        labelled=float(data.is_labelled.mean()),
        duplicates=1.0 - unique / len(data),
        saturated=float((np.abs(data.actions) >= 1.0 - SATURATION).mean()),
        constant_features=tuple(np.flatnonzero(data.observations.std(axis=0, dtype=np.float64) < SPREAD).tolist()),
        gaps=int(find_gaps(data.observations, data.next_observations, ends).sum()) if data.whole_episodes else 0,
    )
