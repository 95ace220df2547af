"""A driving line for a track and the speed at which a car can follow it: what the scripted drivers aim at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from orl.envs.racing.physics import DRAG
from orl.envs.racing.track import NUM_POINTS, Floats, Track, normal_of

_WALL_MARGIN = 1.15  # m between the line and a wall
_RELAXATIONS = 3_000
_MAX_SPEED = 8.0  # m/s
_DRIVE, _BRAKES = 7.0, 4.5  # m/s2


@dataclass(frozen=True, eq=False)
class RacingLine:
    """Where to drive and how fast, at the N points of the centre line.

    Attributes:
        offset: (N,) to the left of the centre line, m.
        points: (N, 2), m.
        speed: (N,) m/s on a track of grip 1.
    """

    offset: Floats
    points: Floats
    speed: Floats


@lru_cache(maxsize=512)
def racing_line(track: Track, share: float, lateral_acceleration: float) -> RacingLine:
    """Bend the centre line towards the line of least curvature.

    Args:
        track: The track.
        share: 0 keeps the centre line, 1 uses the whole width.
        lateral_acceleration: What the car may use in bends, m/s2, > 0.
    """
    offset = share * _straightest_offset(track)
    points = track.centre + offset[:, None] * normal_of(track.tangent)
    return RacingLine(offset, points, speed_profile(points, lateral_acceleration))


@lru_cache(maxsize=512)
def _straightest_offset(track: Track) -> Floats:
    """Offset (N,) in m that minimizes the squared second differences of the line: projected gradient descent."""
    normal, limit = normal_of(track.tangent), track.half_width - _WALL_MARGIN
    offset = np.zeros(NUM_POINTS)
    for _ in range(_RELAXATIONS):
        points = track.centre + offset[:, None] * normal
        bend = np.roll(points, 1, axis=0) - 2.0 * points + np.roll(points, -1, axis=0)
        slope = np.roll(bend, 1, axis=0) - 2.0 * bend + np.roll(bend, -1, axis=0)
        offset = np.clip(offset - 0.06 * (slope * normal).sum(axis=1), -limit, limit)
    return offset


def speed_profile(points: Floats, lateral_acceleration: float) -> Floats:
    """Speed (N,) in m/s along a closed line (N, 2): limited by bends, then by brakes, then by the engine."""
    ahead, behind = np.roll(points, -3, axis=0) - points, points - np.roll(points, 3, axis=0)
    length_ahead, length_behind = (np.sqrt((step**2).sum(axis=1)) for step in (ahead, behind))
    turn = ahead[:, 1] * behind[:, 0] - ahead[:, 0] * behind[:, 1]
    curvature = 2.0 * np.abs(turn) / (length_ahead * length_behind * (length_ahead + length_behind))
    speed: Floats = np.minimum(np.sqrt(lateral_acceleration / np.maximum(curvature, 1e-6)), _MAX_SPEED)
    step = np.sqrt(((np.roll(points, -1, axis=0) - points) ** 2).sum(axis=1))
    for i in reversed(range(2 * NUM_POINTS)):
        here, after = i % NUM_POINTS, (i + 1) % NUM_POINTS
        speed[here] = min(speed[here], np.sqrt(speed[after] ** 2 + 2.0 * _BRAKES * step[here]))
    for i in range(2 * NUM_POINTS):
        here, after = i % NUM_POINTS, (i + 1) % NUM_POINTS
        gain = 2.0 * max(_DRIVE - DRAG * speed[here], 0.0) * step[here]
        speed[after] = min(speed[after], np.sqrt(speed[here] ** 2 + gain))
    return speed
