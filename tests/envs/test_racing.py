"""The single environment: progress, laps, rewards, contact, options, shifts, bad input."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle  # noqa: TID251 - worker processes send environments through it
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import orl.envs
from orl.envs import RACING_IDS
from orl.envs.racing import RacingEnv, RacingVectorEnv

# First 16 hex digits of SHA-256 over the float32 observations of a reset and 2,000 steps, see `rollouts`.
FROZEN = {
    "orl/Racing-v0": "82d4f7d05036b85f",
    "orl/RacingOval-v0": "29fab618da1c659c",
    "orl/RacingHairpins-v0": "fe7806ea409c5314",
    "orl/RacingChicane-v0": "c44da290da080c0a",
    "orl/RacingSpeedway-v0": "50f7f19281e6f5a4",
    "orl/RacingProcedural-v0": "c55281b078670230",
}


def drive_straight(environment, steps, throttle=0.3, steering=0.0):
    total = 0.0
    for _ in range(steps):
        _, reward, _, _, info = environment.step(np.array([steering, throttle], dtype=np.float32))
        total += reward
    return total, info


@pytest.fixture(scope="module")
def rollouts(driving_actions):
    """Observations (2,001, 6, 33) of a car on every circuit; each is the single car's, see test_racing_vector.py."""
    environment = RacingVectorEnv(len(RACING_IDS), track=list(RACING_IDS.values()))
    observations = [environment.reset(seed=[0] * len(RACING_IDS))[0]]
    for action in driving_actions(2_000, 1, 0):
        observations.append(environment.step(action.repeat(len(RACING_IDS), axis=0))[0])
    return np.stack(observations)


