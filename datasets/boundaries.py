"""Where episodes end in a flat file, and what the observation after each row is.

With `next_observations`, every row is kept. Rows that do not lead to the next one although no flag says so are
boundaries that the writer left out (D4RL issue 162): they are marked truncated, unless most rows are so, as in files
of shuffled transitions, or the file says `scattered`: then rows are scattered and episodes undefined.

Without `next_observations`, the next observation is that of the next row, except at an end:
* a timeout, and the last row of the file: it is unknown; the row is dropped and the row before it ends the episode,
  truncated (D4RL's `qlearning_dataset` drops the same rows);
* a terminal: nothing is bootstrapped from it; the row is kept with its own observation in its place.

`terminals` that equal `timeouts` everywhere mark time limits (the racing files of OfflineMania): truncations only.
Where both are set in a file in which they differ, the terminal wins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orl.datasets.episodes import gaps


class Transitions(NamedTuple):
    """Aligned arrays of N transitions."""

    observations: NDArray[Any]  # (N, O)
    actions: NDArray[Any]  # (N, A)
    rewards: NDArray[Any]  # (N,)
    next_observations: NDArray[Any]  # (N, O)
    terminated: NDArray[np.bool_]  # (N,)
    truncated: NDArray[np.bool_]  # (N,)
    whole_episodes: bool
    contexts: NDArray[Any] | None  # (N, d)
    values: NDArray[Any] | None  # (N,)


def transitions(arrays: dict[str, NDArray[Any]], name: str, *, scattered: bool = False) -> Transitions:
    """Transitions of a flat file.

    Args:
        arrays: `observations`, `actions`, `rewards`, `terminals`, and `timeouts` or `next_observations` or both;
            perhaps `contexts` and `values`.
        name: of the file, for messages.
        scattered: the file says that its rows form no episodes.

    Raises:
        ValueError: lengths that differ, shapes or flags of another kind, no row, or nothing left once boundary rows
            are dropped.
    """
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in lengths.items()))
    if lengths["rewards"] == 0:
        raise ValueError(f"{name}: holds no transition")
    for key in ("observations", "actions", "next_observations"):
        if key in arrays and arrays[key].ndim != 2:
            raise ValueError(f"{name}: {key} has shape {arrays[key].shape}; give (transitions, features)")
    for key in ("observations", "next_observations", "actions", "rewards", "contexts", "values"):
        if key in arrays and arrays[key].dtype.kind not in "fiub":
            raise ValueError(f"{name}: {key} has type {arrays[key].dtype}; give real numbers")
    terminated = _flags(arrays["terminals"], "terminals", name)
    truncated = _flags(arrays["timeouts"], "timeouts", name) if "timeouts" in arrays else np.zeros_like(terminated)
    if (terminated == truncated).all():
        terminated = np.zeros_like(terminated)
    truncated = truncated & ~terminated
    if scattered and "next_observations" not in arrays:
        raise ValueError(f"{name}: the next observations of scattered rows are unknown; add next_observations to it")
    if "next_observations" in arrays:
        return _with_next_observations(arrays, terminated, truncated, name, scattered)
    return _without_next_observations(arrays, terminated, truncated, name)


def _with_next_observations(
    arrays: dict[str, NDArray[Any]],
    terminated: NDArray[np.bool_],
    truncated: NDArray[np.bool_],
    name: str,
    scattered: bool,
) -> Transitions:
    observations, next_observations = arrays["observations"], arrays["next_observations"]
    if observations.shape != next_observations.shape:
        raise ValueError(
            f"{name}: observations have {observations.shape[1]} features, "
            f"next_observations {next_observations.shape[1]}"
        )
    unmarked = gaps(observations, next_observations, terminated | truncated)
    whole = not scattered and int(unmarked.sum()) <= len(unmarked) // 2
    if whole:
        truncated = truncated | unmarked
    return Transitions(
        observations,
        arrays["actions"],
        arrays["rewards"],
        next_observations,
        terminated,
        truncated,
        whole,
        arrays.get("contexts"),
        arrays.get("values"),
    )


def _without_next_observations(
    arrays: dict[str, NDArray[Any]], terminated: NDArray[np.bool_], truncated: NDArray[np.bool_], name: str
) -> Transitions:
    observations = arrays["observations"]
    rows = len(observations)
    unknown = truncated.copy()
    unknown[-1] |= not terminated[-1]
    following = np.where(terminated, np.arange(rows), np.arange(1, rows + 1))  # own observation at a terminal
    before = np.zeros(rows, np.bool_)  # the row ends what is left of its episode
    before[:-1] = unknown[1:] & ~terminated[:-1]
    keep = np.flatnonzero(~unknown)
    if len(keep) == 0:
        raise ValueError(
            f"{name}: every row is a boundary whose next observation is unknown; add next_observations to the file"
        )
    return Transitions(
        observations[keep],
        arrays["actions"][keep],
        arrays["rewards"][keep],
        observations[following[keep]],
        terminated[keep],
        before[keep],
        True,
        arrays["contexts"][keep] if "contexts" in arrays else None,
        arrays["values"][keep] if "values" in arrays else None,
    )


def _flags(array: NDArray[Any], key: str, name: str) -> NDArray[np.bool_]:
    """(N,) bool, from (N,) or (N, 1) of zeros and ones."""
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: {key} has shape {array.shape}; give (transitions,)")
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name}: {key} holds values other than 0 and 1")
    return array.astype(np.bool_)
