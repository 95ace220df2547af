"""Scripted drivers of the racing world: the reference for scores, and makers of data of three skills.

All follow a line by pure pursuit (Coulter 1992) at a speed that the bends allow. A skill is a set of ranges. Every car
draws its own values from them at the start of every episode, so that a data set holds many drivers rather than one.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from orl.arrays import Array, BoolArray, Float32Array, Float64Array, IntArray
from orl.environment import SingleEnvironment, VectorEnvironment
from orl.envs.checks import check_choice
from orl.envs.racing.environment import RacingEnv, RacingVectorEnv
from orl.envs.racing.physics import COSINE, DRAG, SINE, VELOCITY_X, VELOCITY_Y, X, Y
from orl.envs.racing.simulation import RacingSimulation
from orl.envs.racing.track import NUM_POINTS, Track, normal_of

Range = tuple[float, float]

_WALL_MARGIN = 1.15  # m between the line and a wall
_RELAXATIONS = 3_000
_MAX_SPEED = 8.0  # m/s
_DRIVE, _BRAKES = 7.0, 4.5  # m/s2
_LINE_SHARE = 0.9
_LATERAL_ACCELERATION = 6.5  # m/s2
_BEST_THROTTLE = 0.56
_SPEEDS = (1.5, 2.5, 3.5, 4.5, 6.0, 7.0)  # m/s
_CURVATURE_GAINS = (1.85, 1.7, 1.07, 0.8, 0.55, 0.45)  # 1/m: path curvature over tan(wheel angle) at those speeds
_STEERING_LIMIT = np.pi / 6.0
_STUCK_SPEED = 0.4  # m/s
_NONE, _LATE, _SWERVE, _PAUSE = range(4)  # mistakes


@dataclass(frozen=True)
class Skill:
    """Ranges (low, high) from which every episode draws uniformly.

    Attributes:
        pace: Factor on the speed that the bends allow.
        aim: Factor on the steering angle.
        noise: Standard deviation of the noise on both actions; it wanders over about half a second.
        mistakes: Mistakes per second of driving: braking too late, or swerving.
        pauses: Pauses per second of driving.
        pause_length: s.
        tremble: Standard deviation of the noise on both actions that is new at every decision.
        patience: s against a wall before backing off.
    """

    pace: Range
    aim: Range
    noise: Range
    mistakes: Range
    pauses: Range
    pause_length: Range
    tremble: Range
    patience: Range


_ZERO = (0.0, 0.0)
SKILLS = {
    "reference": Skill((1.0, 1.0), (1.0, 1.0), _ZERO, _ZERO, _ZERO, _ZERO, _ZERO, (0.5, 0.5)),
    "expert": Skill((0.8, 0.95), (0.9, 1.1), (0.15, 0.25), (0.0, 0.05), _ZERO, _ZERO, (0.2, 0.2), (0.3, 0.8)),
    "medium": Skill((0.5, 0.8), (0.7, 1.1), (0.15, 0.3), (0.05, 0.2), (0.01, 0.05), (0.5, 3.0), (0.2, 0.2), (0.3, 0.8)),
    "basic": Skill((0.2, 0.6), (0.3, 0.9), (0.2, 0.4), (0.1, 0.4), (0.01, 0.05), (0.5, 3.0), (0.2, 0.2), (0.3, 0.8)),
}


class PurePursuit:
    """Drive the cars of a racing environment from their true state.

    Args:
        environment: A `RacingEnv` or `RacingVectorEnv`, wrapped or not; the driver reads it, and must be asked once
            per step.
        skill: reference (no noise, no mistakes: score 100), expert, medium or basic.
        seed: With the number of the car, seeds all that the driver draws.

    Attributes:
        traits: What the cars have drawn for their episodes: (E,) by the names of `Skill`.

    Raises:
        ValueError: an unknown skill, or an environment that is not one of these.
    """

    def __init__(
        self, environment: SingleEnvironment | VectorEnvironment, skill: str = "expert", seed: int = 0
    ) -> None:
        check_choice("skill", skill, SKILLS)
        base = environment.unwrapped
        if not isinstance(base, RacingEnv | RacingVectorEnv):
            remedy = "make one of ours, for instance orl/Racing-v0"
            raise ValueError(f"{environment!r} is not a racing environment: {remedy}")
        self.skill = skill
        self._base = base
        num_cars = base.simulation.num_cars
        self._generators = [np.random.default_rng([seed, car]) for car in range(num_cars)]
        self.traits = {field.name: np.zeros(num_cars) for field in fields(Skill)}
        self._noise = np.zeros((num_cars, 2))
        self._mistake = np.full(num_cars, _NONE)
        self._left, self._stuck, self._reverse = (np.zeros(num_cars) for _ in range(3))  # decisions
        self._swerve = np.zeros(num_cars)

    def __call__(self, observations: Array) -> Float32Array:
        """Choose the next actions.

        Args:
            observations: Not used; the driver reads the state of the environment.

        Returns:
            (E, 2) float32 in [-1, 1], or (2,) for a single environment.
        """
        simulation = self._base.simulation
        for car in np.flatnonzero(simulation.state["steps"] == 0):
            self._begin_episode(int(car))
        draws = np.array([generator.random(3) for generator in self._generators])
        wander, fresh = np.stack([generator.standard_normal((2, 2)) for generator in self._generators], axis=1)
        self._noise = 0.8 * self._noise + 0.6 * self.traits["noise"][:, None] * wander
        steering, throttle, speed = self._pursue(simulation)
        self._begin_mistakes(draws, speed)
        steering = np.where(self._mistake == _SWERVE, steering + self._swerve, steering)
        throttle = np.where(self._mistake == _LATE, np.maximum(throttle, 0.45), throttle)
        throttle = np.where(self._mistake == _PAUSE, np.clip(-0.2 * speed, -0.5, 0.5), throttle)
        backs = self._backs_off(simulation, throttle, speed)
        steering = np.where(backs, -np.sign(steering) * 0.8, steering)
        throttle = np.where(backs, -0.3, throttle)
        tremble = self.traits["tremble"][:, None] * fresh
        wanted = np.stack([steering, throttle], axis=1) + self._noise + tremble
        actions: Float32Array = np.clip(wanted, -1.0, 1.0).astype(np.float32)
        return actions[0] if isinstance(self._base, RacingEnv) else actions

    def _begin_episode(self, car: int) -> None:
        for field in fields(Skill):
            low, high = getattr(SKILLS[self.skill], field.name)
            self.traits[field.name][car] = low + (high - low) * self._generators[car].random()
        self._noise[car], self._mistake[car] = 0.0, _NONE
        self._left[car] = self._stuck[car] = self._reverse[car] = 0.0

    def _pursue(self, simulation: RacingSimulation) -> tuple[Float64Array, Float64Array, Float64Array]:
        """Steering and throttle (E,) without noise, and forward speed (E,) in m/s."""
        state, body, settings = simulation.state, simulation.state["body"], simulation.settings
        lines = [racing_line(track, _LINE_SHARE, _LATERAL_ACCELERATION) for track in simulation.table.tracks]
        points, speeds = np.stack([line.points for line in lines]), np.stack([line.speed for line in lines])
        track, spacing = state["track"], simulation.table.spacing[state["track"]]
        forward = body[VELOCITY_X] * body[COSINE] + body[VELOCITY_Y] * body[SINE]
        quick = np.maximum(forward, 0.0)
        target = _interpolate(points, track, (state["arc"] + 1.4 + 0.36 * quick) / spacing)
        x, y = target[:, 0] - body[X], target[:, 1] - body[Y]
        ahead, aside = x * body[COSINE] + y * body[SINE], y * body[COSINE] - x * body[SINE]
        curvature = 2.0 * aside / (ahead * ahead + aside * aside)
        angle = np.arctan(curvature / np.interp(quick, _SPEEDS, _CURVATURE_GAINS))
        steering = np.where(ahead < 0.0, -np.sign(aside), -self.traits["aim"] * angle / _STEERING_LIMIT)
        wanted = _interpolate(speeds, track, (state["arc"] + 0.5 + 0.15 * quick) / spacing)
        wanted = wanted * self.traits["pace"] * np.minimum(np.sqrt(settings.grip), 1.2)
        wanted = np.where(ahead < 0.0, np.minimum(wanted, 1.5), wanted)
        throttle = settings.mass * (DRAG * wanted / 16.0 + 0.25 * (wanted - forward))
        best = np.minimum(_BEST_THROTTLE * settings.grip * settings.mass, 1.0)
        return np.clip(steering, -1.0, 1.0), np.minimum(np.maximum(throttle, -best), best), forward

    def _begin_mistakes(self, draws: Float64Array, speed: Float64Array) -> None:
        """Begin and end mistakes and pauses."""
        self._left = np.maximum(self._left - 1.0, 0.0)
        self._mistake[self._left == 0.0] = _NONE
        free = (self._mistake == _NONE) & (self._reverse == 0.0)
        errs = free & (draws[:, 0] < 0.1 * self.traits["mistakes"]) & (speed > 0.5)
        pauses = free & ~errs & (draws[:, 0] > 1.0 - 0.1 * self.traits["pauses"])
        self._mistake[errs] = np.where(draws[errs, 1] < 0.5, _LATE, _SWERVE)
        self._swerve[errs] = np.where(draws[errs, 2] < 0.5, -0.6, 0.6)
        self._left[errs] = 5.0 + 10.0 * draws[errs, 2]
        self._mistake[pauses] = _PAUSE
        self._left[pauses] = (10.0 * self.traits["pause_length"] * (0.5 + draws[:, 1]))[pauses]
        self._left = np.ceil(self._left)

    def _backs_off(self, simulation: RacingSimulation, throttle: Float64Array, speed: Float64Array) -> BoolArray:
        """Notice being stuck, wait, and back off, (E,), with the wheels turned the other way."""
        held = (np.abs(speed) < _STUCK_SPEED) | simulation.state["touching"]
        tries = held & (np.abs(throttle) > 0.1) & (simulation.state["steps"] > 10)
        self._stuck = np.where(tries & (self._reverse == 0.0), self._stuck + 1.0, 0.0)
        begins = self._stuck > 10.0 * self.traits["patience"]
        self._reverse = np.where(begins, 14.0, np.maximum(self._reverse - 1.0, 0.0))
        return self._reverse > 0.0


def _interpolate(values: Float64Array, track: IntArray, at: Float64Array) -> Float64Array:
    """Interpolate values (T, N, ...) of track (E,) at fractional points (E,), going round."""
    cell = np.floor(at).astype(np.int64)
    share = (at - cell).reshape(-1, *[1] * (values.ndim - 2))
    first, second = values[track, cell % NUM_POINTS], values[track, (cell + 1) % NUM_POINTS]
    interpolated: Float64Array = first + share * (second - first)
    return interpolated


class RacingLine(NamedTuple):
    """Where to drive and how fast, at the N points of the centre line.

    Attributes:
        offset: (N,) to the left of the centre line, m.
        points: (N, 2), m.
        speed: (N,) m/s on a track of grip 1.
    """

    offset: Float64Array
    points: Float64Array
    speed: Float64Array


@lru_cache(maxsize=512)
def racing_line(track: Track, share: float, lateral_acceleration: float) -> RacingLine:
    """Bend the centre line towards the line of least curvature.

    Args:
        track: The track.
        share: 0 is the centre line, 1 uses the whole width.
        lateral_acceleration: What the car may use in bends, m/s2, > 0.
    """
    offset = share * _straightest_offset(track)
    points = track.centre + offset[:, None] * normal_of(track.tangent)
    return RacingLine(offset, points, speed_profile(points, lateral_acceleration))


@lru_cache(maxsize=512)
def _straightest_offset(track: Track) -> Float64Array:
    """Offset (N,) in m that minimizes the squared second differences of the line: projected gradient descent."""
    normal, limit = normal_of(track.tangent), track.half_width - _WALL_MARGIN
    offset, here = np.zeros(NUM_POINTS), np.arange(NUM_POINTS)
    before, after = here - 1, (here + 1) % NUM_POINTS  # quicker than np.roll
    for _ in range(_RELAXATIONS):
        points = track.centre + offset[:, None] * normal
        bend = points[before] - 2.0 * points + points[after]
        slope = bend[before] - 2.0 * bend + bend[after]
        offset = np.clip(offset - 0.06 * (slope * normal).sum(axis=1), -limit, limit)
    return offset


def speed_profile(points: Float64Array, lateral_acceleration: float) -> Float64Array:
    """Speed (N,) in m/s along a closed line (N, 2): limited by bends, then by brakes, then by the engine."""
    ahead, behind = np.roll(points, -3, axis=0) - points, points - np.roll(points, 3, axis=0)
    length_ahead, length_behind = (np.sqrt((step**2).sum(axis=1)) for step in (ahead, behind))
    turn = ahead[:, 1] * behind[:, 0] - ahead[:, 0] * behind[:, 1]
    curvature = 2.0 * np.abs(turn) / (length_ahead * length_behind * (length_ahead + length_behind))
    speed: Float64Array = np.minimum(np.sqrt(lateral_acceleration / np.maximum(curvature, 1e-6)), _MAX_SPEED)
    step = np.sqrt(((np.roll(points, -1, axis=0) - points) ** 2).sum(axis=1))
    for i in reversed(range(2 * NUM_POINTS)):
        here, after = i % NUM_POINTS, (i + 1) % NUM_POINTS
        speed[here] = min(speed[here], np.sqrt(speed[after] ** 2 + 2.0 * _BRAKES * step[here]))
    for i in range(2 * NUM_POINTS):
        here, after = i % NUM_POINTS, (i + 1) % NUM_POINTS
        gain = 2.0 * max(_DRIVE - DRAG * speed[here], 0.0) * step[here]
        speed[after] = min(speed[after], np.sqrt(speed[here] ** 2 + gain))
    return speed
