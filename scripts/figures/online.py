"""Figures of online training: what a return costs in steps, in updates and in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import EngFormatter

from orl import statistics
from orl.scripts.figures.runs import save

AXES = {
    "steps": "environment steps",
    "critic updates": "critic updates (phases included)",
    "training_seconds": "seconds of training",
}


def training_figure(runs: Mapping[str, Sequence[Mapping[str, Any]]], env: str, path: Path) -> None:
    """Returns against steps, updates and seconds; below, the critics' bias against updates with phases shaded.

    Args:
        runs: histories of evaluations by name, as `orl train` writes them.
        env: Gymnasium id.
        path: PNG file.
    """
    biased = {name: history for name, history in runs.items() if any(map(_has_bias, history))}
    heights = (3.8, 2.6) if biased else (3.8,)
    figure = plt.figure(figsize=(max(12.0, 3.0 * len(biased)), sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    upper = parts[0].subplots(1, len(AXES), sharey=True)
    for name, history in runs.items():
        evaluated = [each for each in history if not each["after_phase"]]
        means = np.array([np.mean(each["returns"], axis=1) for each in evaluated])  # (evaluations, S)
        centre = statistics.interquartile_mean(means, axis=1)
        for axes, key in zip(upper, AXES, strict=True):
            x = [_place(each, key) for each in evaluated]
            (line,) = axes.plot(x, centre, label=name, linewidth=1.4, marker=".", markersize=4)
            if means.shape[1] > 1:
                axes.fill_between(x, means.min(1), means.max(1), alpha=0.15, color=line.get_color(), linewidth=0)
    for axes, label in zip(upper, AXES.values(), strict=True):
        axes.set_xlabel(label)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    upper[0].set_ylabel("return: interquartile mean,\nrange over seeds")
    upper[0].legend(fontsize=8)
    if biased:
        _biases(parts[1].subplots(1, max(len(AXES), len(biased)), squeeze=False)[0], biased)
    figure.suptitle(env, fontsize=11)
    save(figure, path)


def _place(each: Mapping[str, Any], key: str) -> float:
    if key == "critic updates":
        return float(each["updates"] + np.mean(each["stabilization_updates"]))
    return float(each[key])


def _has_bias(each: Mapping[str, Any]) -> bool:
    return bool(each["critic_bias"]) and each["critic_bias"][0] is not None


def _biases(row: Any, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The first seed's bias of each run; a phase is what lies between two evaluations of one step."""
    for axes in row[len(runs) :]:
        axes.set_axis_off()
    for axes, (name, history) in zip(row, runs.items(), strict=False):
        known = [each for each in history if _has_bias(each)]
        x = np.array([each["updates"] + each["stabilization_updates"][0] for each in known])
        axes.plot(x, [each["critic_bias"][0] for each in known], linewidth=1.1, marker=".", markersize=4)
        for before, after in pairwise(history):
            if after["stabilization_updates"][0] > before["stabilization_updates"][0]:
                begin = before["updates"] + before["stabilization_updates"][0]
                end = after["updates"] + after["stabilization_updates"][0]
                axes.axvspan(begin, end, color="#0072b2", alpha=0.1, linewidth=0)
        axes.axhline(0.0, color="black", linewidth=0.6)
        shaded = "; phases shaded" if known and known[-1]["stabilization_updates"][0] else ""
        axes.set_title(f"{name}{shaded}", fontsize=9)
        axes.set_xlabel("critic updates")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3)
    row[0].set_ylabel("bias of the first seed,\n(Q - return) / |mean return|")
