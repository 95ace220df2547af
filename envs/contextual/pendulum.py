"""The pendulum of Gymnasium with gravity, mass and length as its context, alone and as many copies at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.spaces import Box

from orl.arrays import Array, BoolArray, Float32Array, Float64Array
from orl.context import ContextSpace, ContextVariable
from orl.envs.contextual.environment import Contextual
from orl.envs.contextual.vector import ContextualVectorEnv

VARIABLES = ContextSpace(
    (
        ContextVariable("gravity", "m/s2", 1.0, 100.0, 10.0, "log"),
        ContextVariable("mass", "kg", 0.1, 10.0, 1.0, "log"),
        ContextVariable("length", "m", 0.1, 10.0, 1.0, "log"),
    )
)
_MAX_SPEED, _MAX_TORQUE, _TIMESTEP = 8.0, 2.0, 0.05  # rad/s, N m, s
_START = np.array([np.pi, 1.0])  # rad, rad/s: largest angle and speed of a start
_BOUNDS = np.array([1.0, 1.0, _MAX_SPEED], np.float32)


class ContextPendulum(Contextual, PendulumEnv):
    """`Pendulum-v1` with a context; the motor's 2 N m are the same for every pendulum."""

    offered = VARIABLES

    def __init__(self, **keywords: Any) -> None:
        if "g" in keywords:
            raise ValueError(f"g={keywords['g']!r}: this is a context; give context={{'gravity': ...}}")
        super().__init__(**keywords)

    def apply(self, context: dict[str, float]) -> None:
        """Set the numbers that `PendulumEnv.step` reads."""
        self.g, self.m, self.l = context["gravity"], context["mass"], context["length"]


class ContextPendulumVectorEnv(ContextualVectorEnv):
    """Many pendulums; copy i equals `ContextPendulum` with its seed and context, bit for bit."""

    offered = VARIABLES
    state_size = 2  # angle from upright (rad), angular velocity (rad/s)
    ordinary_observation_space = Box(-_BOUNDS, _BOUNDS)
    single_action_space = Box(-_MAX_TORQUE, _MAX_TORQUE, (1,), np.float32)

    def apply(self, context: dict[str, Float64Array]) -> None:
        """See the base class."""
        gravity, mass, length = context["gravity"], context["mass"], context["length"]
        self._fall = 3 * gravity / (2 * length)  # 1/s2
        self._push = 3.0 / (mass * _squares(length))  # 1/(kg m2)

    def draw(self, generator: np.random.Generator) -> Float64Array:
        """See the base class."""
        return generator.uniform(-_START, _START)

    def advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        """See the base class."""
        angle, speed = self.state
        torque = np.clip(actions[:, 0], -_MAX_TORQUE, _MAX_TORQUE)
        deviation = ((angle + np.pi) % (2 * np.pi)) - np.pi
        costs = _squares(deviation) + 0.1 * _squares(speed) + 0.001 * _squares(torque)
        push = self._push.astype(torque.dtype) * torque  # as `PendulumEnv` does, in the precision of the action
        speed = np.clip(speed + (self._fall * np.sin(angle) + push) * _TIMESTEP, -_MAX_SPEED, _MAX_SPEED)
        self.state = np.stack([angle + speed * _TIMESTEP, speed])
        return -costs, np.zeros(self.num_envs, np.bool_)

    def observe(self) -> Float32Array:
        """See the base class."""
        angle, speed = self.state
        return np.stack([np.cos(angle), np.sin(angle), speed], axis=1).astype(np.float32)


def _squares(values: Array) -> Array:
    """What `** 2` gives for single numbers, C's `pow`: of an array it is the product, in one case of 1,000 another."""
    if values.dtype == np.float64:
        return np.asarray(np.float_power(values, 2.0))
    return np.array([value**2 for value in values], values.dtype)
