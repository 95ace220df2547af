"""Checkpoints: `FOLDER/checkpoint-N/{manifest.json,state.safetensors}`; N counts updates and environment steps.

A checkpoint is written under a temporary name and renamed when it is whole; the newest readable one wins.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

import orl

FORMAT = 3
KEPT = 2  # checkpoints kept in a folder


class CheckpointError(ValueError):
    """A checkpoint that is missing, cut short, of another version or of another agent."""


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    return {
        "orl": orl.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "gymnasium": gymnasium.__version__,
    }


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def write_json(path: Path, content: Any) -> None:
    """Write JSON, atomically; NaN is refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file.

    Raises:
        OSError: as for any other file, where the disk is full or cannot be written.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata) if metadata else None)
    except SafetensorError as error:
        raise OSError(f"{path}: {error}") from error


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        ValueError: the file holds something else, and is named.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:  # also of text that is none
        raise ValueError(f"{path}: cannot be read ({error}); restore or delete it") from error


def save(folder: Path, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Path:
    """Write `checkpoint-number` atomically; delete all but the newest ones before it, and later ones.

    Args:
        folder: created if needed.
        number: updates and environment steps done.
        tensors: state by name.
        manifest: JSON-able description; format and versions are added.

    Returns:
        The checkpoint's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"checkpoint-{number}"
    temporary = folder / f".checkpoint-{number}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    write_tensors(
        temporary / "state.safetensors", {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    )
    described = {"format": FORMAT, "versions": versions(), **manifest}
    (temporary / "manifest.json").write_text(json.dumps(described, indent=1, allow_nan=False))
    if target.exists():  # the same state again, from a repeated stretch of a resumed run
        shutil.rmtree(_aside(target), ignore_errors=True)
        target.rename(_aside(target))
    temporary.rename(target)
    kept = sorted((path for path in folder.glob("checkpoint-*") if _number(path) <= number), key=_number)[-KEPT:]
    for other in set(folder.glob("checkpoint-*")) - set(kept):  # later ones were left behind by another run
        shutil.rmtree(other)
    for stray in folder.glob(".checkpoint-*"):
        shutil.rmtree(stray)
    return target


def _aside(path: Path) -> Path:
    """Where a checkpoint is until another one of its number has taken its place."""
    return path.with_name(f".{path.name}.replaced")


def _place(folder: Path, number: int) -> Path:
    """The folder of checkpoint `number`, also if its replacement was interrupted."""
    path = folder / f"checkpoint-{number}"
    return path if path.exists() or not _aside(path).exists() else _aside(path)


def _number(path: Path) -> int:
    suffix = path.name.removesuffix(".replaced").lstrip(".").removeprefix("checkpoint-")
    return int(suffix) if suffix.isdigit() else -1


def is_written(folder: Path) -> bool:
    """Whether a folder holds checkpoints, readable or not."""
    return any(_number(path) >= 0 for path in _written(folder))


def _written(folder: Path) -> list[Path]:
    return [*folder.glob("checkpoint-*"), *folder.glob(".checkpoint-*.replaced")]


def numbers(folder: Path) -> list[int]:
    """Numbers of the checkpoints in a folder that can be read, newest first."""
    found = sorted({n for path in _written(folder) if (n := _number(path)) >= 0}, reverse=True)
    return [number for number in found if _readable(_place(folder, number))]


def _readable(path: Path) -> bool:
    try:
        with safe_open(str(path / "state.safetensors"), "pt"):  # its header says how long the file must be
            pass
        _manifest(path)
    except (OSError, SafetensorError, ValueError):
        return False
    return True


def _manifest(path: Path) -> dict[str, Any]:
    manifest = json.loads((path / "manifest.json").read_text())
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: its manifest is no JSON object")
    return manifest


def load(folder: Path, number: int | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and manifest of checkpoint `number`, by default the newest readable one.

    Raises:
        CheckpointError: none is there, none can be read, or it was written by another format.
    """
    if number is None:
        readable = numbers(folder)
        if not readable:
            present = [path.name for path in folder.glob("checkpoint-*")] if folder.exists() else []
            state = f"{', '.join(present)} cannot be read (cut short?)" if present else "no checkpoint is there"
            depths = [] if present else ["*/checkpoint-*", "*/*/checkpoint-*", "*/*/*/checkpoint-*"]
            below = sorted(path.parent for depth in depths for path in folder.glob(depth))
            such = f", such as {below[0]}" if below else ""
            raise CheckpointError(f"{folder}: {state}; give a folder that an agent was saved to{such}")
        number = readable[0]
    path = _place(folder, number)
    manifest = _manifest(path)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path}: format {manifest.get('format')}, this version of orl reads format {FORMAT}")
    return load_file(path / "state.safetensors"), manifest


