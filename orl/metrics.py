"""Writes training metrics to files; here alone they leave the device and become numbers of Python."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from orl.arrays import Float64Array
from orl.checkpoint import write_text

SEED = "seed"


class MetricsLogger:
    """TensorBoard events (one run per learner) and `progress.csv` (one row per record and learner) in a folder.

    Names follow Stable-Baselines3: `train/critic_loss`, `eval/mean_reward`.

    Args:
        folder: created if needed.
        names: one per learner.
        resumed_at: the clock of the checkpoint that a run continues from; what was recorded later is dropped.
        clock: name of what counts the work done; it never stands still between records.
    """

    def __init__(
        self, folder: Path, names: Sequence[str], resumed_at: int = 0, clock: str = "time/total_updates"
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "progress.csv"
        self.clock = clock
        self.names = list(names)
        self.rows = self._read(resumed_at)
        self.writers = [
            SummaryWriter(str(folder / "tensorboard" / name), purge_step=resumed_at + 1 if resumed_at else None)  # type: ignore[no-untyped-call]
            for name in names
        ]

    def _read(self, resumed_at: int) -> list[dict[str, str]]:
        if not resumed_at or not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if int(row[self.clock]) <= resumed_at]

    def write(
        self, time: int, metrics: Mapping[str, Tensor | Float64Array], prefix: str = "train/", *, x: int | None = None
    ) -> None:
        """Record one value per learner of each metric, (P,) tensors or arrays.

        Args:
            time: on the clock.
            metrics: by name.
            prefix: of the names.
            x: where TensorBoard draws them; by default at `time`.
        """
        if not metrics:
            return
        values = (
            torch.stack([torch.as_tensor(metric).detach().to(torch.float64) for metric in metrics.values()], dim=1)
            .cpu()
            .tolist()
        )
        for name, writer, learner in zip(self.names, self.writers, values, strict=True):
            row = self._row(str(time), name)
            for key, value in zip(metrics, learner, strict=True):
                writer.add_scalar(prefix + key, value, time if x is None else x)  # type: ignore[no-untyped-call]
                row[prefix + key] = repr(value)

    def _row(self, time: str, name: str) -> dict[str, str]:
        """The row of this learner at this time; training and evaluation share it."""
        for row in reversed(self.rows[-len(self.names) :]):
            if row[self.clock] == time and row[SEED] == name:
                return row
        self.rows.append({self.clock: time, SEED: name})
        return self.rows[-1]

    def flush(self) -> None:
        """Bring the files up to date."""
        write_records(self.path, self.clock, self.rows)
        for events in self.writers:
            events.flush()  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.flush()
        for events in self.writers:
            events.close()  # type: ignore[no-untyped-call]


def write_records(path: Path, clock: str, records: Sequence[Mapping[str, str]]) -> None:
    """Write `progress.csv`: the clock and the learner's name first, then what was measured."""
    first = [clock, SEED]
    columns = first + sorted({key for record in records for key in record} - set(first))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(path, text.getvalue())
