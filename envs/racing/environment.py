"""The racing environments, of one car and of many, after OfflineMania (Macaluso et al. 2024, arXiv 2407.09415).

Geometry and code are our own. Deviations from the original: progress is the true distance along the centre line (the
original's jumps at corners); actions outside [-1, 1] are refused; the car does not bounce; a contact counts once, in
the decision in which it begins, and may occur in any of the five sub-steps of it. Version history: v0, the first one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from orl.arrays import Array, BoolArray, Float32Array, Float64Array, IntArray
from orl.envs.checks import check_render_mode, check_started
from orl.envs.racing.observations import observation_space, observe
from orl.envs.racing.render import render_car
from orl.envs.racing.settings import make_settings
from orl.envs.racing.simulation import RacingSimulation
from orl.envs.racing.track import Track
from orl.envs.vector import ArrayVectorEnv, Info, Seeds, check_reset_mask

MAX_EPISODE_STEPS = 2_000
_TOLERANCE = 1e-3  # how far an action may lie beyond its bounds
_CAR = np.array([0])


class RacingEnv(gymnasium.Env[Float32Array, Array]):
    """Drive as far as possible in 200 s without touching a wall.

    Action: (2,) float32 in [-1, 1]: steering (-1 left, 1 right: 30 degrees), throttle (-1 brakes and reverses). Half
    throttle is faster than full throttle, which spins the wheels. An action holds for 0.1 s.

    Observation: (33,) or (51,) float32, see `observations.py`.

    Episode: starts at rest in a box before the first corner. It never terminates (unless `laps` is given), and
    `gymnasium.make` truncates it after 2,000 decisions.

    Info, always the same keys: `progress` (m since the start, less when driving back), `s` (m from the gate along the
    centre line), `lap` (laps between the car and the first gate it meets; -1 before), `laps_completed`,
    `lap_completed` (in this step), `lap_time` and `best_lap_time` (s, from gate to gate, 0.0 before the first lap),
    `collision`, `collisions` (number of separate contacts), `off_center` (m to the left), `speed` (m/s),
    `heading_error` (rad to the left of the road), `wrong_way`, `reward_progress`, `reward_collision`, `x`, `y` (m),
    `heading` (rad), `track_seed` (-1 unless procedural).

    Args:
        track: mania, oval, hairpins, chicane, speedway or procedural.
        observation: rays, rays_body or lookahead.
        reward: mania: metres beyond the best position so far, minus 2 + 50 |v|^2 in a step in which a contact with a
            wall begins, v the velocity after the step (m/s); paper: the same progress, minus `contact_weight` |v| in
            every step with contact; signed: metres driven forwards or backwards, minus the penalty of mania.
        start: box, or anywhere on the track.
        mirror, reverse: Swap left and right; drive the other way round.
        track_seed: Which procedural circuit; None draws one of the seeds 0 to 99 in every episode.
        difficulty: In [0, 1], of procedural circuits.
        grip, mass: Factors > 0 on the grip of the tyres and on 750 kg.
        delay: Decisions (0.1 s) between an action and its execution, 0 to 5; the car coasts until then.
        contact_weight: See `reward`.
        laps: Terminate after this many completed laps.
        render_mode: None or rgb_array.

    Raises:
        TypeError: an unknown keyword.
        ValueError: a keyword's value that is out of range.
    """

    metadata: ClassVar[Info] = {"render_modes": ["rgb_array"], "render_fps": 10}  # type: ignore[misc]

    def __init__(self, *, render_mode: str | None = None, **keywords: Any) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.simulation = RacingSimulation(1, make_settings(1, **keywords))
        self.observation_space = observation_space(self.simulation.settings.observation)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self._is_started = False

    @property
    def track(self) -> Track:
        """The track of the current episode."""
        return self.simulation.track_of(0)

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Float32Array, Info]:
        """Begin an episode.

        Args:
            seed: Seeds all randomness of this and the following episodes.
            options: For this episode: `track`, `track_seed`, `s` (m from the gate), `lateral` (m to the left),
                `heading` (rad to the left of the road), `speed` (m/s, 0 to 10).

        Raises:
            ValueError: an unknown option or a value out of range.
        """
        super().reset(seed=seed)
        self.simulation.reset(_CAR, [self.np_random], options)
        self._is_started = True
        return observe(self.simulation)[0], self._info()

    def step(self, action: Array) -> tuple[Float32Array, float, bool, bool, Info]:
        """Drive for 0.1 s.

        Args:
            action: (2,) steering and throttle in [-1, 1].

        Raises:
            ValueError: before `reset`, or an action of another shape, not finite, or out of bounds by more than 1e-3.
        """
        check_started(self._is_started, "step")
        rewards, terminated = self.simulation.step(_checked_actions(np.asarray(action)[None], 1))
        return observe(self.simulation)[0], float(rewards[0]), bool(terminated[0]), False, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """Draw the track and the car from above: (480, 640, 3) uint8; None without a render mode.

        Raises:
            ValueError: before `reset`.
        """
        check_started(self._is_started, "render")
        return None if self.render_mode is None else render_car(self.simulation, 0)

    def get_state(self) -> Info:
        """Copy the whole state, generator included, for an exact return with `set_state`."""
        return {
            "simulation": self.simulation.get_state(),
            "generator": self.np_random.bit_generator.state,
            "is_started": self._is_started,
        }

    def set_state(self, state: Info) -> None:
        """Return to a state of `get_state`, of this or another environment made with the same keywords.

        Raises:
            ValueError: not such a state.
        """
        self.simulation.set_state(state.get("simulation", {}))
        self.np_random.bit_generator.state = state["generator"]
        self._is_started = state["is_started"]

    def _info(self) -> Info:
        return {name: array[0].item() for name, array in self.simulation.info().items()}


class RacingVectorEnv(ArrayVectorEnv):
    """`num_envs` cars that never meet; car i equals `RacingEnv` with seed + i, bit for bit.

    Args:
        num_envs: Number of cars, >= 1.
        max_episode_steps, autoreset_mode: As of `ArrayVectorEnv`.
        render_mode: None or rgb_array (one frame per car).
        keywords: Those of `RacingEnv`; `track`, `track_seed`, `grip`, `mass` and `delay` also take one value per car.

    Raises:
        TypeError: an unknown keyword.
        ValueError: a keyword's value that is out of range.
    """

    metadata = RacingEnv.metadata
    nouns = ("car", "cars")

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = MAX_EPISODE_STEPS,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        observations, actions = observation_space(keywords.get("observation", "rays")), Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(num_envs, observations, actions, max_episode_steps, autoreset_mode, render_mode)
        self.simulation = RacingSimulation(self.num_envs, make_settings(self.num_envs, **keywords))

    @property
    def tracks(self) -> tuple[Track, ...]:
        """The track of every car in its current episode."""
        return tuple(self.simulation.track_of(car) for car in range(self.num_envs))

    def reset(self, *, seed: Seeds = None, options: Info | None = None) -> tuple[Float32Array, Info]:
        """Begin an episode of every car, or of those in `options["reset_mask"]` (E,) bool.

        Args:
            seed: Car i is seeded with seed + i; a sequence gives every car its own.
            options: As in `RacingEnv.reset`, for all cars that are reset.

        Raises:
            ValueError: an unknown option, a value out of range, or a mask that is not (E,) bool with a True in it.
        """
        options = dict(options or {})
        mask = check_reset_mask(options.pop("reset_mask", None), self.num_envs)
        return self._begin(seed, mask, options)

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """Draw every car: a tuple of E frames (480, 640, 3) uint8; None without a render mode.

        Raises:
            ValueError: before `reset`.
        """
        check_started(self._is_started, "render")
        if self.render_mode is None:
            return None
        return tuple(render_car(self.simulation, car) for car in range(self.num_envs))

    def get_state(self) -> Info:
        """See the base class."""
        return super().get_state() | {"simulation": self.simulation.get_state()}

    def set_state(self, state: Info) -> None:
        """See the base class."""
        self.simulation.set_state(state.get("simulation", {}))
        super().set_state(state)

    def _restart(self, copies: IntArray, options: Info) -> None:
        self.simulation.reset(copies, [self._generators[car] for car in copies], options)

    def _advance(self, actions: Array) -> tuple[Float64Array, BoolArray]:
        return self.simulation.step(_checked_actions(actions, self.num_envs))

    def _elapsed_steps(self) -> IntArray:
        return self.simulation.state["steps"]

    def _observe(self) -> Float32Array:
        return observe(self.simulation)

    def _info(self) -> dict[str, Array]:
        return self.simulation.info()


def _checked_actions(actions: Array, num_cars: int) -> Float64Array:
    """Return actions (E, 2) as float64 within [-1, 1].

    Raises:
        ValueError: another shape, NaN or infinity, or out of bounds by more than 1e-3.
    """
    if actions.shape != (num_cars, 2):
        raise ValueError(f"actions must have shape {(num_cars, 2)} (steering, throttle), got {actions.shape}")
    values: Float64Array = actions.astype(np.float64)
    if not np.abs(values).max() <= 1.0 + _TOLERANCE:
        raise ValueError(
            f"actions must be finite and in [-1, 1], got {values.ravel().tolist()[:8]}: clip them, for instance with "
            "gymnasium.wrappers.ClipAction"
        )
    return np.minimum(np.maximum(values, -1.0), 1.0)
