"""Many cars equal single cars bit for bit, through every way of resetting."""

from __future__ import annotations

import functools
import pickle  # noqa: TID251 - worker processes send environments through it
import time

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orl.envs import RACING_IDS
from orl.envs.racing import RacingEnv, RacingVectorEnv


def both(environment_id, mode, num_envs=4, max_episode_steps=25, **keywords):
    make = functools.partial(gymnasium.make, environment_id, max_episode_steps=max_episode_steps, **keywords)
    native = gymnasium.make_vec(
        environment_id, num_envs=num_envs, max_episode_steps=max_episode_steps, autoreset_mode=mode, **keywords
    )
    return native, SyncVectorEnv([make] * num_envs, autoreset_mode=mode)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("environment_id", ["orl/Racing-v0", "orl/RacingProcedural-v0"])
def test_equals_single_environments_in_every_autoreset_mode(environment_id, mode, driving_actions, assert_same):
    native, reference = both(environment_id, mode)
    assert isinstance(native, RacingVectorEnv)
    assert native.metadata["autoreset_mode"] == AutoresetMode(mode)
    assert_same(*(environment.reset(seed=11) for environment in (native, reference)))
    ended = np.zeros(4, dtype=bool)
    for step, actions in enumerate(driving_actions(80, 4, 2)):
        if mode == "Disabled" and ended.any():
            mask = ended.copy()
            answers = [environment.reset(options={"reset_mask": mask.copy()}) for environment in (native, reference)]
            assert_same(answers[0][0], answers[1][0])
            assert_same(answers[0][1], answers[1][1])
        answers = [environment.step(actions) for environment in (native, reference)]
        for one, other in zip(*answers, strict=True):
            assert_same(one, other)
        ended = answers[0][2] | answers[0][3]
        assert (mode == "SameStep" and bool(ended.any())) == ("final_obs" in answers[0][4])
        if mode == "Disabled" and step == 10:  # part the episodes of the copies
            mask = np.array([True, False, False, True])
            for environment in (native, reference):
                environment.reset(seed=50, options={"reset_mask": mask.copy()})


@pytest.mark.parametrize("environment_id", RACING_IDS)
@pytest.mark.parametrize("observation", ["rays", "lookahead"])
def test_every_track_equals_single_environments(environment_id, observation, driving_actions, assert_same):
    keywords = {"observation": observation, "start": "anywhere", "laps": 1, "grip": 0.8, "delay": 1}
    native, reference = both(environment_id, "NextStep", num_envs=3, max_episode_steps=60, **keywords)
    assert_same(*(environment.reset(seed=0) for environment in (native, reference)))
    for actions in driving_actions(70, 3, 9):
        answers = [environment.step(actions) for environment in (native, reference)]
        for one, other in zip(*answers, strict=True):
            assert_same(one, other)


def test_every_car_can_have_its_own_context(driving_actions):
    contexts = {
        "track": ["mania", "procedural", "speedway"],
        "track_seed": [None, 5, None],
        "grip": [0.7, 1.0, 1.3],
        "mass": [1.0, 1.2, 0.9],
        "delay": [0, 2, 5],
    }
    together = RacingVectorEnv(3, **contexts)
    alone = [RacingEnv(**{key: values[i] for key, values in contexts.items()}) for i in range(3)]
    observations, _ = together.reset(seed=5)
    for i in range(3):
        assert np.array_equal(alone[i].reset(seed=5 + i)[0], observations[i])
    for actions in driving_actions(100, 3, 1):
        observations, rewards, _, _, _ = together.step(actions)
        for i in range(3):
            observation, reward, *_ = alone[i].step(actions[i])
            assert np.array_equal(observation, observations[i])
            assert reward == rewards[i]
    assert [track.name for track in together.tracks] == ["mania", "procedural-5", "speedway"]


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_state_returns_exactly_across_resets(mode, driving_actions):
    def make():
        return gymnasium.make_vec("orl/RacingProcedural-v0", num_envs=5, max_episode_steps=30, autoreset_mode=mode)

    actions = driving_actions(100, 5, 4)
    first = make()
    first.reset(seed=2)
    for action in actions[:40]:
        first.step(action)
    saved, pickled = first.get_state(), pickle.dumps(first)
    expected = [first.step(action)[:2] for action in actions[40:]]
    second = make()
    second.set_state(saved)
    for environment in (second, pickle.loads(pickled)):
        for action, answer in zip(actions[40:], expected, strict=True):
            for one, other in zip(environment.step(action)[:2], answer, strict=True):
                assert np.array_equal(one, other)


