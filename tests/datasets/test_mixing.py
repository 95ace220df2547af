"""Counts, draws and pieces."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orl.datasets import Episode, mix, pieces, shares, to_dataset

from .conftest import make_episodes


@given(total=st.integers(0, 500), ratios=st.lists(st.integers(0, 50), min_size=1, max_size=5).filter(any))
def test_shares_sum_to_the_total_and_are_near_their_ratio(total: int, ratios: list[int]) -> None:
    counts = shares(total, ratios)
    assert sum(counts) == total
    for count, ratio in zip(counts, ratios, strict=True):
        assert abs(count - total * ratio / sum(ratios)) < 1.0


def test_shares_by_hand() -> None:
    assert shares(100, [0.90, 0.07, 0.03]) == [90, 7, 3]
    assert shares(3, [1, 1]) == [2, 1]
    for ratios in ([], [0.0], [-1.0, 2.0], [np.nan]):
        with pytest.raises(ValueError, match="ratios"):
            shares(10, ratios)
    with pytest.raises(ValueError, match="total=-1: give a number >= 0"):
        shares(-1, [1.0])


def test_mix_draws_without_replacement_in_the_ratios() -> None:
    many, few = make_episodes([2] * 20, seed=1), make_episodes([2] * 5, seed=2)
    mixed = mix([many, few], [0.8, 0.2], 20, seed=0)
    assert len({id(episode) for episode in mixed}) == 20
    assert sum(any(episode is other for other in few) for episode in mixed) == 4
    assert [id(e) for e in mixed] == [id(e) for e in mix([many, few], [0.8, 0.2], 20, seed=0)]
    assert [id(e) for e in mixed] != [id(e) for e in mix([many, few], [0.8, 0.2], 20, seed=1)]
    with pytest.raises(ValueError, match="source 1 has 5 episodes, 10 are wanted"):
        mix([many, few], [1, 1], 20, seed=0)
    with pytest.raises(ValueError, match="one ratio per source"):
        mix([many, few], [1], 20, seed=0)


@pytest.mark.parametrize("terminated", [False, True])
def test_pieces_are_consecutive_do_not_overlap_and_end_truncated(terminated: bool) -> None:
    episodes = make_episodes([10, 23], terminated=terminated)
    cut = pieces(episodes, 5, 6, seed=0)
    assert [len(piece) for piece in cut] == [5] * 6
    found = []
    for piece in cut:
        place = [
            (i, start)
            for i, episode in enumerate(episodes)
            for start in range(len(episode) - 4)
            if np.array_equal(episode.observations[start : start + 6], piece.observations)
        ]
        assert len(place) == 1
        i, start = place[0]
        found.append(place[0])
        np.testing.assert_array_equal(episodes[i].actions[start : start + 5], piece.actions)
        np.testing.assert_array_equal(episodes[i].rewards[start : start + 5], piece.rewards)
        ends_there = terminated and start + 5 == len(episodes[i])
        assert piece.terminations.tolist() == [False] * 4 + [ends_there]
        assert piece.truncations.tolist() == [False] * 4 + [not ends_there]
    assert len(set(found)) == 6
    assert all(start % 5 == 0 for _, start in found)
    assert not episodes[1].truncations[:-1].any()  # the sources are as before
    with pytest.raises(ValueError, match="6 stretches of 5 decisions, 7 are wanted"):
        pieces(episodes, 5, 7, seed=0)


def test_an_episode_without_an_end_is_cut_off_from_the_next() -> None:
    episodes = make_episodes([3, 2])
    episodes[0].truncations[:] = False
    assert to_dataset(episodes).truncated.tolist() == [False, False, True, False, True]


def test_an_episode_checks_its_lengths() -> None:
    flags = np.zeros(3, bool)
    with pytest.raises(ValueError, match="3 rewards has 3 observations"):
        Episode(np.zeros((3, 2)), np.zeros((3, 1)), np.zeros(3), flags, flags)
    with pytest.raises(ValueError, match="T > 0"):
        Episode(np.zeros((1, 2)), np.zeros((0, 1)), np.zeros(0), flags[:0], flags[:0])
