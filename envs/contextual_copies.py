"""Vector environments in which every copy has a context of its own, of any environment with contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import ArrayLike

from orl.context import ContextSpace
from orl.envs.contextual import Contextual
from orl.envs.contextual_exposure import rows_of


class ContextSyncVectorEnv(SyncVectorEnv):
    """Gymnasium's copies in one process, each with a context that it keeps when its episode ends and it is reset.

    Args:
        env_fns: Make environments with contexts, wrapped or not; they expose the same variables.

    Raises:
        ValueError: an environment without contexts, or one that exposes others than the first.
    """

    def __init__(self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]]) -> None:
        super().__init__(env_fns, autoreset_mode=AutoresetMode.SAME_STEP)
        for environment in self.envs:
            if not isinstance(environment.unwrapped, Contextual):
                raise ValueError(f"{environment}: has no contexts")
            if environment.unwrapped.context_space != self.context_space:
                raise ValueError(f"copies expose {self.context_space} and {environment.unwrapped.context_space}")

    @property
    def context_space(self) -> ContextSpace:
        """The variables exposed."""
        space: ContextSpace = self.envs[0].get_wrapper_attr("context_space")
        return space

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode of every copy; `options` as of `ContextualVectorEnv.reset`.

        Raises:
            ValueError: another option, or contexts that are refused.
        """
        rows = rows_of(options)
        if rows is not None:
            exposure = self.envs[0].get_wrapper_attr("exposure")
            rows = self.context_space.rows(rows, allow_extrapolation=exposure.allow_extrapolation)
            if len(rows) != self.num_envs:
                raise ValueError(f"contexts have {len(rows)} rows for {self.num_envs} copies; give one row for each")
            for environment, row in zip(self.envs, rows, strict=True):
                environment.get_wrapper_attr("set_context")(row)
        return super().reset(seed=seed)  # type: ignore[arg-type]


def make_copies(environment_id: str, rows: ArrayLike, **keywords: Any) -> VectorEnv[Any, Any, Any]:
    """One copy for each context, computed with arrays where the environment has that form.

    Args:
        environment_id: of an environment with contexts.
        rows: (n, d) contexts, in the units of the variables that `contexts` names.
        keywords: for the environment, `contexts` among them.

    Returns:
        n copies that keep their contexts and are reset in the step in which their episode ends.

    Raises:
        ValueError: an environment without contexts, or contexts that are refused.
    """
    contexts = np.array(rows, np.float64)
    if contexts.ndim != 2:
        raise ValueError(f"contexts have shape {contexts.shape}; give one row for each copy")
    if gymnasium.spec(environment_id).vector_entry_point is not None:
        return gymnasium.make_vec(environment_id, num_envs=len(contexts), context=contexts, **keywords)
    return ContextSyncVectorEnv(
        [partial(gymnasium.make, environment_id, context=row, **keywords) for row in contexts.tolist()]
    )


def offered_contexts(environment_id: str) -> ContextSpace:
    """All variables of an environment, exposed or not.

    Raises:
        ValueError: an environment without contexts.
    """
    environment = gymnasium.make(environment_id)
    try:
        if not isinstance(environment.unwrapped, Contextual):
            raise ValueError(f"{environment_id}: has no contexts; those of orl are called orl/Context...")
        return environment.unwrapped.offered
    finally:
        environment.close()
