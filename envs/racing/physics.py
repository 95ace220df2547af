"""The car: a planar body on two axles whose tyres slide, for any number of cars at once.

A body is an array (7, E) of float64: x, y (m), heading cosine and sine, world velocity x, y (m/s), yaw rate (rad/s,
anticlockwise). The step uses only + - * / sqrt and comparisons, element by element, so its results do not depend on the
machine, nor on how many cars are simulated together.

Source: the constants are calibrated to the behaviour measured on the OfflineMania data (Macaluso et al. 2024, arXiv
2407.09415); the model is our own. Two deviations from the original car: drive force is a function of the throttle (no
wheel-speed state), and throttle exactly 0 does not apply the brake.
"""

from __future__ import annotations

import numpy as np

from orl.arrays import BoolArray, Float64Array

Wheel = tuple[Float64Array, Float64Array]  # cosine and sine (E,) of the angle of the front wheels

SUBSTEPS = 5
SUBSTEP = 0.02  # s
DECISION = SUBSTEPS * SUBSTEP  # s between two actions
MASS = 750.0  # kg
GRAVITY = 9.81  # m/s2
DRAG = 0.93  # 1/s
ANGULAR_DRAG = 0.05  # 1/s
MAX_YAW_RATE = 7.0  # rad/s
CAR_LENGTH, CAR_WIDTH = 1.30, 0.76  # m
GYRATION = (CAR_LENGTH**2 + CAR_WIDTH**2) / 12.0  # m2: yaw inertia of the box over its mass

X, Y, COSINE, SINE, VELOCITY_X, VELOCITY_Y, YAW_RATE = range(7)

_STEERING_LIMIT = 0.5235987755982988  # rad: 30 degrees
_FRONT, _REAR = 0.205, 0.310  # m from the centre of mass to the axles as the handling shows them, not as drawn
_LOADS = np.array([[_REAR], [_FRONT]]) / (_FRONT + _REAR)  # share of the weight on the front and the rear axle
_PEAK_SLIP = np.array([[1.0], [0.4]])  # lateral slip at which the front and the rear axle hold best
_SLIDING_LOSS = 0.25  # share of the grip lost beyond 1.25 times the peak slip
_LATERAL_GRIP = 1.2  # peak lateral force over load
_SLOW, _FAST = 2.0, 3.0  # m/s: below, the wheels roll without slip; above, the tyres decide; blended in between
_RELAXATION = 0.35  # share of the way to the rolling motion in one sub-step

# Throttle against drive force over mass (m/s2): linear, a broad peak, then wheel-spin.
_THROTTLE = (0.0, 0.45, 0.55, 0.75, 0.85, 0.95)
_DRIVE = (0.0, 7.2, 7.5, 7.5, 6.2, 5.2)
_SLOPES = tuple((_DRIVE[i + 1] - _DRIVE[i]) / (_THROTTLE[i + 1] - _THROTTLE[i]) for i in range(5))


def drive_acceleration(throttle: Float64Array, grip: Float64Array, mass: Float64Array) -> Float64Array:
    """Force of the four driven wheels over the mass of the car.

    Args:
        throttle: (E,) in [-1, 1]; negative brakes, then reverses.
        grip: (E,) factor on the traction limit, > 0.
        mass: (E,) factor on 750 kg, > 0; the engine moves it, traction grows with it.

    Returns:
        (E,) in m/s2, odd in the throttle, largest between 0.55 and 0.75 where grip and mass are 1.
    """
    demand = np.abs(throttle) / (mass * grip)
    force = _SLOPES[0] * np.minimum(demand, _THROTTLE[1])
    for i in range(1, 5):
        force = force + _SLOPES[i] * (np.minimum(np.maximum(demand, _THROTTLE[i]), _THROTTLE[i + 1]) - _THROTTLE[i])
    return np.where(throttle < 0.0, -force, force) * grip


def steering_vector(steering: Float64Array) -> Wheel:
    """Cosine and sine (E,) of the wheel angle: 30 degrees times steering (E,) in [-1, 1], positive to the right."""
    angle = steering * -_STEERING_LIMIT
    square = angle * angle
    cosine = 1.0 - square / 2.0 * (1.0 - square / 12.0 * (1.0 - square / 30.0 * (1.0 - square / 56.0)))
    sine = angle * (1.0 - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0))))
    return cosine, sine


def lateral_capacity(drive: Float64Array, grip: Float64Array) -> Float64Array:
    """Lateral force over load (E,) that the friction circle leaves beside a drive acceleration (E,) in m/s2."""
    used = drive / (grip * GRAVITY)
    return _LATERAL_GRIP * grip * np.sqrt(np.maximum(1.0 - used * used, 0.0))


