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

Work = Callable[[], object]  # another process says how many seconds of processor time it took
WARM_UP = 2  # repetitions before it is counted how many fit into a turn


@dataclass(frozen=True)
class BenchmarkCase:
    """A piece of work that can be repeated, and what each repetition does.

    Attributes:
        work: is repeated.
        units: learners or cars that it serves.
        count: updates or steps in it.
        other_process: whether another process does it.
    """

    work: Work
    units: int = 1
    count: int = 1
    other_process: bool = False


def time_interleaved(
    what: str,
    cases: Mapping[str, BenchmarkCase],
    base: str | None,
    repetitions: int | None,
    turns: int,
    *,
    seconds: float = 0.1,
    by_processor: bool = False,
) -> list[JsonObject]:
    """Rows of milliseconds per update or step, medians over turns; `ratio` is speed per unit against that of `base`.

    `processor_milliseconds` are those of all threads of the process that works: what other jobs on the machine disturb
    least.

    Args:
        what: is timed.
        cases: by name.
        base: whose ratio is 1; None: no ratios.
        repetitions: of the work in one turn; None: as many as fit into `seconds`, for each case.
        turns: of each case; one more comes first and is not counted.
        seconds: of a turn.
        by_processor: whether `per_second` and ratios are of processor time.
    """
    times: dict[str, list[float]] = {name: [] for name in cases}
    processor: dict[str, list[float]] = {name: [] for name in cases}
    with progress(what, (turns + 1) * len(cases)) as advance:
        fitting = {name: repetitions or _fitting(case, seconds) for name, case in cases.items()}
        for turn, (name, case) in itertools.product(range(turns + 1), cases.items()):
            elapsed, used = _time(case, fitting[name])
            if turn:
                times[name].append(elapsed / (fitting[name] * case.count))
                processor[name].append(used / (fitting[name] * case.count))
            advance(1)
    clock = {name: statistics.median(turns) for name, turns in times.items()}
    used_by = {name: statistics.median(turns) for name, turns in processor.items()}
    spent = used_by if by_processor else clock
    rows = []
    for name, case in cases.items():
        per_second = case.units / spent[name]
        row: JsonObject = {"what": what, "case": name, "milliseconds": 1e3 * clock[name], "per_second": per_second}
        if used_by[name]:
            row["processor_milliseconds"] = 1e3 * used_by[name]
        if base is not None:
            row |= {"ratio": case.units * spent[base] / (cases[base].units * spent[name]), "against": base}
        rows.append(row)
    return rows


def _time(case: BenchmarkCase, repetitions: int) -> tuple[float, float]:
    """Seconds and seconds of processor time; none of the latter where another process does not say."""
    start, processor_start, said = time.perf_counter(), time.process_time(), 0.0
    for _ in range(repetitions):
        answer = case.work()
        if case.other_process:
            said += answer if isinstance(answer, float) else 0.0
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    used = said if case.other_process else time.process_time() - processor_start
    return time.perf_counter() - start, used


def _fitting(case: BenchmarkCase, seconds: float) -> int:
    """How many repetitions take so long, after some in which things are compiled and recorded."""
    _time(case, WARM_UP)
    repetitions = 1
    while (elapsed := _time(case, repetitions)[0]) < seconds / 4:
        repetitions *= 2
    return max(1, round(repetitions * seconds / elapsed))


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
