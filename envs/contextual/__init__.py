"""Environments whose physics is a context: pendulum, cart-pole, MuJoCo's walkers and racing."""

from importlib import import_module
from typing import TYPE_CHECKING

from orl.envs.contextual.cart_pole import (
    CartPole,
    ContextCartPole,
    ContextCartPoleDiscrete,
    ContextCartPoleDiscreteVectorEnv,
    ContextCartPoleVectorEnv,
)
from orl.envs.contextual.environment import Contextual
from orl.envs.contextual.pendulum import ContextPendulum, ContextPendulumVectorEnv
from orl.envs.contextual.racing import ContextRacing
from orl.envs.contextual.vector import (
    ContextAntVectorEnv,
    ContextHalfCheetahVectorEnv,
    ContextHopperVectorEnv,
    ContextRacingVectorEnv,
    ContextSyncVectorEnv,
    ContextualVectorEnv,
    ContextWalker2dVectorEnv,
    offered_contexts,
)

if TYPE_CHECKING:
    from orl.envs.contextual.mujoco import ContextAnt, ContextHalfCheetah, ContextHopper, ContextWalker2d

__all__ = [
    "CartPole",
    "ContextAnt",
    "ContextAntVectorEnv",
    "ContextCartPole",
    "ContextCartPoleDiscrete",
    "ContextCartPoleDiscreteVectorEnv",
    "ContextCartPoleVectorEnv",
    "ContextHalfCheetah",
    "ContextHalfCheetahVectorEnv",
    "ContextHopper",
    "ContextHopperVectorEnv",
    "ContextPendulum",
    "ContextPendulumVectorEnv",
    "ContextRacing",
    "ContextRacingVectorEnv",
    "ContextSyncVectorEnv",
    "ContextWalker2d",
    "ContextWalker2dVectorEnv",
    "Contextual",
    "ContextualVectorEnv",
    "offered_contexts",
]


def __getattr__(name: str) -> object:
    """Import MuJoCo only for the environments that need it."""
    if name in __all__:
        return getattr(import_module("orl.envs.contextual.mujoco"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
