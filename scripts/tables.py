"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

TITLES = {
    "dataset": "dataset",
    "env": "environment",
    "agent": "agent",
    "rewards": "rewards",
    "normalized_score": "score",
    "interval": "95 % interval",
    "return": "return",
    "laps": "laps",
    "best_normalized_score": "best score",
    "seeds": "seeds",
}


def show(rows: Sequence[dict[str, Any]], title: str | None = None) -> None:
    """Print result rows; columns that no row fills are left out."""
    columns = [key for key in TITLES if any(row.get(key) is not None for row in rows)]
    table = Table(title=title, title_justify="left")
    for key in columns:
        text = key in ("dataset", "env", "agent", "rewards")
        table.add_column(TITLES[key], justify="left" if text else "right", no_wrap=not text)
    for row in rows:
        table.add_row(*(cell(key, row.get(key)) for key in columns))
    Console().print(table)


def cell(key: str, value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if key == "seeds":
        return str(len(value))
    if key == "interval":
        return f"{value[0]:.1f} to {value[1]:.1f}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
