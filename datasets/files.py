"""Flat files: D4RL `.hdf5` as users have them, and `.npz` with the same array names.

Arrays, one row per transition: `observations (N, O)`, `actions (N, A)` in the environment's unit, `rewards (N,)` with
NaN where unlabelled, `terminals (N,)`, `timeouts (N,)`, and perhaps `next_observations (N, O)`, `contexts (N, d)` and
`values (N,)`. Files that we write hold `action_low` and `action_high` (A,) too, and `scattered`, a true flag, where the
rows form no episodes. Without bounds in the file and without an environment they are -1 and 1.

The rules for boundaries are in `orl.datasets.boundaries`.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray

from orl.dataset import Dataset
from orl.datasets.boundaries import transitions
from orl.datasets.episodes import actions_in_unit
from orl.datasets.recording import require_boxes

Arrays = dict[str, NDArray[Any]]
Environment = gymnasium.Env[Any, Any] | str | None

REQUIRED = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "contexts", "values", "action_low", "action_high", "scattered")
SUFFIXES = (".hdf5", ".h5", ".npz")
UNREADABLE = (  # what h5py, NumPy and zipfile raise
    OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, zipfile.BadZipFile, zipfile.LargeZipFile,
)  # fmt: skip
SHOWN = 12  # at most this many names in a message


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
        held = sorted(file)
    return _to_dataset(arrays, held, path, environment, clip_actions)


def read_npz(path: str | Path, environment: Environment = None, *, clip_actions: bool = False) -> Dataset:
    """Read a flat `.npz` file; arguments and errors as for `read_hdf5`."""
    # numpy leaves a path that it cannot read open
    with _readable(path), Path(path).open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        arrays = {key: file[key] for key in (*REQUIRED, *OPTIONAL) if key in file}
        held = sorted(file)
    return _to_dataset(arrays, held, path, environment, clip_actions)


def write_hdf5(data: Dataset, path: str | Path) -> None:
    """Write a D4RL-format `.hdf5` file, replacing what is there only once the new file is whole."""
    with _replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for key, array in _to_arrays(data).items():
            file.create_dataset(key, data=array, compression="gzip" if array.ndim == 2 else None)


def write_npz(data: Dataset, path: str | Path) -> None:
    """Write a flat `.npz` file, replacing what is there only once the new file is whole."""
    with _replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **_to_arrays(data))  # type: ignore[arg-type]


def action_bounds(
    environment: Environment, observation_size: int, action_size: int, name: str
) -> tuple[NDArray[Any], NDArray[Any], str] | None:
    """Lower and upper action bound, (A,) each, and the id of an environment that data must fit; None without one.

    Raises:
        ValueError: an unknown id, spaces of another kind, or sizes that differ from the data's.
    """
    if environment is None:
        return None
    if isinstance(environment, str):
        try:
            made = gymnasium.make(environment)
        except gymnasium.error.Error as error:
            hint = "; import orl.envs registers ours" if environment.startswith("orl/") else ""
            raise ValueError(f"environment {environment!r} cannot be made: {error}{hint}") from error
    else:
        made = environment
    identifier = made.spec.id if made.spec is not None else type(made.unwrapped).__name__
    box = require_boxes(made.observation_space, made.action_space, identifier)
    assert isinstance(made.observation_space, Box)
    wanted = {"observation": made.observation_space.shape[0], "action": box.shape[0]}
    if made is not environment:
        made.close()
    for key, size in {"observation": observation_size, "action": action_size}.items():
        if size != wanted[key]:
            raise ValueError(
                f"{name}: {key}s have size {size}, those of {identifier} have {wanted[key]}; "
                "give the environment that the data came from"
            )
    return box.low, box.high, identifier


def _to_dataset(
    arrays: Arrays, held: list[str], path: str | Path, environment: Environment, clip_actions: bool
) -> Dataset:
    name = Path(path).name
    missing = [key for key in REQUIRED if key not in arrays]
    if "next_observations" not in arrays and "timeouts" not in arrays:
        missing.append("timeouts")  # without either, where an episode ends cannot be told
    if missing:
        listed = ", ".join(held[:SHOWN]) + (f" and {len(held) - SHOWN} more" if len(held) > SHOWN else "")
        raise ValueError(
            f"{name}: lacks {', '.join(missing)}; it holds {listed or 'nothing'} "
            "(rewards may be NaN where unlabelled, timeouts all 0)"
        )
    scattered = bool(np.any(arrays.pop("scattered", False)))
    flat = transitions({k: arrays[k] for k in arrays if not k.startswith("action_")}, name, scattered=scattered)
    sizes = flat.observations.shape[1], flat.actions.shape[1]
    bounds = action_bounds(environment, *sizes, name)
    unit = np.ones(sizes[1], np.float32)
    low, high, identifier = bounds or (arrays.get("action_low", -unit), arrays.get("action_high", unit), None)
    for key, bound in (("action_low", low), ("action_high", high)):
        if np.shape(bound) not in ((), (1,), (sizes[1],)):
            raise ValueError(f"{name}: {key} has shape {np.shape(bound)}; give one bound per action, ({sizes[1]},)")
    return Dataset.from_arrays(
        flat.observations,
        flat.actions,
        flat.rewards,
        flat.next_observations,
        flat.terminated,
        flat.truncated,
        action_low=low,
        action_high=high,
        clip_actions=clip_actions,
        name=name,
        environment_id=identifier,
        whole_episodes=flat.whole_episodes,
        contexts=flat.contexts,
        values=flat.values,
    )


def _to_arrays(data: Dataset) -> Arrays:
    scattered = None if data.whole_episodes else np.array(True)
    optional = {"contexts": data.contexts, "values": data.values, "scattered": scattered}
    return {key: array for key, array in optional.items() if array is not None} | {
        "observations": data.observations,
        "actions": actions_in_unit(data),
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
    except UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: cannot be read, cut short or of another format ({reason}); copy or write it again"
        ) from error


@contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block succeeds."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
