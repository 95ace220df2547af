"""Checkpoints: `FOLDER/checkpoint-N/{manifest.json,state.safetensors}`; N counts updates and environment steps.

A checkpoint is written under a temporary name and renamed when it is whole; the newest readable one wins.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import gymnasium
import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

import orl
from orl.updates import Adam

FORMAT = 4
NUM_CHECKPOINTS = 2  # of one training in a folder
FILES = ("manifest.json", "state.safetensors")  # of a checkpoint
PER_LEARNER = ("seeds", "identities")  # lists in the manifest


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


def save(
    folder: Path, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], *, goes_on: bool = False
) -> Path:
    """Write `checkpoint-number` atomically; of the checkpoints of the same training, keep the newest ones before it.

    Args:
        folder: created if needed.
        number: updates and environment steps done.
        tensors: state by name.
        manifest: JSON-able description; format, versions and number are added. `agent` and `identities` say which
            training it is.
        goes_on: the training was loaded from this folder: its later checkpoints are deleted, not refused.

    Returns:
        The checkpoint's folder.

    Raises:
        CheckpointError: the folder holds checkpoints that this training did not write; nothing was written.
    """
    refuse_others(folder, number, {"": manifest}, goes_on=goes_on)
    return _write(folder, number, tensors, manifest)


def _write(folder: Path, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for path in _written(folder):
        if path.name.endswith(".replaced"):  # a replacement was interrupted
            _remove(path) if _whole_name(path).exists() else path.rename(_whole_name(path))
    earlier = [path for path in _written(folder) if _readable(path)]  # all of this training; damaged ones stay
    target, temporary = folder / f"checkpoint-{number}", _hidden(folder, number)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    described = {"format": FORMAT, "versions": versions(), "number": number, **manifest}
    files = [temporary / name for name in FILES]
    files[0].write_text(json.dumps(described, indent=1, allow_nan=False))
    write_tensors(files[1], {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()})
    shutil.copymode(*files)  # safetensors lets nobody else read
    for path in (*files, temporary):
        _flush_to_disk(path)
    if target.exists():  # the same state again, from a repeated stretch of a resumed run
        target.rename(_aside(target))
    temporary.rename(target)
    before = sorted((path for path in earlier if _number(path) < number), key=_number)
    for path in {*earlier, _aside(target)} - {target, *before[1 - NUM_CHECKPOINTS :]}:
        if path.exists():
            _remove(path)
    for path in folder.glob(".checkpoint-*.*"):
        if _is_left_behind(path):
            shutil.rmtree(path)
    return target


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hidden(folder: Path, number: int) -> Path:
    """Where this process writes a checkpoint before it is whole, and deletes one."""
    return folder / f".checkpoint-{number}.{os.getpid()}"


def _is_left_behind(path: Path) -> bool:
    """Whether a process that is no more wrote this, and nobody put anything into it."""
    match = re.fullmatch(r"\.checkpoint-\d+\.(\d+)", path.name)
    if match is None or not set(os.listdir(path)) <= set(FILES):
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return int(match[1]) == os.getpid()


def _remove(path: Path) -> None:
    """Delete a checkpoint of this training, unless a user has put files into it; half of one is never seen."""
    if set(os.listdir(path)) <= set(FILES):
        hidden = _hidden(path.parent, _number(path))
        shutil.rmtree(hidden, ignore_errors=True)
        path.rename(hidden)
        shutil.rmtree(hidden)


def _aside(path: Path) -> Path:
    """Where a checkpoint is until another one of its number has taken its place."""
    return path.with_name(f".{path.name}.replaced")


def _whole_name(aside: Path) -> Path:
    """The inverse of `_aside`."""
    return aside.with_name(aside.name[1:].removesuffix(".replaced"))


def _folder_of(folder: Path, number: int) -> Path:
    """The folder of checkpoint `number`, also if its replacement was interrupted."""
    path = folder / f"checkpoint-{number}"
    return path if path.exists() or not _aside(path).exists() else _aside(path)


def _number(path: Path) -> int:
    """Of `checkpoint-N` and `.checkpoint-N.replaced`; -1 for every other name."""
    match = re.fullmatch(r"checkpoint-(0|[1-9][0-9]*)|\.checkpoint-(0|[1-9][0-9]*)\.replaced", path.name)
    return int(match[1] or match[2]) if match else -1


def is_written(folder: Path) -> bool:
    """Whether a folder holds checkpoints, readable or not."""
    return bool(_written(folder))


def _written(folder: Path) -> list[Path]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [folder / name for name in names if _number(Path(name)) >= 0]


def numbers(folder: Path) -> list[int]:
    """Numbers of the checkpoints in a folder that can be read, newest first.

    Raises:
        CheckpointError: one cannot be opened, so that nobody knows whether it can be read.
    """
    present = sorted({_number(path) for path in _written(folder)}, reverse=True)
    return [number for number in present if _readable(_folder_of(folder, number))]


def _readable(path: Path) -> bool:
    """Whether a checkpoint is whole."""
    try:
        _manifest(path)
        with _opened(path / FILES[1]), safe_open(str(path / FILES[1]), "pt"):  # its header says how long it must be
            pass
    except CheckpointError:
        raise
    except (FileNotFoundError, NotADirectoryError, SafetensorError, ValueError):
        return False
    return True


def _manifest(path: Path) -> dict[str, Any]:
    with _opened(path / FILES[0]) as file:
        manifest = json.loads(file.read().decode())
    if not isinstance(manifest, dict):
        raise ValueError(f"{path}: its manifest is no JSON object")
    return manifest


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to read; one that may be whole but cannot be opened is not damaged."""
    try:
        file = path.open("rb")
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be opened ({error.strerror}); nothing was changed: let this user read it, or try again"
        ) from error
    with file:
        yield file


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
    path = _folder_of(folder, number)
    manifest = _manifest(path)
    if (written := manifest.get("format")) != FORMAT:
        is_newer = isinstance(written, int) and written > FORMAT
        remedy = "install a newer orl" if is_newer else "train again, or load it with the version that wrote it"
        raise CheckpointError(f"{path}: format {written}, this version of orl reads format {FORMAT}; {remedy}")
    return load_file(path / "state.safetensors"), manifest


