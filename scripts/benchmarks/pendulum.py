"""SAC of several packages on Pendulum-v1: what each of them spends until it has learned the task.

All have the same settings (`baseline_worker.py`): networks of 64 units, batches of 64, a learning rate of 1e-3, 500
random steps, one update a step. An evaluation of 10 episodes follows every 500 steps, and its time is not counted.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from orl.scripts.benchmarks.baseline_worker import MOST_STEPS, SOLVED
from orl.scripts.benchmarks.baselines import answers, interpreter, start
from orl.scripts.running.run_directory import JsonObject
from orl.training import progress

OTHERS = {  # by the name of their virtual environment: how they are called here, and by the worker
    "rltools": ("RLtools", "rltools"),
    "rltools-mkl": ("RLtools with MKL", "rltools"),
    "sbx": ("sbx", "sbx"),
}


class Contender(NamedTuple):
    """A package, or a version or execution of this one."""

    python: Path | None  # None: it is not installed
    package: str  # as the worker calls it


def contenders(executions: Sequence[str], baselines: Path | None, other_version: Path | None) -> dict[str, Contender]:
    """All that can be compared, by name; ours comes first."""
    ours = {f"orl, {execution}": Contender(Path(sys.executable), f"orl-{execution}") for execution in executions}
    if other_version is not None:
        ours["orl, other version"] = Contender(other_version.absolute(), "orl-eager")
    ours["SB3"] = Contender(Path(sys.executable), "sb3")
    return ours | {name: Contender(interpreter(baselines, each), called) for each, (name, called) in OTHERS.items()}


def time_to_solve(who: Mapping[str, Contender], seeds: int, threads: int, jobs: int) -> list[JsonObject]:
    """A row for each contender: medians over the seeds of those that have solved the task, and every seed's numbers.

    A compiler works once and what it made is used by the seeds that follow; each of them is charged with it.

    Args:
        who: by name.
        seeds: trainings of each.
        threads: cores of each training.
        jobs: trainings at a time.
    """
    present = {name: each for name, each in who.items() if each.python is not None}
    results: dict[str, list[JsonObject]] = {name: [] for name in present}
    with tempfile.TemporaryDirectory() as scratch, progress("Pendulum-v1", len(present) * seeds) as advance:

        def train(name: str) -> None:
            for seed in range(seeds):
                results[name].append(_solve(present[name], seed, threads, Path(scratch, name.replace(" ", "-"))))
                advance(1)

        slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(jobs):
            slots.put(slot)
        with ThreadPoolExecutor(jobs, initializer=lambda: _use_cores(slots.get(), threads)) as pool:
            list(pool.map(train, present))
    rows = [_row(name, results[name]) for name in present]
    missing = [name for name, contender in who.items() if contender.python is None]
    return rows + [{"case": name, "seconds": None, "note": "not installed"} for name in missing]


def _use_cores(slot: int, threads: int) -> None:
    """Let this thread, and the processes that it starts, have cores of their own, where there are enough."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[slot * threads : (slot + 1) * threads]
        os.sched_setaffinity(0, cores or os.sched_getaffinity(0))


def _solve(contender: Contender, seed: int, threads: int, scratch: Path) -> JsonObject:
    assert contender.python is not None
    words = [f"{contender.package} solve", str(seed), str(threads)]
    process, command = start(contender.python, words, threads, scratch)
    evaluations = [json.loads(line) for line in answers(process) if line.startswith("{")]
    if process.returncode or not evaluations:
        raise ValueError(f"{contender.package}: its process failed; run `{' '.join(command)}` to see why")
    return {"seed": seed, **evaluations[-1], "solved": evaluations[-1]["return"] >= SOLVED, "evaluations": evaluations}


def _row(name: str, seeds: list[JsonObject]) -> JsonObject:
    compiler = max(seed["compiler_seconds"] for seed in seeds)
    solved = [seed for seed in seeds if seed["solved"]]
    row: JsonObject = {"case": name, "solved": len(solved), "compiler_seconds": compiler, "seeds": seeds}
    if 2 * len(solved) <= len(seeds):
        return row | {"seconds": None, "note": f"solved by {len(solved)} of {len(seeds)} in {MOST_STEPS:,} steps"}
    every = [seed["seconds"] + compiler if seed["solved"] else float("inf") for seed in seeds]
    steps = [seed["steps"] if seed["solved"] else float("inf") for seed in seeds]
    per_step = statistics.median(seed["seconds"] / seed["steps"] for seed in seeds)
    medians = {"seconds": statistics.median(every), "steps": statistics.median(steps)}
    return row | medians | {"milliseconds_per_step": 1e3 * per_step}
