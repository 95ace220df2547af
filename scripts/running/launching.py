"""Seeds cut into jobs, and what the jobs wrote put together as if one population had trained."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orl import checkpoint
from orl.launcher import MARKER, Job, Launcher
from orl.metrics import write_records
from orl.scripts.main import check_least
from orl.scripts.running.run_directory import JsonObject, RunDirectory
from orl.training import NO_PROGRESS, progress

SECONDS = ("seconds", "training_seconds", "processor_seconds")
Run = Callable[[Sequence[Job]], list[Path]]


@dataclass(frozen=True)
class Launching:
    """Where the seeds train."""

    launcher: Literal["population", "serial", "process", "ray"] = "population"
    """All seeds side by side in this process, or cut into jobs: one after the other, in processes of this machine, or
    on Ray (the extra `ray`)."""
    seeds_per_job: int = 1
    """Seeds that train side by side in a job."""
    workers: int | None = None
    """Jobs at a time; by default one per core, on a cluster as many as fit."""
    gpus_per_job: float = 0.0
    """Of the GPUs that Ray has; 0.25 puts four jobs on one."""
    retries: int = 1
    """Further attempts for a job that fails or whose worker dies."""

    def check(self) -> None:
        """Refuse what cannot be, before there is a folder."""
        if self.launcher == "population":
            for option in dataclasses.fields(self):
                if (value := getattr(self, option.name)) != option.default:
                    name = option.name.replace("_", "-")
                    raise ValueError(f"--{name} {value}: there are no jobs; give --launcher serial, process or ray too")
            return
        check_least(self, 1, "seeds_per_job")
        self._launcher(Path())

    def side_by_side(self, seeds: int) -> int:
        """Of this many seeds, those that one process trains."""
        return seeds if self.launcher == "population" else min(seeds, self.seeds_per_job)

    def _launcher(self, folder: Path) -> Launcher:
        assert self.launcher != "population"
        return Launcher(folder, self.launcher, workers=self.workers, gpus=self.gpus_per_job, retries=self.retries)

    @contextlib.contextmanager
    def started(self, folder: Path) -> Iterator[Run]:
        """A function that does jobs, each in its folder below `folder`, and returns these when all are finished."""
        if self.launcher == "population":
            yield lambda jobs: [_finished_here(job, folder / job.id) for job in jobs]
            return
        with self._launcher(folder) as launcher:

            def run(jobs: Sequence[Job]) -> list[Path]:
                futures = [launcher.submit(job) for job in jobs]
                with progress("jobs", len(jobs)) if self.launcher != "serial" and jobs else NO_PROGRESS as advance:
                    for _ in as_completed(futures):
                        advance(1)
                return launcher.map(jobs)

            yield run


def _finished_here(job: Job, folder: Path) -> Path:
    if not (folder / MARKER).exists():
        job.work(folder)
    return folder


def merge_runs(folder: RunDirectory, parts: Sequence[Path], seeds: Sequence[str]) -> None:
    """Make one run of those that jobs left: evaluations, metrics, `seed-K` folders.

    Args:
        folder: of the one run; gets the history too.
        parts: folders of the jobs, in the order of their seeds.
        seeds: names of the `seed-K` folders, in this order.
    """
    folder.history = merge_histories([checkpoint.read_json(part / "history.json") for part in parts])
    checkpoint.write_json(folder.path / "history.json", folder.history)
    folder.earlier_seconds = sum(checkpoint.read_json(part / "results.json")["seconds"] for part in parts)
    folder.started = time.monotonic()
    learners = {path.name: path for part in parts for path in part.glob("seed-*")}
    merge_learners([learners[name] for name in seeds], folder.path)
    files = [file for part in parts for file in part.glob("reward-model.json")]
    if reports := [report for file in files for report in checkpoint.read_json(file)]:
        checkpoint.write_json(folder.path / "reward-model.json", reports)
    records = [row for part in parts for row in csv.DictReader((part / "progress.csv").read_text().splitlines())]
    clock = next(iter(records[0]))
    write_records(folder.path / "progress.csv", clock, sorted(records, key=lambda record: int(record[clock])))


def merge_learners(parts: Sequence[Path], folder: Path) -> None:
    """Make one population of learners that were trained apart, in `seed-K` folders inside `folder`.

    Args:
        parts: the learners' `seed-K` folders, in the order that they get; their tensors are linked, not copied.
        folder: what it holds of these learners is replaced.
    """
    for k, part in enumerate(parts):
        target, partial = folder / part.name, folder / f".{part.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(part, partial, copy_function=_link_tensors)
        for file in partial.glob("checkpoint-*/manifest.json"):
            checkpoint.write_json(file, {**checkpoint.read_json(file), "learner": k, "population": len(parts)})
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)


def _link_tensors(source: str, target: str) -> None:
    """Tensors are never changed where they are; a file system without links gets a copy."""
    if source.endswith(".safetensors"):
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def merge_histories(histories: Sequence[Sequence[JsonObject]]) -> list[JsonObject]:
    """One history of the evaluations that all jobs made, seeds side by side.

    Seconds are those of all jobs together. Where phases end by themselves, a job may have evaluated after one that
    another did not have: that evaluation stays in the job's folder.
    """
    by_time = [{(row["steps"], row["updates"]): row for row in history} for history in histories]
    common = set.intersection(*(set(history) for history in by_time))
    return [
        {key: _merged(key, [history[time][key] for history in by_time]) for key in by_time[0][time]}
        for time in sorted(common)
    ]


def _merged(key: str, values: Sequence[Any]) -> Any:
    if isinstance(values[0], list):  # one entry per seed
        return [entry for value in values for entry in value]
    if key in SECONDS:
        return round(sum(values), 1)
    return values[0] if values[0] is None else max(values)
