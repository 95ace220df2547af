"""Flat files: D4RL `.hdf5` as users have them, and `.npz` with the same array names.

Arrays, one row per transition: `observations (N, O)`, `actions (N, A)` in the environment's unit, `rewards (N,)` with
NaN where unlabelled, `terminals (N,)`, `timeouts (N,)`, and perhaps `next_observations (N, O)`, `contexts (N, d)` and
`values (N,)`. Files that we write hold `action_low` and `action_high` (A,) too, and `scattered`, a true flag, where the
rows form no episodes. Without bounds in the file and without an environment they are -1 and 1.

Where episodes end, and what the observation after a row is:

With `next_observations`, every row stays. Rows that do not lead to the next one although no flag says so are boundaries
that the writer left out (D4RL issue 162). They are marked truncated, unless most rows are so, as in files of shuffled
transitions, or the file says `scattered`: then rows are scattered and episodes undefined.

Without `next_observations`, the next observation is that of the next row, except at an end:
* a timeout, and the last row of the file: it is unknown. The row is dropped and the row before it ends the episode,
  truncated (D4RL's `qlearning_dataset` drops the same rows);
* a terminal: nothing is bootstrapped from it. The row stays, with its own observation as the next one.

`terminals` that equal `timeouts` everywhere mark time limits (the racing files of OfflineMania): truncations only.
Where both are set in a file in which they differ, the terminal wins.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from orl.arrays import Array, BoolArray
from orl.dataset import Dataset, check_lengths, to_flags
from orl.datasets.episodes import environment_actions, find_gaps, require_boxes
from orl.environment import SingleEnvironment, make

Arrays = dict[str, Array]
Environment = SingleEnvironment | str | None

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "contexts", "values", "action_low", "action_high", "scattered")
SUFFIXES = (".hdf5", ".h5", ".npz")
_UNREADABLE = (  # what h5py, NumPy and zipfile raise
    OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zipfile.LargeZipFile,
)  # fmt: skip
_SHOWN = 12  # at most this many names in a message


def read_hdf5(path: str | Path, environment: Environment = None, *, clip_actions: bool = False) -> Dataset:
    """Read a D4RL-format `.hdf5` file.

    Args:
        path: of the file; arrays lie at its root, others are ignored.
        environment: a Gymnasium id or environment to take action bounds from and to check sizes against.
        clip_actions: clip actions beyond the bounds instead of refusing them.

    Raises:
        ValueError: no such file, a file cut short, an array that lacks, sizes that differ from one another or from
            the environment's, NaN outside `rewards`, infinities, actions out of bounds.
    """
    with _readable(path), h5py.File(path, "r") as file:
        keys = [key for key in (*REQUIRED, *OPTIONAL) if isinstance(file.get(key), h5py.Dataset)]
        arrays = {key: np.asarray(file[key]) for key in keys}
        names = sorted(file)
    return _to_dataset(arrays, names, path, environment, clip_actions)


def read_npz(path: str | Path, environment: Environment = None, *, clip_actions: bool = False) -> Dataset:
    """Read a flat `.npz` file; arguments and errors as for `read_hdf5`."""
    # numpy leaves a path that it cannot read open
    with _readable(path), Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        arrays = {key: file[key] for key in (*REQUIRED, *OPTIONAL) if key in file}
        names = sorted(file)
    return _to_dataset(arrays, names, path, environment, clip_actions)


def write_hdf5(data: Dataset, path: str | Path) -> None:
    """Write a D4RL-format `.hdf5` file, replacing what is there only once the new file is whole."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for key, array in _to_arrays(data).items():
            file.create_dataset(key, data=array, compression="gzip" if array.ndim == 2 else None)


