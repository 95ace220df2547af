"""`orl plot RUN...`: figures of finished or running trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from orl import checkpoint
from orl.scripts.figures.scores import score_bars
from orl.scripts.figures.training import learning_curves, training_figure
from orl.scripts.running import tables
from orl.scripts.running.run_directory import JsonObject, score_row


@dataclass(frozen=True)
class Plot:
    """Draw the learning curves and the scores of runs side by side.

    Writes learning_curves.png, or training.png where agents acted (returns against steps, updates and seconds, and the
    critics' bias); for finished runs also scores.png.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `orl train` wrote."""
    out: Path = Path("plots")
    """Folder for the figures."""

    def run(self) -> None:
        """Read the folders and draw."""
        if not self.runs:
            raise ValueError("name at least one run folder")
        histories, environments, rows = {}, {}, []
        for run, name in zip(self.runs, _names(self.runs), strict=True):
            if not (run / "history.json").exists():
                raise ValueError(f"{run}: no history.json; give a folder that `orl train` wrote")
            histories[name] = checkpoint.read_json(run / "history.json")
            environments[name] = checkpoint.read_json(run / "config.json")["env"]
            if (run / "results.json").exists():
                rows += [_row(row) | {"run": name} for row in checkpoint.read_json(run / "results.json")["rows"]]
        if len(set(environments.values())) > 1:
            raise ValueError(f"runs of different environments cannot share axes: {environments}")
        env = next(iter(environments.values()))
        have_acted = all(any(row.get("steps") for row in history) for history in histories.values() if history)
        draw, file = (training_figure, "training.png") if have_acted else (learning_curves, "learning_curves.png")
        draw(histories, env, self.out / file)
        written = [file]
        cells = {(row["dataset"], row["agent"], row["rewards"]) for row in rows}
        if len(cells) < len(rows):  # some differ in other settings: their folders' names do
            rows = [row | {"agent": f"{row['agent']} ({row['run']})"} for row in rows]
        if rows and all(row.get("normalized_score") is not None for row in rows):
            score_bars(rows, env, self.out / "scores.png")
            written.append("scores.png")
        if rows:
            tables.show(rows)
        print(f"wrote {', '.join(str(self.out / name) for name in written)}")


def _row(row: JsonObject) -> JsonObject:
    """A row of results, its mean and interval from its seeds; a run of two parts has one of each, and says so."""
    if row.get("seed_returns"):  # rows from before have other means and intervals
        labels = {name: row[name] for name in ("seeds", "dataset", "env", "agent", "rewards")}
        row = row | score_row(np.array(row["seed_returns"])[:, None], **labels)
    part = row.pop("part", None)
    return row if part is None else row | {"agent": f"{row['agent']}, {part}"}


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of their paths as tells them apart."""
    whole = [run.resolve().parts for run in runs]
    for count in range(1, max(map(len, whole)) + 1):
        names = ["/".join(parts[-count:]) for parts in whole]
        if len(set(names)) == len(set(whole)):
            break
    return names
