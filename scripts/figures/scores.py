"""Scores of trained agents as bars, and imputed rewards against true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orl import datasets
from orl.arrays import Float32Array
from orl.scripts.figures.style import BLUE, GREEN, GREY, ORANGE, PINK, YELLOW, panel, save
from orl.scripts.running.run_directory import JsonObject

COLOURS = {"none": GREY, "labelled": ORANGE, "zero": YELLOW, "mean": PINK, "imputed": BLUE, "true": GREEN}  # of rewards


def score_bars(rows: Sequence[JsonObject], title: str, path: Path) -> None:
    """Scores with their intervals and seeds, one bar per row, grouped by dataset and agent."""
    figure, axes = panel(7.2, 0.32 * len(rows) + 1.9, title, grid="x")
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
    for row, position in zip(rows, positions, strict=True):
        if row.get("seed_returns") and row["env"] in datasets.REFERENCES:
            seeds = datasets.normalized_score(row["env"], row["seed_returns"])
            axes.plot(seeds, [position] * len(seeds), ".", color="black", alpha=0.6, markersize=4)
    labels = [f"{row['agent']}  {row['rewards'] if row['rewards'] != 'none' else ''}".strip() for row in rows]
    axes.set_yticks(positions, labels, fontsize=8)
    axes.set_ylim(positions[-1] + 0.9, -1.4)  # the first row on top, a dataset's name above it
    for name in dict.fromkeys(row["dataset"] for row in rows):
        first = next(p for p, row in zip(positions, rows, strict=True) if row["dataset"] == name)
        transform = axes.get_yaxis_transform()
        axes.text(1.0, first - 0.75, name, transform=transform, ha="right", va="bottom", fontsize=8, style="italic")
    axes.set_xlabel("normalized score: mean over seeds, 95 % interval from five on; dots: seeds")
    save(figure, path)


def imputed_against_true(imputed: Float32Array, true: Float32Array, title: str, path: Path) -> None:
    """Density of imputed against true rewards of the hidden transitions, (N,) each; nothing is drawn of none."""
    if len(true) == 0:
        return
    figure, axes = panel(5.2, 4.4, title, grid="none")
    low, high = np.quantile(np.concatenate([imputed, true]), [0.0005, 0.9995])
    margin = 0.05 * (high - low) + 1e-6
    span = (low - margin, high + margin)
    bins = axes.hexbin(true, imputed, gridsize=60, bins="log", extent=(*span, *span), cmap="viridis", mincnt=1)
    axes.plot(span, span, color="black", linewidth=0.8, linestyle="--", label="imputed = true")
    axes.set(xlim=span, ylim=span, xlabel="true reward (hidden from the model)", ylabel="imputed reward")
    axes.legend(fontsize=8, loc="upper left")
    figure.colorbar(bins, label="transitions")
    save(figure, path)
