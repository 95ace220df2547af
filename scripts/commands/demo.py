"""`orl demo`: the main job, a good policy from data in which almost all rewards are hidden, beside its alternatives."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from orl import checkpoint, datasets
from orl.agent import Agent
from orl.agents import BC, IQL, TD3BC, BCConfig, IQLConfig, RewardModel, RewardModelConfig, TD3BCConfig
from orl.agents.reward_model import RewardModelReport
from orl.dataset import Dataset
from orl.datasets import minari
from orl.evaluation import evaluate
from orl.scripts.commands.dataset import Make
from orl.scripts.data import racing as racing_datasets
from orl.scripts.figures.racing import racing_lines
from orl.scripts.figures.scores import imputed_against_true, score_bars
from orl.scripts.running import reward_variants as reward_kinds
from orl.scripts.running import tables
from orl.scripts.running.options import check_labels, check_least
from orl.scripts.running.reward_variants import KINDS, Rewards
from orl.scripts.running.run_directory import RunDirectory, score_row
from orl.training import progress

ENVIRONMENT = racing_datasets.ENVIRONMENT
SMALL: dict[str, Any] = {"hidden_sizes": (64, 64), "batch_size": 64}  # for two cores
FAST: dict[str, Any] = {"critic_learning_rate": 1e-3, "actor_learning_rate": 1e-3}  # small networks, few updates
TRACED = ("x", "y", "speed")
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
    """Share of the rewards that is kept, in (0, 1]; seed K keeps labels of its own."""
    seeds: int = 5
    """Seeds 0 to K - 1: labels, reward model and agent are all redrawn."""
    updates: int = 20_000
    """Gradient updates of every agent."""
    second_updates: int = 5_000
    """Gradient updates of every agent on the second dataset."""
    episodes: int = 5
    """Evaluation episodes per seed, of 2,000 decisions each."""
    workers: int = 2
    """Processes, of one thread each, that train the agents."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    iql: IQLConfig = field(
        default_factory=lambda: IQLConfig(
            **SMALL, **FAST, advantage_temperature=10.0, scale_rewards=False, cosine_horizon=20_000
        )
    )
    """Hyperparameters, the same for all kinds of rewards; the temperature is the paper's for AntMaze. Rewards stay in
    metres: that is better on the true ones than scaling by returns."""
    td3bc: TD3BCConfig = field(default_factory=lambda: TD3BCConfig(**SMALL, **FAST))
    """Hyperparameters."""
    bc: BCConfig = field(default_factory=lambda: BCConfig(**SMALL, learning_rate=1e-3))
    """Hyperparameters."""
    reward_model: RewardModelConfig = field(default_factory=lambda: RewardModelConfig(**SMALL))
    """Hyperparameters."""

    def run(self) -> None:
        """Do it all, or what is missing."""
        check_least(self, 1, "seeds", "updates", "second_updates", "episodes", "workers")
        check_labels(self.labels)
        if Path(self.dataset).name == Path(self.second_dataset).name:  # of which each has a folder
            pair = f"--dataset {self.dataset}, --second-dataset {self.second_dataset}"
            raise ValueError(f"{pair}: give two whose names differ after the last /")
        settings = dataclasses.asdict(self)
        del settings["out"]
        folder = RunDirectory.open(self.out, settings)
        results = folder.finished()
        if results is None:
            results = self._compare(folder)
        else:
            Console().print(f"{self.out} is finished; these are its results", soft_wrap=True)
        tables.show(results["rows"], f"{self.labels:.0%} of the rewards known")
        Console().print(f"figures and checkpoints: {self.out}", soft_wrap=True)

    def _compare(self, folder: RunDirectory) -> dict[str, Any]:
        racing_datasets.register_environments()
        plans = {
            self.dataset: {"bc": ("none",), "iql": KINDS, "td3bc": KINDS},
            self.second_dataset: {"bc": ("none",), "iql": KINDS_AGAIN, "td3bc": KINDS_AGAIN},
        }
        for dataset in plans:
            if not minari.exists(dataset):
                Make(ids=(dataset,)).run()
        self._train_all([(dataset, name, kinds) for dataset, plan in plans.items() for name, kinds in plan.items()])
        rows: list[dict[str, Any]] = []
        reports = {}
        for dataset, plan in plans.items():
            comparison = Comparison(self, dataset)
            reports[dataset] = comparison.report()
            for name, kinds in plan.items():
                rows += comparison.rows(name, kinds)
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

    def _train_all(self, stages: Sequence[tuple[str, str, Sequence[str]]]) -> None:
        """Fit the reward models, then train every agent on every dataset, several at a time."""
        spawn = multiprocessing.get_context("spawn")
        with (
            ProcessPoolExecutor(self.workers, spawn, initializer=_one_thread) as pool,
            progress("reward models and agents", len(stages) + 2) as advance,
        ):
            for fitted in [pool.submit(Comparison, self, dataset) for dataset in (self.dataset, self.second_dataset)]:
                fitted.result()
                advance(1)
            largest_first = sorted(stages, key=lambda stage: (stage[0] != self.dataset, -len(stage[2])))
            for trained in as_completed([pool.submit(_train, self, *stage) for stage in largest_first]):
                trained.result()
                advance(1)


