"""Measuring contenders side by side: they take turns, so that a noisy machine disturbs them alike."""

from __future__ import annotations

import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from orl.training import progress

Work = Callable[[], Any]


@dataclass(frozen=True)
class Contender:
    """A piece of work that can be repeated, and how many units (learners, cars) each repetition serves."""

    work: Work
    units: int = 1
    elsewhere: bool = False  # in another process, whose processor time is not known


def race(
    what: str, contenders: Mapping[str, Contender], base: str | None, repetitions: int, turns: int
) -> list[dict[str, Any]]:
    """Rows of milliseconds per repetition, medians over turns; `ratio` is speed per unit against that of `base`.

    `processor_milliseconds` are those of all threads of this process: what other jobs on the machine disturb least.

    Args:
        what: is raced.
        contenders: by name.
        base: whose ratio is 1; None: no ratios.
        repetitions: of the work in one turn.
        turns: of each contender; one more comes first and is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    processor: dict[str, list[float]] = {name: [] for name in contenders}
    with progress(what, (turns + 1) * len(contenders)) as advance:
        for turn, (name, contender) in itertools.product(range(turns + 1), contenders.items()):
            start, processor_start = time.perf_counter(), time.process_time()
            for _ in range(repetitions):
                contender.work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn:
                times[name].append((time.perf_counter() - start) / repetitions)
                processor[name].append((time.process_time() - processor_start) / repetitions)
            advance(1)
    seconds = {name: statistics.median(each) for name, each in times.items()}
    rows = []
    for name, contender in contenders.items():
        per_second = contender.units / seconds[name]
        row = {"what": what, "contender": name, "milliseconds": 1e3 * seconds[name], "per_second": per_second}
        if not contender.elsewhere:
            row["processor_milliseconds"] = 1e3 * statistics.median(processor[name])
        if base is not None:
            row |= {"ratio": per_second * seconds[base] / contenders[base].units, "against": base}
        rows.append(row)
    return rows


def absent(what: str, contender: str, note: str) -> dict[str, Any]:
    """The row of a contender that could not race."""
    return {"what": what, "contender": contender, "milliseconds": None, "per_second": None, "note": note}


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers of a device were measured on; `cuda` is None where it is a CPU."""
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": cuda,
        "torch": torch.__version__,
    }
