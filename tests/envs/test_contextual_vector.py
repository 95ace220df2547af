"""Copies with contexts of their own equal single environments bit for bit, through every reset."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from orl.envs import CONTEXT_IDS
from orl.envs.contextual import ContextSyncVectorEnv, ContextualVectorEnv, offered_contexts

IN_ARRAYS = ["orl/ContextPendulum-v0", "orl/ContextCartPole-v0", "orl/ContextCartPoleDiscrete-v0"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes a log into the working directory."""
    monkeypatch.chdir(tmp_path)


def make_copies(environment_id: str, rows: Any, **keywords: Any) -> Any:
    return gymnasium.make_vec(environment_id, num_envs=len(rows), context=rows, **keywords)


def actions_of(environment: Any, count: int, beyond: float = 1.0) -> list[Any]:
    environment.action_space.seed(2)
    drawn = [environment.action_space.sample() for _ in range(count)]
    return drawn if drawn[0].dtype.kind == "i" else [each * np.float32(beyond) for each in drawn]


@pytest.mark.parametrize("mode", ["hidden", "concat", "dict"])
@pytest.mark.parametrize("environment_id", IN_ARRAYS)
def test_the_vector_form_equals_single_environments(environment_id: str, mode: str, assert_same: Any) -> None:
    """Contexts far apart, episodes that end at different steps, actions beyond their bounds."""
    space = offered_contexts(environment_id)
    rows = np.array([space.sample(np.random.default_rng(seed)) for seed in range(6)])
    keywords = {"contexts": space.names, "context_mode": mode, "max_episode_steps": 37}
    ours = make_copies(environment_id, rows, **keywords)
    single = [partial(gymnasium.make, environment_id, context=row, **keywords) for row in rows]
    reference = SyncVectorEnv(single, autoreset_mode=AutoresetMode.SAME_STEP)
    assert isinstance(ours, ContextualVectorEnv)
    assert ours.observation_space == reference.observation_space
    assert ours.action_space == reference.action_space
    assert_same(ours.reset(seed=11), reference.reset(seed=11))
    beyond = 1.3 if isinstance(ours.single_action_space, gymnasium.spaces.Box) else 1.0
    ends = 0
    for actions in actions_of(reference, 120, beyond):
        answer = ours.step(actions)
        assert_same(answer, reference.step(actions))
        ends += int((answer[2] | answer[3]).sum())
    assert ends >= 18
    assert_same(ours.reset(), reference.reset())
    assert_same(ours.reset(seed=[5, 4, 3, 2, 1, 0]), reference.reset(seed=[5, 4, 3, 2, 1, 0]))


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("context", [None, "sample"])
@pytest.mark.parametrize("environment_id", [*IN_ARRAYS, "orl/ContextHopper-v0"])
def test_every_autoreset_mode_equals_single_environments(
    environment_id: str, context: str | None, mode: AutoresetMode, assert_same: Any
) -> None:
    keywords = {"context": context, "max_episode_steps": 7}
    ours = gymnasium.make_vec(environment_id, num_envs=3, autoreset_mode=mode.value, render_mode=None, **keywords)
    reference = SyncVectorEnv([partial(gymnasium.make, environment_id, **keywords)] * 3, autoreset_mode=mode)
    assert ours.metadata["autoreset_mode"] is ours.autoreset_mode is mode  # type: ignore[attr-defined]
    assert ours.render_mode is None
    assert_same(ours.reset(seed=4), reference.reset(seed=4))
    for actions in actions_of(reference, 30):
        answer = ours.step(actions)
        assert_same(answer, reference.step(actions))
        ended = answer[2] | answer[3]
        if mode == AutoresetMode.DISABLED and ended.any():
            if isinstance(ours, ContextualVectorEnv):
                with pytest.raises(ValueError, match=r"the episodes of copies \[.*\] have ended: reset"):
                    ours.step(actions)
            answers = [vector.reset(options={"reset_mask": ended.copy()}) for vector in (ours, reference)]
            assert_same(*answers)


def test_gymnasiums_vector_wrappers_run_on_the_vector_form() -> None:
    vector = gymnasium.make_vec("orl/ContextPendulum-v0", num_envs=3, autoreset_mode="NextStep", max_episode_steps=5)
    wrapped = gymnasium.wrappers.vector.NormalizeObservation(gymnasium.wrappers.vector.RecordEpisodeStatistics(vector))
    wrapped.reset(seed=0)
    infos = [wrapped.step(actions)[4] for actions in actions_of(vector, 12)]
    assert infos[4]["episode"]["l"].tolist() == [5, 5, 5]


