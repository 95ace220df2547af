"""Environments by id, with one-line errors, and the vector environments that learners act in."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from orl.spelling import remedy

Environment = str | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]


def make(environment_id: str, **keywords: Any) -> gymnasium.Env[Any, Any]:
    """`gymnasium.make` with one-line errors.

    Raises:
        ValueError: an id that is not registered (for one of ours it names the import that registers it), or whose
            environment needs what is not installed.
    """
    try:
        return gymnasium.make(environment_id, **keywords)
    except gymnasium.error.UnregisteredEnv as error:
        raise _unknown_environment(environment_id) from error
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"{environment_id}: cannot be made: {error}") from error


def make_vector(environment_id: str, num_envs: int, **keywords: Any) -> VectorEnv[Any, Any, Any]:
    """`gymnasium.make_vec`: the environment's own vector form where it has one, else copies in this process.

    Raises:
        ValueError: an id that is not registered.
    """
    try:
        return gymnasium.make_vec(environment_id, num_envs=num_envs, **keywords)
    except gymnasium.error.UnregisteredEnv as error:
        raise _unknown_environment(environment_id) from error


def vector_environment(environment: Environment, population: int) -> VectorEnv[Any, Any, Any]:
    """What P learners act in: copies of an id, one environment, or a vector environment as it is.

    Raises:
        ValueError: one environment for several learners, a number of copies that does not divide among them, another
            autoreset mode, or an unknown id.
    """
    if isinstance(environment, str):
        same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
        return make_vector(environment, population, vectorization_mode="sync", vector_kwargs=same_step)
    check_copies(environment, population)
    if isinstance(environment, gymnasium.Env):
        return SyncVectorEnv([lambda: environment], autoreset_mode=AutoresetMode.SAME_STEP)
    mode = environment.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        raise ValueError(
            f"the vector environment resets in mode {getattr(mode, 'value', mode)}; give gymnasium.make_vec "
            'vector_kwargs={"autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}'
        )
    return environment


def check_copies(environment: Environment, population: int) -> None:
    """Refuse one environment for several learners, and copies that cannot be shared out evenly."""
    if isinstance(environment, gymnasium.Env) and population > 1:
        raise ValueError(
            f"one environment for {population} seeds; give an id, or a vector environment with n times "
            f"{population} copies"
        )
    if isinstance(environment, VectorEnv) and environment.num_envs % population:
        raise ValueError(
            f"{environment.num_envs} copies of the environment cannot be shared by {population} seeds; "
            f"give a multiple of {population}"
        )


def _unknown_environment(environment_id: str) -> ValueError:
    """The error for an environment id that Gymnasium does not know."""
    otherwise = "see gymnasium.pprint_registry()"
    if environment_id.startswith("orl/"):
        otherwise = "`import orl.envs` registers the environments of orl"
    hint = remedy(environment_id, gymnasium.registry, otherwise, alike=0.8)
    return ValueError(f"{environment_id}: no such environment; {hint}")
