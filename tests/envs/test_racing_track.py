"""Geometry: lengths, closure, rules, the procedural split, and the rays."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from orl.envs.racing import PROCEDURAL_SPLIT, TRACKS, make_track
from orl.envs.racing.rays import RAY_ANGLES, RayCaster
from orl.envs.racing.track import NUM_POINTS, RAY_RANGE, Arc, Straight, normal_of, track_from_pieces

DRAWN = TRACKS[:-1]


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", TRACKS)
def test_tracks_close_and_have_equal_spacing(name, mirror, reverse):
    track = make_track(name, mirror=mirror, reverse=reverse)
    step = np.roll(track.centre, -1, axis=0) - track.centre
    chord = np.hypot(step[:, 0], step[:, 1])
    assert 150.0 < track.length < 500.0
    assert np.all(chord < track.spacing * 1.0001)
    assert np.all(chord > track.spacing * 0.97)
    np.testing.assert_allclose(np.hypot(*(track.left - track.right).T), 2 * track.half_width, atol=1e-9)
    along = (step * track.tangent).sum(axis=1) / chord
    assert np.all(along > 0.95)
    assert not track.centre.flags.writeable


def test_mania_has_the_corners_of_the_original():
    track = make_track("mania")
    assert track.length == pytest.approx(277.0, rel=0.01)
    assert 2 * track.half_width == 7.3
    x_low, y_low, x_high, y_high = track.bounds
    assert (x_high - x_low - 7.3, y_high - y_low - 7.3) == pytest.approx((87.0, 63.0), abs=0.2)
    bend = np.sign(np.where(np.abs(track.curvature) > 0.02, track.curvature, 0.0))
    starts = bend[(bend != 0) & (np.roll(bend, 1) == 0)]
    assert (np.sum(starts < 0), np.sum(starts > 0)) == (5, 1)
    assert 1 / np.abs(track.curvature).max() == pytest.approx(5.0, rel=0.05)


@pytest.mark.parametrize("name", DRAWN)
def test_mirrored_and_reversed_tracks(name):
    plain, mirrored = make_track(name), make_track(name, mirror=True)
    np.testing.assert_allclose(mirrored.centre, plain.centre * [1, -1], atol=1e-8)
    np.testing.assert_allclose(mirrored.curvature, -plain.curvature, atol=1e-6)
    turned = make_track(name, reverse=True)
    assert turned.length == plain.length
    assert np.abs(turned.curvature.sum() + plain.curvature.sum()) < 1e-2


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_procedural_tracks_run_clockwise_unless_mirrored_or_reversed(mirror, reverse):
    track = make_track("procedural", track_seed=3, mirror=mirror, reverse=reverse)
    assert (track.curvature.sum() < 0) == (mirror == reverse)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_every_seed_of_the_procedural_split_gives_its_own_valid_track(split):
    lengths = [make_track("procedural", track_seed=seed).length for seed in PROCEDURAL_SPLIT[split]]
    assert len(set(lengths)) == len(lengths)
    assert 150.0 < min(lengths) <= max(lengths) < 500.0


def test_difficulty_makes_corners_tighter():
    radii = [
        np.mean([1 / np.abs(make_track("procedural", track_seed=s, difficulty=d).curvature).max() for s in range(20)])
        for d in (0.0, 0.5, 1.0)
    ]
    assert radii[0] > radii[1] > radii[2]


def test_bad_tracks_are_refused():
    with pytest.raises(ValueError, match="does not close"):
        track_from_pieces("open", [Arc(10, -180), Straight(30)], 3.65, 0.0)
    with pytest.raises(ValueError, match=r"corner of radius 4\.0"):
        track_from_pieces("tight", [Arc(4, -180), Straight(30), Arc(4, -180), Straight(30)], 3.65, 0.0)
    pieces = [Arc(15, -270), Straight(30), Arc(15, 270), Straight(30)]
    with pytest.raises(ValueError, match="runs into itself"):
        track_from_pieces("eight", pieces, 3.65, 0.0)
    with pytest.raises(ValueError, match="must end in a start straight"):
        track_from_pieces("ring", [Arc(20, -360)], 3.65, 0.0)
    with pytest.raises(ValueError, match="unknown track 'monza'"):
        make_track("monza")
    with pytest.raises(ValueError, match="track_seed must be an integer >= 0, got -1"):
        make_track("procedural", track_seed=-1)
    with pytest.raises(ValueError, match=r"difficulty must be in \[0, 1\], got 2.0"):
        make_track("procedural", difficulty=2.0)


def test_ray_order_is_centre_then_right_and_left_in_turn():
    spacing = 90.0 / 7.0
    assert RAY_ANGLES[:5] == pytest.approx((0.0, -spacing, spacing, -2 * spacing, 2 * spacing))
    assert RAY_ANGLES[13:] == pytest.approx((-90.0, 90.0))


def test_rays_on_a_known_straight():
    environment = gymnasium.make("orl/RacingOval-v0").unwrapped
    # In the middle of the first straight after the half turn, a metre to the left of the centre line.
    observation, _ = environment.reset(options={"s": 2.0 + np.pi * 15 + 25.0, "lateral": 1.0, "heading": 0.0})
    flags, shares = observation[0:30:2], observation[1:30:2]
    assert shares[13] + shares[14] == pytest.approx((7.3 - 0.5) / 25.0, abs=1e-6)  # 0.272
    assert shares[13] * 25.0 == pytest.approx(3.65 - 0.25 + 1.0, abs=1e-4)  # right
    assert shares[14] * 25.0 == pytest.approx(3.65 - 0.25 - 1.0, abs=1e-4)  # left
    assert flags[13] == flags[14] == 0.0  # a hit
    angle = np.radians(90.0 / 7.0 * 3)
    assert shares[5] * 25.0 == pytest.approx(4.4 / np.sin(angle), abs=1e-3)


def test_the_flag_is_one_on_a_miss_and_the_distance_then_is_one():
    environment = gymnasium.make("orl/Racing-v0").unwrapped
    observation, _ = environment.reset(options={"s": 278.5 - 40.0, "lateral": 0.0, "heading": 0.0})
    assert observation[0] == 1.0
    assert observation[1] == 1.0
    assert np.array_equal(observation[0:30:2] == 1.0, observation[1:30:2] == 1.0)


@pytest.mark.parametrize("name", TRACKS)
def test_windowed_rays_equal_dense_rays_bit_for_bit(name):
    generator = np.random.default_rng(0)
    tracks = [make_track(name)] if name != "procedural" else [make_track(name, track_seed=s) for s in range(4)]
    num_cars = 2_000
    row, cell = generator.integers(len(tracks), size=num_cars), generator.integers(NUM_POINTS, size=num_cars)
    centre = np.stack([track.centre for track in tracks])[row, cell]
    normal = np.stack([normal_of(track.tangent) for track in tracks])[row, cell]
    reach = tracks[0].half_width - 0.3
    place = centre + generator.uniform(-reach, reach, (num_cars, 1)) * normal
    angle = generator.uniform(-np.pi, np.pi, num_cars)
    body = np.concatenate([place.T, [np.cos(angle)], [np.sin(angle)], np.zeros((3, num_cars))])
    windowed = RayCaster(tracks).cast(body, row, cell)
    dense = RayCaster(tracks, windowed=False).cast(body, row, cell)
    assert np.array_equal(windowed, dense)
    assert windowed.min() > 0.0
    assert windowed.max() == RAY_RANGE


def test_rays_equal_a_plain_loop_over_all_walls():
    track = make_track("hairpins")
    place = track.centre[40] + 0.7 * normal_of(track.tangent)[40]
    heading = np.array([0.6, 0.8])
    body = np.concatenate([place, heading, np.zeros(3)])[:, None]
    cast = RayCaster([track]).cast(body, np.array([0]), np.array([40]))[0]
    for k, angle in enumerate(np.radians(RAY_ANGLES)):
        way = np.array(
            [
                heading[0] * np.cos(angle) - heading[1] * np.sin(angle),
                heading[0] * np.sin(angle) + heading[1] * np.cos(angle),
            ]
        )
        nearest = RAY_RANGE
        for wall in (track.left_inset, track.right_inset):
            for first, second in zip(wall, np.roll(wall, -1, axis=0), strict=True):
                matrix = np.array([way, first - second]).T
                reach, share = np.linalg.solve(matrix, first - place)
                if reach >= 0 and 0 <= share <= 1:
                    nearest = min(nearest, reach)
        assert cast[k] == pytest.approx(nearest, abs=1e-6)