def _one_thread() -> None:
    racing_datasets.register_environments()
    torch.set_num_threads(1)


def _train(demo: Demo, dataset: str, name: str, kinds: Sequence[str]) -> None:
    Comparison(demo, dataset).train(name, kinds)


class Comparison:
    """All agents on one dataset; what is finished is on disk and is not done again."""

    def __init__(self, demo: Demo, dataset: str) -> None:
        self.demo, self.dataset = demo, dataset
        self.path = demo.out / Path(dataset).name
        self.truth = datasets.load(dataset, ENVIRONMENT)
        self.seeds = list(range(demo.seeds))
        self.sparse = [self.truth.with_labels(demo.labels, seed=seed) for seed in self.seeds]
        self.model = self._reward_model()
        self.played: dict[tuple[str, str], dict[str, NDArray[Any]]] = {}

    def _reward_model(self) -> RewardModel:
        path = self.path / "reward-model"
        if checkpoint.numbers(path):
            return RewardModel.load(path, device=self.demo.device)
        model = RewardModel(self.sparse, self.demo.reward_model, seed=self.seeds, device=self.demo.device).fit()
        checkpoint.write_json(self.path / "reward-model.json", _mean_report(model.report(self.truth)))
        model.save(path)
        return model

    def report(self) -> dict[str, float | None]:
        """Diagnostics of the reward model, averaged over seeds."""
        report: dict[str, float | None] = checkpoint.read_json(self.path / "reward-model.json")
        return report

    def rows(self, name: str, kinds: Sequence[str]) -> list[dict[str, Any]]:
        """Results of a trained agent, one row per kind of rewards."""
        with np.load(self.path / f"{name}.npz") as arrays:
            played = dict(arrays)
        rows = []
        for i, kind in enumerate(kinds):
            chosen = slice(i * len(self.seeds), (i + 1) * len(self.seeds))
            self.played[name, kind] = {key: values[..., chosen, :] for key, values in played.items()}
            laps = float(played["laps"][chosen].mean())
            cell = {"dataset": self.dataset, "env": ENVIRONMENT, "agent": name, "rewards": kind}
            rows.append(score_row(played["returns"][chosen], self.seeds, **cell, laps=laps))
        return rows

    def train(self, name: str, kinds: Sequence[str]) -> None:
        """Train all kinds of rewards and seeds of one agent in one population, and let it drive."""
        finished = self.path / f"{name}.npz"
        if finished.exists():
            return
        variants = [data for kind in kinds for data in self._data(kind)]
        agent_class, config = AGENTS[name], getattr(self.demo, name)
        agent = agent_class(variants, config, seed=self.seeds * len(kinds), device=self.demo.device)
        updates = self.demo.updates if self.dataset == self.demo.dataset else self.demo.second_updates
        agent.fit(updates)
        played = evaluate(agent, ENVIRONMENT, episodes=self.demo.episodes, record=TRACED)
        for i, kind in enumerate(kinds):
            learners = range(i * len(self.seeds), (i + 1) * len(self.seeds))
            agent.select(learners).save(self.path / (name if kind == "none" else f"{name}-{kind}"))
        arrays: dict[str, Any] = {"returns": played.returns, "laps": played.infos["lap"], **played.traces}
        temporary = finished.with_suffix(".part.npz")
        np.savez(temporary, **arrays)
        temporary.replace(finished)

    def _data(self, kind: str) -> list[Dataset]:
        if kind == "none":
            return [self.truth] * len(self.seeds)
        return reward_kinds.complete(cast(Rewards, kind), self.truth, self.sparse, self.model)

    def draw(self) -> None:
        """The figures of this dataset."""
        imputed = self.model.impute(self.sparse)
        first = imputed[0] if isinstance(imputed, list) else imputed
        hidden = ~self.sparse[0].is_labelled
        title = f"{self.dataset}: rewards hidden from the model (seed 0)"
        path = self.demo.out / "imputed_rewards.png"
        imputed_against_true(first.rewards[hidden], self.truth.rewards[hidden], title, path)
        environment: Any = gymnasium.make(ENVIRONMENT)
        lines = {}
        for (name, kind), played in self.played.items():
            returns = played["returns"]
            middle = np.unravel_index(np.argsort(returns, axis=None)[returns.size // 2], returns.shape)
            x, y, speed = (played[key][(slice(None), *middle)] for key in TRACED)
            about = f"return {returns[middle]:.0f}, {played['laps'][middle]:.0f} laps"
            lines[name if kind == "none" else f"{name}, {kind} rewards"] = (x, y, speed, about)
        racing_lines(environment.unwrapped.track, lines, 4, self.demo.out / "racing_lines.png")
        environment.close()


def _mean_report(reports: Sequence[RewardModelReport]) -> dict[str, float | None]:
    """Each diagnostic's mean over the seeds for which it is defined."""
    mean: dict[str, float | None] = {}
    for key in ("r2", "mae", "coverage", "return_correlation"):
        values = [value for report in reports if (value := getattr(report, key)) is not None]
        mean[key] = float(np.mean(values)) if values else None
    return mean
