"""Figures, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from orl import datasets, statistics

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

COLOURS = {
    "none": "#7f7f7f",
    "labelled": "#d55e00",
    "zero": "#e69f00",
    "mean": "#cc79a7",
    "imputed": "#0072b2",
    "true": "#009e73",
}  # Okabe and Ito's palette


def save(figure: Any, path: Path) -> None:
    """Write and close a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def learning_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]], env: str, path: Path) -> None:
    """Interquartile mean over seeds of the evaluation return against updates, one line per run, with 95 % intervals.

    Args:
        runs: histories of evaluations by name.
        env: Gymnasium id; scores are drawn where it has references.
        path: PNG file.
    """
    scored = env in datasets.REFERENCES
    figure, axes = plt.subplots(figsize=(6.4, 4.0))
    for name, history in runs.items():
        updates = [each["updates"] for each in history]
        values = np.array([np.mean(each["returns"], axis=1) for each in history])  # (evaluations, S)
        values = datasets.normalized_score(env, values) if scored else values
        centre = statistics.interquartile_mean(values, axis=1)
        (line,) = axes.plot(updates, centre, marker="o", markersize=3, label=name)
        if values.shape[1] > 1:
            low, high = np.array([statistics.interval(seeds, resamples=2_000) for seeds in values]).T
            axes.fill_between(updates, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    axes.set_xlabel("gradient updates")
    axes.set_ylabel("normalized score" if scored else "return")
    axes.set_title(env)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)


def score_bars(rows: Sequence[Mapping[str, Any]], title: str, path: Path) -> None:
    """Scores with their intervals, one bar per row, grouped by dataset and agent."""
    figure, axes = plt.subplots(figsize=(7.2, 0.32 * len(rows) + 1.9))
    positions: list[float] = []
    for i, row in enumerate(rows):
        before = rows[i - 1] if i else row
        gap = 1.4 if row["dataset"] != before["dataset"] else 0.6 if row["agent"] != before["agent"] else 0.0
        positions.append(positions[-1] + 1.0 + gap if positions else 0.0)
    scores = np.array([row["normalized_score"] for row in rows])
    intervals = np.array([row["interval"] or [np.nan, np.nan] for row in rows])  # one seed has none, and no whiskers
    spread = np.abs(intervals.T - scores)
    axes.barh(positions, scores, color=[COLOURS[row["rewards"]] for row in rows], height=0.8)
    axes.errorbar(scores, positions, xerr=spread, fmt="none", ecolor="black", elinewidth=1, capsize=2)
    labels = [f"{row['agent']}  {row['rewards'] if row['rewards'] != 'none' else ''}".strip() for row in rows]
    axes.set_yticks(positions, labels, fontsize=8)
    axes.set_ylim(positions[-1] + 0.9, -1.4)  # the first row on top, a dataset's name above it
    for name in dict.fromkeys(row["dataset"] for row in rows):
        first = next(p for p, row in zip(positions, rows, strict=True) if row["dataset"] == name)
        style: dict[str, Any] = {"ha": "right", "va": "bottom", "fontsize": 8, "style": "italic"}
        axes.text(1.0, first - 0.75, name, transform=axes.get_yaxis_transform(), **style)
    axes.set_xlabel("normalized score: interquartile mean over seeds, 95 % interval")
    axes.set_title(title, fontsize=10)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    save(figure, path)


def imputed_against_true(imputed: NDArray[Any], true: NDArray[Any], title: str, path: Path) -> None:
    """Density of imputed against true rewards of the hidden transitions, (N,) each; nothing is drawn of none."""
    if len(true) == 0:
        return
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    low, high = np.quantile(np.concatenate([imputed, true]), [0.0005, 0.9995])
    margin = 0.05 * (high - low) + 1e-6
    span = (low - margin, high + margin)
    bins = axes.hexbin(true, imputed, gridsize=60, bins="log", extent=(*span, *span), cmap="viridis", mincnt=1)
    axes.plot(span, span, color="black", linewidth=0.8, linestyle="--", label="imputed = true")
    axes.set_xlim(span)
    axes.set_ylim(span)
    axes.set_xlabel("true reward (hidden from the model)")
    axes.set_ylabel("imputed reward")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left")
    figure.colorbar(bins, label="transitions")
    save(figure, path)


def racing_lines(
    track: Any, lines: Mapping[str, tuple[NDArray[Any], NDArray[Any], NDArray[Any], str]], columns: int, path: Path
) -> None:
    """Paths over the track, coloured by speed.

    Args:
        track: with `left` and `right` walls, (N, 2) each, in metres.
        lines: per panel title: x (T,), y (T,), speed (T,) in m/s, and a subtitle.
        columns: panels in a row.
        path: PNG file.
    """
    rows = -(-len(lines) // columns)
    figure, grid = plt.subplots(rows, columns, figsize=(2.5 * columns, 2.1 * rows), squeeze=False, layout="constrained")
    top = max(float(np.nanmax(speed)) for _, _, speed, _ in lines.values())
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (title, (x, y, speed, subtitle)) in zip(grid.flat, lines.items(), strict=False):
        for wall in (track.left, track.right):
            axes.plot(*np.vstack([wall, wall[:1]]).T, color="#555555", linewidth=0.8)
        points = np.stack([x, y], axis=-1)
        drawn = LineCollection(list(np.stack([points[:-1], points[1:]], axis=1)), cmap="plasma", linewidths=1.1)
        drawn.set_array(speed[:-1])
        drawn.set_clim(0.0, top)
        axes.add_collection(drawn)
        axes.set_aspect("equal")
        axes.set_title(f"{title}\n{subtitle}", fontsize=8)
    figure.colorbar(drawn, ax=grid, shrink=0.7, label="speed (m/s)")
    save(figure, path)


def speed_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Ratios of `orl speed`, a panel for each thing that was raced; the dashed line is what they are ratios to.

    Args:
        rows: of its results, with `what`, `contender`, `ratio` and `against`; those without a ratio are left out.
        path: PNG file.
    """
    raced: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if "ratio" in row:
            raced.setdefault(row["what"], []).append(row)
    heights = [len(each) for each in raced.values()]
    figure, grid = plt.subplots(
        len(raced), 1, figsize=(8.0, 0.24 * sum(heights) + 0.75 * len(raced)), height_ratios=heights, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, (what, each) in zip(grid[:, 0], raced.items(), strict=True):
        names, ratios = [row["contender"] for row in each], [row["ratio"] for row in each]
        colours = ["#0072b2" if name.startswith("orl") else "#999999" for name in names]
        axes.axvline(1.0, color="black", linewidth=0.8, linestyle="--")
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axes.bar_label(axes.barh(names, ratios, color=colours), fmt="%.2f", fontsize=7, padding=3, bbox=white)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.tick_params(labelsize=7)
        axes.set_title(f"{what}: speed per learner against {each[0]['against']}", fontsize=8, loc="left")
    save(figure, path)