def test_a_seed_may_be_a_number_of_numpy():
    environment = RacingVectorEnv(2)
    assert np.array_equal(environment.reset(seed=np.int64(3))[0], environment.reset(seed=3)[0])


def test_returned_arrays_are_new_every_time():
    environment = gymnasium.make_vec("orl/Racing-v0", num_envs=2)
    seen = [environment.reset(seed=0)] + [environment.step(np.zeros((2, 2), np.float32)) for _ in range(2)]
    arrays = [[answer[0], *answer[1:-1], *answer[-1].values()] for answer in seen]
    for i in range(3):
        for j in range(i):
            assert not any(np.shares_memory(one, other) for one in arrays[i] for other in arrays[j])


def test_metadata_does_not_leak():
    gymnasium.make_vec("orl/Racing-v0", num_envs=1, autoreset_mode="SameStep")
    assert "autoreset_mode" not in RacingEnv.metadata


def test_vector_truncates_at_2000_by_default_and_takes_other_limits():
    assert gymnasium.make_vec("orl/Racing-v0", num_envs=1).max_episode_steps == 2_000
    endless = RacingVectorEnv(1, max_episode_steps=None)
    endless.reset(seed=0)
    assert not endless.step(np.zeros((1, 2)))[3].any()


def test_render_gives_one_frame_per_car():
    environment = gymnasium.make_vec("orl/Racing-v0", num_envs=2, render_mode="rgb_array")
    environment.reset(seed=0)
    frames = environment.render()
    assert [frame.shape for frame in frames] == [(480, 640, 3)] * 2
    assert not np.array_equal(*frames)


def test_bad_input():
    with pytest.raises(ValueError, match="num_envs must be a whole number >= 1, got 0"):
        RacingVectorEnv(0)
    with pytest.raises(ValueError, match=r"unknown autoreset_mode 'Never'.*NextStep"):
        RacingVectorEnv(1, autoreset_mode="Never")
    with pytest.raises(ValueError, match=r"max_episode_steps must be >= 1.*got 0"):
        RacingVectorEnv(1, max_episode_steps=0)
    with pytest.raises(ValueError, match="grip has 3 values for 2 cars"):
        RacingVectorEnv(2, grip=[1.0, 1.0, 1.0])
    environment = RacingVectorEnv(2, max_episode_steps=1, autoreset_mode="Disabled", render_mode="rgb_array")
    with pytest.raises(ValueError, match="before reset"):
        environment.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="before reset"):
        environment.render()
    environment.reset(seed=0)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        environment.step(np.zeros(2))
    environment.step(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"cars \[0, 1\] have ended"):
        environment.step(np.zeros((2, 2)))
    for mask in ([True, False], np.array([1, 0]), np.array([True]), np.array([False, False])):
        with pytest.raises(ValueError, match="reset_mask must"):
            environment.reset(options={"reset_mask": mask})
    with pytest.raises(ValueError, match="seed has 3 values for 2 cars"):
        environment.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="not a state of 2 cars"):
        environment.set_state(RacingVectorEnv(3).get_state())


@pytest.mark.slow
@pytest.mark.parametrize("environment_id", RACING_IDS)
def test_throughput_of_256_cars(environment_id, driving_actions):
    environment = gymnasium.make_vec(environment_id, num_envs=256)
    environment.reset(seed=0)
    rates = []
    for _ in range(5):
        actions = driving_actions(40, 256, 0)
        begin = time.process_time()
        for action in actions:
            environment.step(action)
        rates.append(256 * len(actions) / (time.process_time() - begin))
    assert max(rates) > 15_000  # environment steps per second of one core; other work beside slows some of them
