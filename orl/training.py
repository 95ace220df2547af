"""Training loops, when updates are due, and the progress bar.

Loops are generators: whoever consumes one evaluates, logs and saves between updates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, Protocol

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from orl.buffer import Batch, Metrics
from orl.noise import Noise

REFRESH = 0.2  # seconds between redraws


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show work of `total` steps; yields a function that advances it by n."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, auto_refresh=False) as bar:
        task = bar.add_task(label, total=total)
        waiting, last = 0, time.monotonic()

        def advance(steps: int) -> None:
            nonlocal waiting, last
            waiting += steps
            if time.monotonic() - last > REFRESH:
                bar.update(task, advance=waiting, refresh=True)
                waiting, last = 0, time.monotonic()

        yield advance
        bar.update(task, advance=waiting, refresh=True)


NO_PROGRESS = nullcontext(lambda steps: None)  # in place of a bar that is not shown


def updates_due(utd_ratio: float, learning_starts: int, before: int, after: int) -> int:
    """Updates due when the environment steps go from `before` to `after`; over a run they add up to the ratio exactly.

    Args:
        utd_ratio: updates per transition.
        learning_starts: steps without updates.
        before: steps.
        after: steps.
    """
    total_before, total_after = (
        math.floor(utd_ratio * max(steps - learning_starts, 0) + 1e-9) for steps in (before, after)
    )
    return total_after - total_before


class Trainable(Protocol):
    """What a loop needs of an agent."""

    updates: int
    steps: int

    def batches(self, updates: int) -> Iterator[tuple[Batch, Noise]]:
        """Batches and random numbers of so many updates, of some of them at a time."""
        ...

    def gradient_steps(self, batches: Batch, noise: Noise) -> Metrics:
        """Do the updates of some batches."""
        ...

    def collect(self) -> int:
        """Act once in every copy of the environment; returns how many updates are due."""
        ...

    def phase(self) -> Iterator[Metrics]:
        """Do the stabilization phase that is due, a piece at a time."""
        ...


class TrainingStep(NamedTuple):
    """Where online training stands between two pieces of work."""

    steps: int  # of each learner, in its life
    metrics: Metrics  # of the last update, (P,) each; empty where there was none
    in_phase: bool  # within a stabilization phase, where steps stand still


def check_count(name: str, number: float) -> int:
    """A count, also from a float such as 1e6; refuse what is none."""
    if not (1 <= number < math.inf and number == int(number)):
        raise ValueError(f"{name}={number}: give a whole number, at least 1")
    return int(number)


def offline(
    agent: Trainable, updates: int, *, every: int = 1, progress_bar: bool = False
) -> Iterator[tuple[int, Metrics]]:
    """Do `updates` updates on the agent's data.

    Args:
        agent: with its data.
        updates: how many.
        every: updates between two yields, at its multiples and at the end. Many cost less time than one.
        progress_bar: show one.

    Yields:
        The number of updates that the agent has done in its life, and the metrics of the last ones, (P,) each.
    """
    end = agent.updates + check_count("updates", updates)
    with progress("updates", int(updates)) if progress_bar else NO_PROGRESS as advance:
        while agent.updates < end:
            metrics: Metrics = {}
            for batches, noise in agent.batches(min(every - agent.updates % every, end - agent.updates)):
                metrics |= agent.gradient_steps(batches, noise)
                advance(len(batches.rewards))
            yield agent.updates, metrics


def online(agent: Trainable, steps: int, *, progress_bar: bool = False) -> Iterator[TrainingStep]:
    """Let every learner do `steps` environment steps and the updates that its schedule has for them.

    A phase that is due after a step is done before the next one, so that none follows the last step.

    Yields:
        After every step in all copies, and after every piece of a stabilization phase.
    """
    steps = check_count("steps", steps)
    end = agent.steps + steps
    with progress("steps", steps) if progress_bar else NO_PROGRESS as advance:
        while agent.steps < end:
            for metrics in agent.phase():
                advance(0)
                yield TrainingStep(agent.steps, metrics, True)
            before, metrics = agent.steps, {}
            for batches, noise in agent.batches(agent.collect()):
                metrics |= agent.gradient_steps(batches, noise)
            advance(agent.steps - before)
            yield TrainingStep(agent.steps, metrics, False)
