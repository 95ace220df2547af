"""The circuits: five drawn ones and a procedural family with fixed training, validation and test seeds.

| name       | lap m | width m | what it asks for                                             |
|------------|-------|---------|--------------------------------------------------------------|
| mania      | 279   | 7.3     | five tight corners and a wide one: 5 right, 1 left           |
| oval       | 194   | 7.3     | nothing but holding a line                                   |
| hairpins   | 206   | 7.3     | four tight half turns and quarter turns in alternating sense |
| chicane    | 265   | 7.3     | quick changes of direction                                   |
| speedway   | 329   | 11.0    | throttle control: four wide bends                            |
| procedural | 170-400 | 7.3   | generalization: one circuit per `track_seed` and difficulty  |

All are drawn for this package. Every one can be mirrored (left and right swapped) and reversed (driven the other way).
"""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np

from orl.arrays import Float64Array
from orl.envs.checks import check_choice, is_whole, require
from orl.envs.racing.track import NUM_POINTS, Arc, Straight, Track, track_from_pieces, track_from_points

TRACKS = ("mania", "oval", "hairpins", "chicane", "speedway", "procedural")
PROCEDURAL_SPLIT = {"train": range(0, 100), "validation": range(1_000, 1_020), "test": range(10_000, 10_050)}

_HALF_WIDTH = 3.65  # m: 7.3 m from wall to wall
_MAX_ATTEMPTS = 500

# From the first corner to the start straight: lengths of straights in m, and bends (radius in m, degrees to the left).
# fmt: off
_BUMP = ((9, 45), (9, -90), (9, 45))
_DIP = ((9, -45), (9, 90), (9, -45))
_LAYOUTS: dict[str, tuple[float, tuple[float | tuple[float, float], ...]]] = {
    "mania": (_HALF_WIDTH, ((5, -90), 20, (5, -90), 25, (5, 90), 23, (5, -90), 42, (5, -90), 33, (25, -90), 57)),
    "oval": (_HALF_WIDTH, ((15, -180), 50, (15, -180), 50)),
    "hairpins": (_HALF_WIDTH, ((5.5, -180), 23, (5.5, 180), 23, (5.5, -180), 34.5, (5.5, -90), 22, (5.5, -90), 34.5)),
    "chicane": (_HALF_WIDTH, (*_BUMP, 8, *_DIP, 4, (14, -180), 12, *_BUMP, 8, *_DIP, 12, (14, -180), 20)),
    "speedway": (5.5, ((12, -90), 32, (16, -90), 84, (20, -90), 16, (24, -90), 84)),
}
# fmt: on


def make_track(
    name: str, *, track_seed: int = 0, difficulty: float = 0.5, mirror: bool = False, reverse: bool = False
) -> Track:
    """Build a circuit by name; equal arguments give the same (immutable) object.

    Args:
        name: One of `TRACKS`.
        track_seed: Which procedural circuit, >= 0; `PROCEDURAL_SPLIT` names the training, validation and test seeds.
        difficulty: In [0, 1]; how uneven a procedural circuit is.
        mirror: Swap left and right.
        reverse: Drive the other way round.

    Raises:
        ValueError: an unknown name, a negative seed, a difficulty outside [0, 1].
    """
    check_choice("track", name, TRACKS)
    if name != "procedural":
        return _drawn(name, bool(mirror), bool(reverse))
    if not is_whole(track_seed) or track_seed < 0:
        raise ValueError(f"track_seed must be an integer >= 0, got {track_seed!r}: training seeds are 0 to 99")
    require(0.0 <= difficulty <= 1.0, "difficulty", "in [0, 1]", difficulty)
    return _procedural(int(track_seed), float(difficulty), bool(mirror), bool(reverse))


@cache
def _drawn(name: str, mirror: bool, reverse: bool) -> Track:
    half_width, layout = _LAYOUTS[name]
    pieces = tuple(Arc(*map(float, part)) if isinstance(part, tuple) else Straight(float(part)) for part in layout)
    if reverse:
        pieces = (*pieces[-2::-1], pieces[-1])
    if mirror != reverse:
        pieces = tuple(Arc(p.radius, -p.angle) if isinstance(p, Arc) else p for p in pieces)
    return track_from_pieces(_label(name, mirror, reverse), pieces, half_width, 0.0 if reverse else 180.0)


@lru_cache(maxsize=512)
def _procedural(track_seed: int, difficulty: float, mirror: bool, reverse: bool) -> Track:
    generator = np.random.default_rng([track_seed, round(difficulty * 1_000_000)])
    name = _label(f"procedural-{track_seed}", mirror, reverse)
    for _ in range(_MAX_ATTEMPTS):
        points = _closed_curve(_jittered_ring(generator, difficulty))
        if mirror:
            points = points * np.array([1.0, -1.0])
        if not reverse:  # the ring is drawn anticlockwise; the family is driven clockwise, like the others
            points = points[::-1]
        try:
            return track_from_points(name, _begin_on_straight(points), _HALF_WIDTH)
        except ValueError:
            continue
    raise ValueError(f"no valid circuit for track_seed {track_seed}, difficulty {difficulty} in {_MAX_ATTEMPTS} tries")


def _label(name: str, mirror: bool, reverse: bool) -> str:
    return name + "-mirrored" * mirror + "-reversed" * reverse


def _jittered_ring(generator: np.random.Generator, difficulty: float) -> Float64Array:
    """Draw 8 to 12 control points (M, 2) in m around the origin, anticlockwise."""
    num_points = 8 + int(generator.integers(0, 3)) + round(2 * difficulty)
    spread = generator.uniform(-1.0, 1.0, size=(num_points, 2))
    stretch = generator.uniform(0.7, 1.0)
    angle = (np.arange(num_points) + 0.3 * spread[:, 0]) * (2.0 * np.pi / num_points)
    radius = 44.0 * (1.0 + (0.15 + 0.7 * difficulty) * spread[:, 1])
    points: Float64Array = np.stack([radius * np.cos(angle), stretch * radius * np.sin(angle)], axis=1).round(6)
    return points


def _closed_curve(control: Float64Array) -> Float64Array:
    """Draw the closed cubic B-spline of control points (M, 2): twice continuously differentiable."""
    share = (np.arange(64) / 64.0)[:, None]
    weights = (
        (1.0 - share) ** 3,
        3.0 * share**3 - 6.0 * share**2 + 4.0,
        -3.0 * share**3 + 3.0 * share**2 + 3.0 * share + 1.0,
        share**3,
    )
    # (control point, share, coordinate): every piece is drawn by the four control points from its own on
    terms = [weight * np.roll(control, -k, axis=0)[:, None] for k, weight in enumerate(weights)]
    curve: Float64Array = np.sum(terms, axis=0).reshape(-1, 2) / 6.0
    return curve


def _begin_on_straight(points: Float64Array) -> Float64Array:
    """Rotate a closed curve (M, 2) so that it begins at the end of its straightest stretch (a sixteenth of it)."""
    direction = np.roll(points, -1, axis=0) - points
    direction = direction / np.sqrt((direction**2).sum(axis=1, keepdims=True))
    after = np.roll(direction, -1, axis=0)
    turn = np.abs(direction[:, 0] * after[:, 1] - direction[:, 1] * after[:, 0])
    stretch = max(len(points) * 20 // NUM_POINTS, 1)
    turned = np.cumsum(np.concatenate([turn[-stretch:], turn]))
    total = np.round(turned[stretch:] - turned[:-stretch], 6)
    return np.roll(points, -int(total.argmin()), axis=0)
