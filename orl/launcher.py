"""Independent jobs: one after another, on the cores of a machine, or on a Ray cluster; the shape of concurrent.futures.

A job is a callable that writes into a folder, and the settings that decide what it writes. Its name is a hash of the
settings, and `results.json`, written last, says that it is finished: a job that is finished is not run again, and one
that was killed finds its checkpoints in its folder. What comes back are files; nothing depends on the engine that ran.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, get_args

from orl.device import keep_memory

IN_FLIGHT = 256  # jobs that a cluster is told of at a time; our choice
OBJECT_STORE = 100 * 2**20  # bytes of a Ray of our own; what comes back through it is a line of text; our choice
Work = Callable[[Path], object]
Worker = TypeVar("Worker")
Child = tuple[SpawnProcess, "Connection[str | None, str | None]"]  # a process, and the end of a pipe from it


def attempt(work: Work, folder: Path, log: Path) -> str | None:
    """Do the work here; returns what went wrong in one line, and leaves the traceback in the log."""
    try:
        work(folder)
    except (Exception, SystemExit) as error:
        with log.open("a") as file:
            traceback.print_exc(file=file)
        return f"{type(error).__name__}: {error}"
    return None


def attempt_elsewhere(work: Work, folder: Path, log: Path, words: list[str]) -> str | None:
    """The same in a worker: on one thread, printing to the log, under the command line that was typed."""
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that the work imports
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    keep_memory()
    sys.argv = words
    with log.open("a", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        return attempt(work, folder, log)


class Workers(ABC, Generic[Worker]):
    """Workers beside this process; called from one thread per job."""

    jobs_at_a_time: int

    def __init__(self) -> None:
        self.lock, self.stopped, self.running = threading.Lock(), False, set[Worker]()

    def __call__(self, work: Work, folder: Path, log: Path) -> str | None:
        """As `attempt`, elsewhere; a worker that dies is something that went wrong."""
        with self.lock:
            if self.stopped:
                return "stopped"
            try:
                worker = self.start(work, folder, log, sys.argv)
            except Exception as error:  # work that cannot be sent to another process
                return f"{type(error).__name__}: {error}"
            self.running.add(worker)
        try:
            return self.result(worker)
        finally:
            with self.lock:
                self.running.remove(worker)

    def stop(self) -> None:
        """Kill what runs and start nothing more."""
        with self.lock:
            self.stopped = True
            for worker in self.running:
                self.kill(worker)

    @abstractmethod
    def start(self, work: Work, folder: Path, log: Path, words: list[str]) -> Worker:
        """Let a worker do `attempt_elsewhere`."""

    @abstractmethod
    def result(self, worker: Worker) -> str | None:
        """What the attempt returned, or how the worker died."""

    @abstractmethod
    def kill(self, worker: Worker) -> None:
        """End a worker without a chance to clean up."""

    @abstractmethod
    def close(self) -> None:
        """Give back what all workers shared."""


class Processes(Workers[Child]):
    """A spawned process for each job."""

    def __init__(self, jobs_at_a_time: int | None) -> None:
        super().__init__()
        self.jobs_at_a_time = jobs_at_a_time or os.cpu_count() or 1

    def start(self, work: Work, folder: Path, log: Path, words: list[str]) -> Child:
        """The process, and the end of a pipe from it."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_process, args=(sender, work, folder, log, words))
        with contextlib.closing(sender):  # here, so that the pipe ends with the process
            process.start()
        return process, receiver

    def result(self, worker: Child) -> str | None:
        """What came through the pipe."""
        process, receiver = worker
        with contextlib.closing(receiver):
            try:
                said: str | None = receiver.recv()
            except EOFError:
                process.join()
                said = f"its process died with exit code {process.exitcode}"
        process.join()
        return said

    def kill(self, worker: Child) -> None:
        """SIGKILL."""
        worker[0].kill()

    def close(self) -> None:
        """Processes share nothing."""


def _process(sender: Connection[str | None, str | None], work: Work, folder: Path, log: Path, words: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then kills this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(attempt_elsewhere(work, folder, log, words))


def _end_with_parent() -> None:
    """Leave nothing behind that writes where the next start does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Ray(Workers[Any]):
    """Tasks of Ray Core: where Ray runs already, else in the cluster that RAY_ADDRESS names, else on this machine.

    Args:
        jobs_at_a_time: by default what there is room for.
        gpus: of each task; may be a share of one.

    Raises:
        ConnectionError: Ray does not start, or the cluster does not answer.
        ValueError: this machine alone is used, and has not that many GPUs.
    """

    def __init__(self, jobs_at_a_time: int | None, gpus: float) -> None:
        super().__init__()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        self.ray, self.was_there = ray, ray.is_initialized()
        if not self.was_there:
            machine = {"num_cpus": jobs_at_a_time, "include_dashboard": False, "object_store_memory": OBJECT_STORE}
            where: dict[str, Any] = {} if "RAY_ADDRESS" in os.environ else {"address": "local", **machine}
            try:
                ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:  # of many kinds, some of them plain
                raise ConnectionError(f"Ray does not start: {error}") from error
            if where and gpus > ray.cluster_resources().get("GPU", 0):  # type: ignore[no-untyped-call]
                ray.shutdown()
                raise ValueError(f"gpus={gpus} per job: Ray finds fewer on this machine; RAY_ADDRESS names a cluster")
        self.jobs_at_a_time = jobs_at_a_time or IN_FLIGHT
        self.task = ray.remote(attempt_elsewhere).options(num_cpus=1, num_gpus=gpus, max_retries=0)  # the launcher's

    def start(self, work: Work, folder: Path, log: Path, words: list[str]) -> Any:
        """Reference to the task's result."""
        return self.task.remote(work, folder, log, words)

    def result(self, worker: Any) -> str | None:
        """What the task returned, or how Ray says that it ended."""
        try:
            said: str | None = self.ray.get(worker)
        except self.ray.exceptions.RayError as error:
            *_, last = str(error).strip().split("\n")
            said = f"{type(error).__name__}: {last}"
        return said

    def kill(self, worker: Any) -> None:
        """SIGKILL to the worker that has the task."""
        self.ray.cancel(worker, force=True)

    def close(self) -> None:
        """End what was begun here."""
        if not self.was_there:
            self.ray.shutdown()


MARKER = "results.json"
Kind = Literal["serial", "process", "ray"]


class JobError(RuntimeError):
    """A job failed in every attempt, or several did."""


@dataclass(frozen=True)
class Job:
    """Work to do in a folder."""

    work: Work  # of a module, or a partial of such; makes its folder, writes `results.json` last
    settings: Mapping[str, object]  # JSON-able: all that decides the result
    name: str = ""  # of its folder; by default the settings name it

    @property
    def id(self) -> str:
        """Its name, else a hash of the settings, whatever their order."""
        if self.name:
            return self.name
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
        self._elsewhere: Processes | Ray | None = None

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
