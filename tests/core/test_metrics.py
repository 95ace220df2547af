"""The sink: rows, resumed runs, TensorBoard events."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from orl.metrics import MetricsLogger

NAMES = ["seed-0", "seed-1"]


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "progress.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_record_and_learner_shared_by_training_and_evaluation(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path / "run", NAMES) as sink:
        sink.write(10, {"critic_loss": torch.tensor([0.5, 1.5])})
        sink.write(10, {"mean_reward": torch.tensor([3.0, 4.0])}, prefix="eval/")
        sink.write(20, {"critic_loss": torch.tensor([0.25, 1.25])})
    rows = read(tmp_path / "run")
    assert [(row["time/total_updates"], row["seed"]) for row in rows] == [
        *(("10", "seed-0"), ("10", "seed-1")),
        *(("20", "seed-0"), ("20", "seed-1")),
    ]
    assert [row["train/critic_loss"] for row in rows] == ["0.5", "1.5", "0.25", "1.25"]
    assert [row["eval/mean_reward"] for row in rows] == ["3.0", "4.0", "", ""]


def test_a_resumed_run_drops_what_was_recorded_later(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path, NAMES) as sink:
        for updates in (10, 20, 30):
            sink.write(updates, {"loss": torch.tensor([float(updates), 0.0])})
    with MetricsLogger(tmp_path, NAMES, resumed_at=20) as sink:
        sink.write(30, {"loss": torch.tensor([99.0, 0.0])})
    assert [row["train/loss"] for row in read(tmp_path) if row["seed"] == "seed-0"] == ["10.0", "20.0", "99.0"]
    with MetricsLogger(tmp_path, NAMES):
        pass
    assert read(tmp_path) == []  # a fresh run starts over


def test_tensorboard_has_one_run_per_learner(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path, NAMES) as sink:
        sink.write(10, {"loss": torch.tensor([1.0, 2.0])})
        sink.write(20, {"loss": torch.tensor([3.0, 4.0])})
    for name, expected in zip(NAMES, [[1.0, 3.0], [2.0, 4.0]], strict=True):
        events = EventAccumulator(str(tmp_path / "tensorboard" / name))
        events.Reload()
        scalars = events.Scalars("train/loss")
        assert [scalar.value for scalar in scalars] == expected
        assert [scalar.step for scalar in scalars] == [10, 20]


def test_files_are_up_to_date_after_flush_and_after_an_error(tmp_path: Path) -> None:
    sink = MetricsLogger(tmp_path, ["seed-0"])
    sink.write(1, {"loss": torch.tensor([1.0])})
    sink.flush()
    assert len(read(tmp_path)) == 1

    def fail() -> None:
        with sink:
            sink.write(2, {"loss": torch.tensor([2.0])})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert len(read(tmp_path)) == 2


def test_nothing_to_record_records_nothing(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path, NAMES) as sink:
        sink.write(1, {})
    assert read(tmp_path) == []


def test_a_metric_with_another_population_is_refused(tmp_path: Path) -> None:
    with MetricsLogger(tmp_path, NAMES) as sink, pytest.raises(ValueError, match=r"shorter|longer"):
        sink.write(1, {"loss": torch.tensor([1.0, 2.0, 3.0])})
