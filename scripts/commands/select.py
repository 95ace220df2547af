"""`orl select`: train on the few contexts that are worth it, and use their policies in all the others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from numpy.typing import NDArray
from rich.console import Console

from orl.agents import SAC, TaskSelector
from orl.agents.mbtl import Strategy
from orl.context import ContextSpace
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.coverage import Coverage, coverages, result_rows, write_coverages, write_matrix
from orl.scripts.contexts.sb3_trainer import SB3, SB3Trainer
from orl.scripts.contexts.sources import JOBS, Recipe, Sources
from orl.scripts.contexts.trainers import PopulationTrainer, Trainer, read_settings
from orl.scripts.figures.selection import coverage_figure, gap_figure, matrix_figure, model_figure
from orl.scripts.running import tables
from orl.scripts.running.launching import Launching
from orl.scripts.running.options import check_least
from orl.scripts.running.registry import PRESETS
from orl.scripts.running.run_directory import RunDirectory

Chosen = Literal["auto", "gp", "gp-original", "mountain", "greedy", "equidistant", "random"]
Baseline = Literal["random", "equidistant", "multi-task"]
NOT_KEPT = ("out", "launching")  # of the options, in config.json


@dataclass(frozen=True)
class Select:
    """Choose contexts of a grid one after another, train a policy in each, and use the best of them everywhere.

    Policies do not see their context. Writes one folder: the policies in source-K, transfer.csv and transfer.npy
    (returns, rows sources, columns targets), coverage.csv, results.json and four figures. The same command resumes.
    """

    env: str = "orl/ContextPendulum-v0"
    """Gymnasium id of an environment with contexts."""
    contexts: str = "length=0.25:4:15"
    """Grid: low, high and number of values of each variable, as in mass=0.5:2:5,length=0.5:2:4."""
    budget: int = 5
    """Contexts to train in, at most."""
    batch: int = 2
    """Contexts that are chosen, and trained, together."""
    strategy: Chosen = "auto"
    """How contexts are chosen."""
    trainer: str = "sac"
    """A preset that acts, such as sac or speq, whose networks are small here (64 x 64, batches of 64, learning rate
    1e-3, 500 random steps; where no target entropy is published, minus the number of action dimensions); or sb3:PPO,
    sb3:DQN, ... of Stable-Baselines3."""
    settings: tuple[str, ...] = ()
    """Hyperparameters of the trainer, NAME=VALUE, as in hidden_sizes=[64,64] utd_ratio=0.5."""
    steps: int = 3_000
    """Environment steps in each context."""
    baselines: tuple[Baseline, ...] = ("random", "equidistant", "multi-task")
    """What to compare with. Contexts of random and equidistant that were not chosen are trained too; multi-task is one
    policy in copies of all contexts, for as many steps as the budget's sources together."""
    full_matrix: bool = False
    """Train in every context: all strategies on the same matrix, 100 random draws, regret against the oracle."""
    episodes: int = 10
    """Evaluation episodes of each policy in each context."""
    seed: int = 0
    """Source K of seed S is learner S N + K of N contexts; evaluation episodes start from the seed."""
    launching: tyro.conf.OmitArgPrefixes[Launching] = field(default_factory=Launching)
    """Where sources train that are asked for together."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    checkpoint_every: int = 5_000
    """Environment steps between checkpoints within a source."""
    out: Path | None = None
    """Folder of the run; by default runs/select-TRAINER-ENV, or runs/generalist-TRAINER-ENV."""

    def run(self) -> None:
        """Check everything, then choose, train, evaluate and report."""
        check_least(self, 1, "batch", "steps", "episodes", "checkpoint_every")
        space, contexts = offered_contexts(self.env).parse(self.contexts)
        scaled = space.normalize(contexts)
        selector = TaskSelector(scaled, self.strategy, self.budget, seed=self.seed)
        trainer = make_trainer(self.trainer, self.settings, self.env, space, self.device)
        trainer.check(self.steps)
        self.launching.check()
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in NOT_KEPT}
        name = f"{type(self).__name__.lower()}-{self.trainer}-{self.env}".replace("/", "-").replace(":", "-")
        folder = RunDirectory.open(self.out or Path("runs") / name, kept)
        recipe = Recipe(
            trainer, self.env, space, contexts, self.steps, self.checkpoint_every, self.episodes, self.seed
        )  # fmt: skip
        results = folder.finished()
        if results is None:
            with self.launching.started(folder.path / JOBS) as run:
                sources = Sources(folder.path, recipe, self.launching, run, folder.config)
                results = self._select(folder, selector, sources)
        else:
            Console().print(f"{folder.path} is finished; these are its results", soft_wrap=True)
        tables.show(results["rows"])

    def _select(self, folder: RunDirectory, selector: TaskSelector, sources: Sources) -> dict[str, Any]:
        recipe = sources.recipe
        self.choose(selector, sources)
        multi_task = sources.multi_task_row(self.budget) if "multi-task" in self.baselines else None
        if not self.full_matrix:
            sources.rows(self._others(selector))
        matrix = sources.matrix()
        found = coverages(selector, matrix, [each for each in self.baselines if each != "multi-task"], multi_task)
        self._draw(folder.path, selector, matrix, found, recipe)
        write_matrix(folder.path, recipe.space, recipe.contexts, matrix)
        write_coverages(folder.path / "coverage.csv", found)
        rows = result_rows(found, env=self.env, agent=self.trainer, seed=self.seed)
        return folder.finish(rows, sources=selector.sources.tolist(), training_seconds=sources.seconds())

    def choose(self, selector: TaskSelector, sources: Sources) -> None:
        """Ask, train and tell until the budget is spent."""
        recipe = sources.recipe
        if self.full_matrix:  # all of them side by side: what is chosen is there then
            sources.rows(range(len(recipe.contexts)))
        while len(selector.sources) < self.budget:
            asked = selector.ask(self.batch)
            for index, row in zip(asked, sources.rows(asked), strict=True):
                selector.tell(index, row)
                about = f"source {len(selector.sources)} of {self.budget}: {recipe.space.text(recipe.contexts[index])}"
                Console().print(f"{about}; mean return of all contexts {selector.coverage.mean():.1f}", soft_wrap=True)

    def _others(self, selector: TaskSelector) -> list[int]:
        """What the baselines would have trained."""
        plans = [planned(selector, each) for each in self.baselines if each != "multi-task"]
        return sorted({index for plan in plans for index in plan})

    def _draw(
        self,
        path: Path,
        selector: TaskSelector,
        matrix: NDArray[np.float64],
        found: list[Coverage],
        recipe: Recipe,
    ) -> None:
        title = f"{self.env}, {self.trainer}"
        matrix_figure(recipe.space, recipe.contexts, matrix, selector.sources, title, path / "transfer.png")
        model_figure(recipe.space, recipe.contexts, selector, title, path / "model.png")
        gap_figure(recipe.space, selector, title, path / "gap.png")
        coverage_figure(found, title, path / "coverage.png")


def planned(selector: TaskSelector, strategy: Strategy) -> list[int]:
    """What a strategy that needs no returns chooses of the same contexts, with the same budget and seed."""
    return TaskSelector(selector.contexts, strategy, selector.budget, seed=selector.seed).ask(selector.budget)


def make_trainer(name: str, settings: Sequence[str], env: str, space: ContextSpace, device: str) -> Trainer:
    """The trainer that a command line names.

    Args:
        name: of one of our presets that act, or `sb3:` and the name of an algorithm.
        settings: `name=value`, values as in JSON.
        env: Gymnasium id.
        space: its variables that differ.
        device: auto, cpu, cuda or cuda:1.

    Raises:
        ValueError: an unknown trainer, or a setting of another form.
    """
    acting = [preset for preset, (kind, _) in PRESETS.items() if issubclass(kind, SAC)]
    if name not in acting and not name.startswith(SB3):
        raise ValueError(f"--trainer {name}: choose one of {', '.join(acting)}, or sb3:PPO for Stable-Baselines3's PPO")
    kind = SB3Trainer if name.startswith(SB3) else PopulationTrainer
    return kind(name, read_settings(settings), env, space, device)