def save_population(folder: Path, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
    """Write one learner to `folder`, or each learner of a population to a `seed-K` folder inside it.

    Args:
        folder: created if needed.
        number: updates and environment steps done.
        tensors: state by name, the population as first axis.
        manifest: with `agent` and with `seeds`, one per learner.

    Raises:
        CheckpointError: the folder holds another agent, or learners of other seeds; nothing was written.
    """
    seeds = manifest["seeds"]
    refuse_others(folder, manifest["agent"], learner_names(seeds) if len(seeds) > 1 else [""])
    if len(seeds) == 1:
        save(folder, number, tensors, manifest)
        return
    for k, name in enumerate(learner_names(seeds)):
        chosen = {key: tensor[k : k + 1] for key, tensor in tensors.items()}
        described = {**manifest, "seeds": [seeds[k]], "learner": k, "population": len(seeds)}
        save(folder / name, number, chosen, described)


def refuse_others(folder: Path, agent: str, names: Sequence[str]) -> None:
    """Raise where a folder holds what would be deleted, or would be read in place of what is to be written."""
    present = {path.name if path != folder else "" for path in (folder, *folder.glob("seed-*")) if is_written(path)}
    theirs = {
        _manifest(_place(folder / name, number))["agent"] for name in present for number in numbers(folder / name)
    }
    if not present <= set(names) or not theirs <= {agent}:
        held = " and ".join(sorted(theirs)) or "an agent"
        learners = f" in {', '.join(sorted(present))}" if present != {""} else ""
        raise CheckpointError(f"{folder}: holds {held}{learners}; save to another folder, or delete this one")


def learner_names(seeds: Sequence[int]) -> list[str]:
    """Folder names `seed-K`, with the learner's position added where seeds repeat."""
    return [f"seed-{s}" if list(seeds).count(s) == 1 else f"seed-{s}-learner-{k}" for k, s in enumerate(seeds)]


def load_population(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The newest state that one learner, or every learner of a population saved in `seed-K` folders, can be read at.

    Raises:
        CheckpointError: nothing readable, learners that are missing, or another format.
    """
    parts = [path for path in folder.glob("seed-*") if is_written(path)]
    if not parts:
        return load(folder)
    common = set.intersection(*(set(numbers(part)) for part in parts))
    if not common:
        raise CheckpointError(f"{folder}: the learners have no readable checkpoint in common; load one, seed-K, alone")
    loaded = sorted((load(part, max(common)) for part in parts), key=lambda state: state[1].get("learner", 0))
    manifest = loaded[0][1]
    if len(loaded) != manifest.get("population", 1):
        whole = manifest.get("population", 1)
        raise CheckpointError(f"{folder}: holds {len(loaded)} of {whole} learners; load one, seed-K, alone")
    tensors = {name: _side_by_side([state[0][name] for state in loaded]) for name in loaded[0][0]}
    return tensors, {**manifest, "seeds": [seed for state in loaded for seed in state[1]["seeds"]]}


def _side_by_side(learners: list[Tensor]) -> Tensor:
    """Along the first axis; texts, kept as bytes, are as long as their learner needed and get spaces at their ends."""
    if learners[0].dtype == torch.uint8:
        longest = max(each.shape[-1] for each in learners)
        learners = [F.pad(each, (0, longest - each.shape[-1]), value=ord(" ")) for each in learners]
    return torch.cat(learners)
