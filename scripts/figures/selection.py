"""Figures of task selection: the transfer matrix, what the selector believes, and what is covered.

Shape key: N contexts, d variables, k sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from orl.agents import TaskSelector
from orl.agents.mbtl.transfer_model import GeneralisationGap
from orl.arrays import Float64Array, IntArray
from orl.context import ContextSpace
from orl.scripts.contexts.selection import Coverage
from orl.scripts.figures.contexts import tick_indices
from orl.scripts.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, YELLOW, panel, panels, save

STYLES: dict[str, dict[str, Any]] = {  # the selection itself is blue
    "random": {"color": GREY},
    "equidistant": {"color": YELLOW},
    "greedy": {"color": PINK},
    "sequential-oracle": {"color": GREEN, "linestyle": "--"},
    "independent": {"color": "black", "linestyle": ":"},
    "multi-task": {"color": ORANGE},
}
NUMBERED = 10  # stars with their number in the order; more would hide each other


def matrix_figure(
    space: ContextSpace,
    contexts: Float64Array,
    matrix: Float64Array,
    sources: IntArray,
    title: str,
    path: Path,
) -> None:
    """Heat map of a transfer matrix (N, N), white where nothing was trained; stars on the chosen sources."""
    figure, axes = panel(6.0, 5.0, f"{title}: stars are chosen sources", grid="none")
    drawn = axes.imshow(matrix, origin="lower", interpolation="nearest", aspect="equal")
    axes.plot(sources, sources, "*", color="white", markeredgecolor="black", markersize=11, linestyle="none")
    for number, source in enumerate(sources[:NUMBERED].tolist(), start=1):
        offset = ((-13, 5), (7, -11))[int((sources < source).sum()) % 2]  # neighbours have theirs on both sides
        text = axes.annotate(str(number), (source, source), xytext=offset, textcoords="offset points", fontsize=8)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    figure.colorbar(drawn, label="return")
    _label(axes, "x", space, contexts, "target")
    _label(axes, "y", space, contexts, "source")
    axes.set_title(axes.get_title(), fontsize=9, pad=12)  # above the numbers of stars in the top row
    save(figure, path)


def model_figure(space: ContextSpace, contexts: Float64Array, selector: TaskSelector, title: str, path: Path) -> None:
    """The Gaussian process with its band, what is covered, and below it the acquisition."""
    model, x, sources = selector.prediction(), np.arange(len(contexts)), selector.sources
    figure, (above, below) = panels(2, 1, 6.4, 5.4, heights=(3, 1))
    above.sharex(below)
    above.tick_params(labelbottom=False)
    low, high = model.mean - 2 * model.std, model.mean + 2 * model.std
    above.fill_between(x, low, high, alpha=0.2, color=BLUE, linewidth=0, label="± 2 standard deviations")
    above.plot(x, model.mean, color=BLUE, label="expected return in its own context")
    own = selector.scores[np.arange(len(sources)), sources]
    above.plot(sources, own, "*", color="black", markersize=9, linestyle="none", label="trained there")
    above.plot(x, selector.coverage, color=GREEN, linewidth=1, label="best return so far")
    above.set_ylabel("return")
    above.legend(fontsize=7)
    below.plot(x, model.acquisition, color=ORANGE)
    below.plot(sources, model.acquisition[sources], "*", color="black", linestyle="none")
    below.set_ylabel("acquisition")
    _label(below, "x", space, contexts, "source")
    above.set_title(f"{title}: {selector.strategy} after {len(sources)} sources", fontsize=9)
    save(figure, path)


def gap_figure(space: ContextSpace, selector: TaskSelector, title: str, path: Path) -> None:
    """What each score loses, against how far its target lies from its source; a panel for each variable.

    Of d > 1 variables, a panel has what is left when the fitted gaps of the others are taken off.
    """
    scaled = (selector.contexts - selector.contexts.min(0)) / np.maximum(np.ptp(selector.contexts, axis=0), 1e-300)
    gap = GeneralisationGap.fit(scaled, selector.sources, selector.scores)
    lost = gap.policy_quality[:, None] + gap.task_ease - selector.scores  # (k, N)
    difference = scaled - scaled[selector.sources, None]  # (k, N, d)
    fitted = np.where(difference < 0, -gap.slopes_below * difference, gap.slopes_above * difference)
    count = len(space.names)
    figure, grid = panels(1, count, 1.6 + 4.4 * count, 4.0)
    for i, axes in enumerate(grid):
        rest = lost - np.delete(fitted, i, axis=2).sum(2)
        for source, x, y in zip(selector.sources.tolist(), difference[..., i], rest, strict=True):
            axes.plot(x, y, ".", markersize=3, color=plt.get_cmap("viridis")(scaled[source, i]))
        line = np.array([difference[..., i].min(), 0.0, difference[..., i].max()])
        slopes = np.where(line < 0, -gap.slopes_below[i] * line, gap.slopes_above[i] * line)
        label = f"slopes {gap.slopes_below[i]:.0f} below, {gap.slopes_above[i]:.0f} above"
        axes.plot(line, slopes, color=ORANGE, label=label)
        axes.set_xlabel(f"{space.names[i]} of target minus source, as a share of the range")
        axes.legend(fontsize=8)
    grid[0].set_ylabel("return lost: quality + ease - return")
    figure.suptitle(f"{title}: generalisation gap; dark sources are at the low end of the range", fontsize=9)
    save(figure, path)


def coverage_figure(coverages: Sequence[Coverage], title: str, path: Path) -> None:
    """Mean return of all contexts against the number of sources, with bands where there are some."""
    figure, axes = panel(6.4, 4.2, title)
    for curve in coverages:
        style = STYLES.get(curve.name, {"color": BLUE})
        if curve is coverages[0]:
            style = {"color": BLUE, "marker": "o", "markersize": 4, "zorder": 3}
        if curve.name == "independent":
            about = f"independent: {curve.sources[0]} sources{', estimated' if curve.band else ''}"
            axes.axhline(curve.returns[0], label=about, **style)
        elif len(curve.sources) == 1:
            axes.plot(curve.sources, curve.returns, "s", color=style["color"], label=curve.name)
        else:
            axes.plot(curve.sources, curve.returns, label=curve.name, **style)
        if curve.band is not None and len(curve.sources) > 1:
            axes.fill_between(curve.sources, *curve.band, alpha=0.15, color=style["color"], linewidth=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trained sources", ylabel="mean return of all contexts")
    axes.legend(fontsize=8)
    save(figure, path)


def _label(axes: Axes, side: Literal["x", "y"], space: ContextSpace, contexts: Float64Array, role: str) -> None:
    """Contexts by their index in the grid; of several variables all values."""
    ticks, axis = tick_indices(len(contexts)), getattr(axes, f"{side}axis")
    texts = [", ".join(f"{number:.2g}" for number in contexts[i].tolist()) for i in ticks]
    axis.set_ticks(ticks, texts, fontsize=7 if len(space.names) > 1 else 9)
    names = [f"{each.name} ({each.unit})" if each.unit not in ("x", "") else each.name for each in space.variables]
    axis.set_label_text(f"{', '.join(names)} of the {role}")
