"""One thread a process, as `orl` has it, set before torch is imported."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from numpy.typing import NDArray

STROLL = "orl-tests/Stroll-v0"


class Stroll(gymnasium.Env[Any, Any]):
    """A point pushed by its actions and by chance; every observation says which step of which episode it is.

    Observations are (position, episode, step), actions lie in [-2, 2], the reward is minus the distance from 0.

    Args:
        length: of every episode; 0: drawn from 1 to 7.
        ends: by what; "either" leaves it to chance.
    """

    observation_space = Box(-np.inf, np.inf, (3,))
    action_space = Box(-2, 2, (1,))

    def __init__(self, length: int = 0, ends: str = "either") -> None:
        self.given, self.ends, self.episode = length, ends, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self.episode = 1 if seed is not None else self.episode + 1
        self.step_number, self.position = 0, self.np_random.uniform(-1, 1)
        self.length = self.given or int(self.np_random.integers(1, 8))
        return self._observation(), {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        self.step_number += 1
        self.position += 0.1 * float(action[0]) + 0.05 * self.np_random.normal()
        over = self.step_number == self.length
        terminates = self.ends == "terminated" or (self.ends == "either" and self.np_random.uniform() < 0.5)
        return self._observation(), -abs(self.position), over and terminates, over and not terminates, {}

    def _observation(self) -> NDArray[np.float32]:
        return np.array([self.position, self.episode, self.step_number], np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def float64() -> Iterator[None]:
    """float64 as the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def stroll() -> Iterator[str]:
    """The id of an environment whose episodes last 1 to 7 steps."""
    gymnasium.register(STROLL, Stroll, disable_env_checker=True)
    yield STROLL
    del gymnasium.registry[STROLL]
