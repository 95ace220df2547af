"""Figures over contexts: a line over one variable, a surface over two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from orl.context import ContextSpace, Floats
from orl.scripts.figures.runs import save


def context_figure(space: ContextSpace, contexts: Floats, values: NDArray[np.float64], title: str, path: Path) -> None:
    """Values of the contexts of a grid; of more than two variables nothing is drawn.

    Args:
        space: d variables.
        contexts: (N, d), as `ContextSpace.grid` has them.
        values: (N,), returns.
        title: of the figure.
        path: PNG file.
    """
    if len(space.names) > 2:
        return
    figure, axes = plt.subplots(figsize=(5.4, 4.0), layout="constrained")
    grid = [np.unique(column) for column in contexts.T]
    label_axis(axes, "x", space, grid[0])
    if len(grid) == 1:
        axes.plot(values, marker="o", markersize=4)
        axes.set_ylabel("return")
        axes.grid(alpha=0.3)
    else:
        surface = axes.imshow(values.reshape(len(grid[0]), -1).T, origin="lower", aspect="auto")
        figure.colorbar(surface, label="return")
        label_axis(axes, "y", space, grid[1])
    axes.set_title(title, fontsize=10)
    save(figure, path)


def label_axis(axes: Any, side: str, space: ContextSpace, values: Floats) -> None:
    """Values of a grid at whole numbers: evenly spaced in the variable's scale, as the grid is.

    Args:
        axes: of Matplotlib.
        side: "x" for the first variable, "y" for the second.
        space: of them.
        values: of the variable, ascending.
    """
    shown = tick_places(len(values))
    getattr(axes, f"set_{side}ticks")(shown, [f"{values[place]:.2g}" for place in shown], fontsize=8)
    getattr(axes, f"set_{side}label")(variable_label(space, "xy".index(side)))


def tick_places(count: int) -> NDArray[np.int64]:
    """At most seven places of so many, evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, 7).round().astype(np.int64))


def variable_label(space: ContextSpace, i: int) -> str:
    """Name and unit of a variable."""
    variable = space.variables[i]
    return f"{variable.name} ({'factor' if variable.unit == 'x' else variable.unit})"
