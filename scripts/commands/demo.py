"""`orl demo`: the main job, a good policy from data in which almost all rewards are hidden, beside its alternatives."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from rich.console import Console

from orl import checkpoint, datasets
from orl.agent import Agent
from orl.agents import (
    BC,
    BC_SMALL_PRESET,
    IQL,
    IQL_SMALL_PRESET,
    REWARD_MODEL_SMALL_PRESET,
    TD3BC,
    TD3BC_SMALL_PRESET,
    BCConfig,
    IQLConfig,
    RewardModel,
    RewardModelConfig,
    TD3BCConfig,
)
from orl.agents.reward_model import RewardModelReport
from orl.arrays import Array
from orl.dataset import Dataset
from orl.datasets import minari
from orl.evaluation import evaluate
from orl.launcher import MARKER, Job
from orl.scripts.commands.dataset import Make
from orl.scripts.data import racing as racing_datasets
from orl.scripts.figures.racing import racing_lines
from orl.scripts.figures.scores import imputed_against_true, score_bars
from orl.scripts.main import check_labels, check_least
from orl.scripts.running import tables
from orl.scripts.running.launching import Launching
from orl.scripts.running.reward_variants import KINDS, Rewards, complete
from orl.scripts.running.run_directory import JsonObject, RunDirectory, score_row

ENVIRONMENT = racing_datasets.ENVIRONMENT
TRACED = ("x", "y", "speed")
PLAYED = "played.npz"  # of a job: the evaluation of all its learners
AGENTS: dict[str, type[Agent]] = {"bc": BC, "iql": IQL, "td3bc": TD3BC}
KINDS_AGAIN: tuple[Rewards, ...] = ("zero", "imputed", "true")


@dataclass(frozen=True)
class Demo:
    """Learn to race from recorded driving in which 99 % of the rewards are hidden, in about five minutes on two cores.

    Trains IQL and TD3+BC on the labelled 1 % alone, on zero- and mean-filled rewards, on rewards imputed by a reward
    model and on the true ones, and behaviour cloning, over several seeds side by side. Makes the racing datasets if
    they are not there. Writes results.json, three figures and the checkpoints. The same command resumes.
    """

    out: Path = Path("runs/demo")
    """Folder for results, figures and checkpoints."""
    dataset: str = "orl/racing/mix-large-v0"
    """Racing dataset: 90 % poor, 7 % medium and 3 % good driving."""
    second_dataset: str = "orl/racing/expert-v0"
    """Racing dataset for comparison, where the data are good throughout."""
    labels: float = 0.01
    """Share of the rewards that stays, in (0, 1]; seed K keeps labels of its own."""
    seeds: int = 5
    """Seeds 0 to K - 1: labels, reward model and agent are all redrawn."""
    updates: int = 20_000
    """Gradient updates of every agent."""
    second_updates: int = 5_000
    """Gradient updates of every agent on the second dataset."""
    episodes: int = 5
    """Evaluation episodes per seed, of 2,000 decisions each."""
    workers: int = 2
    """Processes, of one thread each, that train the agents; 1: this process does."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    iql: IQLConfig = field(
        default_factory=lambda: dataclasses.replace(
            IQL_SMALL_PRESET, advantage_temperature=10.0, scale_rewards=False, cosine_horizon=20_000
        )
    )
    """Hyperparameters, the same for all kinds of rewards; the temperature is the paper's for AntMaze. Rewards stay in
    metres: that is better on the true ones than scaling by returns."""
    td3bc: TD3BCConfig = TD3BC_SMALL_PRESET
    """Hyperparameters."""
    bc: BCConfig = BC_SMALL_PRESET
    """Hyperparameters."""
    reward_model: RewardModelConfig = REWARD_MODEL_SMALL_PRESET
    """Hyperparameters."""

    def run(self) -> None:
        """Do it all, or what is missing."""
        check_least(self, 1, "seeds", "updates", "second_updates", "episodes", "workers")
        check_labels(self.labels)
        if Path(self.dataset).name == Path(self.second_dataset).name:  # each has a folder of that name
            pair = f"--dataset {self.dataset}, --second-dataset {self.second_dataset}"
            raise ValueError(f"{pair}: give two whose names differ after the last /")
        settings = {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}
        folder = RunDirectory.open(self.out, settings)
        results = folder.results(lambda: self._compare(folder))
        tables.show(results["rows"], f"{self.labels:.0%} of the rewards known")
        Console().print(f"figures and checkpoints: {self.out}", soft_wrap=True)

    def _compare(self, folder: RunDirectory) -> JsonObject:
        plans: dict[str, dict[str, Sequence[str]]] = {
            self.dataset: {"bc": ("none",), "iql": KINDS, "td3bc": KINDS},
            self.second_dataset: {"bc": ("none",), "iql": KINDS_AGAIN, "td3bc": KINDS_AGAIN},
        }
        for dataset in plans:
            if not minari.exists(dataset):
                Make(ids=(dataset,)).run()
        cells = [(dataset, name, kinds) for dataset, plan in plans.items() for name, kinds in plan.items()]
        cells.sort(key=lambda cell: (cell[0] != self.dataset, -len(cell[2])))  # the longest first
        launching = Launching("process", workers=self.workers) if self.workers > 1 else Launching("serial")
        with launching.started(self.out / "jobs") as run:
            models = run([self._job(folder, _fit_reward_model, dataset) for dataset in plans])
            trained = run([self._job(folder, _train, *cell) for cell in cells])
        reports = {dataset: checkpoint.read_json(job / MARKER) for dataset, job in zip(plans, models, strict=True)}
        jobs = {(dataset, name): job for (dataset, name, _), job in zip(cells, trained, strict=True)}
        rows: list[JsonObject] = []
        for dataset, plan in plans.items():
            comparison = Comparison(self, dataset)
            for name, kinds in plan.items():
                rows += comparison.rows(name, kinds, jobs[dataset, name])
            if dataset == self.dataset:
                comparison.draw()
        title = f"{ENVIRONMENT}, {self.labels:.0%} of the rewards known, {self.seeds} seeds"
        score_bars(rows, title, self.out / "scores.png")
        return folder.finish(
            rows,
            dataset=self.dataset,
            label_fraction=self.labels,
            reward_model=reports[self.dataset],
            reward_models=reports,
        )

    def _job(self, folder: RunDirectory, work: Callable[..., None], *cell: Any) -> Job:
        return Job(functools.partial(work, self, *cell), {**folder.config, "work": work.__name__, "cell": cell})


