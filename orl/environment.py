"""Environments: by id, by factory or as objects; their spaces, and the vector forms that learners act in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Space
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from orl.arrays import Float32Array
from orl.dataset import Dataset
from orl.spelling import did_you_mean

SingleEnvironment = gymnasium.Env[Any, Any]
VectorEnvironment = VectorEnv[Any, Any, Any]
Environment = str | SingleEnvironment | VectorEnvironment


class RecordedId(str):
    """An environment id that was read from data as `module:Id`, without the module: Gymnasium would import it."""

    def __new__(cls, name: str) -> RecordedId:
        """Of the name as it was read."""
        self = super().__new__(cls, name.rpartition(":")[2])
        self.read = name
        return self

    read: str  # `module:Id`


def recorded_id(name: str | None) -> str | None:
    """An environment id that a file names, so that making it imports nothing; one that the user typed may."""
    return RecordedId(name) if isinstance(name, str) and ":" in name else name


def describe(environment: Environment | None) -> str | None:
    """What an environment is called, the same in every process, for as many copies as may be."""
    if isinstance(environment, VectorEnv):
        spec = spec_of(environment)
        return type(environment).__name__ if spec is None else spec.id
    return None if environment is None else str(environment)


def make(environment_id: str, **keywords: Any) -> SingleEnvironment:
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


def make_vector(environment_id: str, num_envs: int, **keywords: Any) -> VectorEnvironment:
    """`gymnasium.make_vec`: the environment's own vector form where it has one, else copies in this process.

    Raises:
        ValueError: an id that is not registered.
    """
    try:
        return gymnasium.make_vec(environment_id, num_envs=num_envs, **keywords)
    except gymnasium.error.UnregisteredEnv as error:
        raise _unknown_environment(environment_id) from error


def vector_environment(environment: Environment, population: int) -> VectorEnvironment:
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


def spec_of(environment: SingleEnvironment | VectorEnvironment) -> EnvSpec | None:
    """What an environment is registered as; its first copy, where a vector environment was made by hand."""
    return environment.spec or getattr(next(iter(getattr(environment, "envs", ())), None), "spec", None)


def _unknown_environment(environment_id: str) -> ValueError:
    """The error for an environment id that Gymnasium does not know."""
    if isinstance(environment_id, RecordedId):
        module, read = environment_id.read.rpartition(":")[0], environment_id.read
        return ValueError(
            f"{read}: read from a file, and orl imports no module that a file names; import {module} yourself, which "
            f"registers {environment_id}, or give --env {read} on the command line"
        )
    otherwise = "see gymnasium.pprint_registry()"
    if environment_id.startswith("orl/") and "orl/Racing-v0" not in gymnasium.registry:
        otherwise = "`import orl.envs` registers the environments of orl"
    hint = did_you_mean(environment_id, gymnasium.registry, otherwise, alike=0.8)
    return ValueError(f"{environment_id}: no such environment; {hint}")


if TYPE_CHECKING:
    from typing_extensions import TypeIs

Source = Environment | Dataset | Sequence[Dataset]


def is_recorded(source: Source) -> TypeIs[Dataset | Sequence[Dataset]]:
    """Whether a source is recorded data, not an environment."""
    return isinstance(source, Dataset) or (isinstance(source, Sequence) and not isinstance(source, str))


@dataclass(frozen=True, eq=False)
class Spaces:
    """Sizes and bounds at the boundary between an agent and the world."""

    observation_size: int
    action_low: Float32Array  # (A,), the environment's own unit
    action_high: Float32Array  # (A,), the environment's own unit
    environment_id: str | None

    @property
    def action_size(self) -> int:
        """Number of action dimensions, A."""
        return len(self.action_low)

    @classmethod
    def of(cls, source: Source) -> Spaces:
        """Read the spaces of an environment id, an environment, a vector environment or recorded data.

        Raises:
            ValueError: discrete or unbounded actions, observations that are not one flat vector, an unknown id.
        """
        if isinstance(source, str):
            environment = make(source)
            try:
                return cls.of(environment)
            finally:
                environment.close()
        if isinstance(source, Dataset):
            return cls(source.observation_size, source.action_low, source.action_high, source.environment_id)
        if isinstance(source, Sequence) and source and all(isinstance(data, Dataset) for data in source):
            return cls.of(source[0])
        observations: Space[Any]
        actions: Space[Any]
        if isinstance(source, gymnasium.Env):
            observations, actions = source.observation_space, source.action_space
        elif isinstance(source, VectorEnv):
            observations, actions = source.single_observation_space, source.single_action_space
        else:
            raise ValueError(f"{source!r}: give an environment id, an environment, a dataset or a list of datasets")
        spec = spec_of(source)
        name = spec.id if spec is not None else None
        if not isinstance(actions, Box) or len(actions.shape) != 1 or actions.dtype.kind != "f":
            raise ValueError(f"{name}: actions are {actions}; agents here act in a one-dimensional Box of floats")
        if not (np.isfinite(actions.low).all() and np.isfinite(actions.high).all()):
            raise ValueError(
                f"{name}: actions are unbounded; give them bounds, as "
                "gymnasium.wrappers.TransformAction(environment, lambda action: action, Box(-1, 1, shape)) does"
            )
        if not isinstance(observations, Box) or len(observations.shape) != 1:
            raise ValueError(f"{name}: observations are {observations}; wrap it in FlattenObservation first")
        low, high = actions.low.astype(np.float32), actions.high.astype(np.float32)
        return cls(observations.shape[0], low, high, name)

    def check(self, other: Spaces, name: str) -> None:
        """Refuse data or an environment whose sizes or action bounds differ from these."""
        ours, theirs = (self.observation_size, self.action_size), (other.observation_size, other.action_size)
        if ours != theirs:
            raise ValueError(f"{name}: (observation, action) sizes are {theirs}, the agent has {ours}")
        if not (np.allclose(self.action_low, other.action_low) and np.allclose(self.action_high, other.action_high)):
            raise ValueError(
                f"{name}: actions lie in [{other.action_low.tolist()}, {other.action_high.tolist()}], "
                f"the agent's in [{self.action_low.tolist()}, {self.action_high.tolist()}]"
            )

    def to_environment(self, actions: Float32Array) -> Float32Array:
        """Actions (..., A) from [-1, 1] to the environment's unit, never beyond its bounds."""
        low, high = self.action_low, self.action_high
        scaled = actions * ((high - low) / 2) + (high + low) / 2
        return np.asarray(np.maximum(np.minimum(scaled, high), low), np.float32)  # np.clip takes twice as long

    def to_json(self) -> dict[str, Any]:
        """For a checkpoint's manifest."""
        return {
            "observation_size": self.observation_size,
            "action_low": self.action_low.tolist(),
            "action_high": self.action_high.tolist(),
            "environment_id": self.environment_id,
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Spaces:
        """The inverse of `to_json`."""
        low, high = (np.asarray(fields[key], np.float32) for key in ("action_low", "action_high"))
        return cls(fields["observation_size"], low, high, recorded_id(fields["environment_id"]))
