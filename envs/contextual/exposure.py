"""Which variables of a context an environment exposes, in which ranges, and how its observations carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from gymnasium.spaces import Box, Dict, Space
from numpy.typing import ArrayLike, NDArray

from orl.context import ContextSpace, Floats, are_mappings
from orl.envs.resets import checked_mask

Contexts = Sequence[str] | Mapping[str, tuple[float, float]] | None
Context = Mapping[str, float] | ArrayLike | None  # or "sample"
Mode = Literal["hidden", "concat", "dict"]


@dataclass(frozen=True)
class Exposure:
    """Which variables an environment exposes, and how its observations carry them.

    Attributes:
        offered: all variables of the environment.
        space: those exposed, in the user's order and over the user's ranges.
        mode: hidden: observations are the ordinary ones; concat: (observation, normalized context) in one Box; dict:
            {"observation": ..., "context": normalized}.
        allow_extrapolation: whether contexts may lie outside their ranges.
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
        if mode not in get_args(Mode):
            raise ValueError(f"unknown context_mode {mode!r}: choose one of {', '.join(get_args(Mode))}")
        chosen = offered.names if contexts is None else contexts
        return cls(offered, offered.select(chosen, allow_extrapolation=allow_extrapolation), mode, allow_extrapolation)

    def observation_space(self, ordinary: Box) -> Space[Any]:
        """The same for all contexts: normalized ones lie in [-1, 1], unless they may extrapolate."""
        bound = np.inf if self.allow_extrapolation else 1.0
        contexts = Box(-bound, bound, (len(self.space.names),), ordinary.dtype.type)  # type: ignore[union-attr]
        if self.mode == "dict":
            return Dict({"observation": ordinary, "context": contexts})
        if self.mode == "concat":
            low, high = (
                np.concatenate(ends) for ends in ((ordinary.low, contexts.low), (ordinary.high, contexts.high))
            )
            return Box(low, high, dtype=ordinary.dtype.type)  # type: ignore[union-attr]
        return ordinary

    def observe(self, observations: NDArray[Any], contexts: Floats) -> Any:
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
            ValueError: another word.
        """
        if isinstance(context, str) and context != "sample":
            raise ValueError(f"context={context!r}: give a mapping, an array, 'sample', or None for the default")
        return isinstance(context, str)

    def array(self, context: Context) -> Floats:
        """One context (d,), checked; the default one where none is given."""
        if context is None or isinstance(context, str):
            return self.space.default if self.is_sampled(context) else self._checked(self.space.default)
        return self._checked(context)

    def _checked(self, context: Mapping[str, float] | ArrayLike) -> Floats:
        return self.space.array(context, allow_extrapolation=self.allow_extrapolation)

    def rows(self, contexts: Any, num_copies: int) -> Floats:
        """Contexts (num_copies, d), checked.

        Raises:
            ValueError: another number of rows, or what `ContextSpace.rows` refuses.
        """
        rows = self.space.rows(contexts, allow_extrapolation=self.allow_extrapolation)
        if len(rows) != num_copies:
            raise ValueError(f"contexts have {len(rows)} rows for {num_copies} copies; give one row for each")
        return rows

    def physics(self, contexts: Floats) -> dict[str, Any]:
        """Every variable offered, by name: (...) from contexts (..., d), and the defaults of those not exposed."""
        exposed = {name: contexts[..., i] for i, name in enumerate(self.space.names)}
        defaults = {
            variable.name: np.full(contexts.shape[:-1], variable.default) for variable in self.offered.variables
        }
        return defaults | exposed


def check_names(names: Sequence[str], space: ContextSpace) -> None:
    """Refuse the state of an environment that exposes other variables."""
    if list(names) != list(space.names):
        raise ValueError(f"a state with contexts {list(names)}; the environment exposes {list(space.names)}")


def is_rows(context: Context) -> bool:
    """Whether the constructor of a vector environment got (E, d) or E mappings, not one context for all copies."""
    return are_mappings(context) or (not isinstance(context, str | Mapping) and np.ndim(context) == 2)  # type: ignore[arg-type]


def reset_options(options: Mapping[str, Any] | None, num_copies: int) -> tuple[Any, NDArray[np.bool_]]:
    """Of a vector environment: the rows of `contexts`, or None, and which copies (E,) `reset_mask` has.

    Raises:
        ValueError: one context for all copies, another mask, or an option that there is not.
    """
    given = dict(options or {})
    rows, mask = given.pop("contexts", None), checked_mask(given.pop("reset_mask", None), num_copies)
    if "context" in given:
        raise ValueError(
            f"one context {given['context']!r} for all copies, which may differ; give 'contexts', one row for each copy"
        )
    if given:
        raise ValueError(f"unknown reset option {', '.join(map(repr, given))}; there are 'contexts' and 'reset_mask'")
    return rows, mask
