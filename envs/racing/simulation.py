"""The race itself: any number of independent cars, each on its own track, stepped together.

`RacingEnv` is one car of this, `RacingVectorEnv` many; the same code runs both, so they agree bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np

from orl.arrays import Array, BoolArray, Float64Array, IntArray
from orl.envs.checks import require
from orl.envs.racing.circuits import PROCEDURAL_SPLIT, make_track
from orl.envs.racing.physics import COSINE, DECISION, SINE, SUBSTEPS, VELOCITY_X, VELOCITY_Y, X, Y, advance, controls
from orl.envs.racing.rays import RayCaster
from orl.envs.racing.settings import MAX_DELAY, RacingSettings, check_reset_options, check_track_choice
from orl.envs.racing.track import NUM_POINTS, Track, normal_of
from orl.envs.racing.walls import TrackTable, collide, lateral_offset
from orl.envs.vector import Info

_BOX_END, _BOX_LENGTH = -2.0, 12.0  # m: the start box ends this far from the gate
_LATERAL, _MARGIN = 2.0, 1.65  # m: from the centre line at most; to the walls at least
_ANGLE = math.radians(30.0)
_CLEARANCE = 0.7  # m from the centre of the car to a wall at the start
_STATE = (  # of every car
    (np.float64, "arc position start best gate_time lap_time best_lap_time share lateral"),
    (np.int64, "track track_seed cell next_gate steps collisions"),
    (np.bool_, "touching contact_began lap_completed"),
    (np.float64, "reward_progress reward_collision"),
)


class RacingSimulation:
    """State and rules of `num_cars` cars.

    Attributes:
        settings: The checked keywords.
        table: The tracks in use; `state["track"]` holds a row of it per car.
        rays: Ray caster over the same tracks.
        state: All that changes, as arrays with one entry per car (last axis of `body`, second of `history`).
    """

    def __init__(self, num_cars: int, settings: RacingSettings) -> None:
        self.num_cars = num_cars
        self.settings = settings
        self._rows: dict[tuple[str, int], int] = {}
        self._tracks: list[Track] = []
        self._use([self._track_key(car, 0.0, {}) for car in range(num_cars)])
        self.state: dict[str, Array] = {}
        for kind, names in _STATE:
            self.state |= {name: np.zeros(num_cars, kind) for name in names.split()}
        self.state["body"] = np.zeros((7, num_cars))
        self.state["history"] = np.zeros((MAX_DELAY + 1, num_cars, 2))

    def track_of(self, car: int) -> Track:
        """The track that a car is on."""
        return self._tracks[int(self.state["track"][car])]

    def reset(self, cars: IntArray, generators: Sequence[np.random.Generator], options: Info | None) -> None:
        """Put cars (n,) where they start; every generator gives exactly four numbers.

        Raises:
            ValueError: options that are unknown or out of range.
        """
        chosen = check_reset_options(options)
        draws = np.array([generator.random(4) for generator in generators])
        keys = [self._track_key(int(car), draw, chosen) for car, draw in zip(cars, draws[:, 0], strict=True)]
        rows = self._use(keys)
        position, bodies, cells = self._start(rows, draws[:, 1:], chosen)
        state, body = self.state, self.state["body"]
        for array in state.values():
            if array is not body:
                array[(slice(None), cars) if array is state["history"] else cars] = 0
        state["track"][cars] = rows
        state["track_seed"][cars] = [seed for _, seed in keys]
        body[:, cars], state["cell"][cars] = bodies, cells
        state["arc"][cars] = position % self.table.length[rows]
        state["position"][cars] = position
        self._project(cars)
        state["start"][cars] = state["best"][cars] = state["position"][cars]
        state["next_gate"][cars] = position >= 0.0

    def step(self, actions: Float64Array) -> tuple[Float64Array, BoolArray]:
        """Drive all cars for one decision of 0.1 s.

        Args:
            actions: (E, 2) steering and throttle in [-1, 1].

        Returns:
            Rewards (E,) and terminated (E,).
        """
        state, settings = self.state, self.settings
        state["history"] = np.concatenate([actions[None], state["history"][:-1]])
        executed = state["history"][settings.delay, np.arange(self.num_cars)]
        drive, wheel, capacity = controls(executed, settings.grip, settings.mass)
        body, cell = state["body"], state["cell"]
        contact = np.zeros(self.num_cars, dtype=np.bool_)
        for _ in range(SUBSTEPS):
            body = advance(body, drive, wheel, capacity, state["touching"])
            cell, touched = collide(self.table, body, state["track"], cell, state["touching"])
            contact |= touched
        state["body"], state["cell"] = body, cell
        state["contact_began"] = contact & ~state["touching"]
        state["collisions"] = state["collisions"] + state["contact_began"]
        state["touching"] = contact
        before = state["position"].copy()
        self._project(np.arange(self.num_cars))
        state["steps"] = state["steps"] + 1
        self._count_laps(before)
        self._score(before)
        laps = settings.laps
        terminated = np.zeros(self.num_cars, dtype=np.bool_) if laps is None else state["next_gate"] > laps
        return state["reward_progress"] + state["reward_collision"], terminated

    def _track_key(self, car: int, draw: float, chosen: Info) -> tuple[str, int]:
        """Name and seed of the track that a car is to drive on; the seed is -1 unless the track is procedural."""
        name = chosen.get("track", self.settings.track[car])
        configured = self.settings.track_seed[car] if self.settings.track[car] == "procedural" else None
        seed = chosen.get("track_seed", configured if name == "procedural" else None)
        check_track_choice(name, seed, self.settings.difficulty)
        if name == "procedural" and seed is None:
            seeds = PROCEDURAL_SPLIT["train"]
            seed = seeds[int(draw * len(seeds))]
        return name, -1 if seed is None else int(seed)

    def _use(self, keys: Sequence[tuple[str, int]]) -> IntArray:
        """Rows (n,) of tracks in the table, which grows by those that are new."""
        settings, num_before = self.settings, len(self._tracks)
        for name, seed in keys:
            if (name, seed) not in self._rows:
                self._rows[name, seed] = len(self._tracks)
                build = partial(make_track, name, track_seed=max(seed, 0), difficulty=settings.difficulty)
                self._tracks.append(build(mirror=settings.mirror, reverse=settings.reverse))
        if len(self._tracks) > num_before:
            self.table, self.rays = TrackTable(self._tracks), RayCaster(self._tracks)
        return np.array([self._rows[key] for key in keys])

    def _start(self, rows: IntArray, draws: Float64Array, chosen: Info) -> tuple[Float64Array, Float64Array, IntArray]:
        """Where cars on tracks `rows` (n,) start: in a box before the first corner, anywhere, or as the options say.

        Args:
            rows: (n,) of the table.
            draws: (n, 3) in [0, 1): position, lateral offset, angle.
            chosen: Checked options; `s`, `lateral`, `heading` and `speed` replace what was drawn.

        Returns:
            Position (n,) in m, in (-length, 0] with the gate at 0; bodies (7, n); cells (n,).

        Raises:
            ValueError: `s` or `lateral` is outside the track.
        """
        table = self.table
        length, half_width = table.length[rows], np.array([table.tracks[row].half_width for row in rows])
        in_box = self.settings.start == "box"
        position = _BOX_END - _BOX_LENGTH * draws[:, 0] if in_box else -length * (1.0 - draws[:, 0])
        lateral = np.minimum(_LATERAL, half_width - _MARGIN) * (2.0 * draws[:, 1] - 1.0)
        angle = _ANGLE * (2.0 * draws[:, 2] - 1.0)
        if "s" in chosen:
            arc, lap = float(chosen["s"]), length.min()
            require(0.0 <= arc < lap, "reset option 's'", f"in [0, {lap:.2f}) m (the lap length)", arc)
            position = np.where(arc > 0.0, arc - length, 0.0)
        if "lateral" in chosen:
            limit, offset = float(half_width.min()) - _CLEARANCE, chosen["lateral"]
            require(abs(offset) <= limit, "reset option 'lateral'", f"in [{-limit:.2f}, {limit:.2f}] m", offset)
            lateral = np.full(len(rows), float(offset))
        if "heading" in chosen:
            angle = np.full(len(rows), float(chosen["heading"]))
        at = position % length / table.spacing[rows]
        cell = at.astype(np.int64) % NUM_POINTS
        share = (at - np.floor(at))[:, None]
        row = table.cells[rows * NUM_POINTS + cell]
        tangent = row[:, 2:4] + share * (row[:, 6:8] - row[:, 2:4])
        tangent = tangent / np.sqrt(tangent[:, :1] ** 2 + tangent[:, 1:] ** 2)
        point = row[:, 0:2] + share * (row[:, 4:6] - row[:, 0:2]) + lateral[:, None] * normal_of(tangent)
        cosine, sine = np.round(np.cos(angle), 9), np.round(np.sin(angle), 9)
        x, y = tangent.T
        heading = np.stack([x * cosine - y * sine, x * sine + y * cosine])
        heading = heading / np.sqrt(heading[0] ** 2 + heading[1] ** 2)
        velocity = float(chosen.get("speed", 0.0)) * heading
        return position, np.concatenate([point.T, heading, velocity, np.zeros((1, len(rows)))]), cell

    def _project(self, cars: IntArray) -> None:
        """Bring arc position, unwrapped position and lateral offset of cars up to date with their bodies."""
        state = self.state
        track, x, y = state["track"][cars], state["body"][X, cars], state["body"][Y, cars]
        cell, share, row = self.table.locate(x, y, track, state["cell"][cars])
        arc = (cell + share) * self.table.spacing[track]
        length = self.table.length[track]
        moved = arc - state["arc"][cars]
        moved = np.where(moved > 0.5 * length, moved - length, np.where(moved < -0.5 * length, moved + length, moved))
        state["cell"][cars], state["share"][cars], state["arc"][cars] = cell, share, arc
        state["position"][cars] += moved
        state["lateral"][cars] = lateral_offset(x, y, share, row)

    def _count_laps(self, before: Float64Array) -> None:
        """Start or stop the clock of cars that reached their next gate, at the moment they crossed it."""
        state = self.state
        gate = state["next_gate"] * self.table.length[state["track"]]
        crossed = state["position"] >= gate
        moved = np.where(crossed, state["position"] - before, 1.0)
        at = (state["steps"] - 1 + np.where(crossed, gate - before, 0.0) / moved) * DECISION
        completed = crossed & (state["next_gate"] > 0)
        lap_time = np.where(completed, at - state["gate_time"], state["lap_time"])
        first = completed & (state["best_lap_time"] == 0.0)
        best = np.where(first, lap_time, np.minimum(state["best_lap_time"], lap_time))
        state["best_lap_time"] = np.where(completed, best, state["best_lap_time"])
        state["lap_time"], state["lap_completed"] = lap_time, completed
        state["gate_time"] = np.where(crossed, at, state["gate_time"])
        state["next_gate"] = state["next_gate"] + crossed

    def _score(self, before: Float64Array) -> None:
        state, settings = self.state, self.settings
        position, body = state["position"], state["body"]
        square = body[VELOCITY_X] * body[VELOCITY_X] + body[VELOCITY_Y] * body[VELOCITY_Y]
        if settings.reward == "signed":
            state["reward_progress"] = position - before
        else:
            state["reward_progress"] = np.maximum(position - state["best"], 0.0)
        state["best"] = np.maximum(position, state["best"])
        if settings.reward == "paper":
            state["reward_collision"] = np.where(state["touching"], -settings.contact_weight * np.sqrt(square), 0.0)
        else:
            state["reward_collision"] = np.where(state["contact_began"], -2.0 - 50.0 * square, 0.0)

    def info(self) -> dict[str, Array]:
        """Describe all cars: a dict of new arrays (E,), always with the same keys (units in `RacingEnv`)."""
        state, body = self.state, self.state["body"]
        row = self.table.cells[state["track"] * NUM_POINTS + state["cell"]]
        tangent_x = row[:, 2] + state["share"] * (row[:, 6] - row[:, 2])
        tangent_y = row[:, 3] + state["share"] * (row[:, 7] - row[:, 3])
        along = body[COSINE] * tangent_x + body[SINE] * tangent_y
        across = body[SINE] * tangent_x - body[COSINE] * tangent_y
        copied = ("reward_progress", "reward_collision", "lap_completed", "lap_time", "best_lap_time", "collisions")
        return {
            "progress": state["position"] - state["start"],
            "s": state["arc"].copy(),
            "lap": np.floor(state["position"] / self.table.length[state["track"]]).astype(np.int64),
            "laps_completed": np.maximum(state["next_gate"] - 1, 0),
            **{name: state[name].copy() for name in copied},
            "collision": state["touching"].copy(),
            "off_center": state["lateral"].copy(),
            "speed": np.sqrt(body[VELOCITY_X] ** 2 + body[VELOCITY_Y] ** 2),
            "heading_error": np.arctan2(across, along),
            "wrong_way": along < 0.0,
            "x": body[X].copy(),
            "y": body[Y].copy(),
            "heading": np.arctan2(body[SINE], body[COSINE]),
            "track_seed": state["track_seed"].copy(),
        }

    def get_state(self) -> Info:
        """Copy everything that changes, as arrays and plain values."""
        return {"tracks": list(self._rows), "arrays": {name: array.copy() for name, array in self.state.items()}}

    def set_state(self, saved: Info) -> None:
        """Go back to what `get_state` returned, here or in another simulation with the same settings.

        Raises:
            ValueError: a state of another number of cars, or not a state.
        """
        arrays = saved.get("arrays", {})
        if arrays.keys() != self.state.keys() or arrays["body"].shape != (7, self.num_cars):
            raise ValueError(f"not a state of {self.num_cars} cars: pass what get_state() of such an environment gave")
        rows = self._use([(name, seed) for name, seed in saved["tracks"]])
        self.state = {name: array.copy() for name, array in arrays.items()}
        self.state["track"] = rows[self.state["track"]]
