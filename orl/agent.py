"""The one abstract class: what every agent can do besides its own equations.

Shape key: P population, B batch, O observation, A action.
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from orl import checkpoint, loop, seeding
from orl.batch import Batch, Metrics
from orl.buffer import ReplayBuffer
from orl.checks import Floats
from orl.collector import Collector, Environment, Step, check_copies
from orl.configuration import make_config
from orl.dataset import Dataset
from orl.device import pick_device, refuse_memory
from orl.execution import Runner, available
from orl.experience import Experience
from orl.normalize import Normalizer
from orl.policy import Policy
from orl.schedule import Schedule
from orl.seeding import Draw, RandomBlocks
from orl.spaces import Source, Spaces, is_recorded
from orl.state import flatten_state, restore_state
from orl.updates import Adam

COUNTS = ("updates", "steps", "phase_updates", "fitted", "first_update")  # what a learner has been through


class Agent(Policy):
    """A population of learners of one algorithm; one learner is the default.

    Args:
        source: environment id, environment, vector environment, dataset, or one dataset per learner.
        config: the algorithm's frozen dataclass.
        seed: one integer >= 0 per learner; a list makes a population.
        device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1".
        overrides: fields of the configuration, by name.

    Raises:
        ValueError: unknown overrides, spaces that the agent cannot handle, hidden rewards, datasets that do not
            match the seeds.
    """

    Config: ClassVar[type]

    def __init__(
        self,
        source: Source,
        config: Any = None,
        *,
        seed: int | Sequence[int] = 0,
        device: str = "auto",
        **overrides: Any,
    ) -> None:
        config = make_config(self.Config, config, overrides)
        self._create(self.spaces_of(source, config), config, seeding.check_seeds(seed), pick_device(device))
        if is_recorded(source):
            self.attach(source)
        else:
            check_copies(source, self.population)
            self.experience.environment = source

    def _create(self, spaces: Spaces, config: Any, seeds: list[int], device: torch.device) -> None:
        self.spaces, self.config, self.seeds, self.device = spaces, available(config, device), seeds, device
        self.runner = Runner(self.config, device)
        self.updates = 0  # gradient updates done; one update is one call of `update`
        self.steps = 0  # environment steps done by each learner, over its copies
        self.phase_updates = 0  # critic-only updates of stabilization phases, counted as if every learner did them all
        self.first_update = 0  # the environment step after which updates begin, online
        self.experience = Experience(spaces, seeds, device)
        self.fitted = False  # whether statistics were taken from data
        self.normalizer = Normalizer(self.population, spaces.observation_size, device)
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Adam] = {}
        self.constants: dict[str, Tensor] = {}  # other state, each with the population as first axis
        if self.population > 1:
            self._refuse_memory()
        self.build([seeding.torch_generator(s, "initialisation") for s in seeds])
        self.random = RandomBlocks(seeds, self.draws(), device)
        self.action_generators = [seeding.torch_generator(s, "actions", device) for s in seeds]
        self.exploration_generators = [seeding.torch_generator(s, "exploration", device) for s in seeds]

    def _refuse_memory(self) -> None:
        """Raise MemoryError where the networks will not fit: one learner says what each of them takes."""
        with warnings.catch_warnings(action="ignore"):  # of what is built once more
            self.build([seeding.torch_generator(self.seeds[0], "initialisation")])
        parameters = [p for network in self.networks.values() for p in network.parameters()]
        size = sum(p.nbytes * (4 if p.requires_grad else 1) for p in parameters)  # gradient and two moments
        refuse_memory(
            self.population * size, self.device, f"networks of {self.population} learners", "train fewer at a time"
        )

    # What an algorithm defines.

    @abstractmethod
    def build(self, generators: list[torch.Generator]) -> None:
        """Fill `networks`, `optimizers` and `constants`; one generator per learner."""

    @abstractmethod
    def draws(self) -> dict[str, Draw]:
        """Random numbers that one update consumes; `indices` (batch,) choose the transitions."""

    @abstractmethod
    def update(self, batch: Batch, random: Mapping[str, Tensor]) -> Metrics:
        """One update of every learner on normalised observations."""

    def turn(self) -> Hashable:
        """What Python decides in the next `update`, such as whether the actor has its turn."""
        return None

    @classmethod
    def spaces_of(cls, source: Source, config: Any) -> Spaces:
        """What the learners see and do, of what the constructor got."""
        return Spaces.of(source)

    def prepare(self, datasets: Sequence[Dataset]) -> None:
        """Take what else the algorithm needs from each learner's first data, such as reward scales."""

    def observe(self, step: Step) -> None:
        """Take what else the algorithm needs from a step in the environments, such as the scale of rewards."""

    def schedule(self) -> Schedule:
        """When to update while acting; an algorithm without one learns from recorded data alone."""
        raise ValueError(f"{type(self).__name__} learns from recorded data; use fit()")

    def phase(self) -> Iterator[Metrics]:
        """Do the stabilization phase that is due, a piece at a time; most algorithms have none."""
        return iter(())

    # What every agent can do.

    @property
    def buffer(self) -> ReplayBuffer | None:
        """The transitions that updates draw from; None before there are any."""
        return self.experience.buffer

    @property
    def collector(self) -> Collector | None:
        """The environments that this agent acts in; None before it learns online."""
        return self.experience.collector

    @property
    def work(self) -> int:
        """Steps and updates done, which grows with every piece of training; the number of a checkpoint."""
        return self.steps + self.updates + self.phase_updates

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
        for _ in loop.offline(self, updates, progress_bar=progress_bar):
            pass
        return self

    def draw(self, updates: int) -> Iterator[dict[str, Tensor]]:
        """Random numbers and batch of each of so many updates, before which nothing is added to the buffer."""
        if self.buffer is None:
            raise ValueError(f"{type(self).__name__} has no data; give a dataset to the constructor or to fit()")
        return self.random.with_batches(updates, partial(self.sample, self.buffer))

    def sample(self, buffer: ReplayBuffer, random: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The batches (n, P, B, ...), by name, that the random numbers of n updates point at."""
        return self.normalizer.batch(buffer.sample(random["indices"]))._asdict()

    def step(self, inputs: Mapping[str, Tensor] | None = None) -> Metrics:
        """Do one update, on what `draw` gave or on a batch of its own; metrics stay on the device."""
        metrics = self.runner(self._update, inputs or next(self.draw(1)), self.turn())
        self.updates += 1
        return metrics

    def _update(self, inputs: Mapping[str, Tensor]) -> Metrics:
        return self.update(Batch.of(inputs), inputs)

    def learn(
        self,
        steps: int,
        environment: Environment | None = None,
        *,
        callback: Any = None,
        progress_bar: bool = False,
    ) -> Self:
        """Train in an environment, from where this agent stands; a second call continues the running episodes.

        Args:
            steps: environment steps of every learner, over its copies.
            environment: replaces what the constructor got, unless it is the same; an id makes one copy per learner.
            callback: of Stable-Baselines3, or a list of them; for a single learner.
            progress_bar: show one.

        Returns:
            This agent.
        """
        self.connect(environment)
        moments = loop.online(self, steps, progress_bar=progress_bar)
        if callback is not None:
            from orl.callbacks import called_back

            moments = called_back(self, moments, callback, steps)
        for _ in moments:
            pass
        return self

    def connect(self, environment: Environment | None = None) -> None:
        """Make the environments and the buffer that online training needs, where they are not there yet."""
        schedule, filled = self.schedule(), self.buffer  # refuses before anything is made
        self.experience.connect(environment, self.config.buffer_size)
        if filled is None:
            self.first_update = self.steps + schedule.learning_starts
        elif filled is not self.buffer:
            self.first_update = self.steps

    def collect(self) -> int:
        """Act once in every copy of the environment, store what came of it; returns how many updates are due."""
        assert self.collector is not None
        step = self.experience.act(self._explore(self.collector.observations))
        self.steps += self.collector.copies
        self.observe(step)
        return self.present_schedule().updates(self.steps - self.collector.copies, self.steps)

    def present_schedule(self) -> Schedule:
        """The schedule; updates begin when an empty buffer has been filled for as long as it says."""
        return dataclasses.replace(self.schedule(), learning_starts=self.first_update)

    def _explore(self, observations: Floats) -> Floats:
        """Actions (P, n, A) in [-1, 1]: uniform before anything was learned, then the policy's samples."""
        shape = (observations.shape[1], self.spaces.action_size)
        if self.steps < self.first_update and not self.updates:
            uniform = [torch.rand(shape, generator=g, device=self.device) for g in self.exploration_generators]
            return (2.0 * torch.stack(uniform) - 1.0).cpu().numpy()
        return self._actions(observations, self.exploration_generators)

    def attach(self, data: Dataset | Sequence[Dataset]) -> None:
        """Give recorded data: one dataset for all learners, or one each.

        Statistics are taken from the first data, and stay as they are once anything was learned with them.
        """
        datasets = [data] * self.population if isinstance(data, Dataset) else list(data)
        if len(datasets) != self.population:
            raise ValueError(f"{len(datasets)} datasets for {self.population} seeds; give one dataset, or one per seed")
        self.experience.attach(datasets)
        if not self.fitted and not self.updates:
            if getattr(self.config, "normalize_observations", False):
                self.normalizer.fit(datasets)
            self.prepare(datasets)
            self.fitted = True

    # State: every tensor has the population as its first axis, so that learners can be taken out and put together.

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest: the learners, without data and environments."""
        block_start, position = self.random.state()
        tensors = flatten_state(self.networks, self.optimizers, {**self.constants, **self._other_tensors()})
        tensors["random/block_start"] = block_start
        tensors["random/actions"] = torch.stack([g.get_state() for g in self.action_generators])
        tensors["random/exploration"] = torch.stack([g.get_state() for g in self.exploration_generators])
        return tensors, {
            "agent": type(self).__name__,
            "config": dataclasses.asdict(self.config),
            "seeds": self.seeds,
            **{name: getattr(self, name) for name in COUNTS},
            "random_position": position,
            "spaces": self.spaces.to_json(),
            "environment": self.experience.environment if isinstance(self.experience.environment, str) else None,
        }

    def _other_tensors(self) -> dict[str, Tensor]:
        return {f"normalizer/{name}": tensor for name, tensor in self.normalizer.tensors().items()}

    def online_state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What online training holds besides the learners: buffer and running episodes."""
        return self.experience.state(), {}

    def load_online_state(self, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> None:
        """The inverse of `online_state`."""
        self.experience.load(tensors, getattr(self.config, "buffer_size", 0))

    @classmethod
    def _restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any], device: torch.device) -> Self:
        if manifest["agent"] != cls.__name__:
            raise checkpoint.CheckpointError(
                f"a checkpoint of {manifest['agent']}, not of {cls.__name__}; use {manifest['agent']}.load"
            )
        agent = cls.__new__(cls)
        config = make_config(cls.Config, None, manifest["config"])
        agent._create(Spaces.from_json(manifest["spaces"]), config, list(manifest["seeds"]), device)
        restore_state(agent.networks, agent.optimizers, {**agent.constants, **agent._other_tensors()}, tensors)
        agent.random.load(tensors["random/block_start"], manifest["random_position"])
        seeding.set_states(agent.action_generators, tensors["random/actions"])
        seeding.set_states(agent.exploration_generators, tensors["random/exploration"])
        for name in COUNTS:
            setattr(agent, name, manifest[name])
        agent.experience.environment = manifest["environment"]
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
        return self._restore(chosen, {**manifest, "seeds": [self.seeds[k] for k in learners]}, self.device)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint: one folder; a population writes one `seed-K` folder per learner inside it.

        Online training goes on exactly from it: buffer, running episodes and generators are in it.
        """
        (tensors, manifest), (more, described) = self.state(), self.online_state()
        checkpoint.save_population(Path(path), self.work, tensors | more, manifest | {"online": described})

    @classmethod
    def load(cls, path: str | Path, environment: Environment | None = None, *, device: str = "auto") -> Self:
        """Read the newest readable checkpoint of one learner or of a population.

        Args:
            path: what `save` wrote.
            environment: to go on in, where the checkpoint was not trained in an environment id.
            device: as in the constructor.

        Raises:
            CheckpointError: nothing readable, another agent, another format.
        """
        tensors, manifest = checkpoint.load_population(Path(path))
        agent = cls._restore(tensors, manifest, pick_device(device))
        agent.load_online_state(tensors, manifest.get("online", {}))
        if environment is not None:
            agent.experience.environment = environment
        return agent
