"""`orl zero-shot`: policies for contexts that nobody trained on, from nothing to tables and figures."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from orl import statistics
from orl.arrays import Float64Array
from orl.context import ContextSpace
from orl.envs.contextual import offered_contexts
from orl.execution import Execution
from orl.scripts.contexts.trainers import PopulationTrainer, read_settings
from orl.scripts.contexts.zero_shot import EVALUATIONS, METHODS, Task, Trial, splits
from orl.scripts.figures.zero_shot import return_figure, score_figure, weight_figure
from orl.scripts.main import check_labels, check_least
from orl.scripts.running import tables
from orl.scripts.running.run_directory import JsonObject, RunDirectory

GRIDS = {  # by environment, where --contexts is not given
    "orl/ContextPendulum-v0": "mass=0.25:2:7,length=0.25:2:7",
    "orl/ContextCartPole-v0": "mass=0.25:4:5,length=0.25:4:5",
    "orl/ContextHalfCheetah-v0": "target_speed=0.5:3:12",
}


@dataclass(frozen=True)
class ZeroShot:
    """Train specialists on a grid of contexts, learn from them what the policy of any context is, and try it.

    For each seed: a specialist per context, all trained together; their data; for each split of the contexts a
    hypernetwork and its baselines, which see training contexts alone; returns in all contexts. Writes one folder:
    config.json, results.json, figures, and in seed-K the specialists, returns and the chosen checkpoints. The same
    command in the same folder resumes.
    """

    env: str = "orl/ContextPendulum-v0"
    """Gymnasium id of an environment with contexts."""
    contexts: str | None = None
    """Grid, as in mass=0.5:2:7,length=0.5:2:7; by default one that is made for the environment."""
    steps: int = 15_000
    """Environment steps of each specialist."""
    trainer: Literal["sac", "redq", "droq", "speq", "speq-auto"] = "sac"
    """What trains the specialists, small as in `orl select`; they do not see their contexts."""
    settings: tuple[str, ...] = ()
    """Its hyperparameters, NAME=VALUE, as in hidden_sizes=[64,64] discount=0.98; the discount holds everywhere."""
    methods: tuple[Literal["hyperzero", "hyperzero-paper", "concatenation", "uvfa"], ...] = (
        "hyperzero",
        "concatenation",
        "uvfa",
    )
    """What learns from the specialists' data; hyperzero-paper has the paper's settings and sizes."""
    updates: int = 20_000
    """Gradient updates of each method."""
    data_episodes: int = 10
    """Episodes of each specialist to learn from."""
    labels: float | None = None
    """Keep this share of their rewards, in (0, 1]; a reward model that sees the context fills in the others."""
    eval_episodes: int = 10
    """Episodes in each context of every evaluation."""
    shots: tuple[int, ...] = (1, 5)
    """Episodes of a held-out context for fine-tuning its generated policy, beside a policy from scratch."""
    shot_updates: int = 500
    """Gradient updates of that."""
    randomized: bool = False
    """Also train one policy in all training contexts at once, with as many steps as their specialists: takes longer."""
    seeds: int = 1
    """Number of seeds of everything, one after the other."""
    first_seed: int = 0
    """The first of them; the others follow."""
    execution: Execution = "auto"
    """Of all updates: eager, compile, or on CUDA graph."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    out: Path | None = None
    """Folder of the run; by default runs/zero-shot-ENV."""

    @cached_property
    def grid(self) -> str:
        """Of the contexts, as text.

        Raises:
            ValueError: no grid for the environment.
        """
        text = self.contexts or GRIDS.get(self.env)
        if text is None:
            offered = ", ".join(offered_contexts(self.env).names)
            raise ValueError(f"{self.env}: there is no grid for it; give --contexts of {offered}")
        return text

    def run(self) -> None:
        """Check everything, then train, evaluate and report."""
        space, contexts = offered_contexts(self.env).parse(self.grid)
        self._check(space, contexts)
        options = {name: value for name, value in dataclasses.asdict(self).items() if name != "out"}
        out = self.out or Path("runs") / f"zero-shot-{self.env.replace('/', '-')}"
        folder = RunDirectory.open(out, {**options, "contexts": self.grid})
        task = Task(self.env, space, contexts, self.eval_episodes, self.device)
        results = folder.results(lambda: self._results(task, folder))
        first = splits(space, contexts, self.first_seed)
        for split in first:
            tables.show([row for row in results["rows"] if row["split"] == split.name])
        play = f"orl evaluate {out}/seed-{self.first_seed}/{self.methods[0]}/{first[0].name}"
        context = space.text(contexts[first[0].test[0]])
        Console().print(f"a policy of any context: {play} --context {context}", soft_wrap=True)

    def _results(self, task: Task, folder: RunDirectory) -> JsonObject:
        trials = [self._trial(task, seed, folder.path / f"seed-{seed}") for seed in self._seed_numbers]
        score_figure(trials, folder.path / "scores.png")
        return_figure(trials[0], folder.path / "contexts.png")
        weight_figure(trials[0], folder.path / "weights.png")
        return folder.finish(self._rows(trials))

    @property
    def _seed_numbers(self) -> list[int]:
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def _check(self, space: ContextSpace, contexts: Float64Array) -> None:
        """Before there is a folder."""
        if self.updates < EVALUATIONS:
            raise ValueError(f"--updates {self.updates}: give at least {EVALUATIONS}, one for each evaluation")
        check_least(self, 1, "steps", "data_episodes", "eval_episodes", "shot_updates", "seeds")
        if self.first_seed < 0 or not self.methods:
            raise ValueError(
                f"--first-seed {self.first_seed}, --methods {self.methods}: give 0 or more, and at least one"
            )
        check_labels(self.labels)
        if not all(1 <= number <= self.data_episodes for number in self.shots):
            raise ValueError(
                f"--shots {self.shots}: give numbers from 1 to the {self.data_episodes} of --data-episodes"
            )
        if self.shots and "hyperzero" not in self.methods:
            raise ValueError("--shots: fine-tuning needs hyperzero among --methods")
        splits(space, contexts, self.first_seed)
        self._trainer(space).check(self.steps)

    def _trainer(self, space: ContextSpace) -> PopulationTrainer:
        settings = read_settings(self.settings) | {"execution": self.execution}
        return PopulationTrainer(self.trainer, settings, self.env, space, self.device)

    def _trial(self, task: Task, seed: int, folder: Path) -> Trial:
        """One seed, from the specialists to the returns."""
        trial = Trial(task, self._trainer(task.space), seed, folder)
        agent = trial.specialists(self.grid, self.steps)
        trial.measure(agent)
        data = cache(partial(trial.data, agent, self.data_episodes))
        discount = trial.trainer.config(self.steps).discount
        shared: JsonObject = {"contexts": task.space, "discount": discount, "execution": self.execution}
        methods = {str(name): dataclasses.replace(METHODS[name], **shared) for name in self.methods}
        trial.learn(methods, data, self.labels, self.updates)
        trial.fine_tune(data, self.shots, self.shot_updates)
        if self.randomized:
            trial.randomize(self.steps)
        return trial

    def _rows(self, trials: list[Trial]) -> list[JsonObject]:
        """One for each split and method, over all held-out contexts of all seeds."""
        rows = []
        for k, split in enumerate(trials[0].splits):
            all_scores, all_returns = [trial.scores(k) for trial in trials], [trial.returns(k) for trial in trials]
            for name in all_scores[0]:
                scores = np.concatenate([each[name] for each in all_scores])
                returns = np.concatenate([each[name].mean(-1) for each in all_returns])
                rows.append(
                    {
                        "dataset": "specialists",
                        "env": self.env,
                        "split": split.name,
                        "agent": name,
                        "rewards": "true" if self.labels is None else "imputed",
                        "zero_shot_score": float(scores.mean()) if len(scores) else None,
                        "zero_shot_interval": list(statistics.interval(scores, np.mean)) if len(scores) > 1 else None,
                        "interquartile_mean": float(statistics.interquartile_mean(scores)) if len(scores) else None,
                        "worst": float(scores.min()) if len(scores) else None,
                        "return": float(returns.mean()),
                        "held_out_contexts": len(scores),
                        "seeds": self._seed_numbers,
                    }
                )
        return rows
