"""Where cars start: in a box before the first corner, anywhere, or where the options of `reset` say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from orl.envs.racing.track import NUM_POINTS, Floats, Track, normal_of
from orl.envs.racing.walls import Integers, TrackTable

BOX_END, BOX_LENGTH = -2.0, 12.0  # m: the start box ends this far from the gate
_LATERAL, _MARGIN = 2.0, 1.65  # m: from the centre line at most; to the walls at least
_ANGLE = math.radians(30.0)
_CLEARANCE = 0.7  # m from the centre of the car to a wall that it must start with


def starting_places(
    tracks: Sequence[Track], draws: Floats, start: str, chosen: dict[str, Any]
) -> tuple[Floats, Floats, Floats]:
    """Turn random numbers and options into places.

    Args:
        tracks: The track of each of n cars.
        draws: (n, 3) in [0, 1): position, lateral offset, angle.
        start: box or anywhere.
        chosen: Checked options; `s`, `lateral` and `heading` replace what was drawn.

    Returns:
        Position (m, in (-length, 0], the gate at 0), lateral offset (m to the left) and angle (rad), each (n,).

    Raises:
        ValueError: `s` or `lateral` is outside the track.
    """
    length = np.array([track.length for track in tracks])
    half_width = np.array([track.half_width for track in tracks])
    spread = np.minimum(_LATERAL, half_width - _MARGIN)
    position = BOX_END - BOX_LENGTH * draws[:, 0] if start == "box" else -length * (1.0 - draws[:, 0])
    lateral = spread * (2.0 * draws[:, 1] - 1.0)
    angle = _ANGLE * (2.0 * draws[:, 2] - 1.0)
    if "s" in chosen:
        arc = float(chosen["s"])
        if not 0.0 <= arc < length.min():
            raise ValueError(f"reset option 's' must be in [0, {length.min():.2f}) m (the lap length), got {arc!r}")
        position = np.where(arc > 0.0, arc - length, 0.0)
    if "lateral" in chosen:
        limit = float(half_width.min()) - _CLEARANCE
        if abs(chosen["lateral"]) > limit:
            raise ValueError(
                f"reset option 'lateral' must be in [{-limit:.2f}, {limit:.2f}] m, got {chosen['lateral']!r}"
            )
        lateral = np.full(len(tracks), float(chosen["lateral"]))
    if "heading" in chosen:
        angle = np.full(len(tracks), float(chosen["heading"]))
    return position, lateral, angle


def starting_bodies(
    table: TrackTable, rows: Integers, places: tuple[Floats, Floats, Floats], speed: float
) -> tuple[Floats, Integers]:
    """Bodies (7, n) and cells (n,) of cars on tracks `rows` (n,) at `places`, at `speed` m/s where they point."""
    position, lateral, angle = places
    at = position % table.length[rows] / table.spacing[rows]
    cell = at.astype(np.int64) % NUM_POINTS
    share = (at - np.floor(at))[:, None]
    row = table.cells[rows * NUM_POINTS + cell]
    tangent = row[:, 2:4] + share * (row[:, 6:8] - row[:, 2:4])
    tangent = tangent / np.sqrt(tangent[:, :1] ** 2 + tangent[:, 1:] ** 2)
    point = row[:, 0:2] + share * (row[:, 4:6] - row[:, 0:2]) + lateral[:, None] * normal_of(tangent)
    cosine, sine = np.round(np.cos(angle), 9), np.round(np.sin(angle), 9)
    heading = np.stack([tangent[:, 0] * cosine - tangent[:, 1] * sine, tangent[:, 0] * sine + tangent[:, 1] * cosine])
    heading = heading / np.sqrt(heading[0] ** 2 + heading[1] ** 2)
    return np.concatenate([point.T, heading, speed * heading, np.zeros((1, len(rows)))]), cell
