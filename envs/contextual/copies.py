"""Copies of an environment in one process, each with a context of its own, where there is no form with arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orl.context import ContextSpace
from orl.envs.contextual.base import Contextual
from orl.envs.contextual.exposure import Context, is_rows, reset_options


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
        rows, mask = reset_options(options, self.num_envs)
        if rows is not None:
            rows = self.envs[0].get_wrapper_attr("exposure").rows(rows, self.num_envs)
            for environment, row in zip(self.envs, rows, strict=True):
                environment.get_wrapper_attr("set_context")(row)
        return super().reset(seed=seed, options=None if mask.all() else {"reset_mask": mask})  # type: ignore[arg-type]


def make_copies(
    environment_id: str, num_envs: int = 1, *, context: Context = None, **keywords: Any
) -> ContextSyncVectorEnv:
    """What `gymnasium.make_vec` calls.

    Args:
        environment_id: of an environment with contexts.
        num_envs: E, >= 1.
        context: As of `Contextual`, for all copies; or (E, d), or E mappings, one for each.
        keywords: for the environment.

    Raises:
        ValueError: no copies, or contexts that are refused.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be >= 1, got {num_envs!r}")
    each: Any = context if is_rows(context) else [context] * num_envs
    if len(each) != num_envs:
        raise ValueError(f"contexts have {len(each)} rows for {num_envs} copies; give one row for each")
    return ContextSyncVectorEnv([partial(gymnasium.make, environment_id, context=one, **keywords) for one in each])


hopper = partial(make_copies, "orl/ContextHopper-v0")
half_cheetah = partial(make_copies, "orl/ContextHalfCheetah-v0")
walker2d = partial(make_copies, "orl/ContextWalker2d-v0")
ant = partial(make_copies, "orl/ContextAnt-v0")
racing = partial(make_copies, "orl/ContextRacing-v0")


def offered_contexts(environment_id: str) -> ContextSpace:
    """All variables of an environment, exposed or not.

    Raises:
        ValueError: an environment without contexts, or none at all.
    """
    try:
        environment = gymnasium.make(environment_id)
    except gymnasium.error.Error as error:
        raise ValueError(f"{environment_id}: {error}") from error
    try:
        if not isinstance(environment.unwrapped, Contextual):
            raise ValueError(f"{environment_id}: has no contexts; those of orl are called orl/Context...")
        return environment.unwrapped.offered
    finally:
        environment.close()