def save_population(
    folder: Path, number: int, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], *, goes_on: bool = False
) -> None:
    """Write one learner to `folder`, or each learner of a population to a `seed-K` folder inside it.

    Args:
        folder: created if needed.
        number: updates and environment steps done.
        tensors: state by name, the population as first axis.
        manifest: with `agent` and with `seeds` and `identities`, one per learner.
        goes_on: as for `save`.

    Raises:
        CheckpointError: the folder holds another agent, learners of other seeds, or what this training did not write;
            nothing was written.
    """
    seeds = manifest["seeds"]
    parts = {"": dict(manifest)}
    if len(seeds) > 1:
        parts = {
            name: {
                **manifest,
                **{key: [manifest[key][k]] for key in PER_LEARNER if key in manifest},
                "learner": k,
                "population": len(seeds),
            }
            for k, name in enumerate(learner_names(seeds))
        }
    refuse_others(folder, number, parts, goes_on=goes_on)
    for k, (name, part) in enumerate(parts.items()):
        _write(
            folder / name,
            number,
            {key: tensor[k : k + 1] for key, tensor in tensors.items()} if name else tensors,
            part,
        )


def refuse_others(
    folder: Path, number: int, manifests: Mapping[str, Mapping[str, Any]], *, goes_on: bool = False
) -> None:
    """Raise where a folder holds what would be lost, or would be read in place of what is to be written.

    Args:
        folder: to be written to.
        number: of what is to be written.
        manifests: of what is to be written, by folder inside `folder`; "" is the folder itself.
        goes_on: as for `save`.

    Raises:
        CheckpointError: checkpoints of another program, agent or training, of other learners, or of the same training
            but later ones; ones that cannot be opened.
    """
    parts = [folder, *(path for path in folder.glob("seed-*") if path.is_dir())]
    present = {path.name if path != folder else "": described for path in parts if (described := manifests_in(path))}
    agent = next(iter(manifests.values())).get("agent")
    theirs = {manifest.get("agent") for described in present.values() for manifest in described.values()}
    if not present.keys() <= manifests.keys() or not theirs <= {agent}:
        held = " and ".join(sorted(map(str, theirs)))
        learners = f" in {', '.join(sorted(present))}" if present.keys() != {""} else ""
        raise CheckpointError(f"{folder}: holds {held}{learners}; save to another folder, or delete this one")
    for name, described in present.items():
        identity = manifests[name].get("identities")
        for path, manifest in described.items():
            others = sorted(set(os.listdir(path)) - set(FILES))
            if manifest.get("identities") != identity or manifest.get("number") != _number(path) or path.is_symlink():
                raise CheckpointError(
                    f"{path}: of another training, or a copy under this name; save to another folder, or move it away"
                )
            if others and _number(path) == number:
                raise CheckpointError(f"{path}: is to be replaced, and holds {', '.join(others)}; move that away")
            if _number(path) > number and not goes_on and _readable(path):
                raise CheckpointError(
                    f"{path}: of the same training, but later; load it to go on, or save to another folder"
                )


