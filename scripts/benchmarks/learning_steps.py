"""What a step of `learn()` takes, and which part of it: SAC with 64 units on Pendulum-v1, beside other packages."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orl.agents import SAC, SAC_SMALL_PRESET
from orl.execution import Execution
from orl.scripts.benchmarks.baseline_worker import ENVIRONMENT, LEARNING_STARTS, TIMED_STEPS
from orl.scripts.benchmarks.baselines import Baselines
from orl.scripts.benchmarks.pendulum import Contender
from orl.scripts.benchmarks.timing import not_timed, time_interleaved
from orl.scripts.running.run_directory import JsonObject

WHAT = "step of learn(), SAC 64/64"
PARTS = {  # a method of the agent or of what it holds, by what it does
    "_actions": "acting",
    "collector.step": "environment",
    "replay_buffer.add": "buffer",
    "batches": "drawing and gathering",
    "gradient_steps": "update",
}


def time_steps(who: Mapping[str, Contender], base: str, threads: int, turns: int) -> list[JsonObject]:
    """Rows of milliseconds a step of each contender, all in processes of their own; ratios are of processor time."""
    processes = Baselines(None, [], threads)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            present = {
                name: processes.case_of(each.python, f"{each.package} learn", TIMED_STEPS, Path(scratch, str(k)))
                for k, (name, each) in enumerate(who.items())
                if each.python is not None
            }
            rows = time_interleaved(WHAT, present, base, 1, turns, by_processor=True)
    finally:
        processes.close()
    return rows + [not_timed(WHAT, name, "not installed") for name, each in who.items() if each.python is None]


def time_parts(execution: Execution, turns: int) -> list[JsonObject]:
    """Rows of milliseconds a step of each part of `learn()`, medians over turns of 200 steps; the last has the rest."""
    agent = SAC(ENVIRONMENT, SAC_SMALL_PRESET, execution=execution, target_entropy=-1.0, device="cpu")
    agent.learn(LEARNING_STARTS + TIMED_STEPS)
    watch = _Stopwatch(agent)
    turns_of: dict[str, list[float]] = {part: [] for part in [*PARTS.values(), "the rest"]}
    for _ in range(turns):
        watch.seconds = dict.fromkeys(PARTS.values(), 0.0)
        start = time.process_time()
        agent.learn(TIMED_STEPS)
        watch.seconds["the rest"] = time.process_time() - start - sum(watch.seconds.values())
        for part, seconds in watch.seconds.items():
            turns_of[part].append(1e3 * seconds / TIMED_STEPS)
    rows = []
    for part, values in turns_of.items():
        spent = statistics.median(values)
        row: JsonObject = {"what": f"{WHAT}, {execution}", "case": part, "milliseconds": spent}
        rows.append(row | {"per_second": 1e3 / spent, "processor_milliseconds": spent})
    return rows


class _Stopwatch:
    """Sums up the processor time of an agent's methods, by the part of `learn()` that they are."""

    def __init__(self, agent: Any) -> None:
        self.seconds = dict.fromkeys(PARTS.values(), 0.0)
        for path, part in PARTS.items():
            *holders, name = path.split(".")
            owner = agent
            for holder in holders:
                owner = getattr(owner, holder)
            timed = self._iterated if part == "drawing and gathering" else self._called
            setattr(owner, name, timed(getattr(owner, name), part))

    def _called(self, method: Callable[..., Any], part: str) -> Callable[..., Any]:
        def run(*arguments: Any, **names: Any) -> Any:
            start = time.process_time()
            try:
                return method(*arguments, **names)
            finally:
                self.seconds[part] += time.process_time() - start

        return run

    def _iterated(self, method: Callable[..., Iterator[Any]], part: str) -> Callable[..., Iterator[Any]]:
        def run(*arguments: Any) -> Iterator[Any]:
            following = self._called(method(*arguments).__next__, part)
            while True:
                try:
                    item = following()
                except StopIteration:
                    return
                yield item

        return run
