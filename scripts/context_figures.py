"""Figures over contexts: a line over one variable, a surface over two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from orl.context import ContextSpace, Floats
from orl.scripts.figures import save


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
    _label(axes, "x", space, 0)
    if len(space.names) == 1:
        axes.plot(contexts[:, 0], values, marker="o", markersize=4)
        axes.set_ylabel("return")
        axes.grid(alpha=0.3)
    else:
        x, y = (np.unique(column) for column in contexts.T)
        surface = axes.pcolormesh(x, y, values.reshape(len(x), len(y)).T, shading="nearest")
        figure.colorbar(surface, label="return")
        _label(axes, "y", space, 1)
    axes.set_title(title, fontsize=10)
    save(figure, path)


def _label(axes: Any, side: str, space: ContextSpace, variable: int) -> None:
    chosen = space.variables[variable]
    getattr(axes, f"set_{side}label")(f"{chosen.name} ({'factor' if chosen.unit == 'x' else chosen.unit})")
    if chosen.scale == "log":
        getattr(axes, f"set_{side}scale")("log")
        ticks = np.geomspace(chosen.low, chosen.high, 5)
        getattr(axes, f"set_{side}ticks")(ticks, [f"{tick:.2g}" for tick in ticks], minor=False)
        getattr(axes, f"{side}axis").minorticks_off()