def _fit_reward_model(demo: Demo, dataset: str, job: Path) -> None:
    """Save a dataset's reward model beside its agents, and its report as the job's result."""
    comparison = Comparison(demo, dataset)
    model = RewardModel(comparison.sparse, demo.reward_model, seed=comparison.seeds, device=demo.device).fit()
    model.save(comparison.path / "reward-model")
    checkpoint.write_json(job / MARKER, _mean_report(model.report(comparison.truth)))


def _train(demo: Demo, dataset: str, name: str, kinds: Sequence[str], job: Path) -> None:
    """Train all kinds of rewards and seeds of one agent in one population, and let it drive."""
    comparison = Comparison(demo, dataset)
    variants = [data for kind in kinds for data in comparison.variants(kind)]
    seeds = comparison.seeds
    agent = AGENTS[name](variants, getattr(demo, name), seed=seeds * len(kinds), device=demo.device)
    agent.fit(demo.updates if dataset == demo.dataset else demo.second_updates)
    played = evaluate(agent, ENVIRONMENT, episodes=demo.episodes, record=TRACED)
    for i, kind in enumerate(kinds):
        learners = range(i * len(seeds), (i + 1) * len(seeds))
        agent.select(learners).save(comparison.path / (name if kind == "none" else f"{name}-{kind}"))
    job.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"returns": played.returns, "laps": played.infos["lap"], **played.traces}
    np.savez_compressed(job / PLAYED, **arrays)
    checkpoint.write_json(job / MARKER, {"agent": name, "rewards": list(kinds)})


class Comparison:
    """All agents on one dataset."""

    def __init__(self, demo: Demo, dataset: str) -> None:
        self.demo, self.dataset = demo, dataset
        self.path = demo.out / Path(dataset).name
        self.truth = datasets.load(dataset, ENVIRONMENT)
        self.seeds = list(range(demo.seeds))
        self.sparse = [self.truth.with_labels(demo.labels, seed=seed) for seed in self.seeds]
        self.played: dict[tuple[str, str], dict[str, Array]] = {}

    @cached_property
    def model(self) -> RewardModel:
        """The reward model that a job has fitted."""
        return RewardModel.load(self.path / "reward-model", device=self.demo.device)

    def variants(self, kind: str) -> list[Dataset]:
        """One dataset per seed with this kind of rewards."""
        if kind == "none":
            return [self.truth] * len(self.seeds)
        return complete(cast(Rewards, kind), self.truth, self.sparse, self.model)

    def rows(self, name: str, kinds: Sequence[str], job: Path) -> list[JsonObject]:
        """Results of an agent that a job has trained, one row per kind of rewards."""
        with np.load(job / PLAYED) as arrays:
            played = dict(arrays)
        rows = []
        for i, kind in enumerate(kinds):
            chosen = slice(i * len(self.seeds), (i + 1) * len(self.seeds))
            self.played[name, kind] = {key: values[..., chosen, :] for key, values in played.items()}
            cell: JsonObject = {"dataset": self.dataset, "env": ENVIRONMENT, "agent": name, "rewards": kind}
            cell["laps"] = float(played["laps"][chosen].mean())
            rows.append(score_row(played["returns"][chosen], self.seeds, **cell))
        return rows

    def draw(self) -> None:
        """The figures of this dataset."""
        imputed = self.model.impute(self.sparse)
        first = imputed[0] if isinstance(imputed, list) else imputed
        hidden = ~self.sparse[0].is_labelled
        title = f"{self.dataset}: rewards hidden from the model (seed 0)"
        path = self.demo.out / "imputed_rewards.png"
        imputed_against_true(first.rewards[hidden], self.truth.rewards[hidden], title, path)
        lines = {}
        for (name, kind), played in self.played.items():
            returns = played["returns"]
            middle = np.unravel_index(np.argsort(returns, axis=None)[returns.size // 2], returns.shape)
            x, y, speed = (played[key][(slice(None), *middle)] for key in TRACED)
            about = f"return {returns[middle]:.0f}, {played['laps'][middle]:.0f} laps"
            lines[name if kind == "none" else f"{name}, {kind} rewards"] = (x, y, speed, about)
        racing_lines(racing_datasets.track(), lines, 4, self.demo.out / "racing_lines.png")


def _mean_report(reports: Sequence[RewardModelReport]) -> dict[str, float | None]:
    """Each diagnostic's mean over the seeds for which it is defined."""
    mean: dict[str, float | None] = {}
    for key in ("r2", "mae", "coverage", "return_correlation"):
        values = [value for report in reports if (value := getattr(report, key)) is not None]
        mean[key] = float(np.mean(values)) if values else None
    return mean
