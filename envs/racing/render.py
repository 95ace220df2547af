"""Pictures of the racing world from above, with Pillow alone: no display and no GPU is needed."""

from __future__ import annotations

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
Colour = tuple[int, int, int]

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


class Canvas:
    """A picture that a track fits into, drawn on in metres, y upwards; a strip at the foot is left for a line of text.

    Args:
        picture: To draw on, `_SAMPLES` times as large as a frame.
        track: To be centred in it.
    """

    def __init__(self, picture: Image.Image, track: Track) -> None:
        (width, height), margin, strip = picture.size, _MARGIN * _SAMPLES, _TEXT_SPACE * _SAMPLES
        x_low, y_low, x_high, y_high = track.bounds
        self.scale = min((width - 2 * margin) / (x_high - x_low), (height - 2 * margin - strip) / (y_high - y_low))
        self._left = 0.5 * (width - self.scale * (x_low + x_high))
        self._foot = height - 0.5 * (height + strip - self.scale * (y_low + y_high))
        self.draw = ImageDraw.Draw(picture)

    def pixels(self, points: Float64Array) -> list[tuple[float, float]]:
        """Pixel coordinates of points (n, 2) in m."""
        return [(self._left + self.scale * x, self._foot - self.scale * y) for x, y in points.tolist()]

    def cell(self, first: Float64Array, second: Float64Array, i: int, colour: Colour) -> None:
        """Fill the road between two lines (N, 2) in m, from their point i to the next."""
        after = (i + 1) % NUM_POINTS
        self.draw.polygon(self.pixels(np.stack([first[i], first[after], second[after], second[i]])), fill=colour)


@lru_cache(maxsize=32)
def track_picture(track: Track) -> Image.Image:
    """Draw a track, without cars, `_SAMPLES` times as large as a frame; do not change the result, copy it."""
    picture = Image.new("RGB", (WIDTH * _SAMPLES, HEIGHT * _SAMPLES), _GRASS)
    canvas, normal, curvature = Canvas(picture, track), normal_of(track.tangent), track.curvature
    for colour, width in ((_RUN_OFF, 1.6), (_WALL, 0.45), (_ASPHALT, 0.0)):  # m beyond the walls
        for i in range(NUM_POINTS):
            canvas.cell(track.left + width * normal, track.right - width * normal, i, colour)
    for i in range(NUM_POINTS):
        after = (i + 1) % NUM_POINTS
        if abs(curvature[i]) > _KERB_CURVATURE or abs(curvature[after]) > _KERB_CURVATURE:
            side = 1.0 if curvature[i] + curvature[after] > 0.0 else -1.0
            wall = track.left if side > 0.0 else track.right
            canvas.cell(wall, wall - side * _KERB_WIDTH * normal, i, _RED if i % 2 else _WHITE)
        if i % 4 < 2:
            ends, width = canvas.pixels(track.centre[[i, after]]), max(int(0.16 * canvas.scale), 1)
            canvas.draw.line(ends, fill=_CENTRE_LINE, width=width)
    _draw_gate(canvas, track)
    return picture


def _draw_gate(canvas: Canvas, track: Track) -> None:
    """A chequered line across the road."""
    along, across = track.tangent[0], normal_of(track.tangent)[0]
    count = 10
    size = 2.0 * track.half_width / count
    for row in range(2):
        for column in range(count):
            corner = track.right[0] + column * size * across + row * size * along
            square = np.stack([corner, corner + size * across, corner + size * (across + along), corner + size * along])
            canvas.draw.polygon(canvas.pixels(square), fill=_WHITE if (row + column) % 2 else (24, 24, 26))


def render_car(simulation: RacingSimulation, car: int) -> NDArray[np.uint8]:
    """Draw one car on its track: a new array (480, 640, 3) uint8, the same for the same state."""
    state, track = simulation.state, simulation.track_of(car)
    body = state["body"][:, car]
    picture = track_picture(track).copy()
    canvas, position, heading = Canvas(picture, track), body[[X, Y]], body[[COSINE, SINE]]
    one = np.array([car])
    distance = simulation.rays.cast(state["body"][:, one], state["track"][one], state["cell"][one])[0]
    _draw_rays(canvas, position, heading, distance)
    _draw_car(canvas, position, heading, _TOUCHING if state["touching"][car] else _CAR)
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


def _draw_rays(canvas: Canvas, position: Float64Array, heading: Float64Array, distance: Float64Array) -> None:
    for k in range(NUM_RAYS):
        cosine, sine = np.cos(np.radians(RAY_ANGLES[k])), np.sin(np.radians(RAY_ANGLES[k]))
        way = np.array([heading[0] * cosine - heading[1] * sine, heading[0] * sine + heading[1] * cosine])
        is_hit = distance[k] < RAY_RANGE
        ends = canvas.pixels(np.stack([position, position + distance[k] * way]))
        canvas.draw.line(ends, fill=_HIT if is_hit else _MISS, width=_SAMPLES - 1)
        if is_hit:
            canvas.draw.circle(ends[1], 1.6 * _SAMPLES, fill=_HIT)


def _draw_car(canvas: Canvas, position: Float64Array, heading: Float64Array, colour: Colour) -> None:
    left = normal_of(heading)
    for back, front, half_width, fill in (
        (-CAR_LENGTH / 2 - 0.1, CAR_LENGTH / 2 + 0.1, CAR_WIDTH / 2 + 0.1, _CABIN),
        (-CAR_LENGTH / 2, CAR_LENGTH / 2, CAR_WIDTH / 2, colour),
        (-0.25, 0.2, CAR_WIDTH / 2 - 0.1, _CABIN),
    ):
        ends = ((front, half_width), (front, -half_width), (back, -half_width), (back, half_width))
        corners = [position + _CAR_SCALE * (along * heading + aside * left) for along, aside in ends]
        canvas.draw.polygon(canvas.pixels(np.stack(corners)), fill=fill)
