"""Ratios of `orl speed` as bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from orl.scripts.figures.style import BLUE, panels, save
from orl.scripts.running.run_directory import JsonObject


def speed_figure(rows: Sequence[JsonObject], path: Path) -> None:
    """A panel for each thing that was timed; the dashed line is what the speeds are ratios to.

    Args:
        rows: of its results, with `what`, `case` (`contender` in older ones), `ratio` and `against`; those without a
            ratio are left out, and those of the many sizes.
        path: PNG file.
    """
    timed: dict[str, list[JsonObject]] = {}
    of_sizes = {row["what"] for row in rows if "execution" in row}
    for row in rows:
        if "ratio" in row and row["what"] not in of_sizes:
            timed.setdefault(row["what"], []).append(row)
    if not timed:
        return
    heights = [len(group) for group in timed.values()]
    height = 0.24 * sum(heights) + 0.75 * len(timed)
    figure, grid = panels(len(timed), 1, 8.0, height, grid="none", heights=heights)
    for axes, (what, group) in zip(grid, timed.items(), strict=True):
        names = [row.get("case") or row["contender"] for row in group]
        ratios = [row["ratio"] for row in group]
        colours = [BLUE if name.startswith("orl") else "#999999" for name in names]
        axes.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axes.bar_label(axes.barh(names, ratios, color=colours), fmt="%.2f", fontsize=7, padding=3, bbox=white)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{what}: speed per learner against {group[0]['against']}", fontsize=8, loc="left")
    save(figure, path)
