"""Other packages as cases on the CPU: processes in virtual environments of their own, which work when told to."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from orl.scripts.benchmarks.timing import BenchmarkCase

WORKER = Path(__file__).with_name("baseline_worker.py")


class Baselines:
    """The processes of the packages in `folder`, one virtual environment each: FOLDER/sbx, FOLDER/d3rlpy.

    Args:
        folder: None: there are none.
        arguments: of `baseline_worker.py` after the name of the work.
        threads: cores that each of them may use.
    """

    def __init__(self, folder: Path | None, arguments: Sequence[int], threads: int) -> None:
        self.folder, self.arguments, self.threads = folder, [*map(str, arguments), str(threads)], threads
        self.processes: list[subprocess.Popen[str]] = []

    def case(self, name: str) -> BenchmarkCase | None:
        """The work `PACKAGE NAME` of `baseline_worker.py`; None where the package is not installed."""
        python = interpreter(self.folder, name.split()[0])
        return None if python is None else self.case_of(python, name)

    def case_of(self, python: Path, name: str, count: int = 1, scratch: Path | None = None) -> BenchmarkCase:
        """The work of that name, in the environment of an interpreter.

        Args:
            python: the interpreter.
            name: of the work.
            count: updates or steps of one repetition.
            scratch: folder for what its compiler makes; it need not be there.
        """
        process, command = start(python, [name, *self.arguments], self.threads, scratch)
        self.processes.append(process)

        def repeat() -> float | None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                process.stdin.write("\n")
                process.stdin.flush()
            while not (answer := process.stdout.readline()).startswith("done"):  # compilers may write there, too
                if not answer:
                    raise ValueError(f"{name}: its process ended; run `echo | {shlex.join(command)}` to see why")
            _, *seconds = answer.split()
            return float(seconds[0]) if seconds else None

        return BenchmarkCase(repeat, count=count, other_process=True)

    def close(self) -> None:
        """End the processes that were started since the last time."""
        for process in self.processes:
            process.communicate()
        self.processes.clear()


def interpreter(folder: Path | None, package: str) -> Path | None:
    """Python of a package's virtual environment; None where there is none."""
    python = (folder or Path()) / package / "bin" / "python"
    return python.absolute() if folder is not None and python.exists() else None


def start(
    python: Path, arguments: Sequence[str], threads: int, scratch: Path | None = None
) -> tuple[subprocess.Popen[str], list[str]]:
    """A process that does the work of these words, and its command."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    variables = {**os.environ, **limits, "PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}
    if scratch is not None:
        scratch.mkdir(exist_ok=True)
        variables["TMPDIR"] = str(scratch)
    command = [str(python), str(WORKER), *arguments]
    pipe, ignore = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=ignore, text=True, env=variables), command


def answers(process: subprocess.Popen[str]) -> Iterator[str]:
    """What a process writes, line by line, until it ends."""
    assert process.stdout is not None
    yield from process.stdout
    process.communicate()
