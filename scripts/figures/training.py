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
CLOCKS = {
    "steps": "environment steps",
    UPDATES: "critic updates (phases included)",
    "training_seconds": "seconds of training",
}


def learning_curves(runs: Mapping[str, Sequence[Evaluation]], env: str, path: Path) -> None:
    """Interquartile mean over seeds of the evaluation return against updates, one line per run, with 95 % intervals.

    Args:
        runs: histories of evaluations by name.
        env: Gymnasium id; scores are drawn where it has references.
        path: PNG file.
    """
    has_scores = env in datasets.REFERENCES
    figure, axes = panel(6.4, 4.0, env)
    for name, history in runs.items():
        updates, values = [each["updates"] for each in history], _mean_returns(history)
        values = datasets.normalized_score(env, values) if has_scores else values
        centre = statistics.interquartile_mean(values, axis=1)
        (line,) = axes.plot(updates, centre, marker="o", markersize=3, label=name)
        if values.shape[1] > 1:
            low, high = np.array([statistics.interval(seeds, resamples=2_000) for seeds in values]).T
            axes.fill_between(updates, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
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
    for name, history in runs.items():
        evaluated = [each for each in history if not each["after_phase"]]
        means = _mean_returns(evaluated)
        centre = statistics.interquartile_mean(means, axis=1)
        for axes, clock in zip(upper, CLOCKS, strict=True):
            x = [_critic_updates(each) if clock == UPDATES else each[clock] for each in evaluated]
            (line,) = axes.plot(x, centre, label=name, linewidth=1.4, marker=".", markersize=4)
            if means.shape[1] > 1:
                axes.fill_between(x, means.min(1), means.max(1), alpha=0.15, color=line.get_color(), linewidth=0)
    for axes, label in zip(upper, CLOCKS.values(), strict=True):
        _label_counts(axes, label)
    upper[0].set_ylabel("return: interquartile mean,\nrange over seeds")
    upper[0].legend(fontsize=8)
    if with_bias:
        _draw_biases(parts[1].subplots(1, max(len(CLOCKS), len(with_bias)), squeeze=False)[0], with_bias)
    figure.suptitle(env, fontsize=11)
    save(figure, path)


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
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)


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
