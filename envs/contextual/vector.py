"""Many environments in one process, each with a context of its own: computed with arrays, or as Gymnasium's copies.

Shape key: E copies, d context variables, O observation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orl.arrays import Array, BoolArray, Float32Array, Float64Array, IntArray
from orl.context import ContextSpace, are_mappings
from orl.environment import SingleEnvironment, make
from orl.envs.checks import require
from orl.envs.contextual.environment import Context, Contexts, Contextual, Exposure, Mode
from orl.envs.vector import ArrayVectorEnv, Info, Seeds, check_reset_mask


class ContextualVectorEnv(ArrayVectorEnv):
    """E copies of a small environment, computed with arrays; every copy has the same context in all its episodes.

    Copy i equals a single environment with its seed and its context, bit for bit. Info has `context` (E, d) float64.
    With autoreset in the same step, `final_info["context"]` is that of the episodes that ended.

    Args:
        num_envs, max_episode_steps, autoreset_mode, render_mode: As of `ArrayVectorEnv`; none of these draws.
        context: As of `Contextual`; also (E, d) or E mappings, one for each copy.
        contexts, context_mode, allow_extrapolation: As of `Contextual`.

    Attributes:
        context_space: The variables exposed.

    Raises:
        ValueError: what the two refuse.
    """

    offered: ContextSpace
    state_size: int
    ordinary_observation_space: Box
    state: Float64Array  # (state_size, E)

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        contexts: Contexts = None,
        context: Context = None,
        context_mode: Mode = "hidden",
        allow_extrapolation: bool = False,
    ) -> None:
        self.exposure = Exposure.of(self.offered, contexts, context_mode, allow_extrapolation)
        self.context_space = self.exposure.space
        observations = self.exposure.observation_space(self.ordinary_observation_space)
        actions = self.single_action_space
        super().__init__(num_envs, observations, actions, max_episode_steps, autoreset_mode, render_mode)
        self.state, self._steps = np.zeros((self.state_size, self.num_envs)), np.zeros(self.num_envs, np.int64)
        self._is_sampled = self.exposure.is_sampled(context)
        given = self.exposure.rows(context, num_envs) if _is_per_copy(context) else self.exposure.array(context)
        self._next_contexts = np.broadcast_to(given, (self.num_envs, given.shape[-1])).copy()
        self._contexts = self._next_contexts.copy()

    @abstractmethod
    def apply(self, context: dict[str, Float64Array]) -> None:
        """Change the tasks: the values (E,) of every variable offered, by name."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> Float64Array:
        """A starting state, (state_size,)."""

    @abstractmethod
    def advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        """Replace `state` by what follows it; rewards (E,) and terminated (E,)."""

    @abstractmethod
    def observe(self) -> Float32Array:
        """Ordinary observations of `state`, (E, O), new ones at every call."""

    def reset(self, *, seed: Seeds = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode of every copy, or of those in `options["reset_mask"]` (E,) bool.

        Args:
            seed: Copy i is seeded with seed + i; a sequence gives every copy its own.
            options: `contexts` (E, d): row i is copy i's context in its next episode and all that follow.

        Raises:
            ValueError: another option, contexts that are refused, or seeds that are not one per copy.
        """
        rows, mask = _reset_options(options, self.num_envs)
        if rows is not None:
            self._next_contexts, self._is_sampled = self.exposure.rows(rows, self.num_envs), False
        return self._begin(seed, mask, {})

    def get_state(self) -> Info:
        """See the base class; contexts are part of the state."""
        return super().get_state() | {
            "names": list(self.context_space.names),
            "arrays": {name: getattr(self, name).copy() for name in self._ARRAYS},
            "is_sampled": self._is_sampled,
        }

    def set_state(self, state: Info) -> None:
        """See the base class.

        Raises:
            ValueError: a state of another number of copies, or of an environment that exposes other variables.
        """
        self.exposure.check_names(state["names"])
        if state["arrays"]["state"].shape != self.state.shape:
            raise ValueError(f"a state of {len(state['generators'])} copies; the environment has {self.num_envs}")
        super().set_state(state)
        for name in self._ARRAYS:
            setattr(self, name, state["arrays"][name].copy())
        self._is_sampled = state["is_sampled"]
        self.apply(self.exposure.by_name(self._contexts))

    _ARRAYS = ("state", "_steps", "_contexts", "_next_contexts")

    def _restart(self, copies: IntArray, options: Info) -> None:
        for i in copies.tolist():
            if self._is_sampled:
                self._contexts[i] = self.context_space.sample(self._generators[i])
            self.state[:, i] = self.draw(self._generators[i])
        if not self._is_sampled:
            self._contexts[copies] = self._next_contexts[copies]
        self._steps[copies] = 0
        self.apply(self.exposure.by_name(self._contexts))

    def _advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        if actions.shape != self.action_space.shape:
            raise ValueError(f"actions must have shape {self.action_space.shape}, got {actions.shape}")
        rewards, terminated = self.advance(actions)
        self._steps += 1
        return rewards, terminated

    def _elapsed_steps(self) -> IntArray:
        return self._steps

    def _observe(self) -> Any:
        return self.exposure.observe(self.observe(), self._contexts)

    def _info(self) -> dict[str, Array]:
        return {"context": self._contexts.copy()}


class ContextSyncVectorEnv(SyncVectorEnv):
    """Gymnasium's copies in one process; every copy has the same context in all its episodes.

    Args:
        env_fns: Make environments with contexts, wrapped or not; they expose the same variables.
        autoreset_mode: As of `gymnasium.vector.SyncVectorEnv`.

    Attributes:
        context_space: The variables exposed.

    Raises:
        ValueError: an environment without contexts, or one that exposes others than the first.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], SingleEnvironment]],
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    ) -> None:
        super().__init__(env_fns, autoreset_mode=autoreset_mode)
        spaces: list[ContextSpace] = []
        for environment in self.envs:
            if not isinstance(environment.unwrapped, Contextual):
                raise ValueError(f"{environment}: has no contexts")
            spaces.append(environment.unwrapped.context_space)
            if spaces[-1] != spaces[0]:
                raise ValueError(f"copies expose {spaces[0]} and {spaces[-1]}")
        self.context_space = spaces[0]

    def reset(self, *, seed: Seeds = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode of every copy; `options` as of `ContextualVectorEnv.reset`.

        Raises:
            ValueError: another option, or contexts that are refused.
        """
        rows, mask = _reset_options(options, self.num_envs)
        if rows is not None:
            rows = self.envs[0].get_wrapper_attr("exposure").rows(rows, self.num_envs)
            for environment, row in zip(self.envs, rows, strict=True):
                environment.get_wrapper_attr("set_context")(row)
        return super().reset(seed=seed, options=None if mask.all() else {"reset_mask": mask})  # type: ignore[arg-type]


def make_copies(
    environment_id: str,
    num_envs: int = 1,
    *,
    context: Context = None,
    autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
    **keywords: Any,
) -> ContextSyncVectorEnv:
    """Make copies of an environment that has no form with arrays; `gymnasium.make_vec` calls this.

    Args:
        environment_id: of an environment with contexts.
        num_envs: E, >= 1.
        context: As of `Contextual`, for all copies; or (E, d), or E mappings, one for each.
        autoreset_mode: As of `gymnasium.vector.SyncVectorEnv`.
        keywords: for the environment.

    Raises:
        ValueError: no copies, or contexts that are refused.
    """
    require(num_envs >= 1, "num_envs", ">= 1", num_envs)
    contexts: Any = context if _is_per_copy(context) else [context] * num_envs
    if len(contexts) != num_envs:
        raise ValueError(f"contexts have {len(contexts)} rows for {num_envs} copies; give one row for each")
    make_one = partial(gymnasium.make, environment_id, **keywords)
    return ContextSyncVectorEnv([partial(make_one, context=one) for one in contexts], autoreset_mode)


ContextHopperVectorEnv = partial(make_copies, "orl/ContextHopper-v0")
ContextHalfCheetahVectorEnv = partial(make_copies, "orl/ContextHalfCheetah-v0")
ContextWalker2dVectorEnv = partial(make_copies, "orl/ContextWalker2d-v0")
ContextAntVectorEnv = partial(make_copies, "orl/ContextAnt-v0")
ContextRacingVectorEnv = partial(make_copies, "orl/ContextRacing-v0")


def offered_contexts(environment_id: str) -> ContextSpace:
    """All variables of an environment, exposed or not.

    Raises:
        ValueError: an environment without contexts, or no environment of this id.
    """
    with closing(make(environment_id)) as environment:
        if not isinstance(environment.unwrapped, Contextual):
            raise ValueError(f"{environment_id}: has no contexts; those of orl are called orl/Context...")
        return environment.unwrapped.offered


def _is_per_copy(context: Context) -> bool:
    """Whether there is a context for every copy, (E, d) or E mappings, not one for all."""
    return are_mappings(context) or (not isinstance(context, str | Mapping) and np.ndim(context) == 2)  # type: ignore[arg-type]


def _reset_options(options: Info | None, num_envs: int) -> tuple[Any, BoolArray]:
    """The rows of the option `contexts`, or None, and the copies (E,) of the option `reset_mask`.

    Raises:
        ValueError: one context for all copies, another mask, or an unknown option.
    """
    given = dict(options or {})
    rows, mask = given.pop("contexts", None), check_reset_mask(given.pop("reset_mask", None), num_envs)
    if "context" in given:
        raise ValueError(
            f"one context {given['context']!r} for all copies, which may differ; give 'contexts', one row for each copy"
        )
    if given:
        raise ValueError(f"unknown reset option {', '.join(map(repr, given))}; there are 'contexts' and 'reset_mask'")
    return rows, mask
