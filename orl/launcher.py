"""Independent jobs: one after another, on the cores of a machine, or on a Ray cluster; the shape of concurrent.futures.

A job is a callable that writes into a folder, and the settings that decide what it writes. Its name is a hash of the
settings, and `results.json`, written last, says that it is finished: a job that is finished is not run again, and one
that was killed finds its checkpoints in its folder. What comes back are files; nothing depends on the engine that ran.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from orl.workers import Processes, Ray, Work, Workers, attempt

MARKER = "results.json"
Kind = Literal["serial", "process", "ray"]


class JobError(RuntimeError):
    """A job failed in every attempt, or several did."""


@dataclass(frozen=True)
class Job:
    """Work to do in a folder."""

    work: Work  # of a module, or a partial of such; makes its folder, writes `results.json` last
    settings: Mapping[str, Any]  # JSON-able: all that decides the result

    @property
    def id(self) -> str:
        """Hash of the settings, whatever their order."""
        text = json.dumps(self.settings, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Launcher:
    """Runs jobs, each in `folder/ID`, in a `with` block; `folder/ID.log` has what a job printed and its tracebacks.

    `submit` gives a `concurrent.futures.Future`, so that `as_completed` and `wait` of the standard library apply.

    Args:
        folder: of the jobs; other machines must reach it by the same path.
        kind: "serial" (in this process), "process" (spawned, one for each job, one torch thread each) or "ray" (tasks
            of Ray Core, in the cluster that RAY_ADDRESS names, else in a Ray of this machine's cores).
        workers: jobs at a time; by default one per core, in a cluster as many as fit.
        gpus: of each Ray task; a share puts several on one, and with 0 they see none.
        retries: further attempts when a job fails or its worker dies.

    Raises:
        ValueError: one of these is out of range, or Ray is not installed.
    """

    def __init__(
        self, folder: Path, kind: Kind = "serial", *, workers: int | None = None, gpus: float = 0.0, retries: int = 1
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"launcher {kind!r}: choose one of {', '.join(get_args(Kind))}")
        if workers is not None and workers < 1:
            raise ValueError(f"workers={workers}: give 1 or more")
        if gpus < 0 or (gpus and kind != "ray"):
            raise ValueError(f"gpus={gpus} with the launcher {kind!r}: Ray alone shares GPUs out, 0 or more per job")
        if retries < 0:
            raise ValueError(f"retries={retries}: give 0 or more")
        if kind == "ray" and importlib.util.find_spec("ray") is None:
            raise ValueError("launcher 'ray': Ray is not installed; pip install 'orl[ray]'")
        self.folder, self.kind, self.workers, self.gpus, self.retries = folder, kind, workers, gpus, retries
        self.futures: dict[str, Future[Path]] = {}
        self._elsewhere: Workers | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.kind != "serial":
            self._elsewhere = Processes(self.workers) if self.kind == "process" else Ray(self.workers, self.gpus)
            self._threads = ThreadPoolExecutor(self._elsewhere.jobs_at_a_time)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for all jobs; after an error or Ctrl-C, stop them where they are."""
        if self._elsewhere is None:
            return
        try:
            if error is None:
                self._threads.shutdown()
        finally:
            self._elsewhere.stop()
            self._threads.shutdown(cancel_futures=True)
            self._elsewhere.close()

    def submit(self, job: Job) -> Future[Path]:
        """Its folder, once it is finished; a job that was given before has the future that it had.

        The future raises JobError when every attempt failed. A serial launcher returns after the work.
        """
        if job.id not in self.futures:
            if self._elsewhere is not None:
                self.futures[job.id] = self._threads.submit(self._run, job)
            else:
                self.futures[job.id] = future = Future[Path]()
                try:
                    future.set_result(self._run(job))
                except JobError as error:
                    future.set_exception(error)
        return self.futures[job.id]

    def map(self, jobs: Iterable[Job]) -> list[Path]:
        """The folders of jobs, when all are finished.

        Raises:
            JobError: names those that failed, after all others have finished.
        """
        futures = [self.submit(job) for job in jobs]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            listed = "; ".join(str(error) for error in errors)
            raise JobError(f"{len(errors)} of {len(futures)} jobs failed, the others are kept: {listed}")
        return [future.result() for future in futures]

    def _run(self, job: Job) -> Path:
        folder, log, failure = self.folder / job.id, self.folder / f"{job.id}.log", None
        do = self._elsewhere or attempt
        for _ in range(1 + self.retries):
            if not (folder / MARKER).exists():
                failure = do(job.work, folder.resolve(), log.resolve())
            if (folder / MARKER).exists():
                return folder
        raise JobError(f"{folder}: {failure or f'it ended without {MARKER}'} ({log}, attempts: {1 + self.retries})")
