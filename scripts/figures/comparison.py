"""Figures of `orl compare`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from orl import statistics
from orl.arrays import Float64Array
from orl.scripts.figures.style import panels, save


def profile_figure(agents: Mapping[str, Mapping[str, Float64Array]], unit: str, path: Path) -> None:
    """Performance profiles: which share of an agent's runs is above a value; below, every run as a dot.

    Args:
        agents: by name, (S,) values of each task.
        unit: of the values.
        path: PNG file.
    """
    every = np.concatenate([values for of_agent in agents.values() for values in of_agent.values()])
    margin = 0.03 * (every.max() - every.min()) or 1.0
    thresholds = np.linspace(every.min() - margin, every.max() + margin, 1_000)
    height = 0.4 + 0.22 * len(agents)
    figure, (upper, lower) = panels(2, 1, 6.4, 3.4 + height, heights=(3.4, height))
    for row, (name, of_agent) in enumerate(agents.items()):
        (line,) = upper.plot(
            thresholds, statistics.performance_profile(of_agent, thresholds), label=name, linewidth=1.6
        )
        for values in of_agent.values():
            lower.plot(values, np.full(len(values), row), ".", color=line.get_color(), alpha=0.7)
        mean = float(np.mean([values.mean() for values in of_agent.values()]))
        lower.plot([mean], [row], "|", color="black", markersize=11)
    tasks = list(dict.fromkeys(task for of_agent in agents.values() for task in of_agent))
    upper.set_title(", ".join(tasks) if len(tasks) < 4 else f"mean over {len(tasks)} tasks", fontsize=9)
    upper.set(ylabel="share of runs above", xlim=(thresholds[0], thresholds[-1]), ylim=(-0.03, 1.03))
    upper.legend(fontsize=8)
    lower.set(xlabel=f"{unit}; bar: mean", xlim=(thresholds[0], thresholds[-1]), ylim=(len(agents) - 0.5, -0.5))
    lower.set_yticks(range(len(agents)), list(agents), fontsize=8)
    save(figure, path)
