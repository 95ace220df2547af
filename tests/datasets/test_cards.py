"""Scores, checks and cards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orl.datasets import REFERENCES, Episode, card, check, normalized_score, to_dataset

from .conftest import make_episodes


def test_normalized_score() -> None:
    low, high = REFERENCES["Hopper-v5"]
    np.testing.assert_allclose(normalized_score("Hopper-v5", [low, high, (low + high) / 2]), [0, 100, 50])
    assert normalized_score("Hopper-v5", np.zeros((2, 3))).shape == (2, 3)
    assert all(high > low for low, high in REFERENCES.values())
    with pytest.raises(ValueError, match=r"'Hopper-v4'; known: Hopper-v5"):
        normalized_score("Hopper-v4", 1.0)


def test_check_of_sound_data(episodes: list[Episode]) -> None:
    report = check(to_dataset(episodes))
    assert (report.transitions, report.episodes, report.gaps) == (12, 3, 0)
    assert (report.terminated, report.truncated, report.labelled, report.duplicates) == (0.0, 1.0, 1.0, 0.0)
    assert report.constant_features == ()
    assert report.remarks == ()


def test_check_finds_what_is_odd(episodes: list[Episode]) -> None:
    data = to_dataset(episodes)
    observations = data.observations.copy()
    observations[:, 1] = 7.0
    observations[5:12] = observations[5]
    actions = data.actions.copy()
    actions[5:12] = 1.0
    rewards = data.rewards.copy()
    rewards[:3] = np.nan
    report = check(replace(data, observations=observations, actions=actions, rewards=rewards))
    assert report.constant_features == (1,)
    assert report.labelled == 0.75
    assert report.duplicates == pytest.approx(6 / 12)
    assert report.saturated == pytest.approx(7 / 12)
    assert report.gaps == 9  # of 9 rows that are no end
    assert len(report.remarks) == 5
    assert check(data.pick([1, 4, 2])).episodes is None


def test_a_card_states_the_numbers_and_shows_figures(tmp_path: Path) -> None:
    data = to_dataset(
        make_episodes([30, 20, 10, 12], terminated=True), name="orl/dice/random-v0", environment_id="Hopper-v5"
    )
    facts = {"description": "Scripted drivers.", "algorithm_name": "dice", "requirements": ["b==2", "a==1"]}
    extra = tmp_path / "card" / "map.png"
    path = card(data, tmp_path / "card", facts=facts, pictures={"Visits": extra})
    text = path.read_text()
    returns = data.episode_returns()
    score = normalized_score("Hopper-v5", returns)
    for line in (
        "# orl/dice/random-v0",
        "Scripted drivers.",
        "| transitions | 72 |",
        "| episodes | 4 |",
        f"{returns.mean():.1f} ± {returns.std():.1f} ({returns.min():.1f} to {returns.max():.1f})",
        f"{score.mean():.1f} ± {score.std():.1f}",
        "16.9, 3857.8",
        "| episodes terminated, truncated | 100.0%, 0.0% |",
        "| actions chosen by | dice |",
        "| made with | a==1, b==2 |",
        "![Visits](map.png)",
    ):
        assert line in text
    for name in ("returns.png", "actions.png", "coverage.png"):
        assert name in text
        with Image.open(path.parent / name) as image:
            assert len(set(image.convert("L").tobytes())) > 50  # something is drawn


def test_pieces_of_episodes_have_no_score(tmp_path: Path) -> None:
    short = to_dataset(make_episodes([50, 50], action_size=3, observation_size=11), environment_id="Hopper-v5")
    text = card(short, tmp_path / "short").read_text()
    assert "normalized score" not in text
    assert "cut short of the environment's time limit" in text
    for length in (1000, 999):  # 999: of a file without next observations
        whole = to_dataset(make_episodes([length] * 2), environment_id="Hopper-v5")
        text = card(whole, tmp_path / "whole").read_text()
        assert "normalized score" in text
        assert "Worth knowing" not in text


def test_cards_of_awkward_data(tmp_path: Path, episodes: list[Episode]) -> None:
    data = to_dataset(episodes)
    scattered = card(data.pick([0, 3]), tmp_path / "scattered").read_text()
    assert "rows are scattered" in scattered
    assert "returns.png" not in scattered
    assert "normalized" not in scattered
    hidden = card(data.with_rewards(np.full(12, np.nan)), tmp_path / "hidden").read_text()
    assert "| rewards labelled | 0.0% |" in hidden
    assert "return, mean" not in hidden
    still = replace(data, observations=np.zeros_like(data.observations))
    assert "coverage.png" not in card(still, tmp_path / "still").read_text()
    card(to_dataset(make_episodes([1])), tmp_path / "one")
