"""A population of learners as something that is made, taken apart, written and read.

Shape key: P population.
"""

from __future__ import annotations

import dataclasses
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from orl import checkpoint, seeding
from orl.config import make_config
from orl.device import pick_device, refuse_memory
from orl.divergence import check_finite
from orl.environment import Environment, Spaces, describe, recorded_id
from orl.execution import Runner, resolve_execution
from orl.experience import Experience
from orl.noise import NoiseBlocks, NoiseSpec
from orl.normalize import Normalizer
from orl.policy import Policy
from orl.state import flatten_state, restore_state
from orl.updates import Adam

COUNTS = ("updates", "steps", "total_phase_updates", "fitted", "first_update")  # what a learner has been through


class Learners(Policy):
    """Networks, optimizers, random numbers and counts of a population of learners.

    Every tensor of their state has the population as its first axis, so that learners can be taken out and put
    together.
    """

    Config: ClassVar[type]
    loaded_from: Path | None = None  # folder whose training this agent goes on with

    def _create(self, spaces: Spaces, config: Any, seeds: list[int], device: torch.device) -> None:
        self.spaces, self.config, self.seeds, self.device = spaces, resolve_execution(config, device), seeds, device
        self.runner = Runner(self.config, device)
        self.updates = 0  # gradient updates done; one update is one call of `update`
        self.steps = 0  # environment steps done by each learner, over its copies
        self.total_phase_updates = (
            0  # critic-only updates of stabilization phases, counted as if every learner did them all
        )
        self.first_update = 0  # the environment step after which updates begin, online
        self.experience = Experience(spaces, seeds, device)
        self.fitted = False  # whether statistics were taken from data
        self.normalizer = Normalizer(self.population, spaces.observation_size, device)
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, Adam] = {}
        self.buffers: dict[str, Tensor] = {}  # other state, each with the population as first axis
        if self.population > 1:
            self._refuse_memory()
        self.build([seeding.torch_generator(s, "initialisation") for s in seeds])
        self.random = NoiseBlocks(seeds, self.draws(), device)
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

    @abstractmethod
    def build(self, generators: list[torch.Generator]) -> None:
        """Fill `networks`, `optimizers` and `constants`; one generator per learner."""

    @abstractmethod
    def draws(self) -> dict[str, NoiseSpec]:
        """Random numbers that one update consumes; `indices` (batch,) choose the transitions."""

    @cached_property
    def identities(self) -> list[str]:
        """What tells the training of each learner from any other: how it began, whatever came then.

        The same training done again has the same identity. Copies and loaded agents keep theirs.
        """
        kind, config, spaces = type(self).__name__, dataclasses.asdict(self.config), self.spaces.to_json()
        about = kind, config, spaces, describe(self.experience.environment)
        data = self.experience.content or [""] * self.population
        return [checkpoint.identity(*about, *own) for own in zip(self.seeds, data, strict=True)]

    @property
    def progress_count(self) -> int:
        """Steps and updates done, which grows with every piece of training; the number of a checkpoint."""
        return self.steps + self.updates + self.total_phase_updates

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors by name and a JSON-able manifest: the learners, without data and environments."""
        block_start, position = self.random.state()
        tensors = flatten_state(self.networks, self.optimizers, {**self.buffers, **self._other_tensors()})
        tensors["random/block_start"] = block_start
        tensors["random/actions"] = torch.stack([g.get_state() for g in self.action_generators])
        tensors["random/exploration"] = torch.stack([g.get_state() for g in self.exploration_generators])
        return tensors, {
            "agent": type(self).__name__,
            "config": dataclasses.asdict(self.config),
            "seeds": self.seeds,
            "identities": self.identities,
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
        restore_state(agent.networks, agent.optimizers, {**agent.buffers, **agent._other_tensors()}, tensors)
        agent.random.load(tensors["random/block_start"], manifest["random_position"])
        seeding.set_states(agent.action_generators, tensors["random/actions"])
        seeding.set_states(agent.exploration_generators, tensors["random/exploration"])
        for name in COUNTS:
            setattr(agent, name, manifest[name])
        agent.experience.environment = recorded_id(manifest["environment"])
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
        check_finite(self)
        (tensors, manifest), (more, described) = self.state(), self.online_state()
        goes_on, about = Path(path).resolve() == self.loaded_from, manifest | {"online": described}
        checkpoint.save_population(Path(path), self.progress_count, tensors | more, about, goes_on=goes_on)

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
        agent.load_online_state(tensors, manifest["online"])
        agent.loaded_from = Path(path).resolve()
        if environment is not None:
            agent.experience.environment = environment
        return agent
