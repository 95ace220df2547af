"""Training loops as generators: whoever consumes one evaluates, logs and saves between updates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from orl.batch import Metrics
from orl.progress import progress


class Learner(Protocol):
    """What a loop needs of an agent."""

    updates: int
    steps: int

    def draw(self, updates: int) -> Iterator[dict[str, Tensor]]:
        """Random numbers and batch of each of so many updates."""
        ...

    def step(self, inputs: Mapping[str, Tensor]) -> Metrics:
        """Do one update."""
        ...

    def collect(self) -> int:
        """Act once in every copy of the environment; returns how many updates are due."""
        ...

    def phase(self) -> Iterator[Metrics]:
        """Do the stabilization phase that is due, a piece at a time."""
        ...


class Moment(NamedTuple):
    """Where online training stands between two pieces of work."""

    steps: int  # of each learner, in its life
    metrics: Metrics  # of the last update, (P,) each; empty where there was none
    in_phase: bool  # within a stabilization phase, where steps stand still


def whole(name: str, number: float) -> int:
    """A count, also from a float such as 1e6; refuse what is none."""
    if not (1 <= number < math.inf and number == int(number)):
        raise ValueError(f"{name}={number}: give a whole number, at least 1")
    return int(number)


def offline(agent: Learner, updates: int, *, progress_bar: bool = False) -> Iterator[tuple[int, Metrics]]:
    """Do `updates` updates on the agent's data.

    Yields:
        The number of updates that the agent has done in its life, and this update's metrics, (P,) each.
    """
    updates = whole("updates", updates)
    with progress("updates", updates, visible=progress_bar) as advance:
        for inputs in agent.draw(updates):
            metrics = agent.step(inputs)
            advance(1)
            yield agent.updates, metrics


def online(agent: Learner, steps: int, *, progress_bar: bool = False) -> Iterator[Moment]:
    """Let every learner do `steps` environment steps and the updates that its schedule has for them.

    A phase that is due after a step is done before the next one, so that none follows the last step.

    Yields:
        After every step in all copies, and after every piece of a stabilization phase.
    """
    steps = whole("steps", steps)
    end = agent.steps + steps
    with progress("steps", steps, visible=progress_bar) as advance:
        while agent.steps < end:
            for metrics in agent.phase():
                advance(0)
                yield Moment(agent.steps, metrics, True)
            before, metrics = agent.steps, {}
            for inputs in agent.draw(agent.collect()):
                metrics |= agent.step(inputs)
            advance(agent.steps - before)
            yield Moment(agent.steps, metrics, False)
