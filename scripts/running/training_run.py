"""The training runner: options, the loop, and what a run writes.

A run has up to two parts, first `offline`: gradient updates on recorded data; then `online`: environment steps and the
updates that belong to them. `train` is the loop of both, for an agent of any command.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
import torch
import tyro
from rich.console import Console

from orl import checkpoint, datasets, training
from orl.agent import Agent
from orl.agents import SAC, FlashSAC, small_preset
from orl.agents.small import has_small_preset, is_small_task
from orl.arrays import Array, Float64Array
from orl.buffer import Metrics, ReplayBuffer
from orl.checkpoint import learner_names
from orl.config import OnlineConfig, make_config
from orl.dataset import Dataset
from orl.device import Precision, pick_device, set_precision
from orl.environment import Environment, Source, Spaces
from orl.evaluation import Evaluation, evaluate
from orl.launcher import Job
from orl.metrics import MetricsLogger
from orl.networks import SquashedGaussianActor
from orl.scripts.figures.training import learning_curves, training_figure
from orl.scripts.main import check_least
from orl.scripts.running import tables
from orl.scripts.running.launching import Launching, merge_runs
from orl.scripts.running.registry import Preset, presets
from orl.scripts.running.run_directory import JsonObject, RunDirectory, score_row

C = TypeVar("C")
Part = Literal["offline", "online"]
UPDATES_CLOCK, WORK_CLOCK = "time/total_updates", "time/total_work"  # of progress.csv; work is steps and updates


class Spent(NamedTuple):
    """Time of training alone, without evaluations and checkpoints; of all seeds together."""

    training_seconds: float = 0.0  # of a clock on the wall
    processor_seconds: float = 0.0  # of all threads of this process

    @classmethod
    def now(cls) -> Spent:
        """What both clocks show."""
        return cls(time.monotonic(), time.process_time())

    def since(self, started: Spent) -> Spent:
        """From then on."""
        return Spent(self[0] - started[0], self[1] - started[1])

    def plus(self, more: Spent) -> Spent:
        """Both together."""
        return Spent(self[0] + more[0], self[1] + more[1])


class Piece(NamedTuple):
    """A piece of training that is done: updates on data, a step in all copies, or a piece of a phase."""

    part: Part
    metrics: Metrics  # of its last updates, (P,) each; empty where there was none
    in_phase: bool  # a piece of a stabilization phase, where steps stand still
    ends_part: bool
    spent: Spent


def train(
    agent: Agent,
    save: Callable[[], None],
    checkpoint_every: int,
    *,
    updates: int = 0,
    steps: int = 0,
    environment: Environment | None = None,
    report: Callable[[Piece], None] | None = None,
    report_every: int = 0,
) -> None:
    """Train an agent from where it stands: on its data first, then in an environment.

    Args:
        agent: a population; it has its data unless the updates on them are done.
        save: writes a checkpoint; called every now and then, and at the end of each part.
        checkpoint_every: updates on data, environment steps, or updates of a phase between checkpoints.
        updates: gradient updates on data, in the agent's life; all of them come before its first step.
        steps: environment steps of each learner, in its life.
        environment: to act in; None: a copy for each learner of the one that the agent was made for.
        report: gets every piece before it is saved, to log it and to evaluate.
        report_every: updates on data after which there is something to report; they come in pieces that divide it.
    """
    saved = agent.progress_count
    for piece in _pieces(agent, updates, steps, environment, math.gcd(checkpoint_every, report_every)):
        if report is not None:
            report(piece)
        if piece.ends_part or agent.progress_count - saved >= _work_between(agent, piece, checkpoint_every):
            saved = agent.progress_count
            save()


def _pieces(agent: Agent, updates: int, steps: int, environment: Environment | None, every: int) -> Iterator[Piece]:
    if not agent.steps and agent.updates < updates:
        started = Spent.now()
        for count, metrics in training.offline(agent, updates - agent.updates, every=every, progress_bar=True):
            yield Piece("offline", metrics, False, count >= updates, Spent.now().since(started))
            started = Spent.now()
    if agent.steps < steps:
        agent.connect(environment)
        started = Spent.now()
        for step in training.online(agent, steps - agent.steps, progress_bar=True):
            ends = step.steps >= steps and not step.in_phase
            yield Piece("online", step.metrics, step.in_phase, ends, Spent.now().since(started))
            started = Spent.now()


def _work_between(agent: Agent, piece: Piece, checkpoint_every: int) -> int:
    """Between checkpoints, in units of `progress_count`: a step outside of phases is one step and its updates."""
    if piece.part == "offline" or piece.in_phase:
        return checkpoint_every
    assert isinstance(agent.config, OnlineConfig)
    return round(checkpoint_every * (1.0 + agent.config.utd_ratio))


def saved_to(folder: Path, seeds: Sequence[int]) -> Path:
    """Where in the folder of a run `Agent.save` writes, so that every seed has a folder there, a single one too."""
    return folder / learner_names(seeds)[0] if len(seeds) == 1 else folder


def restored(agent_class: type[Agent], folder: Path, seeds: Sequence[int], *, device: str) -> Agent | None:
    """The agent at the last checkpoint that all seeds of a run have; None where there is none."""
    folders = [folder / name for name in learner_names(seeds)]
    for path in folders:
        checkpoint.manifests_in(path)  # raises where training would end at its first checkpoint
    without = [path for path in folders if not checkpoint.numbers(path)]
    for path in without:
        if checkpoint.is_written(path):
            warnings.warn(f"{path}: its checkpoints cannot be read; training begins anew", stacklevel=2)
    return None if without else agent_class.load(saved_to(folder, seeds), device=device)


@dataclass(frozen=True)
class Training(ABC, Generic[C]):
    """The options that every training has, and what is done with them."""

    config: tyro.conf.OmitArgPrefixes[C]
    """Hyperparameters."""
    agent: tyro.conf.Suppress[str] = ""
    """Its name."""
    preset: Literal["paper", "small"] = "paper"
    """Defaults of the hyperparameters: the paper's, or small networks, which learn small tasks on a CPU in minutes."""
    env: str | None = None
    """Gymnasium id, to act and to evaluate in; by default the one that the data name."""
    steps: int | None = None
    """Environment steps of each seed; by default 300,000 where there are no data."""
    seeds: int = 1
    """Number of seeds, trained side by side."""
    first_seed: int = 0
    """The first of them; the others follow."""
    eval_every: int = 10_000
    """Updates on data, or environment steps, between evaluations; there is one at the end of both."""
    eval_episodes: int = 10
    """Episodes of each evaluation, per seed."""
    bias_episodes: int = 1
    """Episodes per seed that each evaluation compares soft critics with; 0: none."""
    log_every: int = 500
    """Updates on data, or environment steps, between records of training metrics."""
    checkpoint_every: int = 10_000
    """Updates on data, environment steps, or updates of a phase, between checkpoints."""
    save_replay: bool = False
    """Also write the transitions of each seed as a dataset, seed-K/replay.npz."""
    out: Path | None = None
    """Folder of the run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    threads: int | None = None
    """CPU threads of torch; by default one, or OMP_NUM_THREADS, and those of the run that is resumed."""
    precision: Precision = "highest"
    """Of matrix products: highest (float32), high (TF32 on CUDA), medium (bfloat16 on processors that have it)."""
    launching: tyro.conf.OmitArgPrefixes[Launching] = field(default_factory=Launching)
    """Where the seeds train."""

    not_described: ClassVar[tuple[str, ...]] = ("out", "launching", "preset")  # options that do not decide the numbers

    def run(self) -> None:
        """Check everything, then train, evaluate and report."""
        tables.show(self.results()["rows"])
        Console().print(f"figures and checkpoints: {self.folder}", soft_wrap=True)

    def results(self) -> JsonObject:
        """Check everything, then train and evaluate; what `results.json` holds."""
        self.check()
        data = self.data()
        env = self.environment_id(data)
        self._refuse_memory(env)
        self._offer_small_preset(env)
        described = {**self.described(data, env), **self.set_arithmetic(self.folder)}
        run = _Run(self, RunDirectory.open(self.folder, described), data, env)
        return run.directory.results(run.obtain)

    # What a verb decides.

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Folder of the run."""

    @property
    def num_updates(self) -> int:
        """Gradient updates on recorded data."""
        return 0

    @property
    def num_steps(self) -> int:
        """Environment steps of each seed."""
        return self.steps or 0

    def data(self) -> Dataset | None:
        """Recorded data as they were loaded."""
        return None

    def variants(self, data: Dataset, folder: Path) -> list[Dataset]:
        """One dataset per learner, no reward hidden."""
        return [data] * self.seeds

    def labels_of_row(self) -> JsonObject:
        """Dataset and rewards of a row of the results."""
        return {"dataset": None, "rewards": "true"}

    def environment(self, env: str) -> Environment:
        """What to act in."""
        return env

    def keywords(self, copies: int) -> dict[str, Any]:
        """For `gymnasium.make_vec` with so many copies for each learner."""
        return {}

    def replay(self, agent: Agent, learner: int) -> Dataset:
        """A learner's transitions."""
        return replay_dataset(agent, learner)  # type: ignore[arg-type]

    def rows(self, rows: list[JsonObject], returns: Float64Array, folder: Path) -> list[JsonObject]:
        """Of the results, from those over all learners and their last returns (P, E)."""
        return rows

    # What is done with them.

    def check(self) -> None:
        """Refuse hyperparameters, numbers that are too small, and ways of launching that cannot be."""
        make_config(type(self.config), self.config, {})
        check_least(self, 1, "steps", "seeds", "threads", "eval_episodes")
        check_least(self, 1, "eval_every", "log_every", "checkpoint_every")
        check_least(self, 0, "first_seed", "bias_episodes")
        self.launching.check()

    @property
    def agent_preset(self) -> Preset:
        """The agent's class, with the hyperparameters that its name stands for."""
        return presets()[self.agent]

    @property
    def seed_numbers(self) -> list[int]:
        """One per learner."""
        return list(range(self.first_seed, self.first_seed + self.seeds))

    def environment_id(self, data: Dataset | None) -> str:
        """Of the environment to act and to evaluate in.

        Raises:
            ValueError: there is none, or another one than that of the data.
        """
        env = self.env or (None if data is None else data.environment_id)
        if env is None:
            unnamed = "" if data is None else f"{data.name} does not name its environment; "
            raise ValueError(f"{unnamed}give --env, to evaluate in and to act in")
        spaces = Spaces.of(env)
        if data is not None:
            Spaces.of(data).check(spaces, env)
        return env

    def described(self, data: Dataset | None, env: str) -> JsonObject:
        """What decides the numbers, for `config.json`."""
        options = {"agent": self.agent, **dataclasses.asdict(self)}
        return {name: value for name, value in options.items() if name not in self.not_described} | {"env": env}

    def _refuse_memory(self, env: str) -> None:
        """Before there is a folder: a device that is not there, a buffer that does not fit."""
        if self.launching.launcher == "ray":  # whose workers may have other machines
            return
        device = pick_device(self.device)
        if self.num_steps:
            spaces, learners = Spaces.of(env), self.launching.side_by_side(self.seeds)
            size: int = self.config.buffer_size  # type: ignore[attr-defined]
            ReplayBuffer(size, spaces.observation_size, spaces.action_size, population=learners, device=device)

    def _offer_small_preset(self, env: str) -> None:
        """One line, where a small task is about to be trained on a CPU with the paper's networks."""
        paper: Any = self.agent_preset.config
        units, papers = (getattr(config, "hidden_sizes", None) for config in (self.config, paper))
        if units != papers or not has_small_preset(paper):
            return
        if is_small_task(Spaces.of(env)) and pick_device(self.device).type == "cpu":
            units = " and ".join(map(str, small_preset(paper, env).hidden_sizes))
            about = f"--preset small has networks of {units} units, which learn small tasks like {env} in less time"
            Console().print(about, soft_wrap=True, highlight=False)

    def set_arithmetic(self, out: Path) -> JsonObject:
        """Set what decides the last bits of every number, precision and threads, and return both.

        A run that is resumed has the threads that it had. A new one has those that were asked for, else those that
        torch has now; jobs in processes of their own have one each.
        """
        set_precision(self.precision, pick_device(self.device))
        threads, file = self.threads, out / "config.json"
        if threads is None and file.exists():
            threads = checkpoint.read_json(file).get("threads")
        elif threads is None:
            threads = 1 if self.launching.launcher in ("process", "ray") else torch.get_num_threads()
        if threads is not None:
            torch.set_num_threads(threads)
        return {"precision": self.precision, "threads": threads}

    def job(self, first_seed: int, seeds: int) -> Self:
        """The same training of some of the seeds, side by side in one process."""
        return dataclasses.replace(self, first_seed=first_seed, seeds=seeds, launching=Launching())


