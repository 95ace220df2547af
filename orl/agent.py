"""The one abstract class: what every agent can do besides its own equations.

Shape key: P population, B batch, O observation, A action.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from orl import seeding, training
from orl.buffer import Batch, Metrics, ReplayBuffer, per_learner
from orl.checks import Floats
from orl.config import make_config
from orl.dataset import Dataset
from orl.device import pick_device
from orl.divergence import check_finite
from orl.environment import Environment, Source, Spaces, check_copies, is_recorded
from orl.learners import Learners
from orl.rollout import Collector, Step
from orl.training import Schedule


class Agent(Learners):
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

    # What an algorithm defines, besides `build` and `draws`.

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
    def replay_buffer(self) -> ReplayBuffer | None:
        """The transitions that updates draw from; None before there are any."""
        return self.experience.replay_buffer

    @property
    def collector(self) -> Collector | None:
        """The environments that this agent acts in; None before it learns online."""
        return self.experience.collector

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
        for _ in training.offline(self, updates, progress_bar=progress_bar):
            pass
        check_finite(self)
        return self

    def draw(self, updates: int) -> Iterator[dict[str, Tensor]]:
        """Random numbers and batch of each of so many updates, before which nothing is added to the buffer."""
        if self.replay_buffer is None:
            raise ValueError(f"{type(self).__name__} has no data; give a dataset to the constructor or to fit()")
        return self.random.with_batches(updates, partial(self.sample, self.replay_buffer))

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
        moments = training.online(self, steps, progress_bar=progress_bar)
        if callback is not None:
            from orl.callbacks import run_with_callbacks

            moments = run_with_callbacks(self, moments, callback, steps)
        for _ in moments:
            pass
        check_finite(self)
        return self

    def connect(self, environment: Environment | None = None) -> None:
        """Make the environments and the buffer that online training needs, where they are not there yet."""
        schedule, filled = self.schedule(), self.replay_buffer  # refuses before anything is made
        self.experience.connect(environment, self.config.buffer_size)
        if filled is None:
            self.first_update = self.steps + schedule.learning_starts
        elif filled is not self.replay_buffer:
            self.first_update = self.steps

    def collect(self) -> int:
        """Act once in every copy of the environment, store what came of it; returns how many updates are due."""
        assert self.collector is not None
        step = self.experience.act(self._explore(self.collector.observations))
        self.steps += self.collector.num_envs
        self.observe(step)
        return self.present_schedule().updates(self.steps - self.collector.num_envs, self.steps)

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
        datasets = per_learner(data, self.population)
        self.experience.attach(datasets)
        if not self.fitted and not self.updates:
            if getattr(self.config, "normalize_observations", False):
                self.normalizer.fit(datasets)
            self.prepare(datasets)
            self.fitted = True