@pytest.mark.parametrize("environment_id", RACING_IDS)
def test_gymnasium_checker_without_warnings(environment_id):
    environment = gymnasium.make(environment_id, disable_env_checker=True, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(environment.unwrapped)
    json.loads(environment.spec.to_json())


@pytest.mark.parametrize("observation", ["rays_body", "lookahead"])
def test_gymnasium_checker_for_other_observations(observation):
    check_env(gymnasium.make("orl/Racing-v0", disable_env_checker=True, observation=observation).unwrapped)


@pytest.mark.parametrize("environment_id", RACING_IDS)
def test_rollouts_are_frozen(environment_id, rollouts, driving_actions):
    """A change of physics, geometry, reward or observation order needs a new version of the ids."""
    frozen = rollouts[:, list(RACING_IDS).index(environment_id)]
    assert hashlib.sha256(frozen.tobytes()).hexdigest()[:16] == FROZEN[environment_id]
    environment = gymnasium.make(environment_id)
    assert np.array_equal(environment.reset(seed=0)[0], frozen[0])
    for action, expected in zip(driving_actions(2_000, 1, 0)[:200, 0], frozen[1:], strict=False):
        assert np.array_equal(environment.step(action)[0], expected)


@pytest.mark.parametrize("observation", ["rays", "rays_body", "lookahead"])
def test_observations_stay_in_their_space(observation, driving_actions):
    environment = RacingEnv(observation=observation)
    current, _ = environment.reset(seed=1)
    for action in driving_actions(300, 1, 1)[:, 0]:
        assert current in environment.observation_space
        current, _, _, _, info = environment.step(action)
        assert all(np.isfinite(value) for value in info.values())
    assert current.shape == {"rays": (33,), "rays_body": (33,), "lookahead": (51,)}[observation]


def test_observation_kinds_say_the_same():
    """All three from one state: velocity in world and in body frame, points ahead on a straight."""
    observed = {}
    for kind in ("rays", "rays_body", "lookahead"):
        environment = RacingEnv(observation=kind)
        observed[kind], info = environment.reset(options={"s": 250.0, "lateral": 1.0, "heading": 0.1, "speed": 4.0})
    assert np.array_equal(observed["rays"][:30], observed["rays_body"][:30])
    assert np.array_equal(observed["rays_body"], observed["lookahead"][:33])
    way = np.array([np.cos(info["heading"]), 0.0, np.sin(info["heading"])])
    assert observed["rays"][30:33] == pytest.approx(4.0 * way)
    assert observed["rays_body"][30:33] == pytest.approx([4.0, 0.0, 0.0], abs=1e-6)
    points = observed["lookahead"][33:49].reshape(8, 2) * 25.0
    expected = [(np.cos(0.1) * d - np.sin(0.1), -np.sin(0.1) * d - np.cos(0.1)) for d in 2.2 * np.arange(1, 9)]
    np.testing.assert_allclose(points, expected, atol=1e-4)
    assert np.array_equal(observed["lookahead"][49:], [0, 0])


def test_lookahead_ends_with_the_previous_action():
    environment = RacingEnv(observation="lookahead", delay=2)
    environment.reset(seed=0)
    assert environment.step(np.array([0.25, -0.5]))[0][49:] == pytest.approx([0.25, -0.5])


def test_start_box_is_before_the_first_corner():
    places = []
    environment = RacingEnv()
    for seed in range(200):
        observation, info = environment.reset(seed=seed)
        places.append((environment.simulation.state["position"][0], info["off_center"], info["heading_error"]))
        assert info["speed"] == 0.0
        assert np.array_equal(observation[30:], [0, 0, 0])
    low, high = np.min(places, axis=0), np.max(places, axis=0)
    assert low == pytest.approx([-14.0, -2.0, -np.pi / 6], rel=0.06)
    assert high == pytest.approx([-2.0, 2.0, np.pi / 6], rel=0.15)


def test_start_anywhere_covers_the_track():
    environment = RacingEnv(start="anywhere")
    arcs = [environment.reset(seed=seed)[1]["s"] for seed in range(200)]
    assert np.histogram(arcs, bins=10, range=(0, environment.track.length))[0].min() >= 8


def test_reset_options():
    environment = RacingEnv()
    options = {"track": "oval", "s": 70.0, "lateral": -1.5, "heading": 0.2, "speed": 3.0}
    _, info = environment.reset(seed=0, options=options)
    assert environment.track.name == "oval"
    assert info["s"] == pytest.approx(70.0)
    assert (info["off_center"], info["heading_error"], info["speed"]) == pytest.approx((-1.5, 0.2, 3.0), abs=1e-6)
    environment.reset(options={"track": "procedural", "track_seed": 7})
    assert environment.track.name == "procedural-7"
    _, info = environment.reset(seed=0)
    assert environment.track.name == "mania"
    assert info["track_seed"] == -1


def test_progress_on_a_straight_is_the_distance_driven():
    environment = RacingEnv()
    _, start = environment.reset(options={"s": 232.0, "lateral": 0.0, "heading": 0.0})
    total, info = drive_straight(environment, 40)
    driven = np.hypot(info["x"] - start["x"], info["y"] - start["y"])
    assert driven > 10.0
    assert total == pytest.approx(driven, abs=1e-6)
    assert info["progress"] == pytest.approx(driven, abs=1e-6)


def test_rewards_when_backing_off_and_coming_back():
    totals = {}
    for kind in ("mania", "paper", "signed"):
        environment = RacingEnv(reward=kind)
        environment.reset(options={"s": 250.0, "lateral": 0.0, "heading": 0.0})
        back, info = drive_straight(environment, 20, throttle=-0.3)
        backed = info["progress"]
        forth, info = drive_straight(environment, 40)
        totals[kind] = (back, forth, backed, info["progress"])
    back, forth, backed, progress = totals["mania"]
    assert backed < -3.0
    assert back == 0.0
    assert forth == pytest.approx(progress)  # only what lies beyond the best position counts
    assert totals["paper"] == totals["mania"]
    assert totals["signed"][0] == pytest.approx(backed)
    assert totals["signed"][1] == pytest.approx(progress - backed)


@pytest.mark.parametrize("kind", ["mania", "paper", "signed"])
def test_wall_penalty_by_hand(kind):
    """mania and signed count a contact once, paper as long as it lasts."""
    environment = RacingEnv(reward=kind, contact_weight=3.0)
    environment.reset(options={"s": 250.0, "lateral": 2.0, "heading": 1.4, "speed": 5.0})
    was_touching, touching, penalties = False, 0, 0
    for _ in range(30):
        _, reward, terminated, _, info = environment.step(np.array([0.0, 0.3]))
        assert not terminated
        speed, begins = info["speed"], info["collision"] and not was_touching
        penalty = 3.0 * speed * info["collision"] if kind == "paper" else (2.0 + 50.0 * speed**2) * begins
        assert info["reward_collision"] == pytest.approx(-penalty)
        assert reward == info["reward_progress"] + info["reward_collision"]
        if begins:
            assert speed < 0.5  # the wall stops the car
        was_touching = info["collision"]
        touching, penalties = touching + info["collision"], penalties + (info["reward_collision"] < 0.0)
    assert info["collisions"] == 1
    assert touching > 5
    assert penalties == (touching if kind == "paper" else 1)


def test_a_contact_that_goes_on_is_not_penalised_again_after_set_state():
    environment = RacingEnv()
    environment.reset(options={"s": 250.0, "lateral": 2.0, "heading": 1.4, "speed": 5.0})
    while not environment.step(np.array([0.0, 0.3]))[4]["collision"]:
        pass
    other = RacingEnv()
    other.reset()
    other.set_state(environment.get_state())
    for one in (environment, other):
        info = one.step(np.array([0.0, 0.3]))[4]
        assert (info["collision"], info["reward_collision"]) == (True, 0.0)


def test_a_car_slides_along_a_wall_slower_than_it_drives():
    """Leaning on a wall neither holds a car for ever nor is a way to race."""
    speeds = {}
    for heading in (0.0, 0.5):
        environment = RacingEnv()
        environment.reset(options={"s": 250.0, "lateral": -2.0, "heading": -heading})
        _, info = drive_straight(environment, 80)
        speeds[heading] = info["speed"]
    assert (info["collision"], info["collisions"]) == (True, 1)
    assert 1.0 < speeds[0.5] < 0.5 * speeds[0.0]


def test_a_car_cannot_leave_the_track(driving_actions):
    environment = gymnasium.make_vec("orl/RacingHairpins-v0", num_envs=32, start="anywhere")
    environment.reset(seed=0)
    for action in driving_actions(400, 32, 5):
        infos = environment.step(np.clip(action * [1, 0] + [0, 0.56], -1, 1).astype(np.float32))[4]
        assert np.abs(infos["off_center"]).max() < 3.65 - 0.3
    assert infos["collisions"].min() > 0


def test_contact_is_between_the_box_of_the_car_and_the_wall():
    for lateral, touches in ((3.65 - 0.39, False), (3.65 - 0.37, True)):
        environment = RacingEnv()
        options = {"s": 250.0, "lateral": min(lateral, 2.95), "heading": 0.0, "speed": 0.0}
        environment.reset(options=options)
        environment.simulation.state["body"][1] -= lateral - options["lateral"]  # the straight runs towards -x
        info = environment.step(np.zeros(2))[4]
        assert info["off_center"] == pytest.approx(min(lateral, 3.65 - 0.38), abs=1e-3)
        assert info["collision"] is touches


def test_laps_are_counted_in_both_directions_and_timed_at_the_gate():
    environment = RacingEnv(track="oval")
    environment.reset(options={"s": 193.0, "lateral": 0.0, "heading": 0.0, "speed": 4.0})
    info = environment.step(np.array([0.0, 0.23]))[4]
    assert (info["lap"], info["laps_completed"]) == (-1, 0)
    _, info = drive_straight(environment, 4, throttle=0.23)
    assert (info["lap"], info["laps_completed"], info["lap_time"]) == (0, 0, 0.0)
    _, info = drive_straight(environment, 30, throttle=-0.4)
    assert info["lap"] == -1
    assert info["wrong_way"] is False
    _, info = drive_straight(environment, 50, throttle=0.4)
    assert (info["lap"], info["laps_completed"]) == (0, 0)  # crossing twice makes no lap


def test_a_lap_is_timed_between_gate_crossings():
    from orl.envs.racing import PurePursuit

    environment = RacingEnv(track="oval", laps=2)
    observation, _ = environment.reset(seed=0)
    driver = PurePursuit(environment, "reference")
    terminated, completed = False, []
    for step in range(800):
        observation, _, terminated, truncated, info = environment.step(driver(observation))
        if info["lap_completed"]:
            completed.append((step, info["lap_time"]))
        assert not truncated
        if terminated:
            break
    assert terminated
    assert info["laps_completed"] == 2
    assert len(completed) == 2
    assert completed[1][1] == pytest.approx((completed[1][0] - completed[0][0]) * 0.1, abs=0.1)
    assert completed[1][1] * 10 != round(completed[1][1] * 10)
    assert info["best_lap_time"] == min(time for _, time in completed)


def test_driving_the_wrong_way():
    environment = RacingEnv(track="oval")
    environment.reset(options={"s": 190.0, "heading": np.pi, "lateral": 0.0})
    total, info = drive_straight(environment, 50)
    assert total == 0.0
    assert info["wrong_way"] is True
    assert info["progress"] < -5.0


def test_never_terminates_and_truncates_at_2000_decisions():
    environment = gymnasium.make("orl/Racing-v0")
    environment.reset(seed=0)
    for step in range(2_000):
        _, _, terminated, truncated, _ = environment.step(np.array([1.0, 1.0], dtype=np.float32))
        assert not terminated
        assert truncated == (step == 1_999)
    short = gymnasium.make("orl/Racing-v0", max_episode_steps=3)
    short.reset(seed=0)
    assert [short.step(np.zeros(2, dtype=np.float32))[3] for _ in range(3)] == [False, False, True]


def test_shifts_change_the_drive_and_defaults_do_not(driving_actions):
    actions = driving_actions(60, 1, 3)[:, 0]

    def positions(**shifts):
        environment = RacingEnv(**shifts)
        environment.reset(seed=4)
        return [environment.step(action)[0] for action in actions]

    base = positions()
    assert np.array_equal(base, positions(grip=1.0, mass=1.0, delay=0))
    for shift in ({"grip": 0.7}, {"mass": 1.3}, {"delay": 1}, {"mirror": True}, {"reverse": True}):
        assert not np.array_equal(base, positions(**shift))


def test_delay_postpones_the_action():
    speeds = {}
    for delay in (0, 2, 5):
        environment = RacingEnv(delay=delay)
        environment.reset(seed=0)
        speeds[delay] = [environment.step(np.array([0.0, 0.4]))[4]["speed"] for _ in range(12)]
    assert speeds[2][:2] == [0.0, 0.0]
    assert speeds[2][2:] == speeds[0][:-2]
    assert speeds[5][5:] == speeds[0][:-5]


def test_state_returns_exactly_generator_included(driving_actions):
    actions = driving_actions(120, 1, 8)[:, 0]
    environment = RacingEnv(track="procedural")
    environment.reset(seed=3)
    for action in actions[:50]:
        environment.step(action)
    saved = environment.get_state()

    def rest(current):
        seen = [current.step(action)[:2] for action in actions[50:]]
        return [x for pair in seen for x in np.append(*pair).tolist()] + current.reset()[0].tolist()

    first = rest(environment)
    environment.set_state(saved)
    assert rest(environment) == first
    other = RacingEnv(track="procedural")
    other.set_state(saved)
    assert rest(other) == first
    for copied in (pickle.loads, copy.deepcopy):
        environment.set_state(saved)
        assert rest(copied(pickle.dumps(environment) if copied is pickle.loads else environment)) == first


def test_procedural_draws_training_tracks_and_keeps_a_given_one():
    environment = gymnasium.make("orl/RacingProcedural-v0")
    seeds = [environment.reset(seed=seed)[1]["track_seed"] for seed in range(30)]
    assert set(seeds) <= set(range(100))
    assert len(set(seeds)) > 15
    fixed = gymnasium.make("orl/RacingProcedural-v0", track_seed=10_003)
    assert {fixed.reset(seed=seed)[1]["track_seed"] for seed in range(3)} == {10_003}


def test_start_does_not_depend_on_the_track_drawn():
    drawn, fixed = RacingEnv(track="procedural"), RacingEnv(track="procedural", track_seed=10_000)
    for seed in range(5):
        first, second = drawn.reset(seed=seed)[1], fixed.reset(seed=seed)[1]
        assert first["off_center"] == pytest.approx(second["off_center"], abs=0.05)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"track": "monza"}, "unknown track 'monza'.*mania"),
        ({"observation": "pixels"}, "unknown observation 'pixels'.*lookahead"),
        ({"reward": "lap"}, "unknown reward 'lap'.*signed"),
        ({"start": "pit"}, "unknown start 'pit'.*anywhere"),
        ({"grip": 0.0}, "grip must be a finite number > 0.*got 0.0"),
        ({"mass": float("nan")}, "mass must be a finite number > 0.*got nan"),
        ({"delay": 6}, "delay must be a whole number of decisions from 0 to 5, got 6"),
        ({"delay": 1.5}, "delay must be.*got 1.5"),
        ({"track_seed": 4}, "track_seed=4 has no meaning on track 'mania'"),
        ({"track": "procedural", "track_seed": -4}, "track_seed must be an integer >= 0, got -4"),
        ({"track": "procedural", "difficulty": 1.5}, "difficulty must be.*got 1.5"),
        ({"track": "procedural", "difficulty": "hard"}, "difficulty must be a number.*got 'hard'"),
        ({"difficulty": 1.5}, "difficulty must be.*got 1.5"),
        ({"laps": 0}, "laps must be a whole number >= 1.*got 0"),
        ({"contact_weight": -1.0}, "contact_weight must be a number >= 0, got -1.0"),
        ({"mirror": "yes"}, "mirror must be True or False, got 'yes'"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
        ({"grip": [1.0, 2.0]}, "grip has 2 values for 1 cars"),
    ],
)
def test_bad_keywords(keywords, words):
    with pytest.raises(ValueError, match=words):
        RacingEnv(**keywords)


