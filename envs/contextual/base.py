"""What the environments with contexts have in common.

A context is a few numbers of the task (masses, lengths, a target speed): `orl.context`. An environment *offers* some
variables, *exposes* those that its user names, and leaves the others at their defaults.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium

from orl.context import ContextSpace
from orl.envs.contextual.exposure import Context, Contexts, Exposure, Mode, check_names


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
        super().__init__(**keywords)
        self.observation_space = self.exposure.observation_space(self.observation_space)  # type: ignore[arg-type]
        self._is_fixed = context is not None and not isinstance(context, str)
        self.set_context(context)
        self._context = self._next_context.copy()

    @property
    def context_space(self) -> ContextSpace:
        """The variables exposed."""
        return self.exposure.space

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

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
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
            raise ValueError(
                "option 'contexts' is for copies, see orl.envs.contextual.copies; one of them has a 'context'"
            )
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

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Act; see the class and the environment that it stands before."""
        observation, reward, terminated, truncated, info = super().step(action)
        observation = self.exposure.observe(observation, self._context)
        return observation, reward, terminated, truncated, info | {"context": self._context.copy()}

    def context_state(self) -> dict[str, Any]:
        """The context of the running episode and how the next one comes by its own."""
        return {
            "names": list(self.context_space.names),
            "context": self._context.copy(),
            "next_context": self._next_context.copy(),
            "is_sampled": self._is_sampled,
        }

    def restore_context(self, state: dict[str, Any]) -> None:
        """Return to a `context_state`, in the middle of an episode.

        Raises:
            ValueError: a state of an environment that exposes other variables.
        """
        check_names(state["names"], self.context_space)
        self._context, self._next_context = state["context"].copy(), state["next_context"].copy()
        self._is_sampled = state["is_sampled"]
        self._apply_context()

    def _apply_context(self) -> None:
        self.apply({name: float(value) for name, value in self.exposure.physics(self._context).items()})
