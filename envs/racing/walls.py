"""Where a car is on its track, and what the walls do to it.

Same rule as `physics.py`: + - * / sqrt and comparisons only, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from orl.arrays import BoolArray, Float64Array, IntArray
from orl.envs.racing.physics import (
    CAR_LENGTH,
    CAR_WIDTH,
    COSINE,
    GYRATION,
    SINE,
    VELOCITY_X,
    VELOCITY_Y,
    YAW_RATE,
    X,
    Y,
)
from orl.envs.racing.track import NUM_POINTS, Track, normal_of

_RADIUS = CAR_WIDTH / 2.0  # m: the car is three discs in a row
_DISCS = np.array([-1.0, 0.0, 1.0]) * (CAR_LENGTH / 2.0 - _RADIUS)  # m from the centre of the car
_NEAR = 1.0  # m from the centre of the car to a wall; further away no disc touches it
_FRICTION = 0.2
_REMAINING_AT_IMPACT, _REMAINING_LEANING = 0.05, 0.97  # share of the motion that a sub-step of contact leaves
_MAX_WALK = 16  # cells


class TrackTable:
    """The cells of several tracks in one array, so that every car can be on another track.

    Attributes:
        cells: (T * N, 16); per cell its two sections (point and tangent), then a point and the inward normal of the
            left and of the right wall.
        spacing, length: (T,) m.
    """

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tuple(tracks)
        self.cells = np.concatenate([_cells(track) for track in tracks])
        self.spacing = np.array([track.spacing for track in tracks])
        self.length = np.array([track.length for track in tracks])

    def locate(
        self, x: Float64Array, y: Float64Array, track: IntArray, cell: IntArray
    ) -> tuple[IntArray, Float64Array, Float64Array]:
        """Walk from a cell close by to the one that a point is in.

        Args:
            x, y: (...) m.
            track: (...) rows of the table.
            cell: (...) in [0, N), a cell close by.

        Returns:
            The cell (...), the share of it behind the point (...) in [0, 1), and its row of the table (..., 16).
        """
        for _ in range(_MAX_WALK):
            row = self.cells[track * NUM_POINTS + cell]
            behind = (x - row[..., 0]) * row[..., 2] + (y - row[..., 1]) * row[..., 3]
            ahead = (x - row[..., 4]) * row[..., 6] + (y - row[..., 5]) * row[..., 7]
            move = (ahead >= 0.0).astype(np.int64) - (behind < 0.0)
            if not move.any():
                break
            cell = (cell + move) % NUM_POINTS
        return cell, behind / (behind - ahead), row


def _cells(track: Track) -> Float64Array:
    columns = [track.centre, track.tangent, np.roll(track.centre, -1, axis=0), np.roll(track.tangent, -1, axis=0)]
    for wall, side in ((track.left, -1.0), (track.right, 1.0)):
        along = np.roll(wall, -1, axis=0) - wall
        along = along / np.sqrt(along[:, :1] ** 2 + along[:, 1:] ** 2)
        columns += [wall, side * normal_of(along)]
    return np.concatenate(columns, axis=1)


def lateral_offset(x: Float64Array, y: Float64Array, share: Float64Array, row: Float64Array) -> Float64Array:
    """Signed distance (...) in m to the left of the centre line, of points that `TrackTable.locate` has located."""
    first = (y - row[..., 1]) * row[..., 2] - (x - row[..., 0]) * row[..., 3]
    second = (y - row[..., 5]) * row[..., 6] - (x - row[..., 4]) * row[..., 7]
    return first + share * (second - first)


def wall_distances(x: Float64Array, y: Float64Array, row: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Distances (...) in m to the left and the right wall of the cell with table row (..., 16)."""
    left = (x - row[..., 8]) * row[..., 10] + (y - row[..., 9]) * row[..., 11]
    right = (x - row[..., 12]) * row[..., 14] + (y - row[..., 13]) * row[..., 15]
    return left, right


