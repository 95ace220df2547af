"""Our racing with a context: grip, mass, and which procedural circuit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from orl.context import ContextSpace, ContextVariable
from orl.envs.contextual.environment import Contextual
from orl.envs.racing import PROCEDURAL_SPLIT, RacingEnv
from orl.envs.vector import Info

_SEEDS = PROCEDURAL_SPLIT["train"]
VARIABLES = ContextSpace(
    (
        ContextVariable("grip", "x", 0.5, 2.0, 1.0, "log"),
        ContextVariable("mass", "x", 0.5, 2.0, 1.0, "log"),
        ContextVariable("track_seed", "", _SEEDS[0], _SEEDS[-1], _SEEDS[0], "integer"),
    )
)


class ContextRacing(Contextual, RacingEnv):
    """`orl/RacingProcedural-v0`, on one circuit, with a context; on another `track`, there is no `track_seed`.

    Args:
        track: As of `RacingEnv`.
        keywords: Those of `Contextual` and of `RacingEnv`.

    Raises:
        ValueError: what these two refuse.
    """

    offered = VARIABLES

    def __init__(self, *, track: str = "procedural", **keywords: Any) -> None:
        if track != "procedural":
            self.offered = VARIABLES.select(("grip", "mass"))
        super().__init__(track=track, **keywords)

    def apply(self, context: dict[str, float]) -> None:
        """Change the settings of the race."""
        seed = int(context["track_seed"]) if "track_seed" in context else None
        grip, mass = np.array([context["grip"]]), np.array([context["mass"]])
        self.simulation.settings = replace(self.simulation.settings, grip=grip, mass=mass, track_seed=(seed,))

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Any, Info]:
        """Begin an episode, see both base classes.

        Raises:
            ValueError: what these refuse; `track` and `track_seed` among the options.
        """
        for name in ("track", "track_seed"):
            if name in (options or {}):
                raise ValueError(f"reset option {name!r}: the circuit is the context's; give {{'context': ...}}")
        return super().reset(seed=seed, options=options)

    def get_state(self) -> Info:
        """Copy the whole state, generator and context included, for an exact return with `set_state`."""
        return super().get_state() | {"context": self.context_state()}

    def set_state(self, state: Info) -> None:
        """Return to a state of `get_state`; one of a `RacingEnv` leaves the context as it is.

        Raises:
            ValueError: not such a state, or one of an environment that exposes other variables.
        """
        if "context" in state:
            self.restore_context(state["context"])
        super().set_state(state)