def _train_in_job(options: Training[Any], folder: Path) -> None:
    dataclasses.replace(options, out=folder).results()


class _Run:
    """A training in its folder."""

    def __init__(self, options: Training[Any], directory: RunDirectory, data: Dataset | None, env: str) -> None:
        self.options, self.directory, self.data, self.env = options, directory, data, env
        self.names = learner_names(options.seed_numbers)
        self.clock = WORK_CLOCK if options.num_steps else UPDATES_CLOCK
        self.spent, self.spent_file = Spent(), directory.path / "spent.json"
        self.was_in_phase = False

    def obtain(self) -> JsonObject:
        """Train, here or in jobs, and write the results."""
        if self.options.launching.launcher == "population":
            self._train()
        else:
            self._train_in_jobs()
        return self._finish()

    def _train_in_jobs(self) -> None:
        options, jobs = self.options, []
        for first in options.seed_numbers[:: options.launching.seeds_per_job]:
            seeds = options.launching.side_by_side(options.first_seed + options.seeds - first)
            work = functools.partial(_train_in_job, options.job(first, seeds))
            jobs.append(Job(work, {**self.directory.config, "first_seed": first, "seeds": seeds}))
        with options.launching.started(self.directory.path / "jobs") as run:
            merge_runs(self.directory, run(jobs), self.names)

    # Training.

    def _train(self) -> None:
        options = self.options
        agent = self._agent()
        self.spent = self._spent_before(agent)
        phases = getattr(agent, "phases", None)
        self.was_in_phase = phases is not None and phases.were_last(agent)
        checkpoints = saved_to(self.directory.path, options.seed_numbers)
        with MetricsLogger(self.directory.path, self.names, agent.progress_count, self.clock) as logger:

            def save() -> None:
                logger.flush()
                saved = checkpoint.read_json(self.spent_file) if self.spent_file.exists() else {}
                checkpoint.write_json(self.spent_file, saved | {str(agent.progress_count): self.spent._asdict()})
                agent.save(checkpoints)

            train(
                agent,
                save,
                options.checkpoint_every,
                updates=options.num_updates,
                steps=options.num_steps,
                environment=options.environment(self.env) if options.num_steps else None,
                report=functools.partial(self._report, agent, logger),
                report_every=math.gcd(options.eval_every, options.log_every),
            )
        if options.save_replay:
            for k, name in enumerate(self.names):
                datasets.write_npz(options.replay(agent, k), self.directory.path / name / "replay.npz")

    def _agent(self) -> Agent:
        """At the last checkpoint that all seeds have, or a new one; with its data while it learns from them."""
        options, seeds = self.options, self.options.seed_numbers
        agent = restored(options.agent_preset.agent_class, self.directory.path, seeds, device=options.device)
        if agent is not None:
            self.directory.truncate_history(agent.progress_count)
            where = f"step {agent.steps:,}" if agent.steps or not options.num_updates else f"update {agent.updates:,}"
            Console().print(f"resuming {self.directory.path} at {where}", soft_wrap=True)
        variants = None
        if self.data is not None and (agent is None or not agent.steps):
            variants = options.variants(self.data, self.directory.path)
            _check_equal_lengths(variants, options.num_steps)
        if agent is None:
            source: Source = self.env if variants is None else variants
            return options.agent_preset.agent_class(source, options.config, seed=seeds, device=options.device)
        if variants is not None:
            agent.attach(variants)
        return agent

    def _spent_before(self, agent: Agent) -> Spent:
        """Up to the checkpoint that an agent comes from, with what came after the last evaluation."""
        saved = checkpoint.read_json(self.spent_file) if self.spent_file.exists() else {}
        last = self.directory.history[-1] if self.directory.history else {}
        before = saved.get(str(agent.progress_count), last) if agent.progress_count else {}
        return Spent(*(before.get(name, 0.0) for name in Spent._fields))

    # Between the pieces of training.

    def _report(self, agent: Agent, logger: MetricsLogger, piece: Piece) -> None:
        self.spent = self.spent.plus(piece.spent)
        count = agent.updates if piece.part == "offline" else agent.steps
        phase_ended, self.was_in_phase = self.was_in_phase and not piece.in_phase, piece.in_phase
        if piece.in_phase:
            x = agent.updates + agent.total_phase_updates
            logger.write(agent.progress_count, piece.metrics, "phase/", x=x)
        elif piece.ends_part or count % self.options.log_every == 0:
            self._log(agent, logger, piece)
        is_due = piece.ends_part or (not piece.in_phase and count % self.options.eval_every == 0)
        if is_due or phase_ended:
            self._evaluate(agent, logger, piece, after_phase=phase_ended and not is_due)

    def _x(self, agent: Agent) -> int:
        """Where TensorBoard draws: steps where agents only act, else what counts updates and steps."""
        return agent.progress_count if self.options.num_updates else agent.steps

    def _log(self, agent: Agent, logger: MetricsLogger, piece: Piece) -> None:
        now, x = agent.progress_count, self._x(agent)
        logger.write(now, piece.metrics, x=x)
        agent.check_finite()
        if piece.part == "offline":
            return
        assert agent.collector is not None
        logger.write(now, agent.collector.metrics(), "rollout/", x=x)
        counts = {"total_timesteps": agent.steps, "updates": agent.updates}
        full = {name: torch.full((agent.population,), value, device=agent.device) for name, value in counts.items()}
        in_phases = {name: agent.buffers[name] for name in ("stabilization_updates",) if name in agent.buffers}
        logger.write(now, full | in_phases, "time/", x=x)

    def _evaluate(self, agent: Agent, logger: MetricsLogger, piece: Piece, *, after_phase: bool) -> None:
        options = self.options
        played = evaluate(agent, self.env, episodes=options.eval_episodes, **options.keywords(options.eval_episodes))
        metrics: dict[str, Array] = {"mean_reward": played.returns.mean(1), "mean_ep_length": played.lengths.mean(1)}
        if self.env in datasets.REFERENCES:
            metrics["normalized_score"] = datasets.normalized_score(self.env, metrics["mean_reward"])
        if options.bias_episodes and piece.part == "online" and isinstance(agent, SAC | FlashSAC):
            from orl.agents.critic_bias import critic_bias

            keywords = options.keywords(options.bias_episodes)
            bias = critic_bias(agent, self.env, episodes=options.bias_episodes, **keywords)
            metrics |= {"critic_bias": bias.mean, "critic_bias_std": bias.std}
        in_phases = agent.buffers.get("stabilization_updates", torch.zeros(agent.population))
        self.directory.record(
            played.returns,
            played.lengths,
            part=piece.part,
            updates=agent.updates,
            steps=agent.steps,
            work=agent.progress_count,
            **{name: round(seconds, 2) for name, seconds in self.spent._asdict().items()},
            stabilization_updates=in_phases.long().tolist(),
            after_phase=after_phase,
            critic_bias=_finite(metrics.get("critic_bias")),
            critic_bias_std=_finite(metrics.get("critic_bias_std")),
        )
        tensors = {name: torch.from_numpy(np.asarray(values)) for name, values in metrics.items()}
        logger.write(agent.progress_count, tensors, "eval/", x=self._x(agent))
        if piece.part == "online" and not after_phase:
            self._write_policies(agent, played)

    def _write_policies(self, agent: Agent, played: Evaluation) -> None:
        if not (isinstance(agent, SAC | FlashSAC) and isinstance(agent.actor, SquashedGaussianActor)):
            return
        from orl.scripts.running.saved_policies import write_policy

        for k, name in enumerate(self.names):
            facts = {"steps": agent.steps, "return": float(played.returns[k].mean()), "preset": self.options.agent}
            file = self.directory.path / name / "policies" / f"step-{agent.steps}.safetensors"
            write_policy(agent, k, file, **facts)

    # The results.

    def _finish(self) -> JsonObject:
        options, path = self.options, self.directory.path
        history = [row for row in self.directory.history if not row["after_phase"]]
        clock = "updates" if not options.num_steps else "work" if options.num_updates else "steps"
        self._write_evaluations(history, clock)
        parts = {part: [row for row in history if row["part"] == part] for part in ("offline", "online")}
        rows = []
        if parts["offline"]:
            costs = self._costs(parts["offline"]) if options.num_steps else {}
            rows.append(self._row(parts["offline"], updates=options.num_updates, **costs))
        if parts["online"]:
            rows.append(self._row(parts["online"], **self._costs(parts["online"])))
        if len(rows) == 2:
            rows = [{**row, "part": part} for row, part in zip(rows, parts, strict=True)]
        draw, file = (training_figure, "training") if options.num_steps else (learning_curves, "learning_curve")
        draw({path.name: self.directory.history}, self.env, path / f"{file}.png")
        return self.directory.finish(options.rows(rows, np.array(history[-1]["returns"]), path))

    def _write_evaluations(self, history: Sequence[JsonObject], clock: str) -> None:
        """`seed-K/evaluations.npz` with the arrays of Stable-Baselines3's `EvalCallback`; `clock` gives timesteps."""
        for k, name in enumerate(self.names):
            np.savez(
                self.directory.path / name / "evaluations.npz",
                timesteps=[row[clock] for row in history],
                results=[row["returns"][k] for row in history],
                ep_lengths=[row["lengths"][k] for row in history],
            )

    def _row(self, history: Sequence[JsonObject], **more: Any) -> JsonObject:
        """Of one part over all its seeds: the last evaluation, and each seed's best one."""
        seeds = self.options.seed_numbers
        labels = {**self.options.labels_of_row(), "env": self.env, "agent": self.options.agent}
        returns = np.array([row["returns"] for row in history])  # (evaluations, P, E)
        best = score_row(returns.mean(axis=2).max(axis=0)[:, None], seeds, **labels)
        more |= {"best_return": best["return"], "best_normalized_score": best["normalized_score"]}
        return score_row(returns[-1], seeds, **labels, **more)

    def _costs(self, history: Sequence[JsonObject]) -> JsonObject:
        """Steps, updates and seconds up to the end of a part of a run that acts."""
        last, config = history[-1], self.options.config
        in_phases, updates = np.array(last["stabilization_updates"]), last["updates"]
        counted: JsonObject = {"steps": last["steps"], "critic_updates": float((updates + in_phases).mean())}
        if issubclass(self.options.agent_preset.agent_class, SAC | FlashSAC):
            per_network = config.num_critics * (updates + in_phases) + updates // config.policy_delay
            counted["network_updates"] = float(per_network.mean())
        return {**counted, **{name: last.get(name) for name in Spent._fields}}


