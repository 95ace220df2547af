"""A progress bar that is also there when it is not shown."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

REFRESH = 0.2  # seconds between redraws


@contextmanager
def progress(label: str, total: int, *, visible: bool = True) -> Iterator[Callable[[int], None]]:
    """Show work of `total` steps; yields a function that advances it by n."""
    if not visible:
        yield lambda steps: None
        return
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
