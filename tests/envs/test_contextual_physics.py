"""Every context variable of every environment changes what happens, in the direction in which it should."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from orl.envs import CONTEXT_IDS
from orl.envs.contextual import offered_contexts

Measure = Callable[[gymnasium.Env[Any, Any]], float]
BODIES = ["orl/ContextHopper-v0", "orl/ContextHalfCheetah-v0", "orl/ContextWalker2d-v0", "orl/ContextAnt-v0"]
SLIM = ("orl/ContextHopper-v0", "orl/ContextWalker2d-v0")  # stand on points, and lie on their whole length
LESS, MORE = -1, 1


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes a log into the working directory."""
    monkeypatch.chdir(tmp_path)


def pendulum(angle: float, torque: float) -> Measure:
    """Speed after one step from rest."""

    def measure(environment: Any) -> float:
        environment.unwrapped.state = np.array([angle, 0.0])
        return abs(float(environment.step(np.array([torque], np.float32))[0][2]))

    return measure


def cart_pole(angle: float, share: float, entry: int) -> Measure:
    """An entry of the observation after one step from rest, with a share of the force."""

    def measure(environment: Any) -> float:
        environment.unwrapped.state = np.array([0.0, 0.0, angle, 0.0])
        discrete = isinstance(environment.action_space, gymnasium.spaces.Discrete)
        action = int(share > 0) if discrete else np.array([10.0 * share], np.float32)
        return abs(float(environment.step(action)[0][entry]))

    return measure


def place(
    environment: Any, *, height: float = 3.0, pitch: float = 0.0, forwards: float = 0.0, turning: float = 0.0
) -> Any:
    """Put a body at some height above its ordinary one, and give it a speed and its joints another; its MuJoCo data."""
    inner = environment.unwrapped
    is_planar = inner.model.nq == inner.model.nv
    position, velocity = inner.init_qpos.copy(), np.zeros(inner.model.nv)
    position[1 if is_planar else 2] += height
    position[2] += pitch
    velocity[0], velocity[3 if is_planar else 6 :] = forwards, turning
    inner.set_state(position, velocity)
    return inner.data


def run(environment: Any, steps: int, control: float = 0.0) -> None:
    """Steps that nobody interrupts when the body falls."""
    for _ in range(steps):
        environment.unwrapped.step(np.full(environment.action_space.shape, control))


def fall(environment: Any) -> float:
    """Downward speed of a body that is let go in the air."""
    data = place(environment)
    run(environment, 3)
    return -float(data.qvel[1 if len(data.qpos) == len(data.qvel) else 2])


def shove(environment: Any) -> float:
    """Speed of a body in the air after 5 N on its torso."""
    data = place(environment)
    data.xfrc_applied[1, 0] = 5.0
    run(environment, 3)
    return float(data.qvel[0])


def joint_speed(*, turning: float = 0.0, control: float = 0.0, steps: int = 1) -> Measure:
    """Mean speed of the joints of a body in the air."""

    def measure(environment: Any) -> float:
        data = place(environment, turning=turning)
        run(environment, steps, control)
        return float(np.abs(data.qvel[3 if len(data.qpos) == len(data.qvel) else 6 :]).mean())

    return measure


def slide(*, lying: bool) -> Measure:
    """How far a body gets that is thrown forwards, standing or lying."""

    def measure(environment: Any) -> float:
        height = 0.05 - environment.unwrapped.init_qpos[1] if lying else 0.0
        data = place(environment, height=height, pitch=np.pi / 2 if lying else 0.0, forwards=2.0)
        run(environment, 20 if lying else 10)
        return float(data.qpos[0])

    return measure


def drive(throttle: float) -> Measure:
    """Speed after 0.3 s on a straight."""

    def measure(environment: Any) -> float:
        for _ in range(3):
            speed = environment.step(np.array([0.0, throttle], np.float32))[4]["speed"]
        return float(speed)

    return measure


EFFECTS: dict[tuple[str, str], tuple[int, Measure]] = {
    ("orl/ContextPendulum-v0", "gravity"): (MORE, pendulum(0.3, 0.0)),
    ("orl/ContextPendulum-v0", "mass"): (LESS, pendulum(0.0, 2.0)),
    ("orl/ContextPendulum-v0", "length"): (LESS, pendulum(0.3, 0.0)),
    ("orl/ContextCartPole-v0", "gravity"): (MORE, cart_pole(0.1, 0.0, 3)),
    ("orl/ContextCartPole-v0", "length"): (LESS, cart_pole(0.1, 0.0, 3)),
    ("orl/ContextCartPoleDiscrete-v0", "gravity"): (LESS, cart_pole(0.1, 1.0, 3)),  # the push turns it back
    ("orl/ContextCartPoleDiscrete-v0", "length"): (LESS, cart_pole(0.1, -1.0, 3)),
    **{
        (name, variable): (direction, cart_pole(0.0, 1.0, 1))
        for name in ("orl/ContextCartPole-v0", "orl/ContextCartPoleDiscrete-v0")
        for variable, direction in (("mass", LESS), ("pole_mass", LESS), ("strength", MORE))
    },
    **{
        (name, variable): effect
        for name in BODIES
        for variable, effect in {
            "gravity": (MORE, fall),
            "mass": (LESS, shove),
            "friction": (LESS, slide(lying=name in SLIM)),
            "strength": (MORE, joint_speed(control=0.2)),
            "damping": (LESS, joint_speed(turning=-1.0, steps=10 if name in SLIM else 1)),
        }.items()
    },
    ("orl/ContextRacing-v0", "grip"): (MORE, drive(1.0)),
    ("orl/ContextRacing-v0", "mass"): (LESS, drive(0.3)),
}
OTHERS = {(name, "target_speed") for name in BODIES} | {("orl/ContextRacing-v0", "track_seed")}  # tested below


