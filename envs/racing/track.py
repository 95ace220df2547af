"""The geometry of one closed racing circuit: centre line, walls and what a car on it can see.

A track is a closed strip of constant width, described by `NUM_POINTS` points at equal arc length on its centre line.
The straight line across the road through a point is its *section*; the piece of road between section i and section
i + 1 is *cell* i. Sections never cross inside the walls, so every point of the road lies in exactly one cell.

Frame: x to the right, y up, seen from above; angles are anticlockwise; `left` is to the left of the driving direction.
Points come from sines and cosines and are rounded to 1e-9 m, so that every machine holds the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orl.arrays import Float64Array

NUM_POINTS = 256
RAY_RANGE = 25.0  # m
RAY_RADIUS = 0.25  # m: a thin ray against walls moved inwards by this much equals a sphere cast on straights
GATE_TO_CORNER = 2.0  # m from the start gate to the end of the start straight
_CORNER_MARGIN = 0.8  # m between the inner wall and the centre of the tightest corner
_WALL_GAP = 0.3  # m between the walls of two different stretches of road


@dataclass(frozen=True)
class Straight:
    """A straight piece of road of `length` metres."""

    length: float


@dataclass(frozen=True)
class Arc:
    """A bend of `radius` metres at the centre line; `angle` in degrees, positive to the left."""

    radius: float
    angle: float


@dataclass(frozen=True, eq=False)
class Track:
    """One circuit; arc position 0 is the start gate. Build it with `track_from_pieces` or `track_from_points`.

    Attributes:
        name: As `circuits.make_track` calls it.
        centre: (N, 2) centre line, m.
        tangent: (N, 2) unit driving direction at the points.
        half_width: From the centre line to a wall, m.
        length: Lap length along the centre line, m.
        left, right: (N, 2) walls, m.
        left_inset, right_inset: (N, 2) walls as the rays see them, `RAY_RADIUS` further in, m.
        window: (back, ahead): a ray from cell i ends in one of the cells i - back .. i + ahead (`visible_window`).
    """

    name: str
    centre: Float64Array
    tangent: Float64Array
    half_width: float
    length: float
    left: Float64Array
    right: Float64Array
    left_inset: Float64Array
    right_inset: Float64Array
    window: tuple[int, int]

    @property
    def spacing(self) -> float:
        """Arc length of one cell, m."""
        return self.length / NUM_POINTS

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(x minimum, y minimum, x maximum, y maximum) of the walls, m."""
        points = np.concatenate([self.left, self.right])
        low, high = points.min(axis=0), points.max(axis=0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def curvature(self) -> Float64Array:
        """(N,) signed curvature of the centre line at the points, 1/m, positive in left-hand bends."""
        return signed_curvature(self.tangent, self.length)


def normal_of(tangent: Float64Array) -> Float64Array:
    """Turn unit vectors (..., 2) a quarter to the left."""
    return np.stack([-tangent[..., 1], tangent[..., 0]], axis=-1)


def signed_curvature(tangent: Float64Array, length: float) -> Float64Array:
    """Curvature (N,) in 1/m from unit tangents (N, 2) of a closed curve of `length` metres."""
    before, after = np.roll(tangent, 1, axis=0), np.roll(tangent, -1, axis=0)
    turned: Float64Array = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    return turned * NUM_POINTS / (2.0 * length)


def track_from_pieces(name: str, pieces: Sequence[Straight | Arc], half_width: float, direction: float) -> Track:
    """Lay straights and arcs end to end; the last piece is the start straight.

    Args:
        name: Name of the track.
        pieces: In driving order, from the first corner to the start straight.
        half_width: From centre line to wall, m, > 0.
        direction: Driving direction on the start straight, degrees anticlockwise from x.

    Raises:
        ValueError: the circuit does not close, or breaks a rule of `check_track`.
    """
    last = pieces[-1]
    if not isinstance(last, Straight) or last.length <= GATE_TO_CORNER:
        raise ValueError(f"track {name!r} must end in a start straight longer than {GATE_TO_CORNER} m, not in {last}")
    path = [Straight(GATE_TO_CORNER), *pieces[:-1], Straight(last.length - GATE_TO_CORNER)]
    lengths = [p.length if isinstance(p, Straight) else math.radians(abs(p.angle)) * p.radius for p in path]
    length = math.fsum(lengths)
    position, heading = (0.0, 0.0), math.radians(direction)
    points: list[tuple[float, float, float]] = []
    begin = 0.0
    for piece, piece_length in zip(path, lengths, strict=True):
        while len(points) < NUM_POINTS and len(points) * length / NUM_POINTS < begin + piece_length:
            points.append(_along(piece, position, heading, len(points) * length / NUM_POINTS - begin))
        x, y, heading = _along(piece, position, heading, piece_length)
        position, begin = (x, y), begin + piece_length
    if math.hypot(*position) > 1e-6:
        raise ValueError(f"track {name!r} does not close: it ends {math.hypot(*position):.3f} m from its start")
    table = np.array(points)
    tangent = np.stack([np.cos(table[:, 2]), np.sin(table[:, 2])], axis=1)
    return _finish(name, table[:, :2], tangent, half_width, round(length, 9))


def track_from_points(name: str, points: Float64Array, half_width: float) -> Track:
    """Resample a densely drawn closed curve.

    Args:
        name: Name of the track.
        points: (M, 2) in driving order, m, not repeating the first one; the first one becomes the gate.
        half_width: From centre line to wall, m, > 0.

    Raises:
        ValueError: the curve breaks a rule of `check_track`.
    """
    closed = np.concatenate([points, points[:1]])
    steps = np.diff(closed, axis=0)
    travelled = np.concatenate([[0.0], np.cumsum(np.sqrt(steps[:, 0] ** 2 + steps[:, 1] ** 2))])
    length = float(travelled[-1])
    at = np.arange(NUM_POINTS) * (length / NUM_POINTS)
    centre = np.stack([np.interp(at, travelled, closed[:, axis]) for axis in (0, 1)], axis=1)
    chord = np.roll(centre, -1, axis=0) - np.roll(centre, 1, axis=0)
    tangent = chord / np.sqrt(chord[:, :1] ** 2 + chord[:, 1:] ** 2)
    return _finish(name, centre, tangent, half_width, round(length, 9))


def _along(
    piece: Straight | Arc, start: tuple[float, float], heading: float, distance: float
) -> tuple[float, float, float]:
    if isinstance(piece, Straight):
        return start[0] + distance * math.cos(heading), start[1] + distance * math.sin(heading), heading
    radius = math.copysign(piece.radius, piece.angle)
    end = heading + distance / radius
    x = start[0] + radius * (math.sin(end) - math.sin(heading))
    return x, start[1] - radius * (math.cos(end) - math.cos(heading)), end


def _finish(name: str, centre: Float64Array, tangent: Float64Array, half_width: float, length: float) -> Track:
    centre, tangent = np.round(centre, 9) + 0.0, np.round(tangent, 9) + 0.0
    tangent = tangent / np.sqrt(tangent[:, :1] ** 2 + tangent[:, 1:] ** 2)
    check_track(name, centre, tangent, half_width, length)
    normal = normal_of(tangent)
    inset = half_width - RAY_RADIUS
    left, right, left_inset, right_inset = (
        centre + offset * normal for offset in (half_width, -half_width, inset, -inset)
    )
    for array in (centre, tangent, left, right, left_inset, right_inset):
        array.setflags(write=False)
    window = visible_window(left_inset, right_inset)
    return Track(name, centre, tangent, half_width, length, left, right, left_inset, right_inset, window)


def check_track(name: str, centre: Float64Array, tangent: Float64Array, half_width: float, length: float) -> None:
    """Refuse a circuit on which cars could meet a fold or a second piece of road.

    Raises:
        ValueError: a corner is tighter than half the width plus a margin, or two stretches of road touch.
    """
    radius = 1.0 / max(float(np.abs(signed_curvature(tangent, length)).max()), 1e-9)
    if radius < half_width + _CORNER_MARGIN:
        raise ValueError(
            f"track {name!r} has a corner of radius {radius:.2f} m; with half width {half_width} m it must be at "
            f"least {half_width + _CORNER_MARGIN:.2f} m: widen the corner or narrow the road"
        )
    apart = np.abs(np.arange(NUM_POINTS)[:, None] - np.arange(NUM_POINTS)[None, :])
    along = np.minimum(apart, NUM_POINTS - apart) * (length / NUM_POINTS)
    between = np.sqrt(((centre[:, None, :] - centre[None, :, :]) ** 2).sum(axis=-1))
    # Two points of one bend are at least 2 / pi of their arc distance apart; beyond a half circle they must clear.
    clear = 2.0 * half_width + _WALL_GAP
    if bool(((along > 0.5 * math.pi * clear + 1.0) & (between < clear)).any()):
        raise ValueError(f"track {name!r} runs into itself: its stretches must be at least {clear:.2f} m apart")


def visible_window(left: Float64Array, right: Float64Array) -> tuple[int, int]:
    """How many cells behind and ahead of a car its rays can end in.

    A ray that has not met a wall yet is inside the strip. It crosses a section at most once, so on its way from cell i
    forwards to cell j it has crossed the sections i + 1, ..., j, all within the range, and all forwards: its direction
    has a positive part along every one of their tangents. The view therefore ends at the first section that is further
    than the range from section i + 1, or with which the tangents turn through half a circle; backwards alike.
    Distances between sections are those of their end points, since sections do not cross.

    Args:
        left, right: (N, 2) walls as the rays see them, m.

    Returns:
        (back, ahead), the largest over all cells; back + ahead < N.
    """
    distance = np.full((NUM_POINTS, NUM_POINTS), np.inf)
    for point in (left, right):
        distance = np.minimum(distance, _points_to_sections(point, left, right))
    distance = np.minimum(distance, distance.T)
    across = left - right
    after = np.roll(across, -1, axis=0)
    turn = np.arctan2(
        across[:, 0] * after[:, 1] - across[:, 1] * after[:, 0], across[:, 0] * after[:, 0] + across[:, 1] * after[:, 1]
    )
    heading = np.concatenate([[0.0], np.cumsum(np.concatenate([turn, turn]))])
    here = np.arange(NUM_POINTS)[:, None]
    steps = np.arange(NUM_POINTS // 2)
    reach = []
    for sign in (-1, 1):
        seen = heading[(here + sign * steps) + (NUM_POINTS if sign < 0 else 0)]
        span = np.maximum.accumulate(seen, axis=1) - np.minimum.accumulate(seen, axis=1)
        closed = (distance[here, (here + sign * steps) % NUM_POINTS] > RAY_RANGE) | (span > math.pi - 1e-6)
        closed[:, -1] = True
        reach.append(int(closed.argmax(axis=1).max()))
    return reach[0], min(reach[1] + 1, NUM_POINTS // 2)


def _points_to_sections(points: Float64Array, left: Float64Array, right: Float64Array) -> Float64Array:
    across = right - left
    offset = points[:, None, :] - left[None, :, :]
    share = (offset * across).sum(axis=-1) / (across * across).sum(axis=-1)
    nearest = offset - np.clip(share, 0.0, 1.0)[..., None] * across
    distance: Float64Array = np.sqrt((nearest * nearest).sum(axis=-1))
    return distance
