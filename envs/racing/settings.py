"""The keywords of the racing environments, checked before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from orl.arrays import Float64Array, IntArray
from orl.envs.racing.circuits import PROCEDURAL_SPLIT, TRACKS, make_track
from orl.envs.vector import Info

OBSERVATIONS = ("rays", "rays_body", "lookahead")
REWARDS = ("mania", "paper", "signed")
STARTS = ("box", "anywhere")
MAX_DELAY = 5
MAX_START_SPEED = 10.0  # m/s
_RESET_OPTIONS = ("track", "track_seed", "s", "lateral", "heading", "speed")


@dataclass(frozen=True)
class RacingSettings:
    """The settings that the cars of one environment share, and those of single cars.

    Attributes:
        track: One name of `TRACKS` per car.
        track_seed: One procedural seed per car; None draws one of the training seeds in every episode.
        grip, mass: (E,) factors on the tyres' grip and on 750 kg, > 0.
        delay: (E,) whole decisions of 0.1 s between an action and its execution, 0 to 5.
        observation, reward, start: See `RacingEnv`.
        mirror, reverse, difficulty: See `circuits.make_track`.
        contact_weight: Weight of the speed (reward per m/s) in the wall penalty of the `paper` reward, >= 0.
        laps: Completed laps after which an episode terminates; None never terminates.
    """

    track: tuple[str, ...]
    track_seed: tuple[int | None, ...]
    grip: Float64Array
    mass: Float64Array
    delay: IntArray
    observation: str = "rays"
    reward: str = "mania"
    start: str = "box"
    mirror: bool = False
    reverse: bool = False
    difficulty: float = 0.5
    contact_weight: float = 1.0
    laps: int | None = None

    def __post_init__(self) -> None:
        if not _is_number(self.difficulty) or not 0.0 <= self.difficulty <= 1.0:
            raise ValueError(f"difficulty must be a number in [0, 1], got {self.difficulty!r}")
        for name, seed in zip(self.track, self.track_seed, strict=True):
            check_track_choice(name, seed, self.difficulty)
        for key, choices in (("observation", OBSERVATIONS), ("reward", REWARDS), ("start", STARTS)):
            _check_choice(key, getattr(self, key), choices)
        for key in ("mirror", "reverse"):
            if not isinstance(getattr(self, key), bool | np.bool_):
                raise ValueError(f"{key} must be True or False, got {getattr(self, key)!r}")
        if not _is_number(self.contact_weight) or self.contact_weight < 0.0:
            raise ValueError(f"contact_weight must be a number >= 0, got {self.contact_weight!r}")
        if self.laps is not None and (not _is_whole(self.laps) or self.laps < 1):
            raise ValueError(f"laps must be a whole number >= 1, or None for no end, got {self.laps!r}")


def make_settings(
    num_cars: int,
    *,
    track: str | Sequence[str] = "mania",
    track_seed: int | Sequence[int | None] | None = None,
    grip: float | Sequence[float] = 1.0,
    mass: float | Sequence[float] = 1.0,
    delay: int | Sequence[int] = 0,
    **shared: Any,
) -> RacingSettings:
    """Check the keywords and give every car its own track, seed, grip, mass and delay.

    Args:
        num_cars: E.
        track, track_seed, grip, mass, delay: one value for all cars, or one for each.
        shared: the other fields of `RacingSettings`.

    Raises:
        TypeError: an unknown keyword; the message lists those that there are.
        ValueError: a value that is unknown or out of range; the message names it and the values that would do.
    """
    names = [field.name for field in fields(RacingSettings)]
    for key, value in shared.items():
        if key not in names:
            raise TypeError(f"unknown keyword {key!r} with value {value!r}: choose from {', '.join(names)}")
    return RacingSettings(
        tuple(_per_car("track", track, num_cars)),
        tuple(_per_car("track_seed", track_seed, num_cars)),
        _factors("grip", grip, num_cars),
        _factors("mass", mass, num_cars),
        _delays(delay, num_cars),
        **shared,
    )


def check_track_choice(name: str, seed: int | None, difficulty: float) -> None:
    """Raise a ValueError unless `name` is a track and `seed` is None or fits it."""
    _check_choice("track", name, TRACKS)
    if name == "procedural":
        make_track(name, track_seed=PROCEDURAL_SPLIT["train"][0] if seed is None else seed, difficulty=difficulty)
    elif seed is not None:
        raise ValueError(f"track_seed={seed!r} has no meaning on track {name!r}: use track='procedural'")


def check_reset_options(options: Info | None) -> Info:
    """Check the options of `reset`, the choice of a track aside; return them as a new dict without those that are None.

    Raises:
        ValueError: an unknown key, or a value that is not a finite number or out of range.
    """
    chosen = {key: value for key, value in (options or {}).items() if value is not None}
    for key, value in chosen.items():
        if key not in _RESET_OPTIONS:
            raise ValueError(f"unknown reset option {key!r}: choose from {', '.join(_RESET_OPTIONS)}")
        if key in ("s", "lateral", "heading", "speed") and not _is_number(value):
            raise ValueError(f"reset option {key!r} must be a finite number, got {value!r}")
    if not 0.0 <= chosen.get("speed", 0.0) <= MAX_START_SPEED:
        raise ValueError(f"reset option 'speed' must be in [0, {MAX_START_SPEED}] m/s, got {chosen['speed']!r}")
    return chosen


def _check_choice(key: str, value: object, choices: tuple[str, ...]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"unknown {key} {value!r}: choose one of {', '.join(choices)}")


def _per_car(key: str, value: object, num_cars: int) -> list[Any]:
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        return [value] * num_cars
    if len(value) != num_cars:
        raise ValueError(f"{key} has {len(value)} values for {num_cars} cars: give one, or one per car")
    return list(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _factors(key: str, value: object, num_cars: int) -> Float64Array:
    values = _per_car(key, value, num_cars)
    for number in values:
        if not _is_number(number) or number <= 0.0:
            raise ValueError(f"{key} must be a finite number > 0 (1.0 is the standard car), got {number!r}")
    return np.array(values, dtype=np.float64)


def _delays(value: object, num_cars: int) -> IntArray:
    values = _per_car("delay", value, num_cars)
    for number in values:
        if not _is_whole(number) or not 0 <= number <= MAX_DELAY:
            raise ValueError(f"delay must be a whole number of decisions from 0 to {MAX_DELAY}, got {number!r}")
    return np.array(values, dtype=np.int64)
