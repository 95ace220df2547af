"""The cart-pole of Gymnasium with a context, pushed by any force or by one of two, alone and as many copies at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.spaces import Box, Discrete

from orl.arrays import Array, BoolArray, Float32Array, Float64Array
from orl.context import ContextSpace, ContextVariable
from orl.envs.contextual.environment import Contextual
from orl.envs.contextual.vector import ContextualVectorEnv
from orl.envs.vector import Info

VARIABLES = ContextSpace(
    (
        ContextVariable("gravity", "m/s2", 0.98, 98.0, 9.8, "log"),
        ContextVariable("mass", "kg", 0.1, 10.0, 1.0, "log"),
        ContextVariable("pole_mass", "kg", 0.01, 1.0, 0.1, "log"),
        ContextVariable("length", "m", 0.1, 10.0, 1.0, "log"),
        ContextVariable("strength", "x", 0.1, 10.0, 1.0, "log"),
    )
)
Numbers = float | Float64Array  # of one cart-pole, or (E,) of many

_FORCE, _TIMESTEP = 10.0, 0.02  # N, s
_POSITION_LIMIT, _ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360  # m, rad
_START = 0.05  # m, m/s, rad, rad/s: largest values of a start
_BOUNDS = np.array([_POSITION_LIMIT * 2, np.inf, _ANGLE_LIMIT * 2, np.inf], np.float32)


class CartPole(CartPoleEnv):
    """`CartPole-v1` with a continuous action, (1,) in [-10, 10] N; beyond, it is clipped."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self.action_space = Box(-_FORCE, _FORCE, (1,), np.float32)  # type: ignore[assignment]

    def step(self, action: Array) -> tuple[Float32Array, float, bool, bool, Info]:  # type: ignore[override]
        """Push for 0.02 s; every step is worth 1."""
        if self.state is None:
            raise ValueError("step() was called before reset(): call reset() first")
        force = self.force_mag * (float(np.clip(action[0], -_FORCE, _FORCE)) / _FORCE)
        self.state = push(self.state, force, self.gravity, self.masscart, self.masspole, self.length)
        if self.render_mode == "human":
            self.render()  # type: ignore[no-untyped-call]
        return self.state.astype(np.float32), 1.0, bool(has_failed(self.state)), False, {}


class _CartPoleContexts(Contextual):
    offered = VARIABLES

    def apply(self: Any, context: dict[str, float]) -> None:
        """Set the numbers that a step reads, and the sums and products that Gymnasium computes only once."""
        self.gravity, self.masscart, self.masspole = context["gravity"], context["mass"], context["pole_mass"]
        self.length = context["length"] / 2.0  # of half the pole
        self.total_mass, self.polemass_length = self.masspole + self.masscart, self.masspole * self.length
        self.force_mag = _FORCE * context["strength"]


class ContextCartPole(_CartPoleContexts, CartPole):
    """`CartPole` with a context."""


class ContextCartPoleDiscrete(_CartPoleContexts, CartPoleEnv):
    """`CartPole-v1`, pushed to the left (0) or to the right (1), with a context."""


class ContextCartPoleVectorEnv(ContextualVectorEnv):
    """Many cart-poles; copy i equals `ContextCartPole` with its seed and context, bit for bit."""

    offered = VARIABLES
    state_size = 4  # position (m), velocity (m/s), angle from upright (rad), angular velocity (rad/s)
    ordinary_observation_space = Box(-_BOUNDS, _BOUNDS)
    single_action_space = Box(-_FORCE, _FORCE, (1,), np.float32)

    def apply(self, context: dict[str, Float64Array]) -> None:
        """See the base class."""
        self._body = (context["gravity"], context["mass"], context["pole_mass"], context["length"] / 2.0)
        self._force = _FORCE * context["strength"]

    def draw(self, generator: np.random.Generator) -> Float64Array:
        """See the base class."""
        return generator.uniform(-_START, _START, 4)

    def fractions(self, actions: Array) -> Float64Array:
        """Actions as fractions in [-1, 1] of the largest force, (E,)."""
        return np.asarray(np.clip(actions[:, 0], -_FORCE, _FORCE).astype(np.float64) / _FORCE)

    def advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        """See the base class."""
        self.state = push(self.state, self._force * self.fractions(actions), *self._body)
        return np.ones(self.num_envs), has_failed(self.state)

    def observe(self) -> Float32Array:
        """See the base class."""
        return np.ascontiguousarray(self.state.T, np.float32)


class ContextCartPoleDiscreteVectorEnv(ContextCartPoleVectorEnv):
    """Many cart-poles; copy i equals `ContextCartPoleDiscrete` with its seed and context, bit for bit."""

    single_action_space = Discrete(2)  # type: ignore[assignment]

    def fractions(self, actions: Array) -> Float64Array:
        """The largest force to the left (-1) or to the right (1), (E,).

        Raises:
            ValueError: an action that is neither 0 nor 1.
        """
        if not np.isin(actions, (0, 1)).all():
            raise ValueError(f"actions must be 0 (left) or 1 (right), got {actions.tolist()[:8]}")
        return np.where(actions == 1, 1.0, -1.0)


def push(
    state: Float64Array, force: Numbers, gravity: Numbers, mass: Numbers, pole_mass: Numbers, length: Numbers
) -> Float64Array:
    """Move cart-poles by one step of 0.02 s (Euler).

    Args:
        state: (4,) or (4, E): position (m), velocity (m/s), angle (rad), angular velocity (rad/s).
        force: on the cart, N; a number or (E,), as the others.
        gravity: m/s2.
        mass, pole_mass: of the cart and of the pole, kg.
        length: of half the pole, m.

    Returns:
        The next state.

    Source: Barto, Sutton & Anderson 1983 without friction, as in Gymnasium's CartPole-v1, operation by operation.
    """
    _, velocity, angle, angular_velocity = state
    total_mass, moment = pole_mass + mass, pole_mass * length
    cosine, sine = np.cos(angle), np.sin(angle)
    thrust = (force + moment * np.square(angular_velocity) * sine) / total_mass
    angular_acceleration = (gravity * sine - cosine * thrust) / (
        length * (4.0 / 3.0 - pole_mass * np.square(cosine) / total_mass)
    )
    acceleration = thrust - moment * angular_acceleration * cosine / total_mass
    return state + _TIMESTEP * np.stack([velocity, acceleration, angular_velocity, angular_acceleration])


def has_failed(state: Float64Array) -> BoolArray:
    """Whether the cart left its track or the pole fell, of states (4,) or (4, E)."""
    return np.asarray((np.abs(state[0]) > _POSITION_LIMIT) | (np.abs(state[2]) > _ANGLE_LIMIT))
