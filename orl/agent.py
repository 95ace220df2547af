"""The one abstract class: what an agent is made of, how it acts, trains and is stored, besides its own equations.

Shape key: P population, B batch, n copies of the environment per learner, O observation, A action.
"""

from __future__ import annotations

import dataclasses
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from orl import checkpoint, seeding, training
from orl.arrays import Array, BoolArray, Float32Array
from orl.buffer import Batch, Metrics, ReplayBuffer, per_learner
from orl.checkpoint import flatten_state, restore_state, strip_prefix
from orl.config import AgentConfig, OnlineConfig, make_config
from orl.dataset import Dataset, content_hashes
from orl.device import pick_device, refuse_memory
from orl.environment import (
    Environment,
    Source,
    Spaces,
    check_copies,
    describe,
    is_recorded,
    recorded_id,
)
from orl.execution import run_updates
from orl.networks import Normalizer
from orl.noise import Noise, NoiseBlocks, NoiseSpec, of_updates
from orl.rollout import Collector
from orl.updates import Adam

COUNTS = ("updates", "steps", "total_phase_updates", "fitted", "first_update")  # what a learner has been through


class Agent(ABC):
    """A population of learners of one algorithm; one learner is the default.

    Every tensor of its state has the population as its first axis, so that learners can be taken out and put together.

    Args:
        source: environment id, environment, vector environment, dataset, or one dataset per learner.
        config: the algorithm's frozen dataclass.
        seed: one integer >= 0 per learner; a list makes a population.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1".
        overrides: fields of the configuration, by name.

    Attributes:
        updates: gradient updates done; one update is one call of `update`.
        steps: environment steps done by each learner, over its copies.
        total_phase_updates: critic-only updates of stabilization phases, counted as if every learner did them all.

    Raises:
        ValueError: unknown overrides, spaces that the agent cannot handle, hidden rewards, datasets that do not
            match the seeds.
    """

    Config: ClassVar[type[AgentConfig]]
    preset: ClassVar[AgentConfig | None] = None  # the configuration by default, where it is not `Config()`
    config: AgentConfig
    environment: Environment | None

    def __init__(
        self,
        source: Source,
        config: AgentConfig | None = None,
        *,
        seed: int | Sequence[int] = 0,
        device: str = "auto",
        **overrides: Any,
    ) -> None:
        config = make_config(self.Config, config or self.preset, overrides)
        self._create(self.spaces_of(source, config), config, seeding.check_seeds(seed), pick_device(device))
        if is_recorded(source):
            self.attach(source)
        else:
            check_copies(source, self.population)
            self.environment = source

    # What an algorithm defines.

    @abstractmethod
    def build(self, generators: list[torch.Generator]) -> None:
        """Set networks as attributes, and fill `optimizers` and `buffers`; one generator per learner."""

    @abstractmethod
    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Random numbers that one update consumes; `indices` (batch,) choose the transitions."""

    @abstractmethod
    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """One update of every learner, on normalised observations.

        It changes tensors in place, and Python decides nothing in it by their values or by counts such as `updates`
        (docs/decisions/0019-programs.md); what it may decide by comes in `is_actor_update`.
        """

    @abstractmethod
    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """Actions (P, B, A) in [-1, 1] for normalised observations (P, B, O); deterministic without noise (P, B, A)."""

    # What it may define.

    def is_actor_update(self) -> bool:
        """Whether the next update is also one of the actor."""
        return True

    @classmethod
    def spaces_of(cls, source: Source, config: Any) -> Spaces:
        """What the learners see and do, of what the constructor got."""
        return Spaces.of(source)

    def prepare(self, datasets: Sequence[Dataset]) -> None:  # noqa: B027  most algorithms need nothing more
        """Take what else the algorithm needs from each learner's first data, such as reward scales."""

    def phase(self) -> Iterator[Metrics]:
        """Do the stabilization phase that is due, a piece at a time; most algorithms have none."""
        return iter(())

    # Made of networks, optimizers, random numbers and counts.

    def _create(self, spaces: Spaces, config: AgentConfig, seeds: list[int], device: torch.device) -> None:
        self.config, self.spaces, self.seeds, self.device = config, spaces, seeds, device
        self.run = run_updates(config.execution, device)
        self.dtype = torch.empty(0).numpy().dtype  # torch's default, as NumPy has it
        self.updates = self.steps = self.total_phase_updates = 0
        self.first_update = 0  # the environment step after which updates begin, online
        self.checked_at = -1  # the progress of which `predict` saw finite parameters
        self.fitted = False  # whether statistics were taken from data
        self.environment = spaces.environment_id
        self.collector: Collector | None = None  # None before the agent learns online
        self.replay_buffer: ReplayBuffer | None = None  # None before there are transitions
        self.content: list[str] = []  # hashes of each learner's first data
        self.loaded_from: Path | None = None  # folder whose training this agent goes on with
        self._running_episodes: dict[str, Tensor] = {}  # of a checkpoint, until the environments are made
        self.normalizer = Normalizer(self.population, spaces.observation_size, device)
        self.optimizers: dict[str, Adam] = {}
        self.buffers: dict[str, Tensor] = {}  # other state
        if self.population > 1:
            self._refuse_memory()
        self.build([seeding.torch_generator(seed, "initialisation") for seed in seeds])
        self.networks = self._built()
        self.noise = NoiseBlocks(seeds, self.noise_specs(), device)
        self.action_generators = [seeding.torch_generator(seed, "actions", device) for seed in seeds]
        self.exploration_generators = [seeding.torch_generator(seed, "exploration", device) for seed in seeds]

    def _built(self) -> dict[str, nn.Module]:
        """The networks among the attributes, as torch's modules have theirs."""
        return {name: value for name, value in vars(self).items() if isinstance(value, nn.Module)}

    def _refuse_memory(self) -> None:
        """Raise MemoryError where the networks will not fit: one learner says what each of them takes."""
        with warnings.catch_warnings(action="ignore"):  # of what is built once more
            self.build([seeding.torch_generator(self.seeds[0], "initialisation")])
        parameters = [p for network in self._built().values() for p in network.parameters()]
        size = sum(p.nbytes * (4 if p.requires_grad else 1) for p in parameters)  # gradient and two moments
        refuse_memory(
            self.population * size, self.device, f"networks of {self.population} learners", "train fewer at a time"
        )

    @property
    def population(self) -> int:
        """Number of learners, P."""
        return len(self.seeds)

    @cached_property
    def identities(self) -> list[str]:
        """What tells the training of each learner from any other: how it began, whatever came then.

        The same training done again has the same identity. Copies and loaded agents keep theirs.
        """
        config, spaces = dataclasses.asdict(self.config), self.spaces.to_json()
        about = self.algorithm(), config, spaces, describe(self.environment)
        data = self.content or [""] * self.population
        return [checkpoint.identity(*about, *own) for own in zip(self.seeds, data, strict=True)]

    @property
    def progress_count(self) -> int:
        """Steps and updates done, which grows with every piece of training; the number of a checkpoint."""
        return self.steps + self.updates + self.total_phase_updates

    # Acting.

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        """Actions of every learner.

        Args:
            observations: (P, B, O), in the environment's unit; ValueError for another shape, and where not finite.
            deterministic: the policy's mode instead of a sample.

        Returns:
            (P, B, A) in the environment's unit.
        """
        observations = check_observations(observations, (self.population, -1, self.spaces.observation_size))
        actions = self._actions(observations, None if deterministic else self.action_generators)
        return self.spaces.to_environment(actions)

    def predict(
        self,
        observation: Float32Array,
        state: None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Float32Array, None]:
        """Stable-Baselines3's protocol.

        Args:
            observation: (O,) or (n, O).
            state, episode_start: unused.
            deterministic: the policy's mode instead of a sample.

        Returns:
            Action (A,) or (n, A) in the environment's unit, and None for the state.

        Raises:
            ValueError: the agent is a population, the observation has another size or is not finite, or training
                diverged.
        """
        if self.population > 1:
            raise ValueError(f"this agent is a population of {self.population}; predict with agent.learner(k)")
        size = self.spaces.observation_size
        array = check_observations(observation, (size,), (-1, size))
        if self.checked_at != self.progress_count:  # an infinite weight may hide from one row
            self.check_finite()
            self.checked_at = self.progress_count
        actions = self._actions(array.reshape(1, -1, size), None if deterministic else self.action_generators)[0]
        return self.spaces.to_environment(actions if array.ndim == 2 else actions[0]), None

    def _actions(self, observations: Float32Array, generators: Sequence[torch.Generator] | None) -> Float32Array:
        """Actions (P, B, A) in [-1, 1], with noise from one generator per learner or without."""
        inputs = torch.from_numpy(np.asarray(observations, self.dtype)).to(self.device)
        noise = None
        if generators is not None:
            shape = (inputs.shape[1], self.spaces.action_size)
            drawn = [torch.randn(shape, generator=g, device=self.device) for g in generators]
            noise = torch.stack(drawn) if len(drawn) > 1 else drawn[0].unsqueeze(0)
        with torch.no_grad():
            actions = self.actions(self.normalizer(inputs), noise).cpu().numpy().astype(np.float32, copy=False)
        if not np.isfinite(actions).all():
            raise self._diverged(np.atleast_1d(~np.isfinite(actions).all((1, 2))), "actions")
        return actions

    # Training that diverged: a learner whose numbers are not finite is named, never stored, played or scored.

    def check_finite(self) -> None:
        """Refuse learners with a parameter that is NaN or infinite.

        Raises:
            ValueError: names their seeds, their networks and the update.
        """
        finite = {
            name: torch.stack(
                [torch.isfinite(p.detach()).reshape(len(self.seeds), -1).all(1) for p in network.parameters()]
            ).all(0)
            for name, network in self.networks.items()
        }
        of_learners = torch.stack([*finite.values()]).all(0)  # (P,)
        if not of_learners.all():
            networks = ", ".join(name for name, values in finite.items() if not values.all())
            raise self._diverged((~of_learners).cpu().numpy(), f"parameters of {networks}")

    def _diverged(self, learners: BoolArray, what: str) -> ValueError:
        """For learners (P,); of finite observations, a policy that diverged makes actions that are not."""
        seeds = ", ".join(str(seed) for seed, diverged in zip(self.seeds, learners, strict=True) if diverged)
        config = dataclasses.asdict(self.config)
        rates = [f"{name} ({value:g})" for name, value in config.items() if name.endswith("learning_rate")]
        return ValueError(
            f"seed {seeds}: training diverged by update {self.updates:,}, {what} are NaN or infinite; lower "
            f"{' or '.join(rates) or 'the learning rate'}, or make the rewards smaller"
        )

    # Training.

    def fit(self, updates: int, data: Dataset | Sequence[Dataset] | None = None, *, progress_bar: bool = False) -> Self:
        """Train on recorded data.

        Args:
            updates: gradient updates of every learner.
            data: replaces what the constructor got; statistics stay those of the first data.
            progress_bar: show one.

        Returns:
            This agent.
        """
        if data is not None:
            self.attach(data)
        for _ in training.offline(self, updates, every=sys.maxsize, progress_bar=progress_bar):
            pass
        self.check_finite()
        return self

    def learn(
        self,
        steps: int,
        *,
        env: Environment | None = None,
        callback: Any = None,
        progress_bar: bool = False,
    ) -> Self:
        """Train in an environment, from where this agent stands; a second call continues the running episodes.

        Args:
            steps: environment steps of every learner, over its copies.
            env: replaces what the constructor got, unless it is the same; an id makes one copy per learner.
            callback: of Stable-Baselines3, or a list of them; for a single learner.
            progress_bar: show one.

        Returns:
            This agent.
        """
        self.connect(env)
        training_steps = training.online(self, steps, progress_bar=progress_bar)
        if callback is not None:
            from orl.callbacks import run_with_callbacks

            training_steps = run_with_callbacks(self, training_steps, callback, steps)
        for _ in training_steps:
            pass
        self.check_finite()
        return self

    def batches(self, updates: int) -> Iterator[tuple[Batch, Noise]]:
        """Batches and random numbers of so many updates, (n, P, ...) for some of them at a time.

        Nothing is added to the buffer meanwhile.
        """
        if self.replay_buffer is None:
            raise ValueError(f"{type(self).__name__} has no data; give a dataset to the constructor or to fit()")
        return self.noise.with_batches(updates, self.sample)

    def sample(self, noise: Noise) -> Batch:
        """The batches (n, P, B, ...) that the random numbers of n updates point at."""
        assert self.replay_buffer is not None
        indices = (noise["indices"] * self.replay_buffer.sizes).long()
        return self.normalizer.batch(self.replay_buffer.gather(indices))

    def gradient_steps(self, batches: Batch, noise: Noise) -> Metrics:
        """Do the updates of what `batches` gave; metrics (P,) of the last of each kind stay on the device."""
        metrics: Metrics = {}
        count, end = len(batches.rewards), 0
        while end < count:
            first, is_actor_update = end, self.is_actor_update()
            while end < count and self.is_actor_update() == is_actor_update:
                self.updates, end = self.updates + 1, end + 1
            inputs = (batches, noise) if end - first == count else of_updates(batches, noise, slice(first, end))
            metrics |= self.run(self.update, *inputs, is_actor_update)
        return metrics

    def collect(self) -> int:
        """Act once in every copy of the environment, store what came of it; returns how many updates are due.

        Actions are uniformly random before anything was learned, then the policy's samples.
        """
        assert self.collector is not None
        assert self.replay_buffer is not None
        observations = self.collector.observations
        if self.steps < self.first_update and not self.updates:  # before anything was learned
            shape = (observations.shape[1], self.spaces.action_size)
            uniform = [torch.rand(shape, generator=g, device=self.device) for g in self.exploration_generators]
            actions = (2.0 * torch.stack(uniform) - 1.0).cpu().numpy()
        else:
            actions = self._actions(observations, self.exploration_generators)
        step = self.collector.step(actions)
        self.replay_buffer.add(*step[:5])
        before, self.steps = self.steps, self.steps + self.collector.num_envs
        assert isinstance(self.config, OnlineConfig)
        return training.updates_due(self.config.utd_ratio, self.first_update, before, self.steps)

    def attach(self, data: Dataset | Sequence[Dataset]) -> None:
        """Give recorded data: one dataset for all learners, or one each.

        Statistics are taken from the first data, and stay as they are once anything was learned with them.
        """
        datasets = per_learner(data, self.population)
        for dataset in datasets:
            self.spaces.check(Spaces.of(dataset), dataset.name)
        self.content = self.content or content_hashes(datasets)
        if self.replay_buffer is not None and self.replay_buffer.capacity:
            warnings.warn(f"the {len(self.replay_buffer):,} transitions of its own give way to the data", stacklevel=2)
        self.replay_buffer = ReplayBuffer.from_datasets(datasets, self.device)
        if not self.fitted and not self.updates:
            if self.config.normalize_observations:
                self.normalizer.fit(datasets)
            self.prepare(datasets)
            self.fitted = True

    def connect(self, env: Environment | None = None) -> None:
        """Make the environments and the buffer that online training needs, where they are not there yet.

        Recorded data stay in the buffer, which gets room for more.

        Raises:
            ValueError: the algorithm has no configuration for acting, there is no environment, or one that does not
                fit; nothing has changed then.
        """
        if not isinstance(self.config, OnlineConfig):
            raise ValueError(f"{type(self).__name__} learns from recorded data; use fit()")
        before = self.replay_buffer
        if self.collector is None or env not in (None, self.environment):
            env = env if env is not None else self.environment
            if env is None:
                raise ValueError("there is no environment to learn in; give one to learn() or load()")
            streams = [seeding.sequence(seed, "environment") for seed in self.seeds]
            collector = Collector(env, streams, self.spaces)
            episodes = {name: tensor.cpu().numpy() for name, tensor in self._running_episodes.items()}
            if episodes and not collector.load(episodes):
                warnings.warn("the environment cannot be put back where it was; new episodes begin", stacklevel=3)
            if self.collector is not None:
                self.collector.close()
            self.collector, self.environment, self._running_episodes = collector, env, {}
        if before is None:
            sizes = self.config.buffer_size, self.spaces.observation_size, self.spaces.action_size
            self.replay_buffer = ReplayBuffer(*sizes, population=len(self.seeds), device=self.device)
            self.first_update = self.steps + self.config.learning_starts
        elif not before.capacity:
            self.replay_buffer = before.grown(self.config.buffer_size)
            self.first_update = self.steps

    # State.

    @classmethod
    def algorithm(cls) -> str:
        """What a checkpoint names: the class with the configuration, also of a preset such as `DroQ`."""
        return next(kind.__name__ for kind in cls.__mro__ if "Config" in vars(kind))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest: the learners, without data and environments."""
        block_start, position = self.noise.state()
        tensors = flatten_state(self.networks, self.optimizers, self._other_tensors())
        tensors["random/block_start"] = block_start
        tensors["random/actions"] = torch.stack([g.get_state() for g in self.action_generators])
        tensors["random/exploration"] = torch.stack([g.get_state() for g in self.exploration_generators])
        return tensors, {
            "agent": self.algorithm(),
            "config": dataclasses.asdict(self.config),
            "seeds": self.seeds,
            "identities": self.identities,
            **{name: getattr(self, name) for name in COUNTS},
            "random_position": position,
            "spaces": self.spaces.to_json(),
            "environment": self.environment if isinstance(self.environment, str) else None,
        }

    def _other_tensors(self) -> dict[str, Tensor]:
        return self.buffers | {f"normalizer/{name}": tensor for name, tensor in self.normalizer.tensors().items()}

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What online training holds besides the learners, buffer and running episodes; recorded data are not in it."""
        buffer, collector = self.replay_buffer, self.collector
        transitions = buffer.state() if buffer is not None and buffer.capacity else {}
        episodes = self._running_episodes
        if collector is not None:
            episodes = {name: torch.from_numpy(array) for name, array in collector.state().items()}
        tensors = {f"buffer/{name}": tensor for name, tensor in transitions.items()}
        return tensors | {f"collector/{name}": tensor for name, tensor in episodes.items()}, {}

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """The inverse of `online_state`; running episodes wait until the environments are made."""
        transitions = strip_prefix(tensors, "buffer/")
        if transitions and isinstance(self.config, OnlineConfig):
            sizes = self.config.buffer_size, self.spaces.observation_size, self.spaces.action_size
            self.replay_buffer = ReplayBuffer(*sizes, population=len(self.seeds), device=self.device)
            self.replay_buffer.load(transitions)
        self._running_episodes = strip_prefix(tensors, "collector/")

    @classmethod
    def _restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], device: torch.device) -> Self:
        if manifest["agent"] != cls.algorithm():
            raise checkpoint.CheckpointError(
                f"a checkpoint of {manifest['agent']}, not of {cls.algorithm()}; use {manifest['agent']}.load"
            )
        agent = cls.__new__(cls)
        config = make_config(cls.Config, None, manifest["config"])
        agent._create(Spaces.from_json(manifest["spaces"]), config, list(manifest["seeds"]), device)
        restore_state(agent.networks, agent.optimizers, agent._other_tensors(), tensors)
        agent.noise.load(tensors["random/block_start"], manifest["random_position"])
        seeding.set_states(agent.action_generators, tensors["random/actions"])
        seeding.set_states(agent.exploration_generators, tensors["random/exploration"])
        for name in COUNTS:
            setattr(agent, name, manifest[name])
        agent.environment = recorded_id(manifest["environment"])
        agent.identities = list(manifest["identities"])
        return agent

    def learner(self, k: int) -> Self:
        """Learner k alone, a copy without data; with the same data it continues as it would have in the population."""
        return self.select([k])

    def select(self, learners: Sequence[int]) -> Self:
        """The population of some of the learners, copies without data."""
        if not len(learners):
            raise ValueError(f"no learner is named; this population has learners 0 to {self.population - 1}")
        for k in learners:
            if isinstance(k, bool | np.bool_) or not 0 <= k < self.population:
                raise ValueError(f"learner {k}: this population has learners 0 to {self.population - 1}")
        tensors, manifest = self.state()
        chosen = {name: tensor[list(learners)] for name, tensor in tensors.items()}
        lists = {key: [manifest[key][k] for k in learners] for key in checkpoint.PER_LEARNER}
        return self._restore(chosen, {**manifest, **lists}, self.device)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: one folder; a population writes one `seed-K` folder per learner inside it.

        Online training goes on exactly from it: buffer, running episodes and generators are in it. Of the checkpoints
        of this training, the newest two stay; nothing else in the folder is touched.

        Raises:
            CheckpointError: the folder holds checkpoints that this training did not write.
            ValueError: training diverged; nothing was written then either.
        """
        self.check_finite()
        (tensors, manifest), (more, described) = self.state(), self.online_state()
        goes_on, about = Path(path).resolve() == self.loaded_from, manifest | {"online": described}
        checkpoint.save_population(Path(path), self.progress_count, tensors | more, about, goes_on=goes_on)

    @classmethod
    def load(cls, path: str | Path, *, env: Environment | None = None, device: str = "auto") -> Self:
        """Read the newest readable checkpoint of one learner or of a population.

        Args:
            path: what `save` wrote.
            env: to go on in, where the checkpoint was not trained in an environment id.
            device: as in the constructor.

        Raises:
            CheckpointError: nothing readable, another agent, another format.
        """
        tensors, manifest = checkpoint.load_population(Path(path))
        agent = cls._restore(tensors, manifest, pick_device(device))
        agent.load_online_state(tensors, manifest["online"])
        agent.loaded_from = Path(path).resolve()
        if env is not None:
            agent.environment = env
        return agent


def check_observations(observations: ArrayLike, *shapes: tuple[int, ...]) -> Array:
    """Observations as an array.

    Raises:
        ValueError: not finite, or of none of these shapes (-1 stands for any length).
    """
    array = np.asarray(observations)
    if array.shape not in shapes and not any(_fits(array.shape, shape) for shape in shapes):
        wanted = " or ".join(str(shape).replace("-1", "n") for shape in shapes)
        raise ValueError(f"observations have shape {array.shape}; give {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"observations hold NaN or infinity: {array[~np.isfinite(array)][0]}")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(n in (-1, m) for n, m in zip(wanted, shape, strict=True))
