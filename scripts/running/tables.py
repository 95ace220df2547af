"""Tables of results, for the terminal, in Markdown and in LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    "critic_updates": ("updates", ",.0f"),
    "training_seconds": ("seconds", ",.0f"),
    "laps": ("laps", ".1f"),
    "regret": ("regret", ".1f"),
    "share_of_oracle": ("of oracle", ".2f"),
    "best_normalized_score": ("best", ".1f"),
    "measure": ("measure", "s"),
    "mean": ("mean", ",.1f"),
    "mean_interval": ("95 % interval", ",.1f"),
    "tasks": ("tasks", "d"),
    "difference": ("difference", ",.1f"),
    "difference_interval": ("95 % interval", ",.1f"),
    "ratio": ("ratio", ".2f"),
    "ratio_interval": ("95 % interval", ".2f"),
    "better": ("P(better)", ".2f"),
    "p_value": ("p", ".4f"),
    "p_holm": ("p, Holm", ".4f"),
    "not_inferior": ("not inferior", "s"),
    "seed_returns": ("of the seeds", ",.0f"),
    "seeds": ("seeds", "d"),
}
COUNTS = {"seeds": "seed", "tasks": "task"}  # numbers that a title can have, and one of what they count


@dataclass(frozen=True)
class Layout:
    """What a table shows, as text."""

    title: str
    headers: Sequence[tuple[str, bool]]  # of each column its title, and whether it holds words, which go to the left
    cells: Sequence[Sequence[str]]  # row by row

    def table(self) -> Table:
        """For the terminal."""
        columns = (Column(name, justify="left" if words else "right", overflow="fold") for name, words in self.headers)
        table = Table(*columns, title=self.title or None, title_justify="left")
        for row in self.cells:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """With the title as a line above."""
        names, lines = [name for name, _ in self.headers], ["---" if words else "---:" for _, words in self.headers]
        rows = "\n".join(f"| {' | '.join(row)} |" for row in (names, lines, *self.cells))
        return (f"{self.title}\n\n" if self.title else "") + f"{rows}\n"

    def latex(self) -> str:
        """A `tabular` of the package booktabs, with the title as a comment."""
        rows = [" & ".join(map(_escape, row)) + r" \\" for row in ([name for name, _ in self.headers], *self.cells)]
        begin = rf"\begin{{tabular}}{{{''.join('l' if words else 'r' for _, words in self.headers)}}}"
        body = [begin, r"\toprule", rows[0], r"\midrule", *rows[1:], r"\bottomrule", r"\end{tabular}"]
        return "\n".join([f"% {self.title}", *body]) + "\n"


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "%_&#$" else letter for letter in text)


def show(rows: Sequence[JsonObject], title: str = "") -> None:
    """Print result rows."""
    Console().print(lay_out(rows, title).table())


def lay_out(rows: Sequence[JsonObject], title: str = "") -> Layout:
    """Result rows as text; a column that no row fills is left out, words that never change go to the title."""
    rows = [row if _has_few(row) else row | {"seed_returns": None} for row in rows]
    columns = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    if "dataset" not in columns:
        columns = [key for key in columns if key != "rewards"]  # acting agents see all of them
    constant = {
        key: cell(key, rows[0].get(key))
        for key in columns
        if len({str(row.get(key)) for row in rows}) == 1
        and (key in COUNTS or COLUMNS[key][1] == "s")
        and key != "not_inferior"  # a title that has no header for it would not say what it is
        and (len(rows) > 1 or key in ("dataset", "env", "split", *COUNTS))
    }
    for key, one in COUNTS.items():
        if key in constant:
            constant[key] += f" {one}" if constant[key] == "1" else f" {one}s"
    columns = [key for key in columns if key not in constant]
    title = ", ".join(text for text in (title, *constant.values()) if text)
    headers = [(COLUMNS[key][0], COLUMNS[key][1] == "s") for key in columns]
    return Layout(title, headers, [[cell(key, row.get(key)) for key in columns] for row in rows])


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
