"""Episodes of specialists: in their own contexts, by their own policies, with their own critics' values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
import torch

from orl import datasets
from orl.agents import SAC, FlashSAC
from orl.arrays import Float64Array
from orl.context import ContextSpace
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.specialist_data import specialist_episodes

from .test_specialists import ENV, Run, specialists

assert specialists
SET = "orl/context-pendulum/specialists-v0"
SMALL: dict[str, Any] = {"hidden_sizes": (8,), "batch_size": 8, "learning_starts": 5, "buffer_size": 100}
LEARNERS = [0, 1, 2]


@pytest.fixture
def grid() -> tuple[ContextSpace, Float64Array]:
    return offered_contexts(ENV).parse("mass=0.5:2:3")


@pytest.fixture
def agent(grid: tuple[ContextSpace, Float64Array]) -> SAC:
    space, contexts = grid
    environment = gymnasium.make_vec(ENV, 3, contexts=space.ranges, context=contexts)
    return SAC(environment, seed=LEARNERS, target_entropy=-1.0, **SMALL).learn(12)


def test_each_plays_whole_episodes_in_its_context(agent: SAC, grid: tuple[ContextSpace, Float64Array]) -> None:
    """Replayed one by one in single environments, from the seed and the context that an episode states."""
    space, contexts = grid
    episodes = specialist_episodes(agent, ENV, space, contexts, episodes=2, seed=4)
    assert [each.context.tolist() for each in episodes if each.context is not None] == contexts.repeat(2, 0).tolist()
    assert len({each.seed for each in episodes}) == 6
    environment = gymnasium.make(ENV, contexts=space.ranges)
    for k, episode in enumerate(episodes):
        observation, _ = environment.reset(seed=episode.seed, options={"context": episode.context})
        learner, shown = agent.learner(k // 2), []
        for action, reward in zip(episode.actions, episode.rewards, strict=True):
            shown.append(observation)
            np.testing.assert_allclose(learner.predict(observation, deterministic=True)[0], action, atol=1e-5)
            observation, given, terminated, truncated, _ = environment.step(action)
            assert given == reward
        np.testing.assert_array_equal(episode.observations, [*shown, observation])
        assert (episode.terminations.tolist(), episode.truncations.tolist()) == (
            [False] * 199 + [terminated],
            [False] * 199 + [truncated],
        )
    environment.close()


def test_values_are_the_least_of_the_learners_critics(agent: SAC, grid: tuple[ContextSpace, Float64Array]) -> None:
    data = datasets.to_dataset(specialist_episodes(agent, ENV, *grid, episodes=1), action_low=-2.0, action_high=2.0)
    assert data.values is not None
    for k in LEARNERS:
        rows = data.episode_slices[k]
        learner = agent.learner(k)
        with torch.no_grad():
            inputs, actions = (torch.from_numpy(array[rows])[None] for array in (data.observations, data.actions))
            each = learner.q_values(inputs, actions)[0].numpy()
        assert each.shape == (2, 200)
        np.testing.assert_allclose(data.values[rows], each.min(0), atol=1e-4)
        assert (each.min(0) < each.mean(0)).any()


def test_training_goes_on_as_if_nothing_had_been_played(agent: SAC, grid: tuple[ContextSpace, Float64Array]) -> None:
    before = {name: tensor.clone() for name, tensor in (agent.state()[0] | agent.online_state()[0]).items()}
    first = specialist_episodes(agent, ENV, *grid, episodes=2)
    after = agent.state()[0] | agent.online_state()[0]
    torch.testing.assert_close(after, before, rtol=0.0, atol=0.0, equal_nan=True)
    again = specialist_episodes(agent, ENV, *grid, episodes=2)
    for mine, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine.observations, theirs.observations)
    other = specialist_episodes(agent, ENV, *grid, episodes=2, seed=1)
    assert (first[0].observations[0] != other[0].observations[0]).any()


def test_episodes_that_end_at_different_times_stay_whole() -> None:
    """Cart-poles fall: each copy's one episode ends where it fell, with the observation of the fall."""
    space, contexts = offered_contexts("orl/ContextCartPole-v0").parse("length=0.5:2:2")
    sizes = {"critic_width": 8, "critic_blocks": 1, "actor_width": 8, "actor_blocks": 1, "num_bins": 11}
    agent = FlashSAC("orl/ContextCartPole-v0", seed=[0, 1], **sizes)
    before = {name: tensor.clone() for name, tensor in agent.state()[0].items()}
    episodes = specialist_episodes(agent, "orl/ContextCartPole-v0", space, contexts, episodes=5)
    torch.testing.assert_close(agent.state()[0], before, rtol=0.0, atol=0.0)
    assert len({len(each) for each in episodes}) > 1
    for each in episodes:
        assert each.terminations.tolist() == [False] * (len(each) - 1) + [True]
        assert not each.truncations.any()
        position, _, angle, _ = each.observations[-1]
        assert abs(position) > 2.4 or abs(angle) > 0.2
        assert (abs(each.observations[:-1, 0]) <= 2.4).all()
        assert each.values is not None


