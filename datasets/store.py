"""The local Minari store: where it is, what is in it, and how a set gets its place there.

The store is `MINARI_DATASETS_PATH`, or `~/.minari/datasets`. Ids follow Minari's grammar
`(namespace/)(environment/)name-vN`, such as `orl/racing/expert-v0`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces


def minari_root() -> Path:
    """Folder of the local store; not created."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root).absolute() if root is not None else Path.home() / ".minari" / "datasets"


def exists(dataset_id: str) -> bool:
    """Whether a set of this id is in the local store."""
    return (minari_root() / dataset_id / "data").is_dir()


def local_ids() -> dict[str, dict[str, Any]]:
    """Metadata of each readable set in the local store, by id."""
    found = {}
    for data in sorted(path.parent for path in minari_root().rglob("data/metadata.json")):
        identifier = data.parent.relative_to(minari_root()).as_posix()
        try:
            parse_dataset_id(identifier)  # also refuses hidden folders
            about = MinariStorage.read_raw_metadata(data)
        except Exception:  # JSON, HDF5 and Minari's errors have no common class
            continue
        if about.get("dataset_id") == identifier:
            found[identifier] = dict(about)
    return found


def require_id(dataset_id: str) -> None:
    """Refuse an id that Minari's grammar refuses, or that has no version."""
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError: Minari's int(None) where the version lacks
        raise ValueError(
            f"{dataset_id!r} is no data set id; write (namespace/)(environment/)name-vN, such as orl/hopper/random-v0"
        ) from error


def require_place(dataset_id: str) -> None:
    """Refuse an id whose folder holds other sets, or lies inside another set."""
    folder = minari_root() / dataset_id
    if folder.exists() and not exists(dataset_id):
        raise ValueError(f"{folder} is a folder, but no data set; give another id")
    parts = dataset_id.split("/")
    for i in range(1, len(parts)):
        if exists(outer := "/".join(parts[:i])):
            raise ValueError(f"{dataset_id} would lie inside the data set {outer}; give another id")


@contextmanager
def staged(dataset_id: str) -> Iterator[None]:
    """Let Minari write into a hidden folder of the store, and move the set to its place if the block succeeds."""
    root = minari_root()
    root.mkdir(parents=True, exist_ok=True)
    previous = os.environ.get("MINARI_DATASETS_PATH")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as stage:  # Minari skips hidden folders
        os.environ["MINARI_DATASETS_PATH"] = stage
        try:
            yield
        finally:
            if previous is None:
                del os.environ["MINARI_DATASETS_PATH"]
            else:
                os.environ["MINARI_DATASETS_PATH"] = previous
        namespace = parse_dataset_id(dataset_id)[0]
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        target, replaced = root / dataset_id, Path(stage) / ".replaced"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, replaced)
        try:
            os.replace(Path(stage) / dataset_id, target)
        except OSError:
            if replaced.exists():
                os.replace(replaced, target)
            raise
