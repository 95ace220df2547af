"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from orl.scripts.running.run_directory import JsonObject

TITLES = {
    "dataset": "dataset",
    "env": "environment",
    "agent": "agent",
    "part": "part",
    "rewards": "rewards",
    "context": "context",
    "split": "split",
    "zero_shot_score": "zero-shot score",
    "zero_shot_interval": "95 % interval",
    "worst": "worst",
    "strategy": "strategy",
    "sources": "sources",
    "normalized_score": "score",
    "interval": "95 % interval",
    "return": "return",
    "return_interval": "95 % interval",
    "critic_updates": "updates",
    "training_seconds": "seconds",
    "laps": "laps",
    "regret": "regret",
    "share_of_oracle": "of oracle",
    "best_normalized_score": "best",
    "seeds": "seeds",
}


def show(rows: Sequence[JsonObject], title: str = "") -> None:
    """Print result rows; a column that no row fills is left out, one that never changes goes to the title."""
    columns = [key for key in TITLES if any(row.get(key) is not None for row in rows)]
    if "dataset" not in columns:
        columns = [key for key in columns if key != "rewards"]  # acting agents see all of them
    constant = {
        key: cell(key, rows[0].get(key))
        for key in columns
        if len({str(row.get(key)) for row in rows}) == 1
        and (len(rows) > 1 or key in ("dataset", "env", "split", "seeds"))
    }
    columns = [key for key in columns if key not in constant]
    facts = [_seeds(text) if key == "seeds" else text for key, text in constant.items() if text]
    title = ", ".join([title, *facts] if title else facts)
    table = Table(title=title or None, title_justify="left")
    for key in columns:
        is_text = key in ("dataset", "env", "agent", "part", "rewards", "context", "split", "strategy")
        table.add_column(TITLES[key], justify="left" if is_text else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell(key, row.get(key)) for key in columns))
    Console().print(table)


def _seeds(count: str) -> str:
    return "1 seed" if count == "1" else f"{count} seeds"


def cell(key: str, value: Any) -> str:
    """A value as text."""
    if value is None:
        return ""
    if key == "seeds":
        return str(len(value))
    if key in ("zero_shot_score", "worst"):
        return f"{value:.2f}"
    if key == "zero_shot_interval":
        return f"{value[0]:.2f} to {value[1]:.2f}"
    if key in ("interval", "return_interval"):
        return f"{value[0]:.1f} to {value[1]:.1f}"
    if key in ("critic_updates", "training_seconds"):
        return f"{value:,.0f}"
    if key == "share_of_oracle":
        return f"{value:.2f}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