def _check_equal_lengths(variants: Sequence[Dataset], steps: int) -> None:
    """Refuse, before anything is trained, data that learners cannot go on from online."""
    sizes = [len(data) for data in variants]
    if steps and len(set(sizes)) > 1:
        raise ValueError(
            f"datasets of {sizes} transitions: seeds that go on online need equal ones; give --seeds 1, "
            "--launcher serial, or other --rewards"
        )


def replay_dataset(agent: SAC | FlashSAC, learner: int) -> Dataset:
    """What a learner's buffer holds, oldest first and one copy of the environment after the other.

    An episode ended, other than by termination, where the next transition does not begin where this one led.

    Raises:
        ValueError: the agent has not acted.
    """
    if agent.replay_buffer is None or agent.collector is None:
        raise ValueError(f"{type(agent).__name__} has no replay; let it learn() first")
    state, copies = agent.replay_buffer.state(), agent.collector.num_envs
    size = len(agent.replay_buffer)
    oldest = agent.replay_buffer.position if size == agent.replay_buffer.capacity else 0
    order = (np.arange(size) + oldest) % size
    rows = np.concatenate([order[copy::copies] for copy in range(copies)])
    table, rewards = state["table"][learner].cpu().numpy()[rows], state["rewards"][learner].cpu().numpy()[rows]
    observations, actions, next_observations, terminated = np.split(
        table, np.cumsum(agent.replay_buffer.widths)[:-1], axis=1
    )
    leads_on = np.zeros(size, bool)
    leads_on[:-1] = (next_observations[:-1] == observations[1:]).all(axis=1)
    ended = terminated[:, 0] > 0
    return Dataset.from_arrays(
        observations,
        agent.spaces.to_environment(actions),
        rewards,
        next_observations,
        ended,
        ~leads_on & ~ended,
        action_low=agent.spaces.action_low,
        action_high=agent.spaces.action_high,
        name=f"replay of seed {agent.seeds[learner]}",
        environment_id=agent.spaces.environment_id,
    )


def _finite(values: Array | None) -> list[float | None] | None:
    """Numbers for JSON; null where there is none."""
    return None if values is None else [float(value) if np.isfinite(value) else None for value in values]