@pytest.mark.parametrize("make", [RacingEnv, RacingVectorEnv])
def test_an_unknown_keyword_is_a_type_error(make):
    with pytest.raises(TypeError, match=r"unknown keyword 'friction' with value 1.0: choose from track"):
        make(friction=1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position": 3.0}, "unknown reset option 'position'.*lateral"),
        ({"s": 1e4}, r"'s' must be in \[0, 278.*got 10000.0"),
        ({"s": "start"}, "'s' must be a finite number, got 'start'"),
        ({"lateral": 3.6}, r"'lateral' must be in \[-2.95, 2.95\] m, got 3.6"),
        ({"speed": -1.0}, r"'speed' must be in \[0, 10.0\] m/s, got -1.0"),
        ({"heading": float("inf")}, "'heading' must be a finite number, got inf"),
        ({"track": "monza"}, "unknown track 'monza'"),
        ({"track_seed": 1}, "no meaning on track 'mania'"),
    ],
)
def test_bad_reset_options(options, words):
    environment = RacingEnv()
    with pytest.raises(ValueError, match=words):
        environment.reset(options=options)


def test_bad_calls():
    environment = RacingEnv(render_mode="rgb_array")
    with pytest.raises(ValueError, match=r"render\(\) was called before reset"):
        environment.render()
    with pytest.raises(ValueError, match=r"step\(\) was called before reset"):
        environment.step(np.zeros(2))
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(1, 2\)"):
        environment.step(np.zeros(3))
    for bad in (np.array([0.0, 1.1]), np.array([np.nan, 0.0]), np.array([np.inf, 0.0])):
        with pytest.raises(ValueError, match=r"finite and in \[-1, 1\].*clip them"):
            environment.step(bad)
    environment.step(np.array([1.0005, -1.0005]))
    with pytest.raises(ValueError, match="not a state of 1 cars"):
        environment.set_state({})


def test_registration_is_idempotent():
    orl.envs.register_environments()
    assert gymnasium.spec("orl/Racing-v0").max_episode_steps == 2_000
    with pytest.raises(gymnasium.error.Error):
        gymnasium.make("orl/Rocket-v0")


def test_render_is_an_array_and_deterministic():
    frames = []
    for _ in range(2):
        environment = gymnasium.make("orl/Racing-v0", render_mode="rgb_array")
        environment.reset(seed=0)
        environment.step(np.array([0.1, 0.5], dtype=np.float32))
        frames += [environment.render(), environment.render()]
    assert frames[0].dtype == np.uint8
    assert frames[0].shape == (480, 640, 3)
    assert all(np.array_equal(frame, frames[0]) for frame in frames)
    assert not np.shares_memory(frames[0], frames[1])
    assert len(np.unique(frames[0].reshape(-1, 3), axis=0)) > 50
