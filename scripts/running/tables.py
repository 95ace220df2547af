"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from orl.scripts.running.run_directory import JsonObject
from orl.statistics import FEWEST_SEEDS

COLUMNS = {  # by key, in their order: title and format; "s": words, to the left
    "dataset": ("dataset", "s"),
    "env": ("environment", "s"),
    "agent": ("agent", "s"),
    "part": ("part", "s"),
    "rewards": ("rewards", "s"),
    "context": ("context", "s"),
    "split": ("split", "s"),
    "zero_shot_score": ("zero-shot score", ".2f"),
    "zero_shot_interval": ("95 % interval", ".2f"),
    "worst": ("worst", ".2f"),
    "strategy": ("strategy", "s"),
    "sources": ("sources", "d"),
    "normalized_score": ("score", ".1f"),
    "interval": ("95 % interval", ".1f"),
    "return": ("return", ".1f"),
    "return_interval": ("95 % interval", ".1f"),
    "seed_returns": ("of the seeds", ".0f"),
    "critic_updates": ("updates", ",.0f"),
    "training_seconds": ("seconds", ",.0f"),
    "laps": ("laps", ".1f"),
    "regret": ("regret", ".1f"),
    "share_of_oracle": ("of oracle", ".2f"),
    "best_normalized_score": ("best", ".1f"),
    "seeds": ("seeds", "d"),
}


def show(rows: Sequence[JsonObject], title: str = "") -> None:
    """Print result rows; a column that no row fills is left out, one that never changes goes to the title."""
    rows = [row if _has_few(row) else row | {"seed_returns": None} for row in rows]
    columns = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    if "dataset" not in columns:
        columns = [key for key in columns if key != "rewards"]  # acting agents see all of them
    constant = {
        key: cell(key, rows[0].get(key))
        for key in columns
        if len({str(row.get(key)) for row in rows}) == 1
        and (len(rows) > 1 or key in ("dataset", "env", "split", "seeds"))
    }
    if "seeds" in constant:
        constant["seeds"] += " seed" if constant["seeds"] == "1" else " seeds"
    columns = [key for key in columns if key not in constant]
    title = ", ".join(text for text in (title, *constant.values()) if text)
    headers = (
        Column(COLUMNS[key][0], justify="left" if COLUMNS[key][1] == "s" else "right", overflow="fold")
        for key in columns
    )
    table = Table(*headers, title=title or None, title_justify="left")
    for row in rows:
        table.add_row(*(cell(key, row.get(key)) for key in columns))
    Console().print(table)


def _has_few(row: JsonObject) -> bool:
    """Whether the seeds themselves are shown, because they are too few for an interval."""
    return 1 < len(row.get("seed_returns") or ()) < FEWEST_SEEDS


def cell(key: str, value: Any) -> str:
    """A value as text; of an interval both ends."""
    if value is None:
        return ""
    if key == "seeds":
        return str(len(value))
    ends = value if isinstance(value, list) else [value]
    return (", " if key == "seed_returns" else " to ").join(f"{end:{COLUMNS[key][1]}}" for end in ends)
