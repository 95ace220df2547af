"""`orl train AGENT`: train one agent, over several seeds at once, on recorded data."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar, Union

import numpy as np
import torch
import tyro
from rich.console import Console

from orl import checkpoint, datasets, training
from orl.agent import Agent
from orl.agents import RewardModel, RewardModelConfig
from orl.checkpoint import learner_names
from orl.config import AgentConfig
from orl.dataset import Dataset
from orl.device import Precision
from orl.divergence import check_finite
from orl.environment import Spaces
from orl.evaluation import evaluate
from orl.metrics import MetricsLogger
from orl.scripts.commands.train_online import TrainOnline
from orl.scripts.data.racing import register_environments
from orl.scripts.figures.training import learning_curves
from orl.scripts.running import reward_variants as reward_kinds
from orl.scripts.running.launching import Launching
from orl.scripts.running.options import check_labels
from orl.scripts.running.registry import ACTING, PRESETS
from orl.scripts.running.reward_variants import Rewards
from orl.scripts.running.run_directory import RunDirectory, score_row, write_evaluations
from orl.scripts.running.training import Training, evaluation_metrics

C = TypeVar("C", bound=AgentConfig)
NOT_KEPT = ("out", "agent", "launching")  # of the options, in config.json


@dataclass(frozen=True)
class Train(Training, Generic[C]):
    """Train on recorded data; with --labels, hide rewards first and choose what stands in for them.

    Writes one folder: config.json, results.json, history.json, progress.csv, TensorBoard events, a figure, and a
    checkpoint per seed. The same command in the same folder resumes.
    """

    dataset: str
    """Minari id (`orl dataset list`), or a D4RL .hdf5 or an .npz file."""
    config: tyro.conf.OmitArgPrefixes[C]
    """Hyperparameters."""
    agent: tyro.conf.Suppress[str] = ""
    """Name of the preset."""
    env: str | None = None
    """Gymnasium id to evaluate in; by default the one that the data name."""
    labels: float | None = None
    """Share of the rewards to keep, in (0, 1]; all others are hidden."""
    label_mode: Literal["transition", "episode"] = "transition"
    """Keep single transitions or whole episodes."""
    label_seed: int = 0
    """Of the draw: seed K keeps the labels drawn with label-seed + K."""
    rewards: Rewards | None = None
    """What to train on: imputed (the default where rewards are hidden), the labelled transitions alone, hidden rewards
    filled with zero or the mean, or the true ones."""
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    """Of the reward model that imputes."""
    steps: int = 100_000
    """Gradient updates."""
    seeds: int = 1
    """Number of seeds, trained side by side."""
    first_seed: int = 0
    """The first of them; the others follow."""
    launching: tyro.conf.OmitArgPrefixes[Launching] = field(default_factory=Launching)
    """Where the seeds train."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    threads: int | None = None
    """CPU threads of torch, kept on resume; by default one, or OMP_NUM_THREADS. More need cores that idle."""
    precision: Precision = "highest"
    """Of matrix products: highest (float32), high (TF32 on CUDA), medium (bfloat16 on processors that have it)."""
    eval_every: int = 10_000
    """Updates between evaluations; the last one is always made."""
    eval_episodes: int = 10
    """Episodes of each evaluation, per seed."""
    log_every: int = 500
    """Updates between records of training metrics."""
    checkpoint_every: int = 10_000
    """Updates between checkpoints."""
    clip_actions: bool = False
    """Clip recorded actions that lie beyond their bounds instead of refusing them."""
    out: Path | None = None
    """Folder of the run; by default runs/AGENT-DATASET-REWARDS."""

    def results(self) -> dict[str, Any]:
        """Check everything, then train and evaluate; what `results.json` holds."""
        self.check("first_seed", "label_seed")
        check_labels(self.labels)  # before a folder remembers it
        register_environments()
        data = datasets.load(self.dataset, self.env, clip_actions=self.clip_actions)
        env = self.env or data.environment_id
        if env is None:
            raise ValueError(f"{self.dataset} does not name its environment; give --env to evaluate in")
        Spaces.of(data).check(Spaces.of(env), env)
        kind = self._kind(data)
        out = self.out or Path("runs") / f"{self.agent}-{Path(self.dataset).stem}-{kind}"
        folder = RunDirectory.open(out, {**self._described(env, kind), **self.set_arithmetic(out)})
        return self.obtain(
            folder, lambda: self._train(folder, data, env, kind), lambda: self._finish(folder, env, kind)
        )

    def part(self, first_seed: int, seeds: int) -> Self:
        """With a file's whole path: a worker may be elsewhere."""
        dataset = str(Path(self.dataset).resolve()) if Path(self.dataset).exists() else self.dataset
        return dataclasses.replace(super().part(first_seed, seeds), dataset=dataset)

    def _kind(self, data: Dataset) -> Rewards:
        if self.agent == "bc" and (self.rewards is not None or self.labels is not None):
            raise ValueError("bc clones actions, whatever their rewards; leave --rewards and --labels out")
        hidden = self.labels is not None or not data.is_labelled.all()
        kind = self.rewards or ("imputed" if hidden else "true")
        if not hidden and kind in ("imputed", "zero", "mean"):
            raise ValueError(f"--rewards {kind}: no reward of {data.name} is hidden; give --labels, as --labels 0.01")
        return "none" if self.agent == "bc" else kind  # type: ignore[return-value]

    def _described(self, env: str, kind: str) -> dict[str, Any]:
        kept = {name: value for name, value in dataclasses.asdict(self).items() if name not in NOT_KEPT}
        described = {"agent": self.agent, **kept, "dataset": self._dataset_name, "env": env, "rewards": kind}
        if Path(self.dataset).is_file():  # another file may have the same name
            with Path(self.dataset).open("rb") as file:
                described["dataset_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        return described

    @property
    def _dataset_name(self) -> str:
        """The id, or the file's name without its folder."""
        return Path(self.dataset).name if Path(self.dataset).exists() else self.dataset

    def _variants(self, folder: RunDirectory, data: Dataset, kind: str) -> list[Dataset]:
        if kind == "none":  # which read none
            return [data.fill(0.0)] * self.seeds
        if kind == "true":
            return [data] * self.seeds
        sparse = [data if self.labels is None else self._hide(data, seed) for seed in self.seed_numbers]
        model = None
        if kind == "imputed":
            model = RewardModel(sparse, self.reward_model, seed=self.seed_numbers, device=self.device)
            model.fit(progress_bar=True)
            model.save(folder.path / "reward-model")
            report = [dataclasses.asdict(each) for each in model.report(data if data.is_labelled.all() else None)]
            checkpoint.write_json(folder.path / "reward-model.json", report)
        return reward_kinds.complete(kind, data, sparse, model)  # type: ignore[arg-type]

    def _hide(self, data: Dataset, seed: int) -> Dataset:
        assert self.labels is not None
        return data.with_labels(self.labels, mode=self.label_mode, seed=self.label_seed + seed)

    def _train(self, folder: RunDirectory, data: Dataset, env: str, kind: str) -> None:
        variants = self._variants(folder, data, kind)
        agent = self.restored(folder)
        if agent is None:
            agent = PRESETS[self.agent][0](variants, self.config, seed=self.seed_numbers, device=self.device)
        else:
            agent.attach(variants)
            folder.resume(agent.updates)
            Console().print(f"resuming {folder.path} at update {agent.updates:,}", soft_wrap=True)
        with MetricsLogger(folder.path, learner_names(self.seed_numbers), agent.updates) as sink:
            if agent.updates < self.steps:
                for updates, metrics in training.offline(agent, self.steps - agent.updates, progress_bar=True):
                    last = updates == self.steps
                    if updates % self.log_every == 0 or last:
                        sink.write(updates, metrics)
                        check_finite(agent)
                    if updates % self.eval_every == 0 or last:
                        self._evaluate(agent, folder, env, sink)
                    if updates % self.checkpoint_every == 0 or last:
                        sink.flush()
                        agent.save(self.checkpoints(folder))

    def _evaluate(self, agent: Agent, folder: RunDirectory, env: str, sink: MetricsLogger) -> None:
        evaluation = evaluate(agent, env, episodes=self.eval_episodes)
        folder.record(agent.updates, evaluation.returns, evaluation.lengths)
        metrics = evaluation_metrics(evaluation, env)
        sink.write(agent.updates, {name: torch.from_numpy(values) for name, values in metrics.items()}, "eval/")

    def _finish(self, folder: RunDirectory, env: str, kind: str) -> dict[str, Any]:
        seeds = self.seed_numbers
        returns = np.array([each["returns"] for each in folder.history])  # (evaluations, P, E)
        write_evaluations(folder, seeds, folder.history, "updates")
        best = returns.mean(axis=2).max(axis=0)  # each seed's best evaluation
        row = score_row(
            returns[-1],
            seeds,
            dataset=self._dataset_name,
            env=env,
            agent=self.agent,
            rewards=kind,
            updates=self.steps,
        )
        best_row = score_row(best[:, None], seeds, dataset=None, env=env, agent=self.agent, rewards=kind)
        row |= {"best_return": best_row["return"], "best_normalized_score": best_row["normalized_score"]}
        learning_curves({folder.path.name: folder.history}, env, folder.path / "learning_curve.png")
        return folder.finish([row])


def _verbs() -> Any:
    """One subcommand per preset, for tyro."""
    kinds = []
    for name, (kind, preset) in PRESETS.items():
        verb: Any = TrainOnline if kind in ACTING else Train
        default = verb(tyro.MISSING, preset, agent=name)
        about = tyro.conf.subcommand(name, default=default, description=_summary(kind, verb))
        kinds.append(Annotated[verb[type(preset)], about])
    return Union[tuple(kinds)]  # noqa: UP007  built at run time


def _summary(kind: type[Agent], verb: type[Any]) -> str:
    about = f"{(kind.__doc__ or '').splitlines()[0]}\n\n{verb.__doc__}"
    return about.replace("\n    ", "\n")


TrainVerbs = _verbs()
