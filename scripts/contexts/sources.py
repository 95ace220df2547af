"""Source policies, each kept in its folder with what it gets in every context; one that is there is not trained again.

Shape key: N contexts, d variables, P policies, E episodes.
"""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl import checkpoint
from orl.context import ContextSpace, Floats
from orl.launcher import MARKER, Job
from orl.scripts.contexts.trainers import Trainer
from orl.scripts.contexts.transfer import transfer_returns
from orl.scripts.data.racing import register_environments
from orl.scripts.running.launching import Launching, Run

FACTS = "source.json"  # of a kept policy, written last
JOBS = "jobs"  # folder of those that train, in that of the run


@dataclass(frozen=True)
class Recipe:
    """All that decides a source's policy and its returns."""

    trainer: Trainer
    env: str
    space: ContextSpace
    contexts: Floats  # (N, d)
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
        recipe: how they are made.
        launching: where they are trained.
        run: what `launching` started, in `folder/JOBS`.
        settings: of the run, JSON-able: with the sources of a job they are its name.
    """

    def __init__(self, folder: Path, recipe: Recipe, launching: Launching, run: Run, settings: dict[str, Any]) -> None:
        self.folder, self.recipe, self.settings = folder.resolve(), recipe, settings
        self.launching, self.run = launching, run

    def rows(self, indices: Sequence[int]) -> NDArray[np.float64]:
        """Mean returns (n, N) of these sources in all contexts; those that are missing are trained first."""
        missing = [index for index in indices if not (self._place(index) / FACTS).exists()]
        size = max(self.launching.side_by_side(len(missing)), 1)
        self.run([self._job({"sources": missing[i : i + size]}) for i in range(0, len(missing), size)])
        return np.array([self._row(self._place(index)) for index in indices])

    def multi_task_row(self, sources: int) -> NDArray[np.float64]:
        """Mean returns (N,) of one policy, trained in copies of all contexts for as many steps as `sources` sources."""
        if not (self.folder / "multi-task" / FACTS).exists():
            self.run([self._job({"multi_task_steps": sources * self.recipe.steps})])
        return self._row(self.folder / "multi-task")

    def matrix(self) -> NDArray[np.float64]:
        """The transfer matrix (N, N) as far as it is known: rows sources, NaN where none was trained."""
        known = np.full((len(self.recipe.contexts),) * 2, np.nan)
        for index in range(len(known)):
            if (self._place(index) / FACTS).exists():
                known[index] = self._row(self._place(index))
        return known

    def seconds(self) -> float:
        """Of training and evaluation, over all jobs that finished."""
        return float(sum(checkpoint.read_json(file)["seconds"] for file in self.folder.glob(f"{JOBS}/*/{MARKER}")))

    def _place(self, index: int) -> Path:
        return self.folder / f"source-{index}"

    def _row(self, place: Path) -> NDArray[np.float64]:
        return np.asarray(np.mean(checkpoint.read_json(place / FACTS)["returns"], axis=1))

    def _job(self, what: dict[str, Any]) -> Job:
        return Job(functools.partial(make_policies, self.recipe, self.folder, **what), self.settings | what)


def make_policies(
    recipe: Recipe, kept: Path, job: Path, *, sources: Sequence[int] = (), multi_task_steps: int | None = None
) -> None:
    """Train, evaluate everywhere and keep some sources; or one policy for all contexts, in `multi-task`.

    Args:
        recipe: how.
        kept: folder of the run.
        job: folder for checkpoints; empty at the end, but for `results.json`.
        sources: indices of contexts.
        multi_task_steps: instead of sources: how many steps in all contexts together.
    """
    started = time.monotonic()
    register_environments()
    steps, names, seeds = recipe.steps, [f"source-{index}" for index in sources], [*map(recipe.seed_of, sources)]
    contexts = recipe.contexts[list(sources), None]
    if multi_task_steps is not None:
        steps, names, seeds, contexts = multi_task_steps, ["multi-task"], [recipe.seed], recipe.contexts[None]
    job.mkdir(parents=True, exist_ok=True)
    policy = recipe.trainer.train(contexts, seeds, steps, recipe.checkpoint_every, job)
    returns = transfer_returns(
        policy, recipe.env, recipe.space, recipe.contexts, episodes=recipe.episodes, seed=recipe.seed
    )
    for k, (name, seed) in enumerate(zip(names, seeds, strict=True)):
        recipe.trainer.save(policy, k, kept / name)
        facts = {"contexts": contexts[k].tolist(), "seed": seed, "steps": steps, "returns": returns[k].tolist()}
        checkpoint.write_json(kept / name / FACTS, facts)
    seconds = round(time.monotonic() - started, 1)
    checkpoint.write_json(job / MARKER, {"policies": names, "seconds": seconds})
    for rest in job.iterdir():
        if rest.is_dir():
            shutil.rmtree(rest)
        elif rest.name != MARKER:
            rest.unlink()