def controls(actions: Float64Array, grip: Float64Array, mass: Float64Array) -> tuple[Float64Array, Wheel, Float64Array]:
    """What `advance` takes, of steering and throttle (E, 2): drive acceleration, wheel, lateral capacity."""
    drive = drive_acceleration(actions[:, 1], grip, mass)
    return drive, steering_vector(actions[:, 0]), lateral_capacity(drive, grip)


def advance(
    body: Float64Array, drive: Float64Array, wheel: Wheel, capacity: Float64Array, leaning: BoolArray
) -> Float64Array:
    """Move the cars by one sub-step of 0.02 s (semi-implicit Euler), walls aside.

    Args:
        body: (7, E).
        drive: (E,) m/s2, from `drive_acceleration`.
        wheel: Cosine and sine (E,) of the front wheels, from `steering_vector`.
        capacity: (E,) from `lateral_capacity`.
        leaning: (E,) cars that a wall holds: their wheels slip at any speed, so that the wall can turn them.

    Returns:
        A new body (7, E).
    """
    _, _, cosine, sine, velocity_x, velocity_y, yaw_rate = body
    wheel_cosine, wheel_sine = wheel
    forward = velocity_x * cosine + velocity_y * sine
    sideways = velocity_y * cosine - velocity_x * sine
    front_force, rear_force = _axle_forces(forward, sideways, yaw_rate, wheel, capacity)
    across = front_force * wheel_cosine
    new_forward = forward + SUBSTEP * (drive - front_force * wheel_sine - DRAG * forward)
    new_sideways = sideways + SUBSTEP * (across + rear_force - DRAG * sideways)
    torque = (_FRONT * across - _REAR * rear_force) / GYRATION
    new_yaw_rate = yaw_rate + SUBSTEP * (torque - ANGULAR_DRAG * yaw_rate)

    rolling_yaw_rate = new_forward * wheel_sine / (wheel_cosine * (_FRONT + _REAR))
    speed = np.sqrt(forward * forward + sideways * sideways)
    sliding = np.minimum(np.maximum((speed - _SLOW) / (_FAST - _SLOW), 0.0), 1.0)
    rolling = np.where(leaning, 0.0, (1.0 - sliding) * _RELAXATION)
    new_yaw_rate = new_yaw_rate + rolling * (rolling_yaw_rate - new_yaw_rate)
    new_sideways = new_sideways + rolling * (rolling_yaw_rate * _REAR - new_sideways)
    new_yaw_rate = np.minimum(np.maximum(new_yaw_rate, -MAX_YAW_RATE), MAX_YAW_RATE)

    turn = SUBSTEP * new_yaw_rate
    new_cosine, new_sine = cosine - turn * sine, sine + turn * cosine
    norm = np.sqrt(new_cosine * new_cosine + new_sine * new_sine)
    moved = np.empty_like(body)
    moved[COSINE], moved[SINE], moved[YAW_RATE] = new_cosine / norm, new_sine / norm, new_yaw_rate
    moved[VELOCITY_X] = new_forward * cosine - new_sideways * sine
    moved[VELOCITY_Y] = new_forward * sine + new_sideways * cosine
    moved[: Y + 1] = body[: Y + 1] + SUBSTEP * moved[VELOCITY_X : VELOCITY_Y + 1]
    return moved


def _axle_forces(
    forward: Float64Array, sideways: Float64Array, yaw_rate: Float64Array, wheel: Wheel, capacity: Float64Array
) -> tuple[Float64Array, Float64Array]:
    """Lateral force over mass (m/s2) at the front wheels (in their frame) and at the rear ones."""
    wheel_cosine, wheel_sine = wheel
    front_sideways = sideways + _FRONT * yaw_rate
    slide = np.array([front_sideways * wheel_cosine - forward * wheel_sine, sideways - _REAR * yaw_rate])
    roll = np.array([forward * wheel_cosine + front_sideways * wheel_sine, forward])
    slip = slide / np.maximum(np.abs(roll), _SLOW)
    amount = np.abs(slip) / _PEAK_SLIP
    rise = np.minimum(amount, 1.0)
    beyond = np.minimum(np.maximum((amount - 1.0) * 4.0, 0.0), 1.0)
    grip = (2.0 - rise) * rise - _SLIDING_LOSS * beyond * beyond * (3.0 - 2.0 * beyond)
    force = np.where(slip < 0.0, grip, -grip) * _LOADS * (capacity * GRAVITY)
    return force[0], force[1]
