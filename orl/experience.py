"""Where an agent's transitions come from: recorded data, environments, or first the one and then the other."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from orl import seeding
from orl.buffer import ReplayBuffer
from orl.checks import Floats
from orl.dataset import Dataset, content_hashes
from orl.environment import Environment, Spaces
from orl.rollout import Collector, Step
from orl.state import strip_prefix


class Experience:
    """The buffer of a population, and the environments that fill it.

    Args:
        spaces: what the learners expect.
        seeds: one per learner.
        device: of the buffer.
    """

    def __init__(self, spaces: Spaces, seeds: Sequence[int], device: torch.device) -> None:
        self.spaces, self.seeds, self.device = spaces, list(seeds), device
        self.environment: Environment | None = spaces.environment_id
        self.replay_buffer: ReplayBuffer | None = None
        self.collector: Collector | None = None
        self.content: list[str] = []  # hashes of each learner's first data
        self._saved: dict[str, Tensor] = {}  # of a checkpoint: what waits for the environments

    def attach(self, datasets: Sequence[Dataset]) -> None:
        """Hold recorded data, one dataset per learner."""
        for each in datasets:
            self.spaces.check(Spaces.of(each), each.name)
        self.content = self.content or content_hashes(datasets)
        if self.replay_buffer is not None and self.replay_buffer.capacity:
            warnings.warn(f"the {len(self.replay_buffer):,} transitions of its own give way to the data", stacklevel=3)
        self.replay_buffer = ReplayBuffer.from_datasets(datasets, self.device)

    def connect(self, environment: Environment | None, buffer_size: int) -> None:
        """Make the environments and a buffer with room, where they are not there yet; recorded data stay in it.

        Raises:
            ValueError: there is no environment, or one that does not fit; nothing has changed then.
        """
        if self.collector is None or environment not in (None, self.environment):
            environment = environment if environment is not None else self.environment
            if environment is None:
                raise ValueError("no environment is known to learn in; give one to learn() or load()")
            seeds = [seeding.sequence(seed, "environment") for seed in self.seeds]
            collector = Collector(environment, seeds, self.spaces)
            saved = {name: tensor.cpu().numpy() for name, tensor in self._saved.items()}
            if saved and not collector.load(saved):
                warnings.warn("the environment cannot be put back where it was; new episodes begin", stacklevel=3)
            if self.collector is not None:
                self.collector.close()
            self.collector, self.environment, self._saved = collector, environment, {}
        if self.replay_buffer is None:
            self.replay_buffer = self._empty(buffer_size)
        elif not self.replay_buffer.capacity:
            self.replay_buffer = self.replay_buffer.grown(buffer_size)

    def _empty(self, buffer_size: int) -> ReplayBuffer:
        sizes = self.spaces.observation_size, self.spaces.action_size
        return ReplayBuffer(buffer_size, *sizes, population=len(self.seeds), device=self.device)

    def act(self, actions: Floats) -> Step:
        """Act once in every copy with actions (P, n, A) in [-1, 1], and store what came of it."""
        assert self.collector is not None
        assert self.replay_buffer is not None
        step = self.collector.step(actions)
        stored = step.observations, step.actions, step.rewards, step.next_observations, step.terminated
        self.replay_buffer.add(
            *(torch.as_tensor(values, dtype=torch.get_default_dtype(), device=self.device) for values in stored)
        )
        return step

    # State: every tensor has the population as its first axis.

    def state(self) -> dict[str, Tensor]:
        """Buffer and running episodes, by name; recorded data are not kept."""
        transitions = (
            self.replay_buffer.state() if self.replay_buffer is not None and self.replay_buffer.capacity else {}
        )
        episodes = self._saved
        if self.collector is not None:
            episodes = {name: torch.from_numpy(array) for name, array in self.collector.state().items()}
        tensors = {f"buffer/{name}": tensor for name, tensor in transitions.items()}
        return tensors | {f"collector/{name}": tensor for name, tensor in episodes.items()}

    def load(self, tensors: Mapping[str, Tensor], buffer_size: int) -> None:
        """The inverse of `state`; running episodes wait until the environments are made."""
        kept = {name: strip_prefix(tensors, name) for name in ("buffer/", "collector/")}
        if kept["buffer/"]:
            self.replay_buffer = self._empty(buffer_size)
            self.replay_buffer.load(kept["buffer/"])
        self._saved = kept["collector/"]
