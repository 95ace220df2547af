"""Gymnasium's walking bodies with a context: factors on their physics, and a speed to keep.

A context is written as default times factor, from a copy of the model's numbers that was taken once; nothing is changed
in place, so that contexts do not compound.
"""

from __future__ import annotations

from typing import Any

import mujoco
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv
from gymnasium.utils import EzPickle

from orl.arrays import Float64Array
from orl.context import ContextSpace, ContextVariable
from orl.envs.contextual.environment import Contextual

FACTORS = ("gravity", "mass", "friction", "strength", "damping")


def _variables(fastest: float, default: float) -> ContextSpace:
    """The factors, and a target speed up to `fastest` m/s."""
    factors = (ContextVariable(name, "x", 0.25, 4.0, 1.0, "log") for name in FACTORS)
    return ContextSpace((*factors, ContextVariable("target_speed", "m/s", 0.5, fastest, default)))


def _scaled(model: mujoco.MjModel) -> list[tuple[str, Float64Array]]:
    """The numbers of a model that are multiplied, as views of it, and the factor of each."""
    return [
        ("gravity", model.opt.gravity),
        ("mass", model.body_mass),
        ("mass", model.body_inertia),
        ("friction", model.geom_friction[:, 0]),
        ("strength", model.actuator_gear[:, 0]),
        ("damping", model.dof_damping),
    ]


class ContextualMujoco(Contextual):
    """One of Gymnasium's MuJoCo v5 environments with a context.

    Factors are `gravity`, `mass` (with the inertia of every body), `friction` (sliding, of every geom, since a contact
    takes the larger of two), `strength` (gear of the actuators, not the bounds of actions) and `damping` (of joints).
    `target_speed` is exposed only where it is named: then the forward reward, the weight times the speed v, becomes the
    weight times (target - |v - target|): the same up to the target, and falling as steeply beyond it. This form is our
    choice.

    Raises:
        ValueError: what `Contextual` refuses.
    """

    exposed = FACTORS
    model: mujoco.MjModel

    def __init__(self, **keywords: Any) -> None:
        super().__init__(**keywords)
        EzPickle.__init__(self, **keywords)  # type: ignore[arg-type]
        self._ordinary = [numbers.copy() for _, numbers in _scaled(self.model)]

    def apply(self, context: dict[str, float]) -> None:
        """Write the model's numbers.

        Source: "mjModel changes" in MuJoCo's documentation of simulation: masses need `mj_setConst`, which computes on
        data of its own here, so that the episode's stay as they are.
        """
        for (factor, numbers), ordinary in zip(_scaled(self.model), self._ordinary, strict=True):
            numbers[:] = ordinary * context[factor]
        mujoco.mj_setConst(self.model, mujoco.MjData(self.model))
        self.target_speed = context["target_speed"]

    def _get_rew(self, x_velocity: float, action: Any) -> tuple[float, dict[str, float]]:
        if "target_speed" in self.context_space.names:
            x_velocity = self.target_speed - abs(x_velocity - self.target_speed)
        rewards: tuple[float, dict[str, float]] = super()._get_rew(x_velocity, action)  # type: ignore[misc]
        return rewards


class ContextHopper(ContextualMujoco, HopperEnv):
    """`Hopper-v5` with a context."""

    offered = _variables(fastest=3.0, default=1.0)


class ContextHalfCheetah(ContextualMujoco, HalfCheetahEnv):
    """`HalfCheetah-v5` with a context."""

    offered = _variables(fastest=10.0, default=3.0)


class ContextWalker2d(ContextualMujoco, Walker2dEnv):
    """`Walker2d-v5` with a context."""

    offered = _variables(fastest=5.0, default=2.0)


class ContextAnt(ContextualMujoco, AntEnv):
    """`Ant-v5` with a context; its speed is that along x."""

    offered = _variables(fastest=5.0, default=2.0)
