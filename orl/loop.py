"""Training loops as generators: whoever consumes one evaluates, logs and saves between updates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from orl.batch import Metrics
from orl.progress import progress


class Learner(Protocol):
    """What a loop needs of an agent."""

    updates: int

    def step(self) -> Metrics:
        """Sample a batch and do one update."""
        ...


def offline(agent: Learner, updates: int, *, progress_bar: bool = False) -> Iterator[tuple[int, Metrics]]:
    """Do `updates` updates on the agent's data.

    Yields:
        The number of updates that the agent has done in its life, and this update's metrics, (P,) each.
    """
    if updates < 1:
        raise ValueError(f"updates={updates}: give at least one gradient update")
    with progress("updates", updates, visible=progress_bar) as advance:
        for _ in range(updates):
            metrics = agent.step()
            advance(1)
            yield agent.updates, metrics
