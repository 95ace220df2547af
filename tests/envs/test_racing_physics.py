"""The calibration table: what the OfflineMania data show the car doing, and what ours does."""

from __future__ import annotations

import numpy as np
import pytest

from orl.envs.racing import physics


def drive(speed, steering, throttle, seconds, *, grip=1.0, mass=1.0, hold=False, leaning=False):
    """Bodies (substeps, 7) of one car on an endless plane; `hold` keeps the speed with the throttle."""
    body = np.zeros((7, 1))
    body[physics.COSINE], body[physics.VELOCITY_X] = 1.0, speed
    one = np.ones(1)
    bodies = []
    for _ in range(round(seconds / physics.SUBSTEP)):
        if hold:
            now = float(np.sqrt(body[4, 0] ** 2 + body[5, 0] ** 2))
            throttle = float(np.clip(speed / 17.2 + speed - now, 0.0, 0.55))
        force = physics.drive_acceleration(np.array([throttle]), grip * one, mass * one)
        wheel = physics.steering_vector(np.array([steering]))
        body = physics.advance(body, force, wheel, physics.lateral_capacity(force, grip * one), np.array([leaning]))
        bodies.append(body[:, 0].copy())
    return np.array(bodies)


def final_speed(throttle, **shifts):
    return drive(0.0, 0.0, throttle, 20.0, **shifts)[-1, physics.VELOCITY_X]


@pytest.mark.parametrize(("throttle", "measured"), [(0.075, 1.42), (0.125, 2.09), (0.225, 3.86), (0.275, 4.74)])
def test_steady_speed_is_proportional_to_small_throttle(throttle, measured):
    assert final_speed(throttle) == pytest.approx(measured, rel=0.1)
    assert final_speed(throttle) == pytest.approx(17.2 * throttle, rel=0.01)


def test_wheel_spin_makes_full_throttle_slower_than_half():
    assert final_speed(1.0) == pytest.approx(5.57, abs=0.1)
    assert final_speed(0.36) == pytest.approx(6.2, abs=0.1)
    assert final_speed(0.5) > final_speed(0.36) > final_speed(1.0)
    assert final_speed(0.8) > final_speed(1.0)


def test_longitudinal_fit():
    gain = physics.drive_acceleration(np.array([0.3]), np.ones(1), np.ones(1))[0] / 0.3
    assert gain == pytest.approx(15.9, rel=0.02)
    assert abs(physics.DRAG - 0.92) < 0.02
    speeds = drive(0.0, 0.0, 0.3, 10.0)[:, physics.VELOCITY_X]
    time_constant = (np.argmax(speeds > (1 - np.exp(-1)) * speeds[-1]) + 1) * physics.SUBSTEP
    assert time_constant == pytest.approx(1.1, abs=0.1)


@pytest.mark.parametrize(
    ("throttle", "measured"),
    [(0.15, 2.0), (0.25, 4.4), (0.35, 5.7), (0.45, 7.1), (0.55, 7.4), (0.65, 7.2), (0.75, 8.4), (0.85, 6.2), (1, 5.2)],
)
def test_drive_force_over_throttle(throttle, measured):
    force = physics.drive_acceleration(np.array([throttle, -throttle]), np.ones(2), np.ones(2))
    assert force[0] == pytest.approx(measured, abs=0.95)
    assert force[1] == -force[0]


@pytest.mark.parametrize(("throttle", "measured", "spread"), [(0.65, 5.19, 1.0), (1.0, 2.30, 0.51)])
def test_net_acceleration_on_a_straight(throttle, measured, spread):
    speed = drive(3.25, 0.0, throttle, 0.1)[-1, physics.VELOCITY_X]
    assert (speed - 3.25) / 0.1 == pytest.approx(measured, abs=spread)


def test_braking():
    decelerations = [(2.5 - drive(2.5, 0.0, u, 0.1)[-1, physics.VELOCITY_X]) / 0.1 for u in np.linspace(-1, -0.5, 6)]
    assert 7.0 < np.mean(decelerations) < 9.6


