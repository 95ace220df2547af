"""Sizes and bounds, read from wherever an agent may start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from orl.dataset import Dataset
from orl.environment import Spaces, make, make_vector


def test_an_id_an_environment_and_a_vector_environment_agree() -> None:
    environment, vector = gymnasium.make("Pendulum-v1"), make_vector("Pendulum-v1", 3)
    for source in ("Pendulum-v1", environment, vector):
        spaces = Spaces.of(source)
        assert (spaces.observation_size, spaces.action_size, spaces.environment_id) == (3, 1, "Pendulum-v1")
        assert (spaces.action_low.tolist(), spaces.action_high.tolist()) == ([-2.0], [2.0])
    environment.close()
    vector.close()


def test_data_and_lists_of_data(make_data: Callable[..., Dataset]) -> None:
    data = make_data(action_low=[-2.0, -3.0], action_high=[2.0, 3.0], environment_id="Some-v0")
    for source in (data, [data, make_data()]):
        spaces = Spaces.of(source)
        assert (spaces.observation_size, spaces.action_size, spaces.environment_id) == (3, 2, "Some-v0")
        assert spaces.action_high.tolist() == [2.0, 3.0]


def test_actions_pass_the_boundary_both_ways() -> None:
    spaces = Spaces.of("Pendulum-v1")
    unit = np.array([[-1.0], [0.25], [1.0]], np.float32)
    assert spaces.to_environment(unit).tolist() == [[-2.0], [0.5], [2.0]]
    assert np.array_equal(to_unit(spaces.to_environment(unit), spaces.action_low, spaces.action_high), unit)


def to_unit(actions: Any, low: Any, high: Any) -> Any:
    """Actions (n, A) as a data set with these bounds has them."""
    rows, none = np.zeros((len(actions), 1)), np.zeros(len(actions))
    return Dataset.from_arrays(rows, actions, none, rows, none, none, action_low=low, action_high=high).actions


def test_rescaling_by_hand_and_back() -> None:
    low, high = np.array([0, -2], np.float32), np.array([10, 2], np.float32)
    actions = np.array([[0, -2], [2.5, 0], [10, 2]], np.float32)
    unit = to_unit(actions, low, high)
    assert unit.tolist() == [[-1.0, -1.0], [-0.5, 0.0], [1.0, 1.0]]
    assert np.array_equal(Spaces(1, low, high, None).to_environment(unit), actions)


def test_what_leaves_is_never_beyond_the_bounds() -> None:
    low, high = np.array([-0.4], np.float32), np.array([0.4], np.float32)
    actions = Spaces(1, low, high, None).to_environment(np.array([[1.0000001], [-2.0], [1.0]], np.float32))
    assert (actions >= low).all()
    assert (actions <= high).all()


def test_bounds_of_one_leave_actions_bit_equal() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    one = np.ones(2, np.float32)
    assert np.array_equal(to_unit(actions, -one, one), actions)
    assert np.array_equal(Spaces(1, -one, one, None).to_environment(actions), actions)


def test_spaces_survive_json() -> None:
    spaces = Spaces.of("Pendulum-v1")
    again = Spaces.from_json(spaces.to_json())
    spaces.check(again, "again")
    assert (again.environment_id, again.action_low.dtype) == ("Pendulum-v1", np.float32)


class Stub(gymnasium.Env[Any, Any]):
    """An environment with the given spaces."""

    def __init__(self, observations: Any, actions: Any) -> None:
        self.observation_space, self.action_space = observations, actions


FLAT, UNIT = Box(-np.inf, np.inf, (3,)), Box(-1, 1, (2,))


@pytest.mark.parametrize(
    ("observations", "actions", "words"),
    [
        (FLAT, Discrete(2), r"actions are Discrete\(2\)"),
        (FLAT, Box(-1, 1, (2, 2)), "one-dimensional Box"),
        (FLAT, Box(0, 3, (2,), np.int32), "one-dimensional Box of floats"),
        (FLAT, Box(-np.inf, np.inf, (2,)), "unbounded; give them bounds, as gymnasium.wrappers.TransformAction"),
        (Box(0, 1, (4, 4)), UNIT, "FlattenObservation"),
        (Discrete(5), UNIT, "observations are"),
    ],
)
def test_spaces_that_no_agent_handles_are_refused(observations: Any, actions: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Spaces.of(Stub(observations, actions))


@pytest.mark.parametrize("source", [3, [], ["x"], None])
def test_what_is_no_source_is_refused(source: Any) -> None:
    with pytest.raises(ValueError, match="give an environment id, an environment, a dataset or a list of datasets"):
        Spaces.of(source)


def test_other_sizes_and_bounds_are_refused(make_data: Callable[..., Dataset]) -> None:
    spaces = Spaces.of(make_data())
    with pytest.raises(ValueError, match=r"wide: \(observation, action\) sizes are \(4, 2\), the agent has \(3, 2\)"):
        spaces.check(Spaces.of(make_data(observation_size=4)), "wide")
    with pytest.raises(ValueError, match=r"strong: actions lie in \[\[-2.0, -2.0\], \[2.0, 2.0\]\]"):
        spaces.check(Spaces.of(make_data(action_low=-2, action_high=2)), "strong")


def test_an_unknown_id_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gymnasium.registry, "orl/Racing-v0", raising=False)  # whatever another test imported
    with pytest.raises(ValueError, match=r"Nothing-v0: no such environment; see gymnasium.pprint_registry\(\)"):
        make("Nothing-v0")
    with pytest.raises(ValueError, match=r"`import orl\.envs` registers the environments of orl"):
        Spaces.of("orl/nothing-v0")
    with pytest.raises(ValueError, match="no such environment"):
        make_vector("Nothing-v0", 2)


@pytest.mark.filterwarnings("ignore:.*out of date")
@pytest.mark.parametrize(
    ("name", "words"),
    [("Hopper-v2", "moved to the gymnasium-robotics"), ("not an id", "Malformed"), ("Humanoid-v1", "deprecated")],
)
def test_environments_that_cannot_be_made_are_refused(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: cannot be made: .*{words}"):
        make(name)


def test_copies_made_by_hand_still_name_their_environment() -> None:
    copies = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("Pendulum-v1")] * 2)
    assert Spaces.of(copies).environment_id == "Pendulum-v1"