@pytest.mark.parametrize("environment_id", IN_ARRAYS)
def test_the_vector_form_draws_the_same_contexts(environment_id: str, assert_same: Any) -> None:
    keywords = {"context": "sample", "contexts": {"length": (0.5, 2.0), "mass": (0.5, 2.0)}, "max_episode_steps": 5}
    ours = gymnasium.make_vec(environment_id, num_envs=4, **keywords)
    reference = SyncVectorEnv(
        [partial(gymnasium.make, environment_id, **keywords)] * 4, autoreset_mode=AutoresetMode.SAME_STEP
    )
    assert_same(ours.reset(seed=1), reference.reset(seed=1))
    seen = set()
    for actions in actions_of(reference, 40):
        answer = ours.step(actions)
        assert_same(answer, reference.step(actions))
        seen |= set(answer[4]["context"].ravel().tolist())
    assert len(seen) > 40


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_every_copy_has_its_own_context_in_every_episode(environment_id: str) -> None:
    space = offered_contexts(environment_id)
    rows = np.array([space.sample(np.random.default_rng(seed)) for seed in range(3)])
    vector = make_copies(environment_id, rows, contexts=space.names, max_episode_steps=8, context_mode="concat")
    singles = [gymnasium.make(environment_id, contexts=space.names, max_episode_steps=8) for _ in rows]
    size, ends = len(space.names), 0
    assert np.array_equal(vector.reset(seed=9)[1]["context"], rows)
    for chosen in (rows, rows[::-1].copy()):
        vector.reset(seed=0, options={"contexts": chosen})
        for i, single in enumerate(singles):
            single.reset(seed=i, options={"context": chosen[i]})
        for actions in actions_of(vector, 20):
            observations, rewards, terminated, truncated, infos = vector.step(actions)
            assert np.array_equal(infos["context"], chosen)
            assert observations[:, -size:] == pytest.approx(space.normalize(chosen), abs=1e-6)
            for i, single in enumerate(singles):
                observation, reward, *ended, _ = single.step(actions[i])
                assert (rewards[i], terminated[i], truncated[i]) == (reward, *ended)
                last = observations[i]
                if any(ended):
                    single.reset()
                    ends += 1
                    last = infos["final_obs"][i]
                    assert np.array_equal(infos["final_info"]["context"][i], chosen[i])
                assert np.array_equal(last[:-size], observation)
    assert ends >= 12


def test_contexts_that_are_drawn_anew_are_told_apart_from_those_before() -> None:
    """In the step in which an episode ends, the last transition's context is in the final info."""
    keywords = {"contexts": {"mass": (2.0, 4.0)}, "context": "sample", "max_episode_steps": 2}  # no default in there
    for vector in (
        gymnasium.make_vec("orl/ContextPendulum-v0", 3, **keywords),
        ContextSyncVectorEnv([partial(gymnasium.make, "orl/ContextPendulum-v0", **keywords)] * 3),
    ):
        _, infos = vector.reset(seed=0)
        first = infos["context"]
        vector.step(np.zeros((3, 1), np.float32))
        *_, infos = vector.step(np.zeros((3, 1), np.float32))
        assert np.array_equal(infos["final_info"]["context"], first)
        assert not (infos["context"] == first).any()
        vector.reset(options={"contexts": first})  # from now on these
        for _ in range(5):
            *_, infos = vector.step(np.zeros((3, 1), np.float32))
            assert np.array_equal(infos["context"], first)


def make_three(environment_id: str) -> Any:
    return make_copies(environment_id, [[0.5], [1.0], [2.0]], contexts=("mass",))


