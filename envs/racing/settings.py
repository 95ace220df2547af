"""The keywords of the racing environments, checked before anything is built."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from orl.arrays import Float64Array, IntArray
from orl.envs.checks import check_choice, is_number, is_whole, require
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
        for name in ("difficulty", "mirror", "reverse", "contact_weight", "laps"):
            _check(name, getattr(self, name))
        for track, seed in zip(self.track, self.track_seed, strict=True):
            check_track_choice(track, seed, self.difficulty)
        for name, choices in (("observation", OBSERVATIONS), ("reward", REWARDS), ("start", STARTS)):
            check_choice(name, getattr(self, name), choices)


def _is_factor(value: Any) -> bool:
    return is_number(value) and value > 0.0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {  # what a keyword must be, as a test and in words
    "grip": (_is_factor, "a finite number > 0 (1.0 is the standard car)"),
    "mass": (_is_factor, "a finite number > 0 (1.0 is the standard car)"),
    "delay": (lambda n: is_whole(n) and 0 <= n <= MAX_DELAY, f"a whole number of decisions from 0 to {MAX_DELAY}"),
    "difficulty": (lambda share: is_number(share) and 0.0 <= share <= 1.0, "a number in [0, 1]"),
    "mirror": (_is_flag, "True or False"),
    "reverse": (_is_flag, "True or False"),
    "contact_weight": (lambda weight: is_number(weight) and weight >= 0.0, "a number >= 0"),
    "laps": (lambda n: n is None or (is_whole(n) and n >= 1), "a whole number >= 1, or None for no end"),
}


def _check(name: str, value: object) -> None:
    is_right, wanted = _RULES[name]
    require(is_right(value), name, wanted, value)


def make_settings(num_cars: int, **keywords: Any) -> RacingSettings:
    """Check the keywords and give every car its own track, seed, grip, mass and delay.

    Args:
        num_cars: E.
        keywords: fields of `RacingSettings`; `track` (mania), `track_seed` (None), `grip` (1), `mass` (1) and `delay`
            (0) are one value for all cars, or one for each.

    Raises:
        TypeError: an unknown keyword; the message lists those that there are.
        ValueError: a value that is unknown or out of range; the message names it and the values that would do.
    """
    names = [field.name for field in fields(RacingSettings)]
    for key, value in keywords.items():
        if key not in names:
            raise TypeError(f"unknown keyword {key!r} with value {value!r}: choose from {', '.join(names)}")
    chosen = {"track": "mania", "track_seed": None, "grip": 1.0, "mass": 1.0, "delay": 0} | keywords
    for name in ("track", "track_seed"):
        chosen[name] = tuple(_per_car(name, chosen[name], num_cars))
    for name, kind in (("grip", np.float64), ("mass", np.float64), ("delay", np.int64)):
        chosen[name] = np.array(_per_car(name, chosen[name], num_cars), kind)
    return RacingSettings(**chosen)


def check_track_choice(name: str, seed: int | None, difficulty: float) -> None:
    """Raise a ValueError unless `name` is a track and `seed` is None or fits it."""
    check_choice("track", name, TRACKS)
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
        if key not in ("track", "track_seed"):
            require(is_number(value), f"reset option {key!r}", "a finite number", value)
    speed = chosen.get("speed", 0.0)
    require(0.0 <= speed <= MAX_START_SPEED, "reset option 'speed'", f"in [0, {MAX_START_SPEED}] m/s", speed)
    return chosen


def _per_car(name: str, value: Any, num_cars: int) -> list[Any]:
    """One value for each car, checked where there is a rule."""
    is_shared = isinstance(value, str) or not isinstance(value, Sequence | np.ndarray)
    values = [value] * num_cars if is_shared else list(value)
    if len(values) != num_cars:
        raise ValueError(f"{name} has {len(values)} values for {num_cars} cars: give one, or one per car")
    for each in values if name in _RULES else ():
        _check(name, each)
    return values
