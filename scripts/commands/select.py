"""`orl select`: train on the few contexts that are worth it, and use their policies in all the others."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from orl.agents import TaskSelector
from orl.agents.mbtl.strategies import Strategy
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.selection import compare_coverages, coverage_rows, write_coverages
from orl.scripts.contexts.sources import JOBS, SourceConfig, Sources
from orl.scripts.contexts.trainers import make_trainer
from orl.scripts.contexts.transfer_matrix import write_matrix
from orl.scripts.figures.selection import coverage_figure, gap_figure, matrix_figure, model_figure
from orl.scripts.main import check_least
from orl.scripts.running import tables
from orl.scripts.running.launching import Launching
from orl.scripts.running.run_directory import JsonObject, RunDirectory

SelectStrategy = Literal["auto", "gp", "gp-original", "mountain", "greedy", "equidistant", "random"]
Baseline = Literal["random", "equidistant", "multi-task"]
IN_NO_CONFIG = ("out", "launching")  # options that decide no number


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
    strategy: SelectStrategy = "auto"
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
        options = {name: value for name, value in dataclasses.asdict(self).items() if name not in IN_NO_CONFIG}
        name = f"{type(self).__name__.lower()}-{self.trainer}-{self.env}".replace("/", "-").replace(":", "-")
        folder = RunDirectory.open(self.out or Path("runs") / name, options)
        config = SourceConfig(trainer, contexts, self.steps, self.checkpoint_every, self.episodes, self.seed)

        def results() -> JsonObject:
            with self.launching.started(folder.path / JOBS) as run:
                return self._select(folder, selector, Sources(folder.path, config, self.launching, run, folder.config))

        tables.show(folder.results(results)["rows"])

    def _select(self, folder: RunDirectory, selector: TaskSelector, sources: Sources) -> JsonObject:
        space, contexts = sources.config.trainer.space, sources.config.contexts
        self.choose(selector, sources)
        multi_task = sources.multi_task_row(self.budget) if "multi-task" in self.baselines else None
        baselines: list[Strategy] = [name for name in self.baselines if name != "multi-task"]
        if not self.full_matrix:
            sources.rows(sorted({index for name in baselines for index in planned(selector, name)}))
        matrix = sources.matrix()
        coverages = compare_coverages(selector, matrix, baselines, multi_task)
        title, path = f"{self.env}, {self.trainer}", folder.path
        matrix_figure(space, contexts, matrix, selector.sources, title, path / "transfer.png")
        model_figure(space, contexts, selector, title, path / "model.png")
        gap_figure(space, selector, title, path / "gap.png")
        coverage_figure(coverages, title, path / "coverage.png")
        write_matrix(path, space, contexts, matrix)
        write_coverages(path / "coverage.csv", coverages)
        rows = coverage_rows(coverages, env=self.env, agent=self.trainer, seed=self.seed)
        return folder.finish(rows, sources=selector.sources.tolist(), training_seconds=sources.seconds())

    def choose(self, selector: TaskSelector, sources: Sources) -> None:
        """Ask, train and tell until the budget is spent."""
        config = sources.config
        if self.full_matrix:  # all of them side by side: what is chosen is there then
            sources.rows(range(len(config.contexts)))
        while len(selector.sources) < self.budget:
            asked = selector.ask(self.batch)
            for index, row in zip(asked, sources.rows(asked), strict=True):
                selector.tell(index, row)
                context = config.trainer.space.text(config.contexts[index])
                about = f"source {len(selector.sources)} of {self.budget}: {context}"
                Console().print(f"{about}; mean return of all contexts {selector.coverage.mean():.1f}", soft_wrap=True)


def planned(selector: TaskSelector, strategy: Strategy) -> list[int]:
    """What a strategy that needs no returns chooses of the same contexts, with the same budget and seed."""
    return TaskSelector(selector.contexts, strategy, selector.budget, seed=selector.seed).ask(selector.budget)
