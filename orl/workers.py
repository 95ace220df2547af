"""Where jobs are done: in this process, in spawned ones, in tasks of Ray. `orl.launcher` gives them out."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orl.allocator import keep_memory

IN_FLIGHT = 256  # jobs that a cluster is told of at a time; our choice
OBJECT_STORE = 100 * 2**20  # bytes of a Ray of our own; what comes back through it is a line of text; our choice
Work = Callable[[Path], object]


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


class Workers(ABC):
    """Workers beside this process; called from one thread per job."""

    jobs_at_a_time: int

    def __init__(self) -> None:
        self.lock, self.stopped, self.running = threading.Lock(), False, set[Any]()

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
    def start(self, *task: Any) -> Any:
        """Let a worker do `attempt_elsewhere`."""

    @abstractmethod
    def result(self, worker: Any) -> str | None:
        """What the attempt returned, or how the worker died."""

    @abstractmethod
    def kill(self, worker: Any) -> None:
        """End a worker without a chance to clean up."""

    @abstractmethod
    def close(self) -> None:
        """Give back what all workers shared."""


class Processes(Workers):
    """A spawned process for each job."""

    def __init__(self, jobs_at_a_time: int | None) -> None:
        super().__init__()
        self.jobs_at_a_time = jobs_at_a_time or os.cpu_count() or 1

    def start(self, *task: Any) -> tuple[Any, Any]:
        """The process, and the end of a pipe from it."""
        context = multiprocessing.get_context("spawn")
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_process, args=(sender, *task))
        with contextlib.closing(sender):  # here, so that the pipe ends with the process
            process.start()
        return process, receiver

    def result(self, worker: tuple[Any, Any]) -> str | None:
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

    def kill(self, worker: tuple[Any, Any]) -> None:
        """SIGKILL."""
        worker[0].kill()

    def close(self) -> None:
        """Processes share nothing."""


def _process(sender: Any, *task: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then kills this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sender.send(attempt_elsewhere(*task))


def _end_with_parent() -> None:
    """Leave nothing behind that writes where the next start does."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class Ray(Workers):
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

    def start(self, *task: Any) -> Any:
        """Reference to the task's result."""
        return self.task.remote(*task)

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
