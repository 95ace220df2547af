"""The three observations of the racing world, and their spaces.

* `rays` (33): 15 x (1 on a miss, distance / 25 m), then world velocity x, vertical (always 0) and y in m/s;
* `rays_body` (33): the same rays, then forward and leftward velocity (m/s) and yaw rate (rad/s, anticlockwise);
* `lookahead` (51): `rays_body`, then 8 points of the centre line ahead in the frame of the car (forward, leftward; in
  units of 25 m; 1 m to 4 m apart, growing with speed), then the previous action.

Source of the first: the ML-Agents sensor of OfflineMania as seen in its data (arXiv 2407.09415).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Space

from orl.arrays import Float32Array, Float64Array
from orl.envs.racing.physics import COSINE, SINE, VELOCITY_X, VELOCITY_Y, YAW_RATE, X, Y
from orl.envs.racing.rays import NUM_RAYS, ray_observation
from orl.envs.racing.simulation import RacingSimulation
from orl.envs.racing.track import NUM_POINTS, RAY_RANGE

MAX_VELOCITY = 20.0  # m/s or rad/s: the bound of the space, far above what the car can do
_NUM_AHEAD = 8
_MIN_STEP, _STEP_PER_SPEED, _MAX_STEP = 1.0, 0.3, 4.0  # m, s, m: distance between points ahead


def observation_space(kind: str) -> Space[Any]:
    """The space of one car's observation of a kind in `settings.OBSERVATIONS`."""
    low, high = [0.0] * (2 * NUM_RAYS), [1.0] * (2 * NUM_RAYS)
    low, high = low + [-MAX_VELOCITY] * 3, high + [MAX_VELOCITY] * 3
    if kind == "lookahead":
        extra = [2.0] * (2 * _NUM_AHEAD) + [1.0] * 2
        low, high = low + [-bound for bound in extra], high + extra
    return Box(np.array(low, dtype=np.float32), np.array(high, dtype=np.float32), dtype=np.float32)


def observe(simulation: RacingSimulation) -> Float32Array:
    """What all cars observe now: a new array (E, 33) or (E, 51)."""
    state, kind = simulation.state, simulation.settings.observation
    body = state["body"]
    rays = ray_observation(simulation.rays.cast(body, state["track"], state["cell"]))
    if kind == "rays":
        motion = [body[VELOCITY_X], np.zeros(simulation.num_cars), body[VELOCITY_Y]]
    else:
        forward = body[VELOCITY_X] * body[COSINE] + body[VELOCITY_Y] * body[SINE]
        motion = [forward, body[VELOCITY_Y] * body[COSINE] - body[VELOCITY_X] * body[SINE], body[YAW_RATE]]
    parts = [rays, np.clip(np.stack(motion, axis=1), -MAX_VELOCITY, MAX_VELOCITY)]
    if kind == "lookahead":
        parts += [_points_ahead(simulation), state["history"][0]]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _points_ahead(simulation: RacingSimulation) -> Float64Array:
    state, table = simulation.state, simulation.table
    body, track = state["body"], state["track"]
    speed = np.sqrt(body[VELOCITY_X] * body[VELOCITY_X] + body[VELOCITY_Y] * body[VELOCITY_Y])
    step = np.minimum(_MIN_STEP + _STEP_PER_SPEED * speed, _MAX_STEP)
    at = (state["arc"][:, None] + np.arange(1, _NUM_AHEAD + 1) * step[:, None]) / table.spacing[track][:, None]
    cell = at.astype(np.int64)
    row = table.cells[track[:, None] * NUM_POINTS + cell % NUM_POINTS]
    share = at - cell
    x = row[..., 0] + share * (row[..., 4] - row[..., 0]) - body[X][:, None]
    y = row[..., 1] + share * (row[..., 5] - row[..., 1]) - body[Y][:, None]
    cosine, sine = body[COSINE][:, None], body[SINE][:, None]
    points = np.stack([x * cosine + y * sine, y * cosine - x * sine], axis=-1) / RAY_RANGE
    return np.clip(points, -2.0, 2.0).reshape(simulation.num_cars, 2 * _NUM_AHEAD)
