"""Returns over the contexts of a grid: a line over one variable, a surface over two.

Shape key: N contexts, d variables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from orl.arrays import Float64Array, IntArray
from orl.context import ContextSpace
from orl.scripts.figures.style import BLUE, GREY, YELLOW, panel, save


def context_figure(space: ContextSpace, contexts: Float64Array, returns: Float64Array, title: str, path: Path) -> None:
    """Returns in the contexts of a grid; of more than two variables nothing is drawn.

    Args:
        space: d variables.
        contexts: (N, d), as `ContextSpace.grid` has them.
        returns: (N,).
        title: of the figure.
        path: PNG file.
    """
    if len(space.names) > 2:
        return
    grid = [np.unique(column) for column in contexts.T]
    figure, axes = panel(5.4, 4.0, title, grid="both" if len(grid) == 1 else "none")
    label_axis(axes, "x", space, grid[0])
    if len(grid) == 1:
        axes.plot(returns, marker="o", markersize=4)
        axes.set_ylabel("return")
    else:
        surface = axes.imshow(returns.reshape(len(grid[0]), -1).T, origin="lower", aspect="auto")
        figure.colorbar(surface, label="return")
        label_axis(axes, "y", space, grid[1])
    save(figure, path)


def generalist_figure(
    space: ContextSpace,
    contexts: Float64Array,
    sources: Mapping[str, Sequence[int]],
    generated: Mapping[str, Float64Array],
    best_source: Float64Array,
    title: str,
    path: Path,
) -> None:
    """Returns of generalists in all contexts: in the order of the grid for one variable, else from worst to best.

    Args:
        space: d variables.
        contexts: (N, d).
        sources: indices of the contexts trained in, by how they were chosen.
        generated: (N,), returns of the policy that learned from these sources.
        best_source: (N,), returns of the best of the first sources.
        title: of the figure.
        path: PNG file.
    """
    is_line = len(space.names) == 1
    order = np.arange(len(contexts)) if is_line else best_source.argsort(kind="stable")
    figure, axes = panel(7.0, 4.0, title)
    axes.plot(best_source[order], color="black", linestyle="--", label=f"best source, {next(iter(sources))}")
    for name, colour in zip(sources, (BLUE, YELLOW, GREY), strict=False):
        axes.plot(generated[name][order], color=colour, label=f"hyperzero, {name}")
        trained = np.flatnonzero(np.isin(order, sources[name]))
        axes.plot(trained, generated[name][order][trained], "o", color=colour, markersize=5)
    if is_line:
        label_axis(axes, "x", space, contexts[:, 0])
    else:
        axes.set_xlabel("contexts, from the worst to the best return of the best source")
    axes.set_ylabel("return; dots: contexts trained in")
    axes.legend(fontsize=8)
    save(figure, path)


def label_axis(axes: Axes, side: Literal["x", "y"], space: ContextSpace, values: Float64Array) -> None:
    """Values of a grid at whole numbers: evenly spaced in the variable's scale, as the grid is.

    Args:
        axes: of Matplotlib.
        side: "x" for the first variable, "y" for the second.
        space: of them.
        values: of the variable, ascending.
    """
    ticks = tick_indices(len(values))
    axis = getattr(axes, f"{side}axis")
    axis.set_ticks(ticks, [f"{values[i]:.2g}" for i in ticks], fontsize=8)
    axis.set_label_text(variable_label(space, "xy".index(side)))


def tick_indices(count: int) -> IntArray:
    """At most seven of the indices of so many values, evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, 7).round().astype(np.int64))


def variable_label(space: ContextSpace, i: int) -> str:
    """Name and unit of a variable."""
    variable = space.variables[i]
    return f"{variable.name} ({'factor' if variable.unit == 'x' else variable.unit})"
