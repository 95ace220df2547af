"""Figures of `orl zero-shot`: scores by split, returns over the contexts, and how generated weights move.

Shape key: N contexts, d variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from orl import statistics
from orl.agents import HyperZero
from orl.arrays import Float64Array
from orl.scripts.contexts.zero_shot import Trial
from orl.scripts.figures.contexts import label_axis, variable_label
from orl.scripts.figures.style import BLUE, GREEN, ORANGE, panels, save

SHOWN = ("hyperzero", "hyperzero-paper", "concatenation", "uvfa", "randomized", "nearest", "average", "default")


def score_figure(trials: Sequence[Trial], path: Path) -> None:
    """Mean zero-shot scores over held-out contexts and seeds with 95 % intervals, a panel for each split."""
    count = len(trials[0].splits)
    figure, grid = panels(1, count, 3.4 * count + 1.2, 3.2, grid="x", share_y=True)
    for k, (axes, split) in enumerate(zip(grid, trials[0].splits, strict=True)):
        by_trial = [trial.scores(k) for trial in trials]
        pooled = {name: np.concatenate([each[name] for each in by_trial]) for name in SHOWN if name in by_trial[0]}
        scores = {name: values for name, values in pooled.items() if len(values)}
        if not scores:
            axes.set_title(f"{split.name}: no score", fontsize=10)
            axes.text(0.5, 0.5, "no specialist of a held-out context\nis above random actions", ha="center", fontsize=8)
            axes.set_axis_off()
            continue
        means = np.array([values.mean() for values in scores.values()])
        pairs = [values.repeat(2) if len(values) == 1 else values for values in scores.values()]  # one has no interval
        intervals = [statistics.interval(values, np.mean, resamples=2_000) for values in pairs]
        low, high = np.array(intervals).T
        y = np.arange(len(scores))
        axes.barh(y, means, color=[BLUE if "hyperzero" in name else "#9aa5b1" for name in scores], height=0.7)
        axes.errorbar(means, y, xerr=[means - low, high - means], fmt="none", ecolor="black", capsize=2, lw=1)
        axes.axvline(1.0, color=GREEN, linestyle="--", linewidth=1)
        axes.set_yticks(y, list(scores))
        axes.set_xlim(min(0.0, low.min() - 0.05), max(1.1, high.max() + 0.05))
        scored, held_out = len(next(iter(scores.values()))), len(split.test) * len(trials)
        left_out = f", {scored} of {held_out} scored" if scored < held_out else ""
        axes.set_title(f"{split.name}: {len(split.test)} held out{left_out}", fontsize=10)
    grid[0].invert_yaxis()
    figure.supxlabel("zero-shot score: 0 random actions, 1 the context's own specialist", fontsize=9)
    save(figure, path)


def return_figure(trial: Trial, path: Path) -> None:
    """Returns over the contexts, generated against specialist; a row of panels, or one panel, for each split.

    Of more than two variables nothing is drawn.
    """
    space = trial.task.space
    if "hyperzero" not in trial.learned or len(space.names) > 2:
        return
    draw = _lines if len(space.names) == 1 else _surfaces
    draw(trial, trial.own.mean(-1), path)


def _lines(trial: Trial, specialist: Float64Array, path: Path) -> None:
    """One variable: a panel for each split."""
    space, contexts = trial.task.space, trial.task.contexts
    figure, grid = panels(1, len(trial.splits), 4.0 * len(trial.splits), 3.3, share_y=True)
    for k, (axes, split) in enumerate(zip(grid, trial.splits, strict=True)):
        axes.plot(specialist, color=GREEN, linestyle="--", label="specialist")
        for name, colour in (("hyperzero", BLUE), ("concatenation", ORANGE)):
            if name in trial.learned:
                axes.plot(trial.learned[name][k].mean(-1), color=colour, label=name)
        low = axes.get_ylim()[0]
        axes.plot(split.train, np.full(len(split.train), low), "k.", markersize=6, label="trained on", clip_on=False)
        label_axis(axes, "x", space, np.unique(contexts[:, 0]))
        axes.set_title(split.name, fontsize=10)
    grid[0].set_ylabel("return")
    grid[-1].legend(fontsize=8)
    save(figure, path)


def _surfaces(trial: Trial, specialist: Float64Array, path: Path) -> None:
    """Two variables: specialists, generated policies, and what is lost, a row for each split."""
    space, contexts = trial.task.space, trial.task.contexts
    grid = [np.unique(column) for column in contexts.T]
    shape = len(grid[0]), len(grid[1])
    figure, all_axes = panels(len(trial.splits), 3, 10.5, 3.0 * len(trial.splits), grid="none")
    for k, split in enumerate(trial.splits):
        generated = trial.learned["hyperzero"][k].mean(-1)
        limits = {"vmin": min(specialist.min(), generated.min()), "vmax": max(specialist.max(), generated.max())}
        lost = generated - specialist
        edge = max(float(np.abs(lost).max()), 1e-9)
        parts = (
            ("specialists", specialist, limits),
            (f"hyperzero, {split.name}", generated, limits),
            ("hyperzero minus specialist", lost, {"vmin": -edge, "vmax": edge, "cmap": "RdBu"}),
        )
        for axes, (title, values, options) in zip(all_axes[3 * k : 3 * k + 3], parts, strict=True):
            surface = axes.imshow(values.reshape(shape).T, origin="lower", aspect="auto", **options)
            figure.colorbar(surface, ax=axes)
            x, y = np.unravel_index(split.train, shape)
            axes.plot(x, y, "o", color="black", markersize=3)
            label_axis(axes, "x", space, grid[0])
            label_axis(axes, "y", space, grid[1])
            axes.set_title(title, fontsize=10)
    figure.suptitle("return; dots: contexts trained on", fontsize=10)
    save(figure, path)


def weight_figure(trial: Trial, path: Path) -> None:
    """Generated policies of all contexts, all their weights projected on the two directions in which they differ most.

    A panel for each variable shows its value; those trained on (first split) are filled.
    """
    split = trial.splits[0]
    folder = trial.folder / "hyperzero" / split.name
    if not folder.exists():
        return
    space, contexts = trial.task.space, trial.task.contexts
    agent = HyperZero.load(folder, device=trial.task.device)
    layers = [tensor[0].flatten(1).cpu().numpy() for layer in agent.policies(contexts) for tensor in layer]
    weights = np.concatenate(layers, axis=1)
    left, sizes, _ = np.linalg.svd(weights - weights.mean(0), full_matrices=False)
    points = left[:, :2] * sizes[:2]
    shares = sizes[:2] ** 2 / (sizes**2).sum()
    figure, grid = panels(1, len(space.names), 4.6 * len(space.names), 3.8)
    is_trained = np.isin(np.arange(len(contexts)), split.train)
    for i, axes in enumerate(grid):
        values = space.normalize(contexts)[:, i]
        for chosen, marker, name in ((is_trained, "o", "trained on"), (~is_trained, "^", "not trained on")):
            x, y = points[chosen].T
            dots = axes.scatter(x, y, c=values[chosen], vmin=-1, vmax=1, marker=marker, s=36, label=name)
        bar = figure.colorbar(dots, ax=axes, ticks=[-1, 0, 1])
        ends = space.denormalize(np.repeat([[-1.0], [0.0], [1.0]], len(space.names), axis=1))[:, i]
        bar.ax.set_yticklabels([f"{value:.2g}" for value in ends])
        bar.set_label(variable_label(space, i))
        axes.set_xlabel(f"first direction ({shares[0]:.0%} of the variance)")
        axes.set_ylabel(f"second direction ({shares[1]:.0%})")
    grid[0].legend(fontsize=8)
    figure.suptitle(f"weights of generated policies, {split.name}", fontsize=10)
    save(figure, path)