def collide(
    table: TrackTable, body: Float64Array, track: IntArray, cell: IntArray, leaning: BoolArray
) -> tuple[IntArray, BoolArray]:
    """Push cars out of the walls and take the impact from their velocity; changes `body` (7, E) in place.

    A car that was not leaning on a wall stops, as in the original, where cars leave the step of an impact with less
    than 0.5 m/s; one that was slides along it, slowly.

    Args:
        table: The tracks.
        body: (7, E).
        track, cell: (E,) where the cars are.
        leaning: (E,) which cars touched a wall in the decision before.

    Returns:
        The cells (E,) of the cars, and which of them touched a wall (E,).
    """
    cell, _, row = table.locate(body[X], body[Y], track, cell)
    left, right = wall_distances(body[X], body[Y], row)
    touched = np.zeros(body.shape[1], dtype=np.bool_)
    near = np.flatnonzero(np.minimum(left, right) < _NEAR)
    if near.size == 0:
        return cell, touched
    part = body[:, near]
    depth, normal, arm = _deepest(table, part, track[near], cell[near])
    hit = depth > 0.0
    if hit.any():
        part = part[:, hit]
        _impact(part, depth[hit], normal[:, hit], arm[hit], leaning[near[hit]])
        body[:, near[hit]] = part
        touched[near[hit]] = True
    return cell, touched


def _deepest(
    table: TrackTable, body: Float64Array, track: IntArray, cell: IntArray
) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Depth (E,), inward normal (2, E) and offset along the car (E,) of the disc furthest inside a wall."""
    x = body[X][:, None] + _DISCS * body[COSINE][:, None]
    y = body[Y][:, None] + _DISCS * body[SINE][:, None]
    spread = np.zeros(x.shape, dtype=np.int64)
    _, _, row = table.locate(x, y, track[:, None] + spread, cell[:, None] + spread)
    depth = _RADIUS - np.concatenate(wall_distances(x, y, row), axis=1)
    worst = depth.argmax(axis=1)
    car = np.arange(len(worst))
    wall = row[car, worst % 3]
    normal = np.where(worst < 3, wall[:, 10:12].T, wall[:, 14:16].T)
    return depth[car, worst], normal, _DISCS[worst % 3]


def _impact(
    body: Float64Array, depth: Float64Array, normal: Float64Array, arm: Float64Array, leaning: BoolArray
) -> None:
    """Rigid-body impact with Coulomb friction at the contact point, then a loss; changes `body` in place."""
    normal_x, normal_y = normal
    body[[X, Y]] += depth * normal
    arm_x = arm * body[COSINE] - _RADIUS * normal_x
    arm_y = arm * body[SINE] - _RADIUS * normal_y
    point_x = body[VELOCITY_X] - body[YAW_RATE] * arm_y
    point_y = body[VELOCITY_Y] + body[YAW_RATE] * arm_x
    along_x, along_y = -normal_y, normal_x
    approach = point_x * normal_x + point_y * normal_y
    slide = point_x * along_x + point_y * along_y
    lever = arm_x * normal_y - arm_y * normal_x
    lever_along = arm_x * along_y - arm_y * along_x
    push = np.maximum(-approach, 0.0) / (1.0 + lever * lever / GYRATION)
    stop = -slide / (1.0 + lever_along * lever_along / GYRATION)
    limit = _FRICTION * push
    scrape = np.minimum(np.maximum(stop, -limit), limit)
    remaining = np.where(leaning, _REMAINING_LEANING, _REMAINING_AT_IMPACT)
    body[VELOCITY_X] = remaining * (body[VELOCITY_X] + push * normal_x + scrape * along_x)
    body[VELOCITY_Y] = remaining * (body[VELOCITY_Y] + push * normal_y + scrape * along_y)
    body[YAW_RATE] = remaining * (body[YAW_RATE] + (lever * push + lever_along * scrape) / GYRATION)
