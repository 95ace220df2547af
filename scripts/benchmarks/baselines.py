"""Other packages as cases on the CPU: processes in virtual environments of their own, which work when told to."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Sequence
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
        python = (self.folder or Path()) / name.split()[0] / "bin" / "python"
        if self.folder is None or not python.exists():
            return None
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}
        command = [str(python.absolute()), str(WORKER), name, *self.arguments]
        pipe, ignore = subprocess.PIPE, subprocess.DEVNULL
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=ignore, text=True, env=environment)
        self.processes.append(process)

        def repeat() -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                process.stdin.write("\n")
                process.stdin.flush()
            if not process.stdout.readline():
                raise ValueError(f"{name}: its process ended; run `echo | {shlex.join(command)}` to see why")

        return BenchmarkCase(repeat, other_process=True)

    def close(self) -> None:
        """End the processes that were started since the last time."""
        for process in self.processes:
            process.communicate()
        self.processes.clear()
