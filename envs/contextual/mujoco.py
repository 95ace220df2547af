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

from orl.context import ContextSpace, ContextVariable
from orl.envs.contextual.environment import Contextual

FACTORS = ("gravity", "mass", "friction", "strength", "damping")


def _variables(fastest: float, default: float) -> ContextSpace:
    """The factors, and a target speed up to `fastest` m/s."""
    factors = (ContextVariable(name, "x", 0.25, 4.0, 1.0, "log") for name in FACTORS)
    return ContextSpace((*factors, ContextVariable("target_speed", "m/s", 0.5, fastest, default)))


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
        model = self.model
        self._defaults = {
            "gravity": model.opt.gravity.copy(),
            "mass": model.body_mass.copy(),
            "inertia": model.body_inertia.copy(),
            "friction": model.geom_friction[:, 0].copy(),
            "strength": model.actuator_gear[:, 0].copy(),
            "damping": model.dof_damping.copy(),
        }

    def apply(self, context: dict[str, float]) -> None:
        """Write the model's numbers.

        Source: "mjModel changes" in MuJoCo's documentation of simulation: masses need `mj_setConst`, which computes on
        data of its own here, so that the episode's stay as they are.
        """
        model, defaults = self.model, self._defaults
        model.opt.gravity[:] = defaults["gravity"] * context["gravity"]
        model.geom_friction[:, 0] = defaults["friction"] * context["friction"]
        model.actuator_gear[:, 0] = defaults["strength"] * context["strength"]
        model.dof_damping[:] = defaults["damping"] * context["damping"]
        model.body_mass[:] = defaults["mass"] * context["mass"]
        model.body_inertia[:] = defaults["inertia"] * context["mass"]
        mujoco.mj_setConst(model, mujoco.MjData(model))
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
