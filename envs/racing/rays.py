"""What a car sees: the distance to the walls along 15 rays.

Rays are in the order of the original sensor: straight ahead, then right and left in turn, 90/7 degrees further on.
Only the walls of nearby cells are looked at (`track.visible_window` proves that the others can't be seen), and
only the crossings are worked out: a ray crosses a wall segment when the ends of the segment lie on either side of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from orl.arrays import Float32Array, Float64Array, IntArray
from orl.envs.racing.physics import COSINE, SINE, X, Y
from orl.envs.racing.track import NUM_POINTS, RAY_RANGE, Track

NUM_RAYS = 15
RAY_ANGLES = tuple(
    (0.0 if k == 0 else math.copysign((k + 1) // 2 * 90.0 / 7.0, -1.0 if k % 2 else 1.0)) for k in range(NUM_RAYS)
)  # degrees anticlockwise from straight ahead

_CHUNK = 60_000  # numbers in a temporary array: few enough to stay in the cache
_RAY_COSINE = np.round([math.cos(math.radians(angle)) for angle in RAY_ANGLES[::2]], 9)
_RAY_SINE = np.round([math.sin(math.radians(angle)) for angle in RAY_ANGLES[::2]], 9)


class RayCaster:
    """The walls of several tracks, ready for ray casting.

    Args:
        tracks: One or more tracks.
        windowed: False looks at every wall of the track, for tests: the result is the same bit for bit.
    """

    def __init__(self, tracks: Sequence[Track], windowed: bool = True) -> None:
        back, ahead = (max(track.window[k] for track in tracks) for k in (0, 1))
        if not windowed or back + ahead >= NUM_POINTS:
            back, ahead = 0, NUM_POINTS - 1
        self._offsets = np.arange(-back, ahead + 2)
        self._walls = np.stack([np.stack([track.left_inset, track.right_inset]) for track in tracks])
        self._walls = np.ascontiguousarray(np.moveaxis(self._walls, 3, 1))

    def cast(self, body: Float64Array, track: IntArray, cell: IntArray) -> Float64Array:
        """Measure how far the cars are from the walls around them.

        Args:
            body: (7, E) as in `physics.py`.
            track: (E,) which of the tracks.
            cell: (E,) the cell that the car is in.

        Returns:
            (E, 15) distances in m, at most `RAY_RANGE`; `RAY_RANGE` where nothing was hit.
        """
        distance = np.empty((body.shape[1], NUM_RAYS))
        num_together = max(_CHUNK // (2 * NUM_RAYS * len(self._offsets)), 1)
        for begin in range(0, body.shape[1], num_together):
            part = slice(begin, begin + num_together)
            distance[part] = self._cast(body[:, part], track[part], cell[part])
        return distance

    def _cast(self, body: Float64Array, track: IntArray, cell: IntArray) -> Float64Array:
        num_cars, num_points = len(cell), len(self._offsets)
        points = (cell[:, None] + self._offsets) % NUM_POINTS
        x = self._walls[track[:, None], 0, :, points] - body[X][:, None, None]
        y = self._walls[track[:, None], 1, :, points] - body[Y][:, None, None]
        cosine, sine = body[COSINE][:, None, None], body[SINE][:, None, None]
        # (car, point, wall) -> (car, wall * point), in the frame of the car
        forward = (x * cosine + y * sine).swapaxes(1, 2).reshape(num_cars, 1, 2 * num_points)
        sideways = (y * cosine - x * sine).swapaxes(1, 2).reshape(num_cars, 1, 2 * num_points)
        straight, tilted = _RAY_COSINE[:, None] * sideways, _RAY_SINE[:, None] * forward
        beside = np.empty((num_cars, NUM_RAYS, 2 * num_points))  # signed distance of the points to the left of the rays
        np.subtract(straight, tilted, out=beside[:, 0::2])
        np.add(straight[:, 1:], tilted[:, 1:], out=beside[:, 1::2])
        return self._nearest(beside.reshape(num_cars * NUM_RAYS, -1), forward[:, 0], sideways[:, 0])

    @staticmethod
    def _nearest(beside: Float64Array, forward: Float64Array, sideways: Float64Array) -> Float64Array:
        """Distance along the rays: (E, 15) from sides (E * 15, 2 * P) and points (E, 2 * P)."""
        num_cars, num_columns = forward.shape
        is_left = beside >= 0.0
        crossed = is_left[:, 1:] != is_left[:, :-1]
        crossed[:, num_columns // 2 - 1] = False  # from the last point of one wall to the first of the other
        ray, first = np.divmod(np.flatnonzero(crossed), crossed.shape[1])
        car = ray // NUM_RAYS
        start_x, start_y = forward[car, first], sideways[car, first]
        area = start_x * sideways[car, first + 1] - start_y * forward[car, first + 1]
        reach = area / (beside[ray, first + 1] - beside[ray, first])
        ray, reach = ray[reach >= 0.0], reach[reach >= 0.0]
        nearest = np.full(num_cars * NUM_RAYS, RAY_RANGE)
        if ray.size > 0:
            begin = np.flatnonzero(np.append(True, ray[1:] != ray[:-1]))  # rays are in ascending order
            nearest[ray[begin]] = np.minimum(np.minimum.reduceat(reach, begin), RAY_RANGE)
        return nearest.reshape(num_cars, NUM_RAYS)


def ray_observation(distance: Float64Array) -> Float32Array:
    """Interleave (E, 15) distances in m into (E, 30): a flag that is 1 on a miss, then the share of the range."""
    share = distance / RAY_RANGE
    observation = np.empty((len(distance), 2 * NUM_RAYS), dtype=np.float32)
    observation[:, 0::2] = distance >= RAY_RANGE
    observation[:, 1::2] = share
    return observation