def test_no_variable_is_forgotten() -> None:
    offered = {(name, variable) for name in CONTEXT_IDS for variable in offered_contexts(name).names}
    assert offered == EFFECTS.keys() | OTHERS


@pytest.mark.parametrize(("environment_id", "name"), EFFECTS)
def test_a_variable_changes_what_happens_as_it_should(environment_id: str, name: str) -> None:
    direction, measure = EFFECTS[environment_id, name]
    environment = gymnasium.make(environment_id, contexts=(name,))
    default = environment.unwrapped.context_space.default
    measured = []
    for factor in (0.5, 0.8, 1.0, 1.3, 2.0):
        environment.reset(seed=0, options={"context": default * factor})
        measured.append(measure(environment))
    assert (np.diff(measured) * direction > 0.0).all(), measured
    assert np.ptp(measured) > 0.03 * np.abs(measured).max(), measured


def forward_reward(environment: Any, speed: float) -> tuple[float, float, float]:
    """Speed, forward reward and the rest of the reward of a body that flies forwards."""
    place(environment, forwards=speed)
    _, reward, _, _, info = environment.step(np.zeros(environment.action_space.shape))
    return float(info["x_velocity"]), float(info["reward_forward"]), float(reward - info["reward_forward"])


@pytest.mark.parametrize("environment_id", BODIES)
def test_target_speed_is_two_sided(environment_id: str) -> None:
    exposed = gymnasium.make(environment_id, contexts=("target_speed",))
    ordinary = gymnasium.make(environment_id)
    for target in (1.0, 2.0):
        exposed.reset(seed=0, options={"context": [target]})
        ordinary.reset(seed=0)
        rewards = {}
        for speed in (0.5 * target, target, 1.5 * target):
            moved, reward, rest = forward_reward(exposed, speed)
            moved_too, speed_alone, rest_too = forward_reward(ordinary, speed)
            assert moved == moved_too == pytest.approx(speed_alone) == pytest.approx(speed, abs=0.05)
            assert reward == pytest.approx(target - abs(moved - target))
            assert rest == pytest.approx(rest_too)  # costs and the reward for standing stay as they are
            rewards[speed] = reward
        assert rewards[target] > max(rewards[0.5 * target], rewards[1.5 * target])


def test_track_seed_is_the_circuit() -> None:
    environment = gymnasium.make("orl/ContextRacing-v0", contexts=("track_seed",))
    base = gymnasium.make("orl/RacingProcedural-v0")
    lengths = set()
    for seed in (0, 7, 99):
        observation, info = environment.reset(seed=1, options={"context": {"track_seed": seed}})
        expected, _ = base.reset(seed=1, options={"track_seed": seed})
        assert np.array_equal(observation, expected)
        assert info["track_seed"] == seed
        lengths.add(environment.unwrapped.track.length)
    assert len(lengths) == 3


@pytest.mark.parametrize("environment_id", BODIES)
def test_the_model_follows_the_context_everywhere(environment_id: str) -> None:
    """Weights below a body and the inertia of a joint are computed from masses: without that, contacts are wrong."""
    environment = gymnasium.make(environment_id)
    light, heavy = (environment.unwrapped.context_space.array([1, mass, 1, 1, 1]) for mass in (1, 2))
    model = environment.unwrapped.model
    environment.reset(options={"context": light})
    weight, resistance = model.body_subtreemass.copy(), model.dof_invweight0.copy()
    inertia = model.body_inertia.copy()
    friction = model.geom_friction.copy()
    environment.reset(options={"context": heavy})
    assert model.body_subtreemass == pytest.approx(2.0 * weight)
    assert model.body_inertia == pytest.approx(2.0 * inertia)
    assert (model.dof_invweight0 < resistance).all()
    environment.reset(options={"context": [1, 1, 0.5, 1, 1]})
    assert model.geom_friction[:, 0] == pytest.approx(0.5 * friction[:, 0])
    assert np.array_equal(model.geom_friction[:, 1:], friction[:, 1:])
    assert np.array_equal(model.body_subtreemass, weight)
    assert np.array_equal(model.dof_invweight0, resistance)


def test_a_cart_pole_recomputes_what_follows_from_its_masses() -> None:
    environment: Any = gymnasium.make("orl/ContextCartPoleDiscrete-v0", contexts=("mass", "pole_mass", "length"))
    environment.reset(options={"context": [2.0, 0.4, 3.0]})
    inner = environment.unwrapped
    assert (inner.total_mass, inner.polemass_length, inner.length) == pytest.approx((2.4, 0.6, 1.5))
