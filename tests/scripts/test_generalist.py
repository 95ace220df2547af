"""`orl generalist`: chosen contexts, their policies, imputed rewards and one policy for all, in small."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.agents import HyperZero, RewardModel
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.transfer_matrix import transfer_returns
from orl.scripts.running import reward_variants

ENV, GRID = "orl/ContextCartPole-v0", "mass=0.25:4:5"
SMALL = (
    "--env", ENV, "--contexts", GRID, "--budget", 2, "--steps", 24, "--episodes", 2, "--updates", 4, "--data-episodes",
    1, "--settings", "hidden_sizes=[8]", "batch_size=8", "learning_starts=10", "--device", "cpu", "--out", "run",
)  # fmt: skip
Run = Callable[..., None]


def test_it_learns_from_the_chosen_sources_and_is_compared(here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(RewardModel, hidden_sizes=(8,), num_members=2, max_updates=50)
    monkeypatch.setattr(reward_variants, "RewardModel", small)
    here("generalist", *SMALL, "--labels", 0.5)
    rows: list[dict[str, Any]] = json.loads(Path("run/results.json").read_text())["rows"]
    names = ("auto", "equidistant", "random")
    assert [(row["agent"], row["strategy"]) for row in rows] == [
        (agent, name) for agent in ("hyperzero", "best source") for name in names
    ]
    assert all(len(set(row["chosen"])) == 2 and row["rewards"] == "imputed" for row in rows)
    for index in rows[0]["chosen"]:
        assert Path(f"run/source-{index}").is_dir()
    space, contexts = offered_contexts(ENV).parse(GRID)
    agent = HyperZero.load("run/hyperzero/auto")
    played = transfer_returns(agent, ENV, space, contexts, episodes=2, context_mode="concat")[0].mean(-1)
    assert rows[0]["return"] == pytest.approx(played.mean())
    with np.load("run/returns.npz") as returns:
        np.testing.assert_allclose(returns["hyperzero/auto"], played)
    assert Path("run/generalist.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--trainer", "sb3:PPO"), "critics of ours are needed"),
        (("--labels", "1.5"), "--labels 1.5: the share"),
        (("--budget", "99"), "budget"),
        (("--updates", "0"), "--updates 0: give 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_folder(
    words: tuple[str, ...], message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert message in refused("generalist", *words, "--out", "run")
    assert not (tmp_path / "run").exists()
