"""Learning curves: returns against updates, environment steps and seconds, and the critics' bias."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from orl import datasets, statistics
from orl.scripts.figures.style import BLUE, panel, save
from orl.scripts.running.run_directory import JsonObject

Evaluation = JsonObject  # an entry of history.json
UPDATES = "critic updates"
SECONDS, WALL = "processor_seconds", "training_seconds"
CLOCKS = {
    "steps": "environment steps",
    UPDATES: "critic updates (phases included)",
    SECONDS: "processor seconds of training for each seed",
}


def learning_curves(runs: Mapping[str, Sequence[Evaluation]], env: str, path: Path) -> None:
    """Mean over seeds of the evaluation return against updates, a thick line for each run and a thin one for each seed.

    Args:
        runs: histories of evaluations by name.
        env: Gymnasium id; scores are drawn where it has references.
        path: PNG file.
    """
    has_scores = env in datasets.REFERENCES
    figure, axes = panel(6.4, 4.0, env)
    for name, history in runs.items():
        values = _mean_returns(history)
        values = datasets.normalized_score(env, values) if has_scores else values
        _draw_seeds(axes, [each["updates"] for each in history], values, name)
    axes.set(xlabel="gradient updates", ylabel="normalized score" if has_scores else "return")
    axes.legend(fontsize=8)
    save(figure, path)


def training_figure(runs: Mapping[str, Sequence[Evaluation]], env: str, path: Path) -> None:
    """Returns against steps, updates and seconds; below, the critics' bias against updates with phases shaded.

    Args:
        runs: histories of evaluations by name, as `orl train` writes them.
        env: Gymnasium id.
        path: PNG file.
    """
    with_bias = {name: history for name, history in runs.items() if any(map(_has_bias, history))}
    heights = (3.8, 2.6) if with_bias else (3.8,)
    figure = plt.figure(figsize=(max(12.0, 3.0 * len(with_bias)), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    upper = parts[0].subplots(1, len(CLOCKS), sharey=True)
    clocks = dict(CLOCKS)
    if not all(each.get(SECONDS) is not None for history in runs.values() for each in history):
        clocks = {WALL if key == SECONDS else key: text for key, text in CLOCKS.items()}  # a run from before
        clocks[WALL] = "seconds of training for each seed"
    for name, history in runs.items():
        evaluated = [each for each in history if not each["after_phase"]]
        means = _mean_returns(evaluated)
        for axes, clock in zip(upper, clocks, strict=True):
            _draw_seeds(axes, [_count(each, clock) for each in evaluated], means, name)
    for axes, label in zip(upper, clocks.values(), strict=True):
        _label_counts(axes, label)
    upper[0].set_ylabel("return: mean, and every seed")
    upper[0].legend(fontsize=8)
    if with_bias:
        _draw_biases(parts[1].subplots(1, max(len(CLOCKS), len(with_bias)), squeeze=False)[0], with_bias)
    figure.suptitle(env, fontsize=11)
    save(figure, path)


def _draw_seeds(axes: Axes, x: Sequence[float], values: statistics.Scores, name: str) -> None:
    """The mean over seeds, and every seed of (evaluations, seeds)."""
    (line,) = axes.plot(x, values.mean(axis=1), label=name, linewidth=1.8, marker=".", markersize=4)
    if values.shape[1] > 1:
        axes.plot(x, values, linewidth=0.6, alpha=0.4, color=line.get_color())


def _count(evaluation: Evaluation, clock: str) -> float:
    """What a clock showed at an evaluation; seconds are shared by the seeds that trained side by side."""
    if clock == UPDATES:
        return _critic_updates(evaluation)
    shown = float(evaluation[clock])
    return shown / len(evaluation["returns"]) if clock in (SECONDS, WALL) else shown


def _mean_returns(history: Sequence[Evaluation]) -> statistics.Scores:
    """(evaluations, seeds)."""
    return np.array([np.mean(each["returns"], axis=1) for each in history])


def _critic_updates(evaluation: Evaluation, seed: int | None = None) -> float:
    """Updates so far, those of phases included: of one seed, or the mean over seeds."""
    phases = evaluation["stabilization_updates"]
    return float(evaluation["updates"] + (np.mean(phases) if seed is None else phases[seed]))


def _has_bias(evaluation: Evaluation) -> bool:
    return bool(evaluation["critic_bias"]) and evaluation["critic_bias"][0] is not None


def _label_counts(axes: Axes, label: str) -> None:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(_count_text)
    axes.grid(alpha=0.3)


def _count_text(value: float, position: float) -> str:
    """10k for 10,000, but 0.5 for half a second, and not 500m."""
    return EngFormatter(sep="").format_eng(value) if abs(value) >= 1 else f"{value:.3g}"


def _draw_biases(row: Sequence[Axes], runs: Mapping[str, Sequence[Evaluation]]) -> None:
    """The first seed's bias of each run; a phase is what lies between two evaluations of one step."""
    for axes in row[len(runs) :]:
        axes.set_axis_off()
    for axes, (name, history) in zip(row, runs.items(), strict=False):
        measured = [each for each in history if _has_bias(each)]
        x, biases = [_critic_updates(each, 0) for each in measured], [each["critic_bias"][0] for each in measured]
        axes.plot(x, biases, linewidth=1.1, marker=".", markersize=4)
        for before, after in pairwise(history):
            if after["stabilization_updates"][0] > before["stabilization_updates"][0]:
                begin, end = _critic_updates(before, 0), _critic_updates(after, 0)
                axes.axvspan(begin, end, color=BLUE, alpha=0.1, linewidth=0)
        axes.axhline(0.0, color="black", linewidth=0.6)
        has_phases = measured and measured[-1]["stabilization_updates"][0]
        axes.set_title(f"{name}{'; phases shaded' if has_phases else ''}", fontsize=9)
        _label_counts(axes, "critic updates")
    row[0].set_ylabel("bias of the first seed,\n(Q - return) / |mean return|")