def manifests_in(folder: Path) -> dict[Path, dict[str, Any]]:
    """Manifests of the checkpoints in a folder, also of those whose tensors are damaged.

    Raises:
        CheckpointError: entries named `checkpoint-N` that are no checkpoints, or whose manifests cannot be read.
    """
    described, others = {}, []
    for path in sorted(_written(folder), key=_number):
        try:
            described[path] = _manifest(path)
        except CheckpointError:
            raise
        except (OSError, ValueError):
            others.append(path.name)
    if others:
        raise CheckpointError(
            f"{folder}: {', '.join(others)}: not written by orl, or damaged; give another folder, or move that away"
        )
    return described


def identity(*about: Any) -> str:
    """A hash of what decides a training, JSON-able: the same training done again has the same one."""
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


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
    lists = {key: [entry for state in loaded for entry in state[1].get(key, [])] for key in PER_LEARNER}
    return tensors, {**manifest, **lists}


def _side_by_side(learners: list[Tensor]) -> Tensor:
    """Along the first axis; texts, stored as bytes, are as long as their learner needed, and get spaces at the end."""
    if learners[0].dtype == torch.uint8:
        longest = max(text.shape[-1] for text in learners)
        learners = [F.pad(text, (0, longest - text.shape[-1]), value=ord(" ")) for text in learners]
    return torch.cat(learners)


# Names of the tensors in a checkpoint; every one has the population as its first axis.


def flatten_state(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam], others: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Copies of parameters, Adam moments and steps, and other tensors, by name."""
    tensors = {
        f"{name}/{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for i, parameter in enumerate(optimizer.parameters):
            tensors[f"optimizer/{name}/{i}/exp_avg"] = optimizer.exp_avg[i]
            tensors[f"optimizer/{name}/{i}/exp_avg_sq"] = optimizer.exp_avg_sq[i]
            tensors[f"optimizer/{name}/{i}/step"] = optimizer.steps.expand(len(parameter))
    tensors.update(others)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore_state(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Adam],
    others: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Copy `flatten_state`'s tensors into networks and optimizers of the same shapes."""
    for name, network in networks.items():
        network.load_state_dict(strip_prefix(tensors, f"{name}/"))
    for name, optimizer in optimizers.items():
        optimizer.steps.copy_(tensors[f"optimizer/{name}/0/step"][0])
        for i in range(len(optimizer.parameters)):
            optimizer.exp_avg[i].copy_(tensors[f"optimizer/{name}/{i}/exp_avg"])
            optimizer.exp_avg_sq[i].copy_(tensors[f"optimizer/{name}/{i}/exp_avg_sq"])
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(tensors[name])
