"""The scripted drivers: their order, their variety, and that they recover."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from orl.envs import RACING_IDS
from orl.envs.racing import SKILLS, PurePursuit
from orl.envs.racing.track import normal_of


def episodes(skill, num_envs=16, environment_id="orl/Racing-v0", steps=2_000):
    """Returns (E,), laps (E,), contacts (E,), and actions (steps, E, 2) of one episode of every car."""
    environment = gymnasium.make_vec(environment_id, num_envs=num_envs)
    observations, _ = environment.reset(seed=0)
    driver = PurePursuit(environment, skill, seed=0)
    returns, chosen = np.zeros(num_envs), []
    for _ in range(steps):
        chosen.append(driver(observations))
        observations, rewards, _, _, infos = environment.step(chosen[-1])
        returns += rewards
    return returns, infos["laps_completed"], infos["collisions"], np.array(chosen)


@pytest.fixture(scope="module")
def season():
    return {skill: episodes(skill) for skill in SKILLS}


def test_skills_are_ordered(season):
    mean = {skill: result[0].mean() for skill, result in season.items()}
    assert mean["reference"] > 1_300
    assert 1_000 < mean["expert"] < mean["reference"]
    assert 500 < mean["medium"] < 0.8 * mean["expert"]
    assert 0 < mean["basic"] < 0.6 * mean["medium"]


def test_laps_and_contacts(season):
    assert season["expert"][1].min() >= 3
    assert season["basic"][1].mean() < season["medium"][1].mean() < 0.8 * season["expert"][1].mean()
    assert season["reference"][2].sum() == 0
    assert season["basic"][2].sum() > 0


def test_actions_are_executed_as_they_are_and_vary(season):
    for skill, (_, _, _, actions) in season.items():
        assert actions.dtype == np.float32
        assert np.abs(actions).max() <= 1.0
        assert actions.std(axis=(0, 1)).min() > 0.04, skill


@pytest.mark.parametrize("environment_id", RACING_IDS)
def test_reference_drives_every_track_without_contact(environment_id):
    returns, _, collisions, _ = episodes("reference", 4, environment_id, steps=600)
    assert returns.min() > 350
    assert collisions.sum() == 0


def test_same_seed_same_actions_for_one_car_or_many():
    many = episodes("medium", 3, steps=200)[3]
    again = episodes("medium", 3, steps=200)[3]
    assert np.array_equal(many, again)
    environment = gymnasium.make("orl/Racing-v0")
    observation, _ = environment.reset(seed=0)
    driver = PurePursuit(environment, "medium", seed=0)
    for step in range(200):
        action = driver(observation)
        assert action.shape == (2,)
        assert np.array_equal(action, many[step, 0])
        observation = environment.step(action)[0]


def test_expert_backs_out_of_a_wall():
    environment = gymnasium.make("orl/Racing-v0")
    observation, _ = environment.reset(seed=0, options={"s": 250.0, "lateral": 2.5, "heading": 1.4, "speed": 5.0})
    driver = PurePursuit(environment, "expert", seed=0)
    for _ in range(200):
        observation, _, _, _, info = environment.step(driver(observation))
    assert info["collisions"] > 0
    assert info["progress"] > 50.0


def test_every_episode_draws_its_own_traits():
    environment = gymnasium.make_vec("orl/Racing-v0", num_envs=3, max_episode_steps=5)
    observations, _ = environment.reset(seed=0)
    driver = PurePursuit(environment, "medium", seed=1)
    paces = set()
    for _ in range(12):
        observations = environment.step(driver(observations))[0]
        paces |= set(driver.traits["pace"].tolist())
    assert len(paces) == 6


def test_racing_line_stays_on_the_track():
    from orl.envs.racing import make_track
    from orl.envs.racing.drivers import racing_line

    track = make_track("mania")
    line = racing_line(track, 0.9, 6.5)
    assert np.abs(line.offset).max() < track.half_width - 0.5
    np.testing.assert_allclose(line.points, track.centre + line.offset[:, None] * normal_of(track.tangent))
    assert 2.0 < line.speed.min() < line.speed.max() <= 8.0


def test_bad_input():
    with pytest.raises(ValueError, match=r"unknown skill 'champion'.*reference"):
        PurePursuit(gymnasium.make("orl/Racing-v0"), "champion")
    with pytest.raises(ValueError, match="not a racing environment"):
        PurePursuit(gymnasium.make("CartPole-v1"))
