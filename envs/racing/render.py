"""Pictures of the racing world from above, with Pillow alone: no display and no GPU is needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from orl.arrays import Float64Array
from orl.envs.racing.physics import CAR_LENGTH, CAR_WIDTH, COSINE, SINE, VELOCITY_X, VELOCITY_Y, X, Y
from orl.envs.racing.rays import NUM_RAYS, RAY_ANGLES
from orl.envs.racing.simulation import RacingSimulation
from orl.envs.racing.track import NUM_POINTS, RAY_RANGE, Track, normal_of

WIDTH, HEIGHT = 640, 480  # pixels
_SAMPLES = 3  # drawn this much larger, then averaged, for smooth edges
_MARGIN = 22  # pixels
_TEXT_SPACE = 26  # pixels

_GRASS, _RUN_OFF, _ASPHALT = (96, 143, 84), (196, 190, 170), (68, 70, 76)
_WALL, _CENTRE_LINE, _RED, _WHITE = (238, 238, 234), (112, 115, 122), (200, 48, 44), (245, 245, 245)
_CAR, _CABIN, _TOUCHING = (255, 176, 32), (40, 44, 60), (235, 64, 52)
_HIT, _MISS = (94, 196, 255), (104, 128, 150)
_KERB_CURVATURE = 0.04  # 1/m
_KERB_WIDTH = 0.7  # m
_CAR_SCALE = 1.5  # drawn larger than it is, to be seen on a whole track


@dataclass(frozen=True)
class View:
    """A map from metres to pixels that fits a track into a picture, y upwards."""

    scale: float
    left: float
    bottom: float
    height: float

    @staticmethod
    def of(track: Track, width: float = WIDTH, height: float = HEIGHT, margin: float = _MARGIN) -> View:
        """Centre a track in a picture of width x height pixels, leaving a strip for a line of text at the foot."""
        x_low, y_low, x_high, y_high = track.bounds
        strip = _TEXT_SPACE * height / HEIGHT
        scale = min((width - 2 * margin) / (x_high - x_low), (height - 2 * margin - strip) / (y_high - y_low))
        left = 0.5 * (width - scale * (x_low + x_high))
        bottom = 0.5 * (height + strip - scale * (y_low + y_high))
        return View(scale, left, bottom, height)

    def pixels(self, points: Float64Array) -> list[tuple[float, float]]:
        """Pixel coordinates of points (n, 2) in m."""
        return [(self.left + self.scale * x, self.height - self.bottom - self.scale * y) for x, y in points.tolist()]


@lru_cache(maxsize=32)
def track_picture(track: Track) -> Image.Image:
    """Draw a track, without cars, `_SAMPLES` times as large as a frame; do not change the result, copy it."""
    size = (WIDTH * _SAMPLES, HEIGHT * _SAMPLES)
    picture = Image.new("RGB", size, _GRASS)
    draw_track(ImageDraw.Draw(picture), track, View.of(track, *size, _MARGIN * _SAMPLES))
    return picture


def draw_track(draw: ImageDraw.ImageDraw, track: Track, view: View) -> None:
    """Draw run-off, walls, asphalt, kerbs, centre line and start gate of a track."""
    normal = normal_of(track.tangent)
    _ring(draw, view, track.left + 1.6 * normal, track.right - 1.6 * normal, _RUN_OFF)
    _ring(draw, view, track.left + 0.45 * normal, track.right - 0.45 * normal, _WALL)
    _ring(draw, view, track.left, track.right, _ASPHALT)
    curvature = track.curvature
    for i in range(NUM_POINTS):
        after = (i + 1) % NUM_POINTS
        if abs(curvature[i]) > _KERB_CURVATURE or abs(curvature[after]) > _KERB_CURVATURE:
            side = 1.0 if curvature[i] + curvature[after] > 0.0 else -1.0
            wall = track.left if side > 0.0 else track.right
            inner = wall - side * _KERB_WIDTH * normal
            corners = np.stack([wall[i], wall[after], inner[after], inner[i]])
            draw.polygon(view.pixels(corners), fill=_RED if i % 2 else _WHITE)
        if i % 4 < 2:
            draw.line(view.pixels(track.centre[[i, after]]), fill=_CENTRE_LINE, width=max(int(0.16 * view.scale), 1))
    _draw_gate(draw, track, view)


def _ring(
    draw: ImageDraw.ImageDraw, view: View, left: Float64Array, right: Float64Array, colour: tuple[int, int, int]
) -> None:
    for i in range(NUM_POINTS):
        after = (i + 1) % NUM_POINTS
        draw.polygon(view.pixels(np.stack([left[i], left[after], right[after], right[i]])), fill=colour)


def _draw_gate(draw: ImageDraw.ImageDraw, track: Track, view: View) -> None:
    """A chequered line across the road."""
    along, across = track.tangent[0], normal_of(track.tangent)[0]
    count = 10
    size = 2.0 * track.half_width / count
    for row in range(2):
        for column in range(count):
            corner = track.right[0] + column * size * across + row * size * along
            square = np.stack([corner, corner + size * across, corner + size * (across + along), corner + size * along])
            draw.polygon(view.pixels(square), fill=_WHITE if (row + column) % 2 else (24, 24, 26))


def render_car(simulation: RacingSimulation, car: int) -> NDArray[np.uint8]:
    """Draw one car on its track: a new array (480, 640, 3) uint8, the same for the same state."""
    state, track = simulation.state, simulation.track_of(car)
    body = state["body"][:, car]
    picture = track_picture(track).copy()
    draw = ImageDraw.Draw(picture)
    view = View.of(track, *picture.size, _MARGIN * _SAMPLES)
    position, heading = body[[X, Y]], body[[COSINE, SINE]]
    one = np.array([car])
    distance = simulation.rays.cast(state["body"][:, one], state["track"][one], state["cell"][one])[0]
    _draw_rays(draw, view, position, heading, distance)
    is_touching = bool(state["touching"][car])
    _draw_car(draw, view, position, heading, _TOUCHING if is_touching else _CAR)
    frame = picture.reduce(_SAMPLES)
    speed = float(np.sqrt(body[VELOCITY_X] ** 2 + body[VELOCITY_Y] ** 2))
    laps = max(int(state["next_gate"][car]) - 1, 0)
    text = f"{track.name}   {state['steps'][car] * 0.1:5.1f} s   {speed:4.1f} m/s   lap {laps + 1}"
    if state["best_lap_time"][car] > 0.0:
        text += f"   best {state['best_lap_time'][car]:.2f} s"
    words = ImageDraw.Draw(frame)
    words.rectangle((0, HEIGHT - _TEXT_SPACE, WIDTH, HEIGHT), fill=(32, 34, 38))
    words.text((_MARGIN, HEIGHT - _TEXT_SPACE + 7), text, fill=_WHITE)
    return np.array(frame, dtype=np.uint8)


def _draw_rays(
    draw: ImageDraw.ImageDraw, view: View, position: Float64Array, heading: Float64Array, distance: Float64Array
) -> None:
    for k in range(NUM_RAYS):
        cosine, sine = np.cos(np.radians(RAY_ANGLES[k])), np.sin(np.radians(RAY_ANGLES[k]))
        way = np.array([heading[0] * cosine - heading[1] * sine, heading[0] * sine + heading[1] * cosine])
        is_hit = distance[k] < RAY_RANGE
        ends = view.pixels(np.stack([position, position + distance[k] * way]))
        draw.line(ends, fill=_HIT if is_hit else _MISS, width=_SAMPLES - 1)
        if is_hit:
            x, y = ends[1]
            size = 1.6 * _SAMPLES
            draw.ellipse((x - size, y - size, x + size, y + size), fill=_HIT)


def _draw_car(
    draw: ImageDraw.ImageDraw, view: View, position: Float64Array, heading: Float64Array, colour: tuple[int, int, int]
) -> None:
    left = np.array([-heading[1], heading[0]])

    def box(back: float, front: float, half_width: float) -> list[tuple[float, float]]:
        ends = ((front, half_width), (front, -half_width), (back, -half_width), (back, half_width))
        corners = [position + _CAR_SCALE * (along * heading + aside * left) for along, aside in ends]
        return view.pixels(np.stack(corners))

    draw.polygon(box(-CAR_LENGTH / 2 - 0.1, CAR_LENGTH / 2 + 0.1, CAR_WIDTH / 2 + 0.1), fill=_CABIN)
    draw.polygon(box(-CAR_LENGTH / 2, CAR_LENGTH / 2, CAR_WIDTH / 2), fill=colour)
    draw.polygon(box(-0.25, 0.2, CAR_WIDTH / 2 - 0.1), fill=_CABIN)
