"""What training on data and training in an environment share: seeds, where they resume, who trains them."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from numpy.typing import NDArray
from rich.console import Console

from orl import checkpoint, datasets
from orl.agent import Agent
from orl.checkpoint import learner_names
from orl.config import make_config
from orl.device import Precision, pick_device, set_precision
from orl.evaluation import Evaluation
from orl.launcher import Job
from orl.scripts.running import tables
from orl.scripts.running.launching import Launching, gather
from orl.scripts.running.options import check_least
from orl.scripts.running.registry import PRESETS
from orl.scripts.running.run_directory import RunDirectory

POSITIVE = ("steps", "seeds", "eval_every", "eval_episodes", "log_every", "checkpoint_every")


class Training(ABC):
    """Base of the dataclasses that are the options of `orl train AGENT`."""

    agent: str
    config: Any
    seeds: int
    first_seed: int
    device: str
    threads: int | None
    precision: Precision
    eval_episodes: int
    launching: Launching
    out: Path | None

    def run(self) -> None:
        """Check everything, then train, evaluate and report."""
        tables.show(self.results()["rows"])

    @abstractmethod
    def results(self) -> dict[str, Any]:
        """Check everything, then train and evaluate; what `results.json` holds."""

    def check(self, *natural: str) -> None:
        """Refuse hyperparameters, numbers below 1, of those named below 0, and ways of launching that cannot be."""
        make_config(type(self.config), self.config, {})
        check_least(self, 1, *POSITIVE, "threads")
        check_least(self, 0, *natural)
        self.launching.check()

    def set_arithmetic(self, out: Path) -> dict[str, Any]:
        """Set what decides the last bits of every number, precision and threads, and return both.

        A run that goes on in its folder keeps its threads. A new one has those that were asked for, else those that
        torch has now; jobs in processes of their own have one each.
        """
        set_precision(self.precision, pick_device(self.device))
        threads, known = self.threads, out / "config.json"
        if threads is None and known.exists():
            threads = checkpoint.read_json(known).get("threads")
        elif threads is None:
            threads = 1 if self.launching.launcher in ("process", "ray") else torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        return {"precision": self.precision, "threads": threads}

    @property
    def seed_numbers(self) -> list[int]:
        """One per learner."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def obtain(
        self, folder: RunDirectory, train: Callable[[], None], finish: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The results, after the training that they need, here or in jobs."""
        results = folder.finished()
        if results is not None:
            Console().print(f"{folder.path} is finished; these are its results", soft_wrap=True)
            return results
        if self.launching.launcher == "population":
            train()
        else:
            self._train_in_jobs(folder)
        return finish()

    def _train_in_jobs(self, folder: RunDirectory) -> None:
        jobs = []
        for first in self.seed_numbers[:: self.launching.seeds_per_job]:
            count = self.launching.side_by_side(self.first_seed + self.seeds - first)
            work = functools.partial(_train_part, self.part(first, count))
            jobs.append(Job(work, {**folder.config, "first_seed": first, "seeds": count}))
        gather(folder, self.launching.run(jobs, folder.path / "jobs"), learner_names(self.seed_numbers))

    def part(self, first_seed: int, seeds: int) -> Self:
        """The same training of some of the seeds, side by side in one process."""
        options: dict[str, Any] = {"first_seed": first_seed, "seeds": seeds, "launching": Launching()}
        return dataclasses.replace(self, **options)  # type: ignore[type-var]

    def checkpoints(self, folder: RunDirectory) -> Path:
        """Where `Agent.save` writes: a folder per seed in either case."""
        return folder.path / learner_names(self.seed_numbers)[0] if self.seeds == 1 else folder.path

    def restored(self, folder: RunDirectory) -> Agent | None:
        """The agent at the last checkpoint that all seeds have."""
        folders = [folder.path / name for name in learner_names(self.seed_numbers)]
        for each in folders:
            checkpoint.manifests_in(each)  # raises where training would end at its first checkpoint
        without = [each for each in folders if not checkpoint.numbers(each)]
        for each in without:
            if checkpoint.is_written(each):
                warnings.warn(f"{each}: its checkpoints cannot be read; training begins anew", stacklevel=2)
        if without:
            return None
        return PRESETS[self.agent][0].load(self.checkpoints(folder), device=self.device)


def _train_part(part: Training, folder: Path) -> None:
    dataclasses.replace(part, out=folder).results()  # type: ignore[type-var]


def evaluation_metrics(played: Evaluation, env: str) -> dict[str, NDArray[Any]]:
    """Each seed's means over its episodes, (P,), and its score where the environment has references."""
    metrics = {"mean_reward": played.returns.mean(1), "mean_ep_length": played.lengths.mean(1)}
    if env in datasets.REFERENCES:
        metrics["normalized_score"] = datasets.normalized_score(env, metrics["mean_reward"])
    return metrics
