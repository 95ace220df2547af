"""`orl train AGENT` for the agents that act: train in an environment, over several seeds at once."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
import tyro
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from rich.console import Console

from orl import datasets, training
from orl.agents import SAC, FlashSAC
from orl.agents.critic_bias import critic_bias
from orl.buffer import ReplayBuffer
from orl.checkpoint import learner_names
from orl.config import AgentConfig
from orl.dataset import Dataset
from orl.device import Precision, pick_device
from orl.divergence import check_finite
from orl.environment import Spaces
from orl.evaluation import evaluate
from orl.metrics import MetricsLogger
from orl.networks import SquashedGaussianActor
from orl.scripts.data.racing import register_environments
from orl.scripts.figures.training import training_figure
from orl.scripts.running.launching import Launching
from orl.scripts.running.policies import write_policy
from orl.scripts.running.registry import PRESETS
from orl.scripts.running.replay import replay_dataset
from orl.scripts.running.run_directory import RunDirectory, score_row, write_evaluations
from orl.scripts.running.training import Training, evaluation_metrics
from orl.training import TrainingStep

C = TypeVar("C", bound=AgentConfig)
CLOCK = "time/total_work"


@dataclass(frozen=True)
class TrainOnline(Training, Generic[C]):
    """Train in an environment, one copy of it per seed, all seeds side by side.

    Writes one folder: config.json, results.json, history.json, progress.csv, TensorBoard events, a figure, and a
    checkpoint per seed. The same command in the same folder resumes, also in the middle of an episode or of a phase.
    """

    env: str
    """Gymnasium id."""
    config: tyro.conf.OmitArgPrefixes[C]
    """Hyperparameters."""
    agent: tyro.conf.Suppress[str] = ""
    """Name of the preset."""
    steps: int = 300_000
    """Environment steps of each seed."""
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
    eval_every: int = 5_000
    """Environment steps between evaluations; the last one is always made."""
    eval_episodes: int = 10
    """Episodes of each evaluation, per seed."""
    bias_episodes: int = 1
    """Episodes per seed that each evaluation compares the critics with; 0: none."""
    log_every: int = 500
    """Environment steps between records of training metrics."""
    checkpoint_every: int = 10_000
    """Environment steps, or updates of a phase, between checkpoints."""
    save_replay: bool = False
    """Also write the transitions of each seed as a dataset, seed-K/replay.npz."""
    out: Path | None = None
    """Folder of the run; by default runs/AGENT-ENV."""

    not_kept: ClassVar[tuple[str, ...]] = ("out", "launching")  # options that do not decide the numbers

    def results(self) -> dict[str, Any]:
        """Check everything, then train and evaluate; what `results.json` holds."""
        self.check("first_seed", "bias_episodes")
        register_environments()
        self._refuse_memory(Spaces.of(self.env))
        named = {"agent": self.agent, **dataclasses.asdict(self)}
        kept = {name: value for name, value in named.items() if name not in self.not_kept}
        folder = RunDirectory.open(self.place, {**kept, **self.set_arithmetic(self.place)})
        return self.obtain(folder, lambda: self._train(folder), lambda: self._finish(folder))

    @property
    def place(self) -> Path:
        """Folder of the run."""
        return self.out or Path("runs") / f"{self.agent}-{self.env.replace('/', '-')}"

    def environment(self) -> VectorEnv[Any, Any, Any] | None:
        """What to train in; None: a copy of the environment for each learner."""
        return None

    def keywords(self, copies: int) -> dict[str, Any]:
        """For `gymnasium.make_vec` with so many copies for each learner."""
        return {}

    def _refuse_memory(self, spaces: Spaces) -> None:
        """Before there is a folder: a device that is not there, a buffer that does not fit."""
        sizes = self.config.buffer_size, spaces.observation_size, spaces.action_size  # type: ignore[attr-defined]
        if self.launching.launcher != "ray":  # whose workers may have other machines
            learners = self.launching.side_by_side(self.seeds)
            ReplayBuffer(*sizes, population=learners, device=pick_device(self.device))

    def _train(self, folder: RunDirectory) -> None:
        agent, place = self._agent(folder), self.checkpoints(folder)
        spent = folder.history[-1]["training_seconds"] if folder.history else 0.0
        agent.connect(self.environment())
        with MetricsLogger(folder.path, learner_names(self.seed_numbers), agent.progress_count, CLOCK) as sink:
            saved, started = agent.progress_count, time.monotonic()
            in_phase = not isinstance(agent, SAC) and bool(agent.phases and agent.phases.were_last(agent))
            left = self.steps - agent.steps
            for moment in training.online(agent, left, progress_bar=True) if left > 0 else ():
                spent += time.monotonic() - started
                last = moment.steps >= self.steps and not moment.in_phase
                ended, in_phase = in_phase and not moment.in_phase, moment.in_phase
                self._log(agent, moment, sink, last=last)
                due = last or (not in_phase and moment.steps % self.eval_every == 0)
                if due or ended:
                    self._evaluate(agent, folder, sink, spent, after_phase=ended and not due)
                if last or agent.progress_count - saved >= self._work_between_checkpoints(in_phase):
                    saved = agent.progress_count
                    sink.flush()
                    agent.save(place)
                started = time.monotonic()
        if self.save_replay:
            self._write_replay(agent, folder)

    def _work_between_checkpoints(self, in_phase: bool) -> int:
        """On the clock of work: a step outside of phases is one step and its updates."""
        ratio: float = self.config.utd_ratio  # type: ignore[attr-defined]
        return self.checkpoint_every if in_phase else round(self.checkpoint_every * (1.0 + ratio))

    def _agent(self, folder: RunDirectory) -> SAC | FlashSAC:
        agent: Any = self.restored(folder)
        if agent is None:
            return PRESETS[self.agent][0](self.env, self.config, seed=self.seed_numbers, device=self.device)  # type: ignore[return-value]
        folder.resume(agent.progress_count, "work")
        Console().print(f"resuming {folder.path} at step {agent.steps:,}", soft_wrap=True)
        return agent  # type: ignore[no-any-return]

    def _log(self, agent: SAC | FlashSAC, moment: TrainingStep, sink: MetricsLogger, *, last: bool) -> None:
        assert agent.collector is not None
        if moment.in_phase:
            sink.write(agent.progress_count, moment.metrics, "phase/", x=agent.updates + agent.total_phase_updates)
        elif moment.steps % self.log_every == 0 or last:
            sink.write(agent.progress_count, moment.metrics, x=moment.steps)
            sink.write(agent.progress_count, agent.collector.metrics(), "rollout/", x=moment.steps)
            counts = {"total_timesteps": agent.steps, "updates": agent.updates}
            full = {name: torch.full((agent.population,), value, device=agent.device) for name, value in counts.items()}
            if "stabilization_updates" in agent.buffers:
                full["stabilization_updates"] = agent.buffers["stabilization_updates"]
            sink.write(agent.progress_count, full, "time/", x=moment.steps)
            check_finite(agent)

    def _evaluate(
        self,
        agent: SAC | FlashSAC,
        folder: RunDirectory,
        sink: MetricsLogger,
        seconds: float,
        *,
        after_phase: bool,
    ) -> None:
        played = evaluate(agent, self.env, episodes=self.eval_episodes, **self.keywords(self.eval_episodes))
        metrics = evaluation_metrics(played, self.env)
        if self.bias_episodes:
            bias = critic_bias(agent, self.env, episodes=self.bias_episodes, **self.keywords(self.bias_episodes))
            metrics |= {"critic_bias": bias.mean, "critic_bias_std": bias.std}
        in_phases = agent.buffers.get("stabilization_updates", torch.zeros(agent.population))
        folder.record(
            agent.updates,
            played.returns,
            played.lengths,
            steps=agent.steps,
            work=agent.progress_count,
            training_seconds=round(seconds, 1),
            stabilization_updates=in_phases.long().tolist(),
            after_phase=after_phase,
            critic_bias=_finite(metrics.get("critic_bias")),
            critic_bias_std=_finite(metrics.get("critic_bias_std")),
        )
        tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in metrics.items()}
        sink.write(agent.progress_count, tensors, "eval/", x=agent.steps)
        if after_phase or not isinstance(agent.actor, SquashedGaussianActor):
            return
        for k, name in enumerate(learner_names(self.seed_numbers)):
            facts = {"steps": agent.steps, "return": float(played.returns[k].mean()), "preset": self.agent}
            write_policy(agent, k, folder.path / name / "policies" / f"step-{agent.steps}.safetensors", **facts)

    def _write_replay(self, agent: SAC | FlashSAC, folder: RunDirectory) -> None:
        for k, name in enumerate(learner_names(self.seed_numbers)):
            datasets.write_npz(self.replay(agent, k), folder.path / name / "replay.npz")

    def replay(self, agent: SAC | FlashSAC, learner: int) -> Dataset:
        """A learner's transitions."""
        return replay_dataset(agent, learner)

    def _finish(self, folder: RunDirectory) -> dict[str, Any]:
        history = [each for each in folder.history if not each["after_phase"]]
        returns = np.array([each["returns"] for each in history])  # (evaluations, P, E)
        write_evaluations(folder, self.seed_numbers, history, "steps")
        labels: dict[str, Any] = {"dataset": None, "env": self.env, "agent": self.agent, "rewards": "true"}
        best = score_row(returns.mean(axis=2).max(axis=0)[:, None], self.seed_numbers, **labels)
        in_phases = np.array(history[-1]["stabilization_updates"])
        config: Any = self.config
        updates = history[-1]["updates"]
        row = score_row(
            returns[-1],
            self.seed_numbers,
            **labels,
            steps=history[-1]["steps"],
            critic_updates=float((updates + in_phases).mean()),
            network_updates=float((config.num_critics * (updates + in_phases) + updates // config.policy_delay).mean()),
            training_seconds=history[-1]["training_seconds"],
            seed_returns=returns[-1].mean(axis=1).tolist(),
            best_return=best["return"],
            best_normalized_score=best["normalized_score"],
        )
        training_figure({folder.path.name: folder.history}, self.env, folder.path / "training.png")
        return folder.finish(self.rows(row, returns[-1], folder))

    def rows(self, row: dict[str, Any], returns: NDArray[np.float64], folder: RunDirectory) -> list[dict[str, Any]]:
        """Of the results, from the row over all learners and their last returns (P, E)."""
        return [row]


def _finite(values: Any) -> list[float | None] | None:
    """Numbers for JSON; null where there is none."""
    return None if values is None else [float(value) if np.isfinite(value) else None for value in values]
