"""The folder that a run writes, and what it is resumed by.

One rule says what is finished, for a run and for its parts: **a part is finished when the file that it writes last is
there**. That file is written aside and renamed, so that it is whole. Of a run and of a job (`orl.launcher`) it is
`results.json`, and `RunDirectory.results` runs what is not finished. Of a part inside a run it is a file of arrays or
of JSON, and `load_or_make` makes what is not there. Nothing else is asked, and no part is done twice.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from rich.console import Console

from orl import checkpoint, datasets, statistics
from orl.arrays import Array
from orl.datasets.files import replacing
from orl.environment import recorded_id
from orl.launcher import MARKER

try:
    import fcntl
except ImportError:  # on Windows: two commands in one folder are not noticed
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"  # file of a run's folder; says which process is at work there
JsonObject = dict[str, Any]  # what JSON can hold, by name
_locks: dict[Path, weakref.finalize[..., RunDirectory]] = {}  # of this process: what gives them back


@dataclass
class RunDirectory:
    """One run; the same configuration continues it, another one is refused."""

    path: Path
    config: JsonObject  # what decides the numbers, JSON-able
    history: list[JsonObject] = field(default_factory=list)  # evaluations so far, oldest first
    started: float = field(default_factory=time.monotonic)  # seconds of this process's clock
    earlier_seconds: float = 0.0  # of the processes before this one

    @classmethod
    def open(cls, path: Path, config: JsonObject) -> RunDirectory:
        """Make the folder, or continue in it; no other process may while this object lives.

        Raises:
            ValueError: something else is there, or another process is at work there.
        """
        config = json.loads(json.dumps(config))
        cls._check(path, config)
        path.mkdir(parents=True, exist_ok=True)
        run = cls(path, config)
        _lock(run)
        cls._check(path, config)  # again: somebody may have been at work there until now
        checkpoint.write_json(path / "config.json", config)
        return run

    @staticmethod
    def _check(path: Path, config: JsonObject) -> None:
        """Refuse a folder that holds something else."""
        file = path / "config.json"
        names = [other.name for other in path.glob("*") if other.name != LOCK]
        others = [name for name in names if not name.lstrip(".").startswith(file.name)]
        if file.exists():
            before = checkpoint.read_json(file)
            differing = [key for key in config | before if config.get(key) != before.get(key)]
            if differing and others:  # else it is a run that never began
                key, was, now = _difference(differing[0], before, config)
                raise ValueError(
                    f"{path}: holds a run with {key} = {was!r}, not {now!r}; "
                    "give the same command to resume it, or another --out"
                )
        elif others:
            raise ValueError(f"{path}: holds files of something else; give a new folder as --out")

    def finished(self) -> JsonObject | None:
        """The results, if the run is finished."""
        return checkpoint.read_json(self.path / MARKER) if (self.path / MARKER).exists() else None

    def results(self, make: Callable[[], JsonObject]) -> JsonObject:
        """The results; `make` does what is missing and ends with `finish`, unless the run is finished."""
        results = self.finished()
        if results is None:
            return make()
        Console().print(f"{self.path} is finished; these are its results", soft_wrap=True)
        return results

    def truncate_history(self, work: int) -> None:
        """Take back the evaluations up to the checkpoint of this number; later ones will be made again."""
        file = self.path / "history.json"
        if file.exists():
            self.history = [row for row in checkpoint.read_json(file) if row["work"] <= work]
            self.earlier_seconds = self.history[-1]["seconds"] if self.history else 0.0

    @property
    def seconds(self) -> float:
        """Wall-clock time spent on this run, without what was lost when it was stopped."""
        return self.earlier_seconds + time.monotonic() - self.started

    def record(self, returns: ArrayLike, lengths: ArrayLike, **more: object) -> None:
        """Add an evaluation: returns and lengths (P, E), and what else is JSON-able."""
        played = {"returns": np.asarray(returns, np.float64).tolist(), "lengths": np.asarray(lengths).tolist()}
        self.history.append({"seconds": round(self.seconds, 1), **more, **played})
        checkpoint.write_json(self.path / "history.json", self.history)

    def finish(self, rows: list[JsonObject], **top: object) -> JsonObject:
        """Write `results.json`."""
        results = {
            "command": command_line(self.path),
            "config": self.config,
            "versions": checkpoint.versions(),
            "seconds": round(self.seconds, 1),
            **top,
            "rows": rows,
        }
        checkpoint.write_json(self.path / MARKER, results)
        return results


def _lock(run: RunDirectory) -> None:
    """Keep other processes from a run's folder; the system ends the lock with the process, however it ends.

    The same process may ask again. A file system without locks is written to all the same.

    Raises:
        ValueError: another process has the folder, and is named.
    """
    if fcntl is None:
        return
    path = run.path.resolve() / LOCK
    if path in _locks:
        _locks.pop(path)()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    give_back = weakref.finalize(run, os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.read(descriptor, 1_000).decode().strip() or "another process"
        give_back()
        raise ValueError(
            f"{run.path}: {owner} is at work there; wait until it is done, or give another --out"
        ) from error
    except OSError:
        give_back()
        return
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    _locks[path] = give_back


def load_or_make(file: Path, make: Callable[[], Mapping[str, ArrayLike]]) -> dict[str, Array]:
    """The arrays by name of a part of a run; made, and written to an .npz file at the end, where that is not there.

    Args:
        file: says that the part is finished; its name may have folders in it.
        make: does the part.
    """
    if not file.exists():
        arrays = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, temporary.open("wb") as aside:
            np.savez_compressed(aside, allow_pickle=False, **arrays)
    with np.load(file, allow_pickle=False) as arrays_of_file:
        return dict(arrays_of_file)


def load_or_make_json(file: Path, make: Callable[[], Any]) -> Any:
    """The same of what JSON can hold."""
    if not file.exists():
        checkpoint.write_json(file, make())
    return checkpoint.read_json(file)


def _difference(key: str, before: JsonObject, after: JsonObject) -> tuple[str, object, object]:
    """What differs in an entry of two configurations; within a nested one, the first such field of it."""
    was, now = before.get(key), after.get(key)
    if isinstance(was, dict) and isinstance(now, dict):
        return _difference(next(name for name in now | was if was.get(name) != now.get(name)), was, now)
    return key, was, now


def config_of(folder: Path) -> tuple[JsonObject, Path]:
    """The `config.json` of a run and the run's folder, also for that of one of its learners; empty where there is none.

    Args:
        folder: a run's, or directly in it.
    """
    run = next((path for path in (folder, folder.parent) if (path / "config.json").exists()), None)
    if run is None:
        return {}, folder
    config = checkpoint.read_json(run / "config.json")
    return config | ({"env": recorded_id(config["env"])} if "env" in config else {}), run


def command_line(folder: Path) -> str:
    """The command as typed, absolute paths relative to the run's folder."""
    words = [os.path.relpath(word, folder.resolve()) if os.path.isabs(word) else word for word in sys.argv[1:]]
    return " ".join(["orl", *words])


def score_row(
    returns: ArrayLike, seeds: list[int], *, dataset: str | None, env: str, agent: str, rewards: str, **more: object
) -> JsonObject:
    """One cell over all its seeds: the mean of their mean returns, as score and as return; an interval from five seeds.

    Args:
        returns: (S, E), undiscounted.
        seeds: one per learner.
        dataset: id or file name.
        env: Gymnasium id.
        agent: name.
        rewards: which ones the agent was trained on.
        more: further entries of the row.
    """
    means = np.asarray(returns, np.float64).mean(axis=1)
    scores = datasets.normalized_score(env, means) if env in datasets.REFERENCES else None
    score, interval = (None, None) if scores is None else statistics.mean(scores)
    return {
        "dataset": dataset,
        "env": env,
        "agent": agent,
        "rewards": rewards,
        "normalized_score": score,
        "interval": None if interval is None else list(interval),
        "return": float(means.mean()),
        "seeds": seeds,
        "seed_returns": means.tolist(),
        **more,
    }
