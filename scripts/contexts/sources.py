"""Source policies: one in a folder of its own, with its returns in every context; a finished one is not trained again.

Shape key: N contexts, d variables, P policies, E episodes.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orl import checkpoint
from orl.arrays import Float64Array
from orl.launcher import MARKER, Job, Work
from orl.scripts.contexts.trainers import Trainer
from orl.scripts.contexts.transfer_matrix import transfer_returns
from orl.scripts.running.launching import Launching, Run

FACTS = "source.json"  # of a finished policy, written last
Settings = Mapping[str, object]
JOBS = "jobs"  # folder of those that train, in that of the run


@dataclass(frozen=True)
class SourceConfig:
    """All that decides a source's policy and its returns."""

    trainer: Trainer
    contexts: Float64Array  # (N, d)
    steps: int  # of each source, in the environment
    checkpoint_every: int  # steps
    episodes: int  # in each context
    seed: int

    def seed_of(self, index: int) -> int:
        """Source i of seed s has s N + i, whichever sources are trained beside it."""
        return self.seed * len(self.contexts) + index


class Sources:
    """The policies of a folder, by the index of the context that they were trained in.

    Args:
        folder: of the run; source K is in `source-K`.
        config: how they are made.
        launching: where they are trained.
        run: what `launching` started, in `folder/JOBS`.
        settings: of the run, JSON-able: with the sources of a job they are its name.
    """

    def __init__(
        self, folder: Path, config: SourceConfig, launching: Launching, run: Run, settings: Mapping[str, object]
    ) -> None:
        self.folder, self.config, self.settings = folder.resolve(), config, settings
        self.launching, self.run = launching, run

    def rows(self, indices: Sequence[int]) -> Float64Array:
        """Mean returns (n, N) of these sources in all contexts; those that are missing are trained first."""
        missing = [index for index in indices if not self._is_finished(index)]
        size = max(self.launching.side_by_side(len(missing)), 1)
        self.run([self._job({"sources": missing[i : i + size]}) for i in range(0, len(missing), size)])
        return np.array([self._row(self._source(index)) for index in indices])

    def multi_task_row(self, sources: int) -> Float64Array:
        """Mean returns (N,) of one policy, trained in copies of all contexts for as many steps as `sources` sources."""
        if not (self.folder / "multi-task" / FACTS).exists():
            self.run([self._job({"multi_task_steps": sources * self.config.steps})])
        return self._row(self.folder / "multi-task")

    def matrix(self) -> Float64Array:
        """The transfer matrix (N, N): rows sources, NaN where none was trained."""
        matrix = np.full((len(self.config.contexts),) * 2, np.nan)
        for index in range(len(matrix)):
            if self._is_finished(index):
                matrix[index] = self._row(self._source(index))
        return matrix

    def seconds(self) -> float:
        """Of training and evaluation, over all jobs that finished."""
        return float(sum(checkpoint.read_json(file)["seconds"] for file in self.folder.glob(f"{JOBS}/*/{MARKER}")))

    def _source(self, index: int) -> Path:
        return self.folder / f"source-{index}"

    def _is_finished(self, index: int) -> bool:
        return (self._source(index) / FACTS).exists()

    def _row(self, policy: Path) -> Float64Array:
        return np.asarray(np.mean(checkpoint.read_json(policy / FACTS)["returns"], axis=1))

    def _job(self, what: dict[str, object]) -> Job:
        work: Work = functools.partial(make_policies, self.config, self.folder, **what)  # type: ignore[arg-type]
        return Job(work, {**self.settings, **what})


def make_policies(
    config: SourceConfig, run: Path, job: Path, *, sources: Sequence[int] = (), multi_task_steps: int | None = None
) -> None:
    """Train some sources, evaluate them everywhere and write them; or one policy for all contexts, in `multi-task`.

    Args:
        config: how.
        run: folder of the run.
        job: folder for checkpoints; empty at the end, but for `results.json`.
        sources: indices of contexts.
        multi_task_steps: instead of sources: how many steps in all contexts together.
    """
    started = time.monotonic()
    steps, names, seeds = config.steps, [f"source-{index}" for index in sources], [*map(config.seed_of, sources)]
    contexts = config.contexts[list(sources), None]
    if multi_task_steps is not None:
        steps, names, seeds, contexts = multi_task_steps, ["multi-task"], [config.seed], config.contexts[None]
    job.mkdir(parents=True, exist_ok=True)
    policy = config.trainer.train(contexts, seeds, steps, config.checkpoint_every, job)
    grid = config.trainer.env, config.trainer.space, config.contexts
    returns = transfer_returns(policy, *grid, episodes=config.episodes, seed=config.seed)
    for k, (name, seed) in enumerate(zip(names, seeds, strict=True)):
        config.trainer.save(policy, k, run / name)
        facts = {"contexts": contexts[k].tolist(), "seed": seed, "steps": steps, "returns": returns[k].tolist()}
        checkpoint.write_json(run / name / FACTS, facts)
    seconds = round(time.monotonic() - started, 1)
    checkpoint.write_json(job / MARKER, {"policies": names, "seconds": seconds})
    for rest in job.iterdir():
        if rest.is_dir():
            shutil.rmtree(rest)
        elif rest.name != MARKER:
            rest.unlink()