@pytest.mark.parametrize(("number", "episodes", "words"), [(2, 1, "2 contexts for 3 learners"), (3, 0, "episodes=0")])
def test_what_is_refused(
    agent: SAC, grid: tuple[ContextSpace, Float64Array], number: int, episodes: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        specialist_episodes(agent, ENV, grid[0], grid[1][:number], episodes=episodes)


def test_a_run_makes_a_set_when_it_is_finished_or_later(specialists: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--env", ENV, "--contexts", "mass=0.5:2:3", "--steps", 12, "--out", "run")
    specialists(*words, "--dataset", SET, "--dataset-episodes", 2)
    assert "1,200 transitions, 6 episodes, 3 contexts" in capsys.readouterr().out
    results = Path("run/results.json").read_text()
    data = datasets.load(SET, ENV)
    assert data.contexts is not None
    np.testing.assert_array_equal(np.unique(data.contexts), np.float32([0.5, 1.0, 2.0]))
    space = datasets.context_space(SET)
    assert space is not None
    assert space.ranges == {"mass": (0.5, 2.0)}
    assert minari.load_dataset(SET).recover_environment().get_wrapper_attr("context_space") == space
    specialists(*words, "--dataset", SET)
    assert f"{SET} exists already and is left as it is" in capsys.readouterr().out
    later = SET.replace("v0", "v1")
    specialists(*words, "--dataset", later, "--dataset-episodes", 2)
    for name in ("observations", "actions", "rewards", "values", "contexts"):
        np.testing.assert_array_equal(getattr(datasets.load(later), name), getattr(data, name))
    assert Path("run/results.json").read_text() == results
    assert "dataset" not in json.loads(results)["config"]


def test_a_run_refuses_a_set_before_it_begins(specialists: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--env", ENV, "--contexts", "mass=0.5:2:2", "--steps", 12)
    specialists(*words, "--out", "run", "--dataset", SET, "--dataset-episodes", 1)
    for more, message in (
        (("--dataset", SET), "exists already; give another id"),
        (("--dataset", "specialists"), "is no data set id"),
        (("--dataset", "a/b-v0", "--dataset-episodes", 0), "--dataset-episodes 0: give 1 or more"),
    ):
        with pytest.raises(SystemExit):
            specialists(*words, "--out", "other", *more)
        assert message in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_replay_has_its_learners_context(specialists: Run) -> None:
    specialists("--env", ENV, "--contexts", "mass=0.5:2:2", "--steps", 12, "--out", "run", "--save-replay")
    for k, mass in enumerate((0.5, 2.0)):
        contexts = datasets.load(Path(f"run/seed-{k}/replay.npz")).contexts
        assert contexts is not None
        assert contexts.tolist() == [[mass]] * 12
