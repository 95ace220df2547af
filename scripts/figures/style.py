"""What all figures share: colours, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#7f7f7f"  # Okabe and Ito's palette, and grey
YELLOW, PINK = "#e69f00", "#cc79a7"


Grid = Literal["both", "x", "none"]


def panels(
    rows: int,
    columns: int,
    width: float,
    height: float,
    *,
    grid: Grid = "both",
    share_y: bool = False,
    heights: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure of rows x columns panels, row by row.

    Args:
        rows: of panels.
        columns: of panels.
        width: of the figure, inches.
        height: of the figure, inches.
        grid: lines behind what is drawn, of which axis.
        share_y: all panels have one range.
        heights: of the rows, relative to one another.
    """
    ratios = {"height_ratios": heights}
    figure = plt.figure(figsize=(width, height), layout="constrained")
    table = figure.subplots(rows, columns, sharey=share_y, squeeze=False, gridspec_kw=ratios)
    for axes in table.flat:
        axes.set_axisbelow(True)
        if grid != "none":
            axes.grid(alpha=0.3, axis=grid)
    return figure, list(table.flat)


def panel(width: float, height: float, title: str, *, grid: Grid = "both") -> tuple[Figure, Axes]:
    """A figure of one panel, as `panels` makes it."""
    figure, [axes] = panels(1, 1, width, height, grid=grid)
    axes.set_title(title, fontsize=9)
    return figure, axes


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
