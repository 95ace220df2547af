"""Recorded transitions: checks at the door, labels, episodes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from orl.dataset import Dataset, require_rewards

NAN = np.float32(np.nan)


def test_sizes_labels_and_episodes(data: Dataset) -> None:
    assert (len(data), data.observation_size, data.action_size) == (5, 2, 1)
    assert data.episode_slices == [slice(0, 2), slice(2, 5)]
    assert data.episode_returns().tolist() == [3.0, 12.0]
    assert data.is_labelled.all()


def test_a_last_episode_without_an_end_is_an_episode(arrays: dict[str, Any]) -> None:
    arrays["truncated"][:] = False
    assert Dataset.from_arrays(**arrays).episode_slices == [slice(0, 2), slice(2, 5)]


def test_termination_wins_where_both_flags_are_set(arrays: dict[str, Any]) -> None:
    arrays["truncated"][1] = True
    data = Dataset.from_arrays(**arrays)
    assert data.terminated.tolist() == [False, True, False, False, False]
    assert data.truncated.tolist() == [False, False, False, False, True]


def test_actions_are_rescaled_from_their_bounds(arrays: dict[str, Any]) -> None:
    arrays["actions"] = np.array([[0], [1], [2], [3], [4]])
    data = Dataset.from_arrays(**arrays, action_low=0.0, action_high=4.0)
    assert data.actions[:, 0].tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert (data.action_low.tolist(), data.action_high.tolist()) == ([0.0], [4.0])


def test_rounding_beyond_the_bounds_is_clipped_and_more_only_when_asked(arrays: dict[str, Any]) -> None:
    arrays["actions"][0] = 1.0005
    assert Dataset.from_arrays(**arrays).actions[0, 0] == 1.0
    arrays["actions"][0] = 1.5
    with pytest.raises(ValueError, match=r"action 1\.5 in row 0 is outside \[-1, 1\]; clip_actions clips it"):
        Dataset.from_arrays(**arrays)
    assert Dataset.from_arrays(**arrays, clip_actions=True).actions[0, 0] == 1.0


def test_a_bound_is_one_number_or_one_per_dimension(arrays: dict[str, Any]) -> None:
    arrays["actions"] = np.zeros((5, 3))
    assert Dataset.from_arrays(**arrays, action_low=-2).action_low.tolist() == [-2.0, -2.0, -2.0]
    assert Dataset.from_arrays(**arrays, action_low=[-1, -2, -3]).action_low.tolist() == [-1.0, -2.0, -3.0]


def test_the_tolerance_is_of_the_half_range(arrays: dict[str, Any]) -> None:
    arrays["actions"] = np.full((5, 1), 100.09, np.float32)
    assert Dataset.from_arrays(**arrays, action_low=-100, action_high=100).actions.tolist() == [[1.0]] * 5
    arrays["actions"] = np.full((5, 1), 100.2, np.float32)
    with pytest.raises(ValueError, match=r"action 100\.2 in row 0"):
        Dataset.from_arrays(**arrays, action_low=-100, action_high=100)


def test_columns_may_be_given_as_one_wide_matrices(arrays: dict[str, Any], data: Dataset) -> None:
    columns = {key: arrays[key][:, None] for key in ("rewards", "terminated", "truncated")}
    given = Dataset.from_arrays(**(arrays | columns))
    for key in columns:
        assert np.array_equal(getattr(given, key), getattr(data, key))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("observations", np.zeros(5), r"observations has shape \(5,\)"),
        ("rewards", np.zeros((5, 2)), r"rewards has shape \(5, 2\)"),
        ("rewards", np.zeros(4), "arrays differ in length"),
        ("rewards", np.array([1, 2, np.inf, 4, 5]), "rewards has infinity in 1 rows, the first is row 2"),
        ("observations", np.full((5, 2), np.nan), "observations has NaN or infinity in 5 rows"),
        ("next_observations", np.zeros((5, 3)), "observations have 2 features, next_observations 3"),
        ("terminated", np.array([0, 2, 0, 0, 0]), "terminated holds values other than 0 and 1"),
        ("actions", np.full((5, 1), -np.inf), "actions has NaN or infinity"),
    ],
)
def test_bad_arrays_are_refused_by_name(arrays: dict[str, Any], key: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=f"broken: .*{words}"):
        Dataset.from_arrays(**(arrays | {key: value}), name="broken")


def test_no_transition_is_refused() -> None:
    empty = np.zeros((0, 2)), np.zeros((0, 1)), np.zeros(0), np.zeros((0, 2)), np.zeros(0), np.zeros(0)
    with pytest.raises(ValueError, match="holds no transition"):
        Dataset.from_arrays(*empty)


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"action_low": [-1, -1]}, r"bound action_low has shape \(2,\)"),
        ({"action_high": np.inf}, "finite bounds"),
        ({"action_low": 1.0, "action_high": 1.0}, "leave no room"),
    ],
)
def test_bad_bounds_are_refused(arrays: dict[str, Any], bounds: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Dataset.from_arrays(**arrays, **bounds)


def test_with_labels_hides_the_rest_and_shares_everything_but_rewards(make_data: Any) -> None:
    data = make_data(rows=100)
    sparse = data.with_labels(0.2, seed=1)
    assert sparse.is_labelled.sum() == 20
    assert np.array_equal(sparse.rewards[sparse.is_labelled], data.rewards[sparse.is_labelled])
    assert not np.isnan(data.rewards).any()
    for field in ("observations", "actions", "next_observations", "terminated", "truncated"):
        assert getattr(sparse, field) is getattr(data, field)
    again, other = data.with_labels(0.2, seed=1), data.with_labels(0.2, seed=2)
    assert np.array_equal(again.is_labelled, sparse.is_labelled)
    assert not np.array_equal(other.is_labelled, sparse.is_labelled)


def test_a_fraction_is_of_the_labels_that_exist_and_one_stays(make_data: Any) -> None:
    half = make_data(rows=100).with_labels(0.5)
    quarter = half.with_labels(0.5)
    assert quarter.is_labelled.sum() == 25
    assert half.is_labelled[quarter.is_labelled].all()
    assert half.with_labels(1e-6).is_labelled.sum() == 1


def test_labels_of_whole_episodes(make_data: Any) -> None:
    data = make_data(rows=100).with_labels(0.3, mode="episode")
    known = [data.is_labelled[rows] for rows in data.episode_slices]
    assert sum(each.all() for each in known) == 3
    assert sum(each.any() for each in known) == 3


def test_a_share_of_episodes_is_of_those_that_have_labels(make_data: Any) -> None:
    data = make_data(rows=100)
    rewards = np.where(np.arange(100) < 40, data.rewards, NAN)  # four of ten
    for seed in range(5):
        kept = data.with_rewards(rewards).with_labels(0.5, mode="episode", seed=seed).is_labelled
        assert kept.reshape(10, 10).all(axis=1).sum() == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fraction": 0.0}, r"fraction=0\.0"),
        ({"fraction": 1.1}, r"lies in \(0, 1\]"),
        ({"fraction": 0.5, "mode": "row"}, "choose 'transition' or 'episode'"),
    ],
)
def test_bad_fractions_and_modes_are_refused(data: Dataset, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        data.with_labels(**arguments)


def test_labelled_keeps_rows_with_a_reward(data: Dataset) -> None:
    sparse = data.with_rewards([NAN, 2, NAN, 4, 5])
    labelled = sparse.labelled()
    assert labelled.rewards.tolist() == [2.0, 4.0, 5.0]
    assert np.array_equal(labelled.observations, data.observations[[1, 3, 4]])
    with pytest.raises(ValueError, match="tiny: rows were picked out"):
        _ = labelled.episode_slices
    assert data.labelled() is data


def test_fill_gives_hidden_rewards_a_number_or_the_mean_of_the_known(data: Dataset) -> None:
    sparse = data.with_rewards([NAN, 2, NAN, 4, 9])
    assert sparse.fill(0.0).rewards.tolist() == [0.0, 2.0, 0.0, 4.0, 9.0]
    assert sparse.fill("mean").rewards.tolist() == [5.0, 2.0, 5.0, 4.0, 9.0]
    with pytest.raises(ValueError, match=r"fill\(inf\): give a finite number or 'mean'"):
        sparse.fill(np.inf)
    for value in (1e300, float("nan"), "zero"):
        with pytest.raises(ValueError, match=re.escape(f"fill({value!r}): give a finite number or 'mean'")):
            sparse.fill(value)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no transition is picked"):
        sparse.pick(np.zeros(5, bool))


def test_data_without_any_label_names_what_cannot_be_done(data: Dataset) -> None:
    unlabelled = data.with_rewards([NAN] * 5)
    with pytest.raises(ValueError, match="no labelled transition at all"):
        unlabelled.labelled()
    with pytest.raises(ValueError, match="no labelled reward to take the mean of"):
        unlabelled.fill("mean")
    with pytest.raises(ValueError, match="none can be kept"):
        unlabelled.with_labels(0.5)


def test_with_rewards_replaces_nothing_else(data: Dataset) -> None:
    other = data.with_rewards(np.arange(5), name="other")
    assert other.rewards.tolist() == [0, 1, 2, 3, 4]
    assert (other.name, data.with_rewards(np.arange(5)).name) == ("other", "tiny")
    assert other.observations is data.observations
    with pytest.raises(ValueError, match="4 rewards for 5 transitions"):
        data.with_rewards(np.arange(4))
    with pytest.raises(ValueError, match="rewards has infinity in 1 rows, the first is row 4"):
        data.with_rewards([0, 0, 0, 0, np.inf])


def test_best_episodes_rank_finished_ones_by_return(arrays: dict[str, Any]) -> None:
    arrays["terminated"][:] = [0, 1, 1, 0, 0]
    arrays["rewards"][:] = [1, 2, 10, 50, 50]
    arrays["truncated"][:] = False  # the last episode, rows 3 and 4, has no end
    data = Dataset.from_arrays(**arrays)
    assert data.best_episodes(0.5).rewards.tolist() == [10.0]
    assert data.best_episodes(1.0).rewards.tolist() == [1.0, 2.0, 10.0]
    assert data.best_episodes(1.0).episode_slices == [slice(0, 2), slice(2, 3)]


def test_best_episodes_keep_their_order_and_the_rounded_share(arrays: dict[str, Any]) -> None:
    data = Dataset.from_arrays(**(arrays | {"rewards": [3, 5, 4, 1, 2], "terminated": np.ones(5)}))
    assert data.best_episodes(0.55).rewards.tolist() == [3.0, 5.0, 4.0]  # 2.75 are 3, the best of them is the second


def test_best_episodes_refuse_what_cannot_be_ranked(data: Dataset, arrays: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fraction=2\.0"):
        data.best_episodes(2.0)
    with pytest.raises(ValueError, match="1 of 5 rewards are hidden"):
        data.with_rewards([NAN, 2, 3, 4, 5]).best_episodes(0.5)
    arrays["terminated"][:] = arrays["truncated"][:] = False
    with pytest.raises(ValueError, match="no episode is finished"):
        Dataset.from_arrays(**arrays).best_episodes(0.5)


def test_hidden_rewards_are_refused_with_every_remedy(data: Dataset) -> None:
    require_rewards(data)
    with pytest.raises(ValueError, match="hidden") as error:
        require_rewards(data.with_rewards([NAN, 2, NAN, 4, 5]))
    for words in ("2 of 5", "labelled()", "fill(0.0)", "fill('mean')", "RewardModel"):
        assert words in str(error.value)


def test_the_return_of_an_episode_with_a_hidden_reward_is_undefined(data: Dataset) -> None:
    returns = data.with_rewards([1, 2, NAN, 4, 5]).episode_returns()
    assert returns[0] == 3.0
    assert np.isnan(returns[1])


# Contexts and values.


def test_contexts_and_values_follow_their_rows(arrays: dict[str, Any]) -> None:
    contexts, values = np.arange(10).reshape(5, 2), np.arange(5)[:, None]
    data = Dataset.from_arrays(**arrays, contexts=contexts, values=values)
    assert data.contexts is not None
    assert data.values is not None
    assert (data.contexts.dtype, data.contexts.tolist()) == (np.float32, contexts.tolist())
    assert data.values.tolist() == [0, 1, 2, 3, 4]
    for picked in (data.pick([3, 0]), data.pick(np.array([True, False, False, True, False])).pick([1, 0])):
        assert picked.contexts is not None
        assert picked.values is not None
        assert picked.contexts.tolist() == [[6, 7], [0, 1]]
        assert picked.values.tolist() == [3, 0]
    best = data.best_episodes(0.5)
    assert best.values is not None
    assert best.values.tolist() == [2, 3, 4]
    for same in (data.with_labels(0.5), data.with_rewards(arrays["rewards"]), data.fill(0.0)):
        assert same.contexts is data.contexts
        assert same.values is data.values
    assert Dataset.from_arrays(**arrays).pick([0]).contexts is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("contexts", np.zeros(5), r"contexts has shape \(5,\)"),
        ("contexts", np.full((5, 1), np.nan), "contexts has NaN or infinity in 5 rows"),
        ("contexts", np.zeros((4, 1)), "arrays differ in length: .*contexts 4"),
        ("values", np.zeros((5, 2)), r"values has shape \(5, 2\)"),
        ("values", np.array([0, 0, np.nan, 0, 0]), "values has NaN or infinity in 1 rows, the first is row 2"),
    ],
)
def test_bad_contexts_and_values_are_refused(arrays: dict[str, Any], key: str, value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Dataset.from_arrays(**arrays, **{key: value})


def test_the_arrays_given_stay_as_they_are() -> None:
    truncated = np.array([True, True])
    truncated.flags.writeable = False
    data = Dataset.from_arrays(np.zeros((2, 1)), np.zeros((2, 1)), [0, 0], np.zeros((2, 1)), [False, True], truncated)
    assert truncated.all()
    assert data.truncated.tolist() == [True, False]
