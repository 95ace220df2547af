"""Flatten a Minari data set once: one safetensors file beside its data, read again until the data change.

Minari keeps one HDF5 group per episode, which takes a Python loop to read; a flat file is read at the disk's speed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from orl.dataset import ROWS, Dataset
from orl.datasets import minari_io, store
from orl.datasets.episodes import actions_in_unit

LAYOUT = 2  # of the cache file; another number makes older files unread


def read_cached(dataset_id: str, *, download: bool = False, clip_actions: bool = False) -> Dataset:
    """Read a Minari data set through its cache, which is made or made anew where it is not valid.

    Arguments and errors as for `orl.datasets.minari_io.read`.
    """
    if store.exists(dataset_id):
        cached = _read(dataset_id, clip_actions)
        if cached is not None:
            return cached
    data = minari_io.read(dataset_id, download=download, clip_actions=clip_actions)
    if not clip_actions:  # clipped data would answer later calls that ask for a refusal
        _write(data, dataset_id)
        data = _read(dataset_id, clip_actions) or data  # rounded as it will be at every later call
    return data


def cache_path(dataset_id: str) -> Path:
    """Where the flat copy of a set lies."""
    return store.minari_root() / dataset_id / ".flat.safetensors"


def _key(dataset_id: str) -> str:
    """Changes whenever the set's files do."""
    folder = store.minari_root() / dataset_id / "data"
    files = [path.stat() for name in ("metadata.json", "main_data.hdf5") if (path := folder / name).is_file()]
    return json.dumps([LAYOUT, dataset_id, [[stat.st_size, stat.st_mtime_ns] for stat in files]])


def _read(dataset_id: str, clip_actions: bool) -> Dataset | None:
    """The cached set; None where there is none, or one of other data, or one that cannot be read."""
    path = cache_path(dataset_id)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            if about.get("key") != _key(dataset_id):
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError):
        return None
    return Dataset.from_arrays(
        **arrays, clip_actions=clip_actions, name=dataset_id, environment_id=about.get("environment_id")
    )


def _write(data: Dataset, dataset_id: str) -> None:
    arrays = {name: array for name in ROWS if (array := getattr(data, name)) is not None}
    arrays |= {"actions": actions_in_unit(data), "action_low": data.action_low, "action_high": data.action_high}
    about = {"key": _key(dataset_id)}
    if data.environment_id is not None:
        about["environment_id"] = data.environment_id
    path = cache_path(dataset_id)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        save_file(arrays, temporary, metadata=about)
        os.replace(temporary, path)
    except (OSError, SafetensorError):
        return  # a store that cannot be written to is read without a cache
    finally:
        temporary.unlink(missing_ok=True)