def write_npz(data: Dataset, path: str | Path) -> None:
    """Write a flat `.npz` file, replacing what is there only once the new file is whole."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_to_arrays(data))  # type: ignore[arg-type]


def action_bounds(
    environment: Environment, observation_size: int, action_size: int, name: str
) -> tuple[Array, Array, str] | None:
    """Lower and upper action bound (A,) and the id of the environment that data must fit; None without one.

    Raises:
        ValueError: an unknown id, spaces of another kind, or sizes that differ from the data's.
    """
    if environment is None:
        return None
    made = make(environment) if isinstance(environment, str) else environment
    identifier = made.spec.id if made.spec is not None else type(made.unwrapped).__name__
    observations, actions = require_boxes(made.observation_space, made.action_space, identifier)
    if made is not environment:
        made.close()
    expected = observations.shape[0], actions.shape[0]
    for key, size, wanted in zip(("observation", "action"), (observation_size, action_size), expected, strict=True):
        if size != wanted:
            raise ValueError(
                f"{name}: {key}s have size {size}, those of {identifier} have {wanted}; "
                "give the environment that the data came from"
            )
    return actions.low, actions.high, identifier


def _to_dataset(
    arrays: Arrays, names: list[str], path: str | Path, environment: Environment, clip_actions: bool
) -> Dataset:
    name = Path(path).name
    missing = [key for key in REQUIRED if key not in arrays]
    if "next_observations" not in arrays and "timeouts" not in arrays:
        missing.append("timeouts")  # without either, ends of episodes are unknown
    if missing:
        listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        raise ValueError(
            f"{name}: lacks {', '.join(missing)}; it holds {listed or 'nothing'} "
            "(rewards may be NaN where unlabelled, timeouts all 0)"
        )
    scattered = bool(np.any(arrays.pop("scattered", False)))
    rows = {key: array for key, array in arrays.items() if not key.startswith("action_")}
    flat = to_transitions(rows, name, scattered=scattered)
    sizes = flat["observations"].shape[1], flat["actions"].shape[1]
    bounds = action_bounds(environment, *sizes, name)
    unit = np.ones(sizes[1], np.float32)
    low, high, identifier = bounds or (arrays.get("action_low", -unit), arrays.get("action_high", unit), None)
    return Dataset.from_arrays(
        **flat, action_low=low, action_high=high, clip_actions=clip_actions, name=name, environment_id=identifier
    )


def to_transitions(arrays: Arrays, name: str, *, scattered: bool = False) -> dict[str, Any]:
    """Transitions of a flat file.

    Args:
        arrays: `observations`, `actions`, `rewards`, `terminals`, and `timeouts` or `next_observations` or both;
            perhaps `contexts` and `values`.
        name: of the file, for messages.
        scattered: the file says that its rows form no episodes.

    Returns:
        What `Dataset.from_arrays` takes: the arrays, `terminated` and `truncated` of the remaining rows, and
        `whole_episodes`.

    Raises:
        ValueError: lengths that differ, shapes or flags of another kind, no row, or nothing left once boundary rows
            are dropped.
    """
    check_lengths(arrays, name)
    for key in ("observations", "actions", "next_observations"):
        if key in arrays and arrays[key].ndim != 2:
            raise ValueError(f"{name}: {key} has shape {arrays[key].shape}; give (transitions, features)")
    rows = {key: array for key, array in arrays.items() if key not in ("terminals", "timeouts")}
    for key, array in rows.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"{name}: {key} has type {array.dtype}; give real numbers")
    terminated = to_flags("terminals", arrays["terminals"], name)
    truncated = to_flags("timeouts", arrays["timeouts"], name) if "timeouts" in arrays else np.zeros_like(terminated)
    if (terminated == truncated).all():
        terminated = np.zeros_like(terminated)
    truncated = truncated & ~terminated
    if "next_observations" not in rows:
        if scattered:
            raise ValueError(
                f"{name}: the next observations of scattered rows are unknown; add next_observations to it"
            )
        return _with_rows_that_follow(rows, terminated, truncated, name)
    sizes = rows["observations"].shape[1], rows["next_observations"].shape[1]
    if sizes[0] != sizes[1]:
        raise ValueError(f"{name}: observations have {sizes[0]} features, next_observations {sizes[1]}")
    unmarked = find_gaps(rows["observations"], rows["next_observations"], terminated | truncated)
    is_whole = not scattered and int(unmarked.sum()) <= len(unmarked) // 2
    ends = truncated | unmarked if is_whole else truncated
    return {**rows, "terminated": terminated, "truncated": ends, "whole_episodes": is_whole}


def _with_rows_that_follow(rows: Arrays, terminated: BoolArray, truncated: BoolArray, name: str) -> dict[str, Any]:
    """Take the next observations from the rows that follow, and drop the rows that have none."""
    number = len(terminated)
    unknown = truncated.copy()
    unknown[-1] |= not terminated[-1]
    following = np.where(terminated, np.arange(number), np.arange(1, number + 1))  # a terminal has its own observation
    is_last = np.zeros(number, np.bool_)  # of its episode, once the row after it is dropped
    is_last[:-1] = unknown[1:] & ~terminated[:-1]
    keep = np.flatnonzero(~unknown)
    if len(keep) == 0:
        raise ValueError(
            f"{name}: every row is a boundary whose next observation is unknown; add next_observations to the file"
        )
    rows = rows | {"terminated": terminated, "truncated": is_last}
    next_observations = rows["observations"][following[keep]]
    return {key: array[keep] for key, array in rows.items()} | {"next_observations": next_observations}


def _to_arrays(data: Dataset) -> Arrays:
    scattered = None if data.whole_episodes else np.array(True)
    optional = {"contexts": data.contexts, "values": data.values, "scattered": scattered}
    return {key: array for key, array in optional.items() if array is not None} | {
        "observations": data.observations,
        "actions": environment_actions(data),
        "rewards": data.rewards,
        "next_observations": data.next_observations,
        "terminals": data.terminated,
        "timeouts": data.truncated,
        "action_low": data.action_low,
        "action_high": data.action_high,
    }


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn what h5py and zipfile raise for a bad file into one line with a remedy."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file")
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: cannot be read, cut short or of another format ({reason}); copy or write it again"
        ) from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which is renamed to it if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
