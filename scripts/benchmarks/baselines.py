"""Packages in virtual environments of their own, as contenders on the CPU: each a process that works when told to."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

from orl.scripts.benchmarks.timing import Contender

WORK = Path(__file__).with_name("baseline_worker.py")


class Peers:
    """The processes of the packages in `folder`, one virtual environment each: FOLDER/sbx, FOLDER/d3rlpy.

    Args:
        folder: None: there are none.
        arguments: of `baseline_worker.py` after the name of the work.
        threads: cores that each of them may use.
    """

    def __init__(self, folder: Path | None, arguments: list[Any], threads: int) -> None:
        self.folder, self.arguments, self.threads = folder, [*map(str, arguments), str(threads)], threads
        self.processes: list[subprocess.Popen[str]] = []

    def contender(self, name: str) -> Contender | None:
        """The work `PACKAGE NAME` of `baseline_worker.py`; None where the package is not installed."""
        python = (self.folder or Path()) / name.split()[0] / "bin" / "python"
        if self.folder is None or not python.exists():
            return None
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "PYTHONPATH": "", "JAX_PLATFORMS": "cpu"}
        command = [str(python.absolute()), str(WORK), name, *self.arguments]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.processes.append(process)

        def repeat() -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                process.stdin.write("\n")
                process.stdin.flush()
            if not process.stdout.readline():
                raise ValueError(f"{name}: its process ended; run `echo | {shlex.join(command)}` to see why")

        return Contender(repeat, elsewhere=True)

    def close(self) -> None:
        """End the processes that were started since the last time."""
        for process in self.processes:
            process.communicate()
        self.processes.clear()
