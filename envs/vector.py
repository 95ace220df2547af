"""The base of vector environments that are computed with arrays: seeds, resets, autoreset modes, infos.

Shape key: E copies.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Space
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from orl.arrays import Array, BoolArray, Float64Array, IntArray
from orl.envs.checks import check_choice, check_render_mode, check_started, require

Info = dict[str, Any]  # Gymnasium's infos and options of resets, and our states
Seeds = int | Sequence[int | None] | None


class ArrayVectorEnv(VectorEnv[Any, Array, Array], ABC):
    """E copies of an environment in this process; copy i equals a single environment with seed + i, bit for bit.

    Args:
        num_envs: E, >= 1.
        observation_space, action_space: Of one copy.
        max_episode_steps: Steps after which an episode is truncated; None never truncates.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value: NextStep, SameStep or Disabled.
        render_mode: None, or one of the `render_modes` in `metadata`.

    Raises:
        ValueError: a number below 1, an unknown autoreset or render mode.
    """

    nouns = ("copy", "copies")  # one and several, in messages

    def __init__(
        self,
        num_envs: int,
        observation_space: Space[Any],
        action_space: Space[Any],
        max_episode_steps: int | None,
        autoreset_mode: str | AutoresetMode,
        render_mode: str | None,
    ) -> None:
        require(isinstance(num_envs, int | np.integer) and num_envs >= 1, "num_envs", "a whole number >= 1", num_envs)
        is_limit = max_episode_steps is None or max_episode_steps >= 1
        require(is_limit, "max_episode_steps", ">= 1, or None for no limit", max_episode_steps)
        if not isinstance(autoreset_mode, AutoresetMode):
            check_choice("autoreset_mode", autoreset_mode, [mode.value for mode in AutoresetMode])
        check_render_mode(render_mode, self.metadata.get("render_modes", ()))
        self.num_envs, self.max_episode_steps, self.render_mode = int(num_envs), max_episode_steps, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = self.metadata | {"autoreset_mode": self.autoreset_mode}
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, self.num_envs)
        self.action_space = batch_space(action_space, self.num_envs)
        self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self._ended = np.zeros(self.num_envs, np.bool_)
        self._is_started = False

    @abstractmethod
    def _restart(self, copies: IntArray, options: Info) -> None:
        """Begin an episode of these copies (n,)."""

    @abstractmethod
    def _advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        """Check actions and act in all copies; rewards (E,) and terminated (E,)."""

    @abstractmethod
    def _elapsed_steps(self) -> IntArray:
        """Steps since the last reset, (E,)."""

    @abstractmethod
    def _observe(self) -> Any:
        """Observations of all copies, new arrays (E, ...)."""

    @abstractmethod
    def _info(self) -> dict[str, Array]:
        """Infos of all copies, new arrays (E, ...)."""

    def step(self, actions: Array) -> tuple[Any, Float64Array, BoolArray, BoolArray, Info]:
        """Act in all copies; those whose episode has ended are reset as the autoreset mode says.

        Args:
            actions: One per copy, as the action space has them.

        Returns:
            Observations (E, ...), rewards (E,), terminated (E,), truncated (E,), infos.

        Raises:
            ValueError: before `reset`, actions that are refused, or a copy in mode Disabled whose episode has ended.
        """
        check_started(self._is_started, "step")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            ended = f"{self.nouns[1]} {np.flatnonzero(self._ended).tolist()}"
            raise ValueError(f"the episodes of {ended} have ended: reset(options={{'reset_mask': ...}}) them first")
        rewards, terminated = self._advance(np.asarray(actions))
        truncated = np.zeros(self.num_envs, np.bool_)
        if self.max_episode_steps is not None:
            truncated = self._elapsed_steps() >= self.max_episode_steps
        infos: Info = {}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._ended.any():
            self._restart(np.flatnonzero(self._ended), {})
            rewards[self._ended] = 0.0
            terminated, truncated = terminated & ~self._ended, truncated & ~self._ended
        self._ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._final_infos()
            self._restart(np.flatnonzero(self._ended), {})
        infos |= self._infos(np.ones(self.num_envs, np.bool_))
        return self._observe(), rewards, terminated, truncated, infos

    def get_state(self) -> Info:
        """Copy the whole state, generators included, for an exact return with `set_state`."""
        return {
            "generators": [copy.deepcopy(generator.bit_generator.state) for generator in self._generators],
            "ended": self._ended.copy(),
            "is_started": self._is_started,
        }

    def set_state(self, state: Info) -> None:
        """Return to a state of `get_state`, of this or another environment made with the same keywords.

        Raises:
            ValueError: not such a state.
        """
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self._ended, self._is_started = state["ended"].copy(), state["is_started"]

    def _begin(self, seed: Seeds, mask: BoolArray, options: Info) -> tuple[Any, Info]:
        """What `reset` does: seed the copies in the mask (E,), and begin an episode of them."""
        if seed is not None:
            seeds = range(int(seed), int(seed) + self.num_envs) if isinstance(seed, int | np.integer) else seed
            if len(seeds) != self.num_envs:
                one, several = self.nouns
                raise ValueError(
                    f"seed has {len(seeds)} values for {self.num_envs} {several}: give one, or one per {one}"
                )
            for i in np.flatnonzero(mask).tolist():
                if seeds[i] is not None:
                    self._generators[i] = seeding.np_random(seeds[i])[0]
        self._restart(np.flatnonzero(mask), options)
        self._ended[mask] = False
        self._is_started = self._is_started or bool(mask.all())
        return self._observe(), self._infos(mask)

    def _infos(self, mask: BoolArray) -> Info:
        """Infos of the copies in the mask; zero for the others, as Gymnasium has it."""
        infos: Info = self._info()
        if not mask.all():
            for array in infos.values():
                array[~mask] = 0
        return infos | {f"_{name}": mask.copy() for name in infos}

    def _final_infos(self) -> Info:
        observations = self._observe()
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(self._ended).tolist():
            is_dict = isinstance(observations, dict)
            final[i] = {key: values[i] for key, values in observations.items()} if is_dict else observations[i]
        infos = {"final_obs": final, "final_info": self._infos(self._ended)}
        return infos | {"_final_obs": self._ended.copy(), "_final_info": self._ended.copy()}


def check_reset_mask(mask: object, num_envs: int) -> BoolArray:
    """The option `reset_mask` of a vector environment, (E,) bool: the copies to reset; all of them without it.

    Raises:
        ValueError: a mask that is not (E,) bool with a True in it.
    """
    if mask is None:
        return np.ones(num_envs, np.bool_)
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (num_envs,):
        raise ValueError(f"reset_mask must be a bool array of shape ({num_envs},), got {mask!r}")
    if not mask.any():
        raise ValueError(f"reset_mask must hold at least one True, got {mask!r}")
    return mask
