"""The keywords of the racing environments, checked before anything is built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    observation: str
    reward: str
    start: str
    mirror: bool
    reverse: bool
    difficulty: float
    contact_weight: float
    laps: int | None


def make_settings(
    num_cars: int,
    *,
    track: str | Sequence[str] = "mania",
    observation: str = "rays",
    reward: str = "mania",
    start: str = "box",
    mirror: bool = False,
    reverse: bool = False,
    track_seed: int | Sequence[int | None] | None = None,
    difficulty: float = 0.5,
    grip: float | Sequence[float] = 1.0,
    mass: float | Sequence[float] = 1.0,
    delay: int | Sequence[int] = 0,
    contact_weight: float = 1.0,
    laps: int | None = None,
    **unknown: object,
) -> RacingSettings:
    """Check the keywords and give every car its own track, seed, grip, mass and delay.

    Raises:
        TypeError: an unknown keyword; the message lists those that there are.
        ValueError: a value that is unknown or out of range; the message names it and the values that would do.
    """
    for key, value in unknown.items():
        choices = ", ".join(make_settings.__kwdefaults__ or {})
        raise TypeError(f"unknown keyword {key!r} with value {value!r}: choose from {choices}")
    if not _is_number(difficulty) or not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"difficulty must be a number in [0, 1], got {difficulty!r}")
    names = tuple(_per_car("track", track, num_cars))
    seeds = tuple(_per_car("track_seed", track_seed, num_cars))
    for name, seed in zip(names, seeds, strict=True):
        check_track_choice(name, seed, difficulty)
    _check_choice("observation", observation, OBSERVATIONS)
    _check_choice("reward", reward, REWARDS)
    _check_choice("start", start, STARTS)
    for key, value in (("mirror", mirror), ("reverse", reverse)):
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{key} must be True or False, got {value!r}")
    if not _is_number(contact_weight) or contact_weight < 0.0:
        raise ValueError(f"contact_weight must be a number >= 0, got {contact_weight!r}")
    if laps is not None and (not _is_whole(laps) or laps < 1):
        raise ValueError(f"laps must be a whole number >= 1, or None for no end, got {laps!r}")
    return RacingSettings(
        track=names,
        track_seed=seeds,
        grip=_checked_factors("grip", grip, num_cars),
        mass=_checked_factors("mass", mass, num_cars),
        delay=_checked_delays(delay, num_cars),
        observation=observation,
        reward=reward,
        start=start,
        mirror=bool(mirror),
        reverse=bool(reverse),
        difficulty=float(difficulty),
        contact_weight=float(contact_weight),
        laps=laps,
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


def _checked_factors(key: str, value: object, num_cars: int) -> Float64Array:
    values = _per_car(key, value, num_cars)
    for number in values:
        if not _is_number(number) or number <= 0.0:
            raise ValueError(f"{key} must be a finite number > 0 (1.0 is the standard car), got {number!r}")
    return np.array(values, dtype=np.float64)


def _checked_delays(value: object, num_cars: int) -> IntArray:
    values = _per_car("delay", value, num_cars)
    for number in values:
        if not _is_whole(number) or not 0 <= number <= MAX_DELAY:
            raise ValueError(f"delay must be a whole number of decisions from 0 to {MAX_DELAY}, got {number!r}")
    return np.array(values, dtype=np.int64)
