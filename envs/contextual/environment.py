"""Give an environment a context: a few numbers of the task (masses, lengths, a target speed), see `orl.context`.

An environment *offers* some variables, *exposes* those that its user names, and leaves the others at their defaults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import ArrayLike

from orl.arrays import Array, Float64Array
from orl.context import ContextSpace
from orl.envs.checks import check_choice
from orl.envs.vector import Info

Contexts = Sequence[str] | Mapping[str, tuple[float, float]] | None
Context = Mapping[str, float] | ArrayLike | None  # or "sample"
Mode = Literal["hidden", "concat", "dict"]


@dataclass(frozen=True)
class Exposure:
    """The variables that an environment exposes, their ranges, and how observations carry them.

    Attributes:
        offered: All variables of the environment.
        space: Those exposed, in the user's order and over the user's ranges.
        mode: hidden: observations are the ordinary ones; concat: (observation, normalized context) in one Box; dict:
            {"observation": ..., "context": normalized}.
        allow_extrapolation: Whether contexts may lie outside their ranges.
    """

    offered: ContextSpace
    space: ContextSpace
    mode: Mode
    allow_extrapolation: bool

    @classmethod
    def of(cls, offered: ContextSpace, contexts: Contexts, mode: Mode, allow_extrapolation: bool) -> Exposure:
        """Check an environment's keywords.

        Raises:
            ValueError: an unknown name or mode, or a range that is refused.
        """
        check_choice("context_mode", mode, get_args(Mode))
        chosen = offered.names if contexts is None else contexts
        return cls(offered, offered.select(chosen, allow_extrapolation=allow_extrapolation), mode, allow_extrapolation)

    def observation_space(self, ordinary: Box) -> Space[Any]:
        """The same for all contexts: normalized ones lie in [-1, 1], unless they may extrapolate."""
        bound = np.inf if self.allow_extrapolation else 1.0
        contexts = Box(-bound, bound, (len(self.space.names),), ordinary.dtype.type)  # type: ignore[union-attr]
        if self.mode == "dict":
            return Dict({"observation": ordinary, "context": contexts})
        if self.mode == "concat":
            low, high = np.append(ordinary.low, contexts.low), np.append(ordinary.high, contexts.high)
            return Box(low, high, dtype=ordinary.dtype.type)  # type: ignore[union-attr]
        return ordinary

    def observe(self, observations: Array, contexts: Float64Array) -> Any:
        """Observations (..., O) together with contexts (..., d), as the mode says."""
        if self.mode == "hidden":
            return observations
        normalized = self.space.normalize(contexts).astype(observations.dtype)
        if self.mode == "dict":
            return {"observation": observations, "context": normalized}
        return np.concatenate([observations, normalized], axis=-1)

    def is_sampled(self, context: Context) -> bool:
        """Whether every reset draws a context.

        Raises:
            ValueError: another word than "sample".
        """
        if isinstance(context, str) and context != "sample":
            raise ValueError(f"context={context!r}: give a mapping, an array, 'sample', or None for the default")
        return isinstance(context, str)

    def array(self, context: Context) -> Float64Array:
        """One context (d,), checked; the default one for None and for "sample".

        Raises:
            ValueError: what `ContextSpace.array` refuses, or another word than "sample".
        """
        if self.is_sampled(context):
            return self.space.default
        chosen = self.space.default if context is None else context
        return self.space.array(chosen, allow_extrapolation=self.allow_extrapolation)

    def rows(self, contexts: Any, num_envs: int) -> Float64Array:
        """Contexts (num_envs, d), checked.

        Raises:
            ValueError: another number of rows, or what `ContextSpace.rows` refuses.
        """
        rows = self.space.rows(contexts, allow_extrapolation=self.allow_extrapolation)
        if len(rows) != num_envs:
            raise ValueError(f"contexts have {len(rows)} rows for {num_envs} copies; give one row for each")
        return rows

    def by_name(self, contexts: Float64Array) -> dict[str, Float64Array]:
        """Every variable offered, (...): from contexts (..., d), or the default where it is not exposed."""
        values = {variable.name: np.full(contexts.shape[:-1], variable.default) for variable in self.offered.variables}
        return values | {name: contexts[..., i] for i, name in enumerate(self.space.names)}

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse the state of an environment that exposes other variables."""
        if list(names) != list(self.space.names):
            raise ValueError(f"a state with contexts {list(names)}; the environment exposes {list(self.space.names)}")


