"""Many small environments in one process, each with a context of its own, computed with arrays.

Shape key: E copies, d context variables, O observation.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box, Space
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from orl.context import ContextSpace, Floats
from orl.envs.contextual.exposure import Context, Contexts, Exposure, Mode, check_names, is_rows, reset_options
from orl.envs.resets import new_generators

Flags = NDArray[np.bool_]


class ContextualVectorEnv(VectorEnv[Any, NDArray[Any], NDArray[Any]], ABC):
    """E copies, reset in the step in which their episode ends; every copy keeps its context then.

    Copy i equals a single environment with its seed and its context, bit for bit. Info has `context` (E, d) float64,
    and `final_info["context"]` that of the episodes that ended.

    Args:
        num_envs: E, >= 1.
        max_episode_steps: Steps after which an episode is truncated; None never truncates.
        context: As of `Contextual`; also (E, d) or E mappings, one for each copy.
        contexts, context_mode, allow_extrapolation: As of `Contextual`.

    Raises:
        ValueError: a number below 1, or what `Contextual` refuses.
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP}  # type: ignore[misc]
    offered: ContextSpace
    state_size: int
    ordinary_observation_space: Box
    state: Floats  # (state_size, E)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        contexts: Contexts = None,
        context: Context = None,
        context_mode: Mode = "hidden",
        allow_extrapolation: bool = False,
    ) -> None:
        for name, number in (("num_envs", num_envs), ("max_episode_steps", max_episode_steps)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be >= 1, got {number!r}")
        self.num_envs, self.max_episode_steps = int(num_envs), max_episode_steps
        self.exposure = Exposure.of(self.offered, contexts, context_mode, allow_extrapolation)
        self.single_observation_space: Space[Any] = self.exposure.observation_space(self.ordinary_observation_space)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.state, self._steps = np.zeros((self.state_size, self.num_envs)), np.zeros(self.num_envs, np.int64)
        self._generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self._is_started = False
        self._is_sampled = self.exposure.is_sampled(context)
        given = self.exposure.rows(context, num_envs) if is_rows(context) else self.exposure.array(context)
        self._next_contexts = np.broadcast_to(given, (self.num_envs, given.shape[-1])).copy()
        self._contexts = self._next_contexts.copy()

    @abstractmethod
    def apply(self, context: dict[str, Floats]) -> None:
        """Change the tasks: the values (E,) of every variable offered, by name."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Floats:
        """A starting state, (state_size,)."""

    @abstractmethod
    def advance(self, actions: NDArray[Any]) -> tuple[Floats, Flags]:
        """Replace `state` by what follows it; rewards (E,) and terminated (E,)."""

    @abstractmethod
    def observe(self) -> NDArray[np.float32]:
        """Ordinary observations of `state`, (E, O), new ones at every call."""

    @property
    def context_space(self) -> ContextSpace:
        """The variables exposed."""
        return self.exposure.space

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of every copy, or of those in `options["reset_mask"]` (E,) bool.

        Args:
            seed: Copy i is seeded with seed + i; a sequence gives every copy its own.
            options: `contexts` (E, d): row i is copy i's context in its next episode and all that follow.

        Raises:
            ValueError: another option, contexts that are refused, or seeds that are not one per copy.
        """
        rows, mask = reset_options(options, self.num_envs)
        if rows is not None:
            self._next_contexts, self._is_sampled = self.exposure.rows(rows, self.num_envs), False
        for i, generator in new_generators(seed, mask).items():
            self._generators[i] = generator
        self._restart(mask)
        self._is_started = self._is_started or bool(mask.all())
        return self.exposure.observe(self.observe(), self._contexts), self._infos(mask)

    def step(self, actions: NDArray[Any]) -> tuple[Any, Floats, Flags, Flags, dict[str, Any]]:
        """Act in all copies; those whose episode ends begin the next one.

        Args:
            actions: one per copy, as the action space has them.

        Returns:
            Observations (E, ...), rewards (E,) float64, terminated (E,), truncated (E,), infos.

        Raises:
            ValueError: before `reset`, or actions of another shape.
        """
        if not self._is_started:
            raise ValueError("step() was called before reset(): call reset() first")
        actions = np.asarray(actions)
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}, got {actions.shape}")
        rewards, terminated = self.advance(actions)
        self._steps += 1
        truncated = np.zeros(self.num_envs, np.bool_)
        if self.max_episode_steps is not None:
            truncated = self._steps >= self.max_episode_steps
        ended, infos = terminated | truncated, {}
        if ended.any():
            infos = self._final(ended)
            self._restart(ended)
        infos |= self._infos(np.ones(self.num_envs, np.bool_))
        return self.exposure.observe(self.observe(), self._contexts), rewards, terminated, truncated, infos

    def get_state(self) -> dict[str, Any]:
        """Copy the whole state, contexts and generators included, for an exact return with `set_state`."""
        return {
            "names": list(self.context_space.names),
            "arrays": {name: getattr(self, name).copy() for name in self._ARRAYS},
            "is_sampled": self._is_sampled,
            "is_started": self._is_started,
            "generators": [copy.deepcopy(generator.bit_generator.state) for generator in self._generators],
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Return to a state of `get_state`, of this or another environment made with the same keywords.

        Raises:
            ValueError: a state of another number of copies, or of an environment that exposes other variables.
        """
        check_names(state["names"], self.context_space)
        if state["arrays"]["state"].shape != self.state.shape:
            raise ValueError(f"a state of {len(state['generators'])} copies; the environment has {self.num_envs}")
        for name in self._ARRAYS:
            setattr(self, name, state["arrays"][name].copy())
        self._is_sampled, self._is_started = state["is_sampled"], state["is_started"]
        for generator, saved in zip(self._generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self.apply(self.exposure.physics(self._contexts))

    _ARRAYS = ("state", "_steps", "_contexts", "_next_contexts")

    def _restart(self, copies: Flags) -> None:
        for i in np.flatnonzero(copies).tolist():
            if self._is_sampled:
                self._contexts[i] = self.context_space.sample(self._generators[i])
            self.state[:, i] = self.draw(self._generators[i])
        if not self._is_sampled:
            self._contexts[copies] = self._next_contexts[copies]
        self._steps[copies] = 0
        self.apply(self.exposure.physics(self._contexts))

    def _infos(self, copies: Flags) -> dict[str, Any]:
        """Contexts of some copies; zero for the others, as Gymnasium has it."""
        return {"context": np.where(copies[:, None], self._contexts, 0.0), "_context": copies.copy()}

    def _final(self, ended: Flags) -> dict[str, Any]:
        observations = self.exposure.observe(self.observe(), self._contexts)
        final = np.full(self.num_envs, None, object)
        for i in np.flatnonzero(ended).tolist():
            is_one = isinstance(observations, np.ndarray)
            final[i] = observations[i] if is_one else {key: values[i] for key, values in observations.items()}
        values = {"final_obs": final, "final_info": self._infos(ended)}
        return values | {"_final_obs": ended.copy(), "_final_info": ended.copy()}