@pytest.mark.parametrize(
    ("low", "high", "measured"), [(1, 2, 1.67), (2, 3, 1.71), (3, 4, 0.99), (4, 5, 0.77), (5, 7, 0.51)]
)
def test_curvature_over_tangent_of_the_wheel_angle(low, high, measured):
    ratios = []
    for speed in np.linspace(low, high, 5):
        for steering in (0.2, 0.35, 0.5, 0.7, 0.9):
            body = drive(speed, steering, 0.0, 2.0, hold=True)[-1]
            now = np.hypot(body[physics.VELOCITY_X], body[physics.VELOCITY_Y])
            ratios.append(-body[physics.YAW_RATE] / now / np.tan(np.radians(30.0 * steering)))
    assert np.mean(ratios) == pytest.approx(measured, rel=0.15)


def test_lateral_acceleration():
    forces = []
    for speed in np.linspace(4.0, 7.0, 4):
        for steering in (0.6, 0.8, 1.0):
            body = drive(speed, steering, 0.0, 2.0, hold=True)[-1]
            forces.append(-body[physics.YAW_RATE] * np.hypot(body[physics.VELOCITY_X], body[physics.VELOCITY_Y]))
    assert 5.0 < np.mean(forces) < 7.0


def test_positive_steering_turns_right_also_from_rest_and_backwards():
    assert drive(0.0, 0.5, 0.2, 1.0)[-1, physics.YAW_RATE] < 0.0
    assert drive(0.0, 0.5, -0.2, 1.0)[-1, physics.YAW_RATE] > 0.0
    assert drive(0.0, 0.5, -0.2, 1.0)[-1, physics.VELOCITY_X] < 0.0


def test_wheels_of_a_leaning_car_slip():
    free, leaning = (abs(drive(1.0, 0.7, 0.1, 0.2, leaning=leans)[-1, physics.YAW_RATE]) for leans in (False, True))
    assert 0.0 < leaning < 0.8 * free


def test_without_any_force_drag_alone_slows_a_car():
    body = np.array([[0.0], [0.0], [1.0], [0.0], [4.0], [-1.0], [2.0]])
    zero, one = np.zeros(1), np.ones(1)
    after = physics.advance(body, zero, (one, zero), zero, np.array([True]))[:, 0]
    assert after[[4, 5]] == pytest.approx([4.0 * (1 - 0.02 * 0.93), -1.0 * (1 - 0.02 * 0.93)])
    assert after[6] == pytest.approx(2.0 * (1 - 0.02 * 0.05))


def test_standing_still_is_a_fixed_point_and_finite():
    bodies = drive(0.0, 1.0, 0.0, 1.0)
    assert np.all(bodies[:, 4:] == 0.0)
    assert np.all(bodies[-1, :2] == 0.0)


def test_left_and_right_are_mirror_images():
    left, right = drive(3.0, -0.7, 0.4, 3.0), drive(3.0, 0.7, 0.4, 3.0)
    assert np.array_equal(left * [1, -1, 1, -1, 1, -1, -1], right)


def test_steering_polynomial():
    steering = np.linspace(-1, 1, 201)
    cosine, sine = physics.steering_vector(steering)
    np.testing.assert_allclose(cosine, np.cos(np.radians(30 * steering)), atol=1e-9)
    np.testing.assert_allclose(sine, -np.sin(np.radians(30 * steering)), atol=1e-9)


def test_shifts_work_in_the_expected_direction():
    assert final_speed(0.3, mass=1.3) < final_speed(0.3) < final_speed(0.3, mass=0.8)
    assert final_speed(0.3, grip=0.7) == final_speed(0.3)
    assert final_speed(0.6, grip=0.7) < final_speed(0.6)
    turned = [-drive(6.0, 0.8, 0.3, 1.0, grip=grip)[-1, physics.SINE] for grip in (0.7, 1.0, 1.3)]
    assert turned[0] < turned[1] < turned[2]


def test_result_does_not_depend_on_the_number_of_cars():
    generator = np.random.default_rng(0)
    body = generator.normal(size=(7, 33))
    force, grip = generator.normal(size=33), np.ones(33)
    wheel = physics.steering_vector(generator.uniform(-1, 1, 33))
    capacity, leaning = physics.lateral_capacity(force, grip), generator.random(33) < 0.5
    together = physics.advance(body, force, wheel, capacity, leaning)
    for car in range(33):
        one = slice(car, car + 1)
        alone = physics.advance(body[:, one], force[one], (wheel[0][one], wheel[1][one]), capacity[one], leaning[one])
        assert np.array_equal(alone, together[:, one])