class Contextual(gymnasium.Env[Any, Any], ABC):
    """Gives the environment that follows it in the order of base classes a context.

    A class puts this first, names the variables in `offered` (and in `exposed` those to begin with) and says in `apply`
    what they change. With its default context it is the other environment, bit for bit.

    Info of every reset and step has `context`: (d,) float64, in the variables' units.

    Args:
        contexts: Names of the variables to expose, or a mapping from names to (low, high); None: those of `exposed`.
        context: The context of every episode, a mapping or (d,); "sample" draws one in every reset; None: the default.
        context_mode: "hidden", "concat" or "dict", see `Exposure`.
        allow_extrapolation: Let contexts lie outside their ranges.
        keywords: for the environment itself.

    Attributes:
        context_space: The variables exposed.

    Raises:
        ValueError: an unknown or missing name, a value that is not finite or out of range, an unknown mode.
    """

    offered: ContextSpace
    exposed: tuple[str, ...] | None = None

    def __init__(
        self,
        *,
        contexts: Contexts = None,
        context: Context = None,
        context_mode: Mode = "hidden",
        allow_extrapolation: bool = False,
        **keywords: Any,
    ) -> None:
        for name in keywords.keys() & set(self.offered.names):
            raise ValueError(f"{name}={keywords[name]!r}: this is a context; give context={{{name!r}: ...}}")
        chosen = self.exposed if contexts is None else contexts
        self.exposure = Exposure.of(self.offered, chosen, context_mode, allow_extrapolation)
        self.context_space = self.exposure.space
        super().__init__(**keywords)
        self.observation_space = self.exposure.observation_space(self.observation_space)  # type: ignore[arg-type]
        self._is_fixed = context is not None and not isinstance(context, str)
        self.set_context(context)
        self._context = self._next_context.copy()

    @abstractmethod
    def apply(self, context: dict[str, float]) -> None:
        """Change the task: the value of every variable offered, by name."""

    def set_context(self, context: Context) -> None:
        """Choose the context of all episodes from the next reset on, as the constructor's `context` does.

        Raises:
            ValueError: as in the constructor.
        """
        self._next_context = self.exposure.array(context)
        self._is_sampled = self.exposure.is_sampled(context)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode.

        Args:
            seed: Seeds all randomness, sampled contexts too.
            options: `context`, a mapping or (d,): of this episode and all that follow, as of `set_context`. Others are
                the environment's own.

        Raises:
            ValueError: a context that is refused, or one for an environment that was made with a context of its own.
        """
        options = dict(options or {})
        if "contexts" in options:
            raise ValueError("option 'contexts' is for copies, see ContextSyncVectorEnv; one of them has a 'context'")
        if "context" in options:
            if self._is_fixed:
                mine = self.context_space.names, self._next_context.tolist()
                raise ValueError(f"this environment was made with a context of its own, {mine}; make it without")
            self.set_context(options.pop("context"))
        gymnasium.Env.reset(self, seed=seed)
        self._context = self.context_space.sample(self.np_random) if self._is_sampled else self._next_context.copy()
        self._apply_context()
        observation, info = super().reset(options=options)
        return self.exposure.observe(observation, self._context), info | {"context": self._context.copy()}

    def step(self, action: Array) -> tuple[Any, Any, bool, bool, Info]:
        """Act, as in the environment without a context."""
        observation, reward, terminated, truncated, info = super().step(action)
        observation = self.exposure.observe(observation, self._context)
        return observation, reward, terminated, truncated, info | {"context": self._context.copy()}

    def context_state(self) -> Info:
        """The context of the running episode, and that of the next one or whether it is drawn."""
        return {
            "names": list(self.context_space.names),
            "context": self._context.copy(),
            "next_context": self._next_context.copy(),
            "is_sampled": self._is_sampled,
        }

    def restore_context(self, state: Info) -> None:
        """Return to a `context_state`, in the middle of an episode.

        Raises:
            ValueError: a state of an environment that exposes other variables.
        """
        self.exposure.check_names(state["names"])
        self._context, self._next_context = state["context"].copy(), state["next_context"].copy()
        self._is_sampled = state["is_sampled"]
        self._apply_context()

    def _apply_context(self) -> None:
        self.apply({name: float(value) for name, value in self.exposure.by_name(self._context).items()})