@pytest.mark.parametrize("environment_id", ["orl/ContextPendulum-v0", "orl/ContextHopper-v0"])
def test_contexts_that_do_not_fit_the_copies_are_refused(environment_id: str) -> None:
    vector = make_three(environment_id)
    vector.reset(seed=0)
    for options, message in (
        ({"context": [1.0]}, "one context [1.0] for all copies, which may differ; give 'contexts', one row for each"),
        ({"context": {"mass": 1.0}}, "one context {'mass': 1.0} for all copies"),
        ({"contexts": [[1.0], [2.0]]}, "2 rows for 3 copies; give one row for each"),
        ({"contexts": [1.0, 2.0, 1.0]}, "shape (3,); give rows"),
        ({"contexts": [[1.0], [2.0], [99.0]]}, "mass=99 is outside"),
        ({"contexts": [[1.0], [2.0], [np.nan]]}, "mass=nan is not finite"),
        ({"start": 1.0}, "unknown reset option 'start'; there are 'contexts' and 'reset_mask'"),
        ({"reset_mask": [True, False, True]}, "reset_mask must be a bool array of shape (3,)"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            vector.reset(options=options)
    assert vector.reset()[1]["context"].ravel().tolist() == [0.5, 1.0, 2.0]


def test_gymnasiums_own_copies_refuse_one_context_where_each_has_its_own() -> None:
    make = partial(gymnasium.make, "orl/ContextPendulum-v0", contexts=("mass",))
    vector = SyncVectorEnv([partial(make, context=[1.0]), partial(make, context=[2.0])])
    with pytest.raises(ValueError, match="made with a context of its own"):
        vector.reset(options={"context": [1.5]})
    assert vector.reset()[1]["context"].ravel().tolist() == [1.0, 2.0]


def test_copies_must_have_contexts_and_the_same_ones() -> None:
    make = partial(gymnasium.make, "orl/ContextPendulum-v0")
    with pytest.raises(ValueError, match="has no contexts"):
        ContextSyncVectorEnv([partial(gymnasium.make, "Pendulum-v1")])
    with pytest.raises(ValueError, match=r"copies expose .*mass.* and .*length"):
        ContextSyncVectorEnv([partial(make, contexts=("mass",)), partial(make, contexts=("length",))])
    with pytest.raises(ValueError, match="2 rows for 3 copies; give one row for each"):
        gymnasium.make_vec("orl/ContextHopper-v0", 3, context=[[1.0] * 5] * 2)
    with pytest.raises(ValueError, match="num_envs must be >= 1, got 0"):
        gymnasium.make_vec("orl/ContextHopper-v0", 0)


@pytest.mark.parametrize("environment_id", CONTEXT_IDS)
def test_one_context_for_all_copies_is_the_constructors(environment_id: str) -> None:
    space = offered_contexts(environment_id)
    for context in (None, space.default, dict(zip(space.names, space.default, strict=True))):
        vector: Any = gymnasium.make_vec(environment_id, 2, contexts=space.names, context=context)
        assert np.array_equal(vector.reset(seed=0)[1]["context"], [space.default] * 2)
        assert vector.context_space == space
    each: Any = gymnasium.make_vec(environment_id, 2, contexts=space.names, context=[context, context])
    assert np.array_equal(each.reset(seed=0)[1]["context"], [space.default] * 2)


def test_bad_input_of_the_vector_form() -> None:
    make = partial(gymnasium.make_vec, "orl/ContextPendulum-v0", contexts=("mass",))
    with pytest.raises(ValueError, match="num_envs must be a whole number >= 1, got 0"):
        make(num_envs=0)
    with pytest.raises(ValueError, match=r"max_episode_steps must be >= 1.*got 0"):
        make(num_envs=1, max_episode_steps=0)
    with pytest.raises(ValueError, match="unknown render_mode 'rgb_array': choose None"):
        make(num_envs=1, render_mode="rgb_array")
    with pytest.raises(ValueError, match="2 rows for 3 copies"):
        make(num_envs=3, context=[[1.0], [2.0]])
    vector = make(num_envs=2)
    with pytest.raises(ValueError, match="before reset"):
        vector.step(np.zeros((2, 1)))
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"actions must have shape \(2, 1\), got \(2,\)"):
        vector.step(np.zeros(2))
    with pytest.raises(ValueError, match="seed has 3 values for 2 copies"):
        vector.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="a state of 3 copies; the environment has 2"):
        vector.set_state(make(num_envs=3).get_state())  # type: ignore[attr-defined]
    pushed = gymnasium.make_vec("orl/ContextCartPoleDiscrete-v0", num_envs=2)
    pushed.reset(seed=0)
    for actions in ([1, 2], [0.4, 1.0]):  # such as those of the environment with any force
        with pytest.raises(ValueError, match=r"actions must be 0 \(left\) or 1 \(right\), got \["):
            pushed.step(np.array(actions))
    other = gymnasium.make_vec("orl/ContextPendulum-v0", num_envs=2, contexts=("length",))
    with pytest.raises(ValueError, match=r"a state with contexts \['mass'\]; the environment exposes \['length'\]"):
        other.set_state(vector.get_state())  # type: ignore[attr-defined]


def test_returned_arrays_are_new_every_time() -> None:
    vector: Any = make_three("orl/ContextCartPole-v0")
    seen = [vector.reset(seed=0)] + [vector.step(np.zeros((3, 1), np.float32)) for _ in range(2)]
    arrays = [[answer[0], *answer[1:-1], *answer[-1].values()] for answer in seen]
    for i in range(3):
        for j in range(i):
            assert not any(np.shares_memory(one, other) for one in arrays[i] for other in arrays[j])


@pytest.mark.slow
@pytest.mark.parametrize("environment_id", IN_ARRAYS)
def test_a_transfer_matrix_is_a_matter_of_seconds(environment_id: str) -> None:
    """100 policies in 100 contexts: 10,000 copies."""
    rows = offered_contexts(environment_id).select({"mass": (0.5, 2.0), "length": (0.5, 2.0)}).grid(10)
    vector = make_copies(environment_id, np.tile(rows, (100, 1)), contexts=("mass", "length"))
    vector.reset(seed=0)
    actions = vector.action_space.sample()
    begin = time.process_time()
    for _ in range(100):
        vector.step(actions)
    assert 1_000_000 / (time.process_time() - begin) > 100_000  # environment steps per second of one core
