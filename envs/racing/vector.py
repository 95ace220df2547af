"""Many racing environments in one process: copy i equals `RacingEnv` with seed + i, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from orl.envs.racing.environment import (
    Observation,
    RacingEnv,
    action_space,
    check_actions,
    check_render_mode,
    known_keywords,
)
from orl.envs.racing.observations import observation_space, observe
from orl.envs.racing.settings import make_settings
from orl.envs.racing.simulation import RacingSimulation
from orl.envs.racing.track import Track
from orl.envs.racing.walls import Integers
from orl.envs.resets import checked_mask, new_generators

Flags = NDArray[np.bool_]


class RacingVectorEnv(VectorEnv[Observation, NDArray[Any], NDArray[Any]]):
    """`num_envs` cars that never meet; `gymnasium.make_vec` makes it.

    Args:
        num_envs: Number of cars, >= 1.
        max_episode_steps: Decisions after which an episode is truncated; None never truncates.
        autoreset_mode: A `gymnasium.vector.AutoresetMode` or its value: NextStep, SameStep or Disabled.
        render_mode: None or rgb_array (one frame per car).
        keywords: Those of `RacingEnv`; `track`, `track_seed`, `grip`, `mass` and `delay` also take one value per car.

    Raises:
        ValueError: a keyword that is unknown or out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = 2_000,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        if not isinstance(num_envs, int | np.integer) or num_envs < 1:
            raise ValueError(f"num_envs must be a whole number >= 1, got {num_envs!r}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise ValueError(f"max_episode_steps must be >= 1, or None for no limit, got {max_episode_steps!r}")
        check_render_mode(render_mode)
        self.num_envs = int(num_envs)
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self.autoreset_mode = _autoreset_mode(autoreset_mode)
        self.metadata = {**RacingEnv.metadata, "autoreset_mode": self.autoreset_mode}
        self.simulation = RacingSimulation(self.num_envs, make_settings(self.num_envs, **known_keywords(keywords)))
        self.single_observation_space = observation_space(self.simulation.settings.observation)
        self.single_action_space = action_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._generators: list[np.random.Generator | None] = [None] * self.num_envs
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._is_started = False

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The track of every car in its current episode."""
        return tuple(self.simulation.track_of(car) for car in range(self.num_envs))

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode of every car, or of those in `options["reset_mask"]` (E,) bool.

        Args:
            seed: Car i is seeded with seed + i; a sequence gives every car its own.
            options: As in `RacingEnv.reset`, for all cars that are reset.

        Raises:
            ValueError: an unknown option, a value out of range, or a mask that is not (E,) bool with a True in it.
        """
        options = dict(options or {})
        mask = checked_mask(options.pop("reset_mask", None), self.num_envs)
        for car, generator in new_generators(seed, mask, ("car", "cars")).items():
            self._generators[car] = generator
        self._restart(np.flatnonzero(mask), options)
        self._ended[mask] = False
        self._is_started = self._is_started or bool(mask.all())
        return observe(self.simulation), self._infos(mask)

    def step(self, actions: NDArray[Any]) -> tuple[Observation, NDArray[np.float64], Flags, Flags, dict[str, Any]]:
        """Drive all cars for 0.1 s; cars whose episode has ended are reset as the autoreset mode says.

        Args:
            actions: (E, 2) steering and throttle in [-1, 1].

        Returns:
            observations (E, 33 or 51) float32, rewards (E,) float64, terminated (E,), truncated (E,), infos.

        Raises:
            ValueError: before `reset`, actions as in `RacingEnv.step`, or an ended car in mode Disabled.
        """
        if not self._is_started:
            raise ValueError("step() was called before reset(): call reset() first")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._ended.any():
            cars = np.flatnonzero(self._ended).tolist()
            raise ValueError(f"the episodes of cars {cars} have ended: reset(options={{'reset_mask': ...}}) them first")
        rewards, terminated = self.simulation.step(check_actions(np.asarray(actions), self.num_envs))
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        if self.max_episode_steps is not None:
            truncated = self.simulation.state["steps"] >= self.max_episode_steps
        infos: dict[str, Any] = {}
        if self.autoreset_mode == AutoresetMode.NEXT_STEP and self._ended.any():
            self._restart(np.flatnonzero(self._ended), {})
            rewards[self._ended] = 0.0
            terminated, truncated = terminated & ~self._ended, truncated & ~self._ended
        self._ended = terminated | truncated
        if self.autoreset_mode == AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._final(observe(self.simulation))
            self._restart(np.flatnonzero(self._ended), {})
        infos.update(self._infos(np.ones(self.num_envs, dtype=np.bool_)))
        return observe(self.simulation), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Draw every car: a tuple of E frames (480, 640, 3) uint8; None without a render mode.

        Raises:
            ValueError: before `reset`.
        """
        from orl.envs.racing.render import render_car

        if not self._is_started:
            raise ValueError("render() was called before reset(): call reset() first")
        if self.render_mode is None:
            return None
        return tuple(render_car(self.simulation, car) for car in range(self.num_envs))

    def get_state(self) -> dict[str, Any]:
        """Copy the whole state, generators included, for an exact return with `set_state`."""
        return {
            "simulation": self.simulation.get_state(),
            "generators": [None if g is None else copy.deepcopy(g.bit_generator.state) for g in self._generators],
            "ended": self._ended.copy(),
            "is_started": self._is_started,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Return to a state of `get_state`, of this or another environment made with the same keywords.

        Raises:
            ValueError: not such a state.
        """
        self.simulation.set_state(state.get("simulation", {}))
        for car, saved in enumerate(state["generators"]):
            self._generators[car] = None
            if saved is not None:
                self._generator(car).bit_generator.state = saved
        self._ended, self._is_started = state["ended"].copy(), state["is_started"]

    def _generator(self, car: int) -> np.random.Generator:
        generator = self._generators[car]
        if generator is None:
            generator = self._generators[car] = seeding.np_random()[0]
        return generator

    def _restart(self, cars: Integers, options: dict[str, Any]) -> None:
        self.simulation.reset(cars, [self._generator(int(car)) for car in cars], options)

    def _infos(self, mask: Flags) -> dict[str, Any]:
        """The info of the cars in the mask; zero for the others, as gymnasium has it."""
        infos: dict[str, Any] = {}
        for name, array in self.simulation.info().items():
            infos[name] = array if mask.all() else np.where(mask, array, np.zeros_like(array))
            infos[f"_{name}"] = mask.copy()
        return infos

    def _final(self, observations: Observation) -> dict[str, Any]:
        final = np.full(self.num_envs, None, dtype=object)
        for car in np.flatnonzero(self._ended):
            final[car] = observations[car].copy()
        return {
            "final_obs": final,
            "_final_obs": self._ended.copy(),
            "final_info": self._infos(self._ended),
            "_final_info": self._ended.copy(),
        }


def _autoreset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    try:
        return AutoresetMode(mode)
    except ValueError:
        choices = ", ".join(choice.value for choice in AutoresetMode)
        raise ValueError(f"unknown autoreset_mode {mode!r}: choose one of {choices}") from None
