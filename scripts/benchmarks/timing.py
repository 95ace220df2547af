"""Timing cases side by side: they take turns, so that a noisy machine disturbs them alike."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from orl.scripts.running.run_directory import JsonObject
from orl.training import progress

Work = Callable[[], object]


@dataclass(frozen=True)
class BenchmarkCase:
    """A piece of work that can be repeated, and how many units (learners, cars) each repetition serves."""

    work: Work
    units: int = 1
    other_process: bool = False  # whose processor time is not measured


def time_interleaved(
    what: str, cases: Mapping[str, BenchmarkCase], base: str | None, repetitions: int, turns: int
) -> list[JsonObject]:
    """JsonObjects of milliseconds per repetition, medians over turns; `ratio` is speed per unit against that of `base`.

    `processor_milliseconds` are those of all threads of this process: what other jobs on the machine disturb least.

    Args:
        what: is timed.
        cases: by name.
        base: whose ratio is 1; None: no ratios.
        repetitions: of the work in one turn.
        turns: of each case; one more comes first and is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    processor: dict[str, list[float]] = {name: [] for name in cases}
    with progress(what, (turns + 1) * len(cases)) as advance:
        for turn, (name, case) in itertools.product(range(turns + 1), cases.items()):
            start, processor_start = time.perf_counter(), time.process_time()
            for _ in range(repetitions):
                case.work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - start) / repetitions)
                processor[name].append((time.process_time() - processor_start) / repetitions)
            advance(1)
    seconds = {name: statistics.median(turns) for name, turns in times.items()}
    rows = []
    for name, case in cases.items():
        per_second = case.units / seconds[name]
        row: JsonObject = {"what": what, "case": name, "milliseconds": 1e3 * seconds[name], "per_second": per_second}
        if not case.other_process:
            row["processor_milliseconds"] = 1e3 * statistics.median(processor[name])
        if base is not None:
            row |= {"ratio": per_second * seconds[base] / cases[base].units, "against": base}
        rows.append(row)
    return rows


def not_timed(what: str, case: str, note: str) -> JsonObject:
    """The row of a case that could not be timed."""
    return {"what": what, "case": case, "milliseconds": None, "per_second": None, "note": note}


def machine(device: torch.device) -> JsonObject:
    """What the numbers of a device were measured on; `cuda` is None where it is a CPU."""
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": cuda,
        "torch": torch.__version__,
    }
