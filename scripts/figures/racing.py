"""Cars on the map of the track: the lines that agents drive, and where the cars of a dataset were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from orl.arrays import Float64Array
from orl.envs.racing import Track
from orl.scripts.figures.style import panels, save

Line = tuple[Float64Array, Float64Array, Float64Array, str]


def racing_lines(track: Track, lines: Mapping[str, Line], columns: int, path: Path) -> None:
    """Paths over the track, coloured by speed.

    Args:
        track: whose walls are drawn.
        lines: per panel title: x (T,) and y (T,) in m, speed (T,) in m/s, and a subtitle.
        columns: panels in a row.
        path: PNG file.
    """
    rows = -(-len(lines) // columns)
    figure, grid = panels(rows, columns, 2.5 * columns, 2.1 * rows, grid="none")
    top = max(float(np.nanmax(speed)) for _, _, speed, _ in lines.values())
    for axes, (title, (x, y, speed, subtitle)) in zip(grid, lines.items(), strict=False):
        _draw_walls(axes, track)
        points = np.stack([x, y], axis=-1)
        drawn = LineCollection(list(np.stack([points[:-1], points[1:]], axis=1)), cmap="plasma", linewidths=1.1)
        drawn.set_array(speed[:-1])
        drawn.set_clim(0.0, top)
        axes.add_collection(drawn)
        axes.set_title(f"{title}\n{subtitle}", fontsize=8)
    for axes in grid:
        axes.set_axis_off()
    figure.colorbar(drawn, ax=grid, shrink=0.7, label="speed (m/s)")
    save(figure, path)


def visits_figure(track: Track, trace: Mapping[str, Float64Array], path: Path) -> None:
    """Where cars were, and how fast; `trace` has `x` and `y` in m and `speed` in m/s, all of one shape."""
    figure, grid = panels(1, 2, 11.0, 5.0, grid="none")
    x, y, speed = (trace[name].ravel() for name in ("x", "y", "speed"))
    visits = grid[0].hexbin(x, y, bins="log", cmap="viridis", gridsize=110, mincnt=1, linewidths=0.0)
    means = grid[1].hexbin(x, y, C=speed, cmap="plasma", gridsize=110, mincnt=1, linewidths=0.0)
    for axes, drawn, label in zip(grid, (visits, means), ("rows (log scale)", "mean speed (m/s)"), strict=True):
        _draw_walls(axes, track)
        figure.colorbar(drawn, ax=axes, label=label, location="bottom", shrink=0.8, aspect=40)
        axes.set(xlabel="x (m)", ylabel="y (m)")
    save(figure, path)


def _draw_walls(axes: Axes, track: Track) -> None:
    for wall in (track.left, track.right):
        axes.plot(*np.concatenate([wall, wall[:1]]).T, color="#555555", linewidth=0.8)
    axes.set_aspect("equal")
