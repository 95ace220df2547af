"""The figures of a data set's card. Each function draws one PNG file and returns its path, or None without matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl.dataset import Dataset

POINTS = 50_000  # at most this many rows are drawn and decomposed
COLUMNS = 4  # panels of actions side by side
PANELS = 24  # at most this many action dimensions are drawn
COLOUR = "#2a6f97"


def draw_returns(data: Dataset, path: Path) -> Path | None:
    """Histograms of the returns and of the lengths of the finished episodes."""
    if not data.whole_episodes:
        return None
    slices = [rows for rows in data.episode_slices if data.terminated[rows.stop - 1] or data.truncated[rows.stop - 1]]
    if not slices:
        return None
    returns = np.array([data.rewards[rows].sum(dtype=np.float64) for rows in slices])
    panels = [
        ("return", returns[np.isfinite(returns)]),
        ("length (decisions)", np.array([r.stop - r.start for r in slices])),
    ]
    panels = [(label, values) for label, values in panels if len(values)]
    figure, axes = _panels(len(panels), 2)
    for axis, (label, values) in zip(axes, panels, strict=True):
        _histogram(axis, values)
        axis.set_xlabel(label)
        axis.set_ylabel("episodes")
    return _save(figure, path)


def draw_actions(data: Dataset, path: Path) -> Path:
    """A histogram of each action dimension, in [-1, 1]."""
    shown = min(data.action_size, PANELS)
    figure, axes = _panels(shown, COLUMNS)
    for i, axis in enumerate(axes):
        share = np.full(len(data), 100.0 / len(data))
        axis.hist(data.actions[:, i], bins=np.linspace(-1.0, 1.0, 42), weights=share, color=COLOUR)
        axis.set_xlim(-1.05, 1.05)
        axis.set_xlabel(f"action {i}")
        axis.set_ylabel("rows (%)")
    return _save(figure, path)


def draw_coverage(data: Dataset, path: Path) -> Path | None:
    """How often each region of the two principal axes of the standardized observations was visited."""
    observations = data.observations[_sample(len(data))].astype(np.float64)
    spread = observations.std(axis=0)
    varying = spread > 1e-6
    if varying.sum() < 2:
        return None
    standard = (observations[:, varying] - observations[:, varying].mean(axis=0)) / spread[varying]
    _, singular, axes_of = np.linalg.svd(standard, full_matrices=False)
    explained = singular**2 / (singular**2).sum()
    projected = standard @ axes_of[:2].T
    low, high = np.percentile(projected, [0.1, 99.9], axis=0)
    inside = ((projected >= low) & (projected <= high)).all(axis=1)
    if not inside.any() or (high <= low).any():
        inside = np.ones(len(projected), np.bool_)
    figure, axes = _panels(1, 1, size=(5.6, 4.4))
    image = axes[0].hexbin(*projected[inside].T, gridsize=45, bins="log", mincnt=1, cmap="viridis", linewidths=0.1)
    figure.colorbar(image, ax=axes[0], label="rows (log scale)")
    axes[0].set_xlabel(f"first axis ({explained[0]:.0%} of the variance)")
    axes[0].set_ylabel(f"second axis ({explained[1]:.0%})")
    return _save(figure, path)


def _sample(rows: int) -> NDArray[np.int64]:
    """Evenly spaced rows, at most POINTS."""
    return np.unique(np.linspace(0, rows - 1, min(rows, POINTS)).astype(np.int64))


def _histogram(axis: Any, values: NDArray[Any]) -> None:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(1.0, abs(low)):  # one value: a single bar rather than bins of nothing
        axis.bar([low], [len(values)], width=max(1.0, 0.02 * abs(low)), color=COLOUR)
        axis.set_xlim(low - max(5.0, 0.2 * abs(low)), low + max(5.0, 0.2 * abs(low)))
    else:
        axis.hist(values, bins=int(np.clip(np.sqrt(len(values)) * 2, 10, 60)), color=COLOUR)
    axis.yaxis.get_major_locator().set_params(integer=True)


def _panels(count: int, columns: int, size: tuple[float, float] = (3.4, 2.8)) -> tuple[Any, list[Any]]:
    """A figure without a window, and `count` axes in rows of at most `columns`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and needed for cards alone
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.locator_params(axis="x", nbins=5)
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=130)
    return path
