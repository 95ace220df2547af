"""`orl zero-shot`: splits that do not leak, scores, and the whole pipeline in small."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orl.agents import RewardModel
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts import zero_shot
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.zero_shot import Scale, Task, Trial, choose_checkpoints, nearest_specialists, splits
from orl.scripts.running import reward_variants

ENV = "orl/ContextPendulum-v0"
SMALL = (
    "--env", "orl/ContextCartPole-v0", "--contexts", "mass=0.25:4:8", "--steps", 30,
    "--settings", "learning_starts=10", "hidden_sizes=[4]", "batch_size=8", "--updates", 5, "--data-episodes", 1,
    "--eval-episodes", 1, "--shots", 1, "--shot-updates", 3, "--device", "cpu", "--out", "run",
)  # fmt: skip
Run = Callable[..., None]


def test_splits_cover_the_contexts_without_overlap_and_extrapolation_holds_out_the_ends() -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:7,length=0.5:2:7")
    found = {split.name: split for split in splits(space, contexts, seed=3)}
    for split in found.values():
        parts = np.concatenate([split.train, split.validation, split.test])
        np.testing.assert_array_equal(np.sort(parts), np.arange(49))
    assert [len(found[name].test) for name in found] == [7, 39, 24]
    ends = np.isclose(contexts, 0.5) | np.isclose(contexts, 2.0)
    np.testing.assert_array_equal(found["extrapolation"].test, np.flatnonzero(ends.any(1)))
    again, other = (splits(space, contexts, seed=seed)[0].test.tolist() for seed in (3, 4))
    assert again == found["interpolation-15"].test.tolist() != other


def test_a_split_with_too_few_contexts_to_train_on_is_left_out() -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:12")
    assert [split.name for split in splits(space, contexts, seed=0)] == ["interpolation-15", "extrapolation"]


def test_scores_are_0_for_random_actions_and_1_for_the_specialist() -> None:
    scale = Scale(np.array([[0.0, 2.0], [5.0, 5.0]]), np.array([[10.0, 12.0], [4.0, 4.0]]))
    np.testing.assert_allclose(scale(np.array([[1.0, 1.0], [9.0, 9.0]])), [0.0, np.nan])
    np.testing.assert_allclose(scale(np.array([[11.0, 11.0]]), np.array([0])), [1.0])
    with pytest.raises(ValueError, match="train longer"):
        Scale(np.ones((2, 3)), np.zeros((2, 3)))


def test_a_checkpoint_is_chosen_on_validation_contexts_alone() -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:8")
    found = splits(space, contexts, seed=0)
    scale = Scale(np.zeros((8, 1)), np.ones((8, 1)))
    looks = np.zeros((3, len(found), 8, 1))
    for k, split in enumerate(found):
        looks[1, k, split.validation] = 0.5
        looks[2, k, split.test] = looks[2, k, split.train] = 1.0
    picked = choose_checkpoints(looks, found, scale)
    for k, split in enumerate(found):
        assert (picked[k, split.validation] == 0.5).all()
        assert (picked[k, split.test] == 0.0).all()


def test_nearest_is_the_specialist_of_the_nearest_training_context() -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:8")
    split = splits(space, contexts, seed=0)[-1]
    transfer = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 1))  # a source's returns are its number
    found = nearest_specialists(transfer, split, space, contexts)[:, 0]
    for j in range(8):
        assert found[j] in split.train
        assert abs(found[j] - j) == np.abs(split.train - j).min()


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:8")
    task, trainer = Task(ENV, space, contexts, 1, "cpu"), PopulationTrainer("sac", {}, ENV, space, "cpu")
    first, again = (Trial(task, trainer, 0, tmp_path / "new") for _ in range(2))
    np.testing.assert_array_equal(first._load_or_make("a/b", lambda: np.ones(2)), [1.0, 1.0])
    np.testing.assert_array_equal(again._load_or_make("a/b", lambda: np.zeros(2)), [1.0, 1.0])


def test_from_nothing_to_results_and_on_after_an_interruption(
    here: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training of specialists this short leaves some without a score; the scale is made so that all have one."""
    monkeypatch.setattr(zero_shot, "Scale", lambda random, specialist: Scale(random - 1e4, specialist))
    small = functools.partial(RewardModel, hidden_sizes=(8,), num_members=2, max_updates=50)
    monkeypatch.setattr(reward_variants, "RewardModel", small)
    original = zero_shot.Trial._few_shots
    monkeypatch.setattr(zero_shot.Trial, "_few_shots", _interrupt)
    with pytest.raises(SystemExit):
        here("zero-shot", *SMALL, "--labels", 0.5, "--randomized")
    learned = Path("run/seed-0/hyperzero/extrapolation").stat().st_mtime_ns
    monkeypatch.setattr(zero_shot.Trial, "_few_shots", original)
    here("zero-shot", *SMALL, "--labels", 0.5, "--randomized")
    assert Path("run/seed-0/hyperzero/extrapolation").stat().st_mtime_ns == learned
    rows: list[dict[str, Any]] = json.loads(Path("run/results.json").read_text())["rows"]
    assert [row["agent"] for row in rows if row["split"] == "extrapolation"] == [
        "specialist", "hyperzero", "concatenation", "uvfa", "nearest", "default", "average",
        "hyperzero, 1 shots", "1 shots", "randomized",
    ]  # fmt: skip
    assert all(row["rewards"] == "imputed" and np.isfinite(row["zero_shot_score"]) for row in rows)
    assert {row["zero_shot_score"] for row in rows if row["agent"] == "specialist"} == {1.0}
    for name in ("scores.png", "contexts.png", "weights.png"):
        assert Path("run", name).stat().st_size > 5_000
    before = capsys.readouterr().out
    assert "extrapolation" in before
    assert "hyperzero" in before
    here("zero-shot", *SMALL, "--labels", 0.5, "--randomized")
    assert "hyperzero" in capsys.readouterr().out


def _interrupt(*arguments: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--env", "Pendulum-v1"), "has no contexts"),
        (("--env", "orl/ContextAnt-v0"), "give --contexts of gravity, mass"),
        (("--contexts", "mass=0.5:2:4"), "4 contexts: give at least 8"),
        (("--contexts", "mas=0.5:2:9"), "unknown context 'mas'"),
        (("--labels", "0"), "--labels 0.0: the share"),
        (("--shots", "11"), "--shots (11,): give numbers from 1 to the 10"),
        (("--methods", "uvfa"), "needs hyperzero among --methods"),
        (("--updates", "4"), "--updates 4: give at least 5"),
        (("--steps", "500"), "the first 500 are random"),
        (("--trainer", "speq", "--steps", "5000"), "the first phase comes after"),
        (("--settings", "tau=2"), "SACConfig.tau=2"),
        (("--settings", "tau"), "--settings tau: write NAME=VALUE"),
        (("--steps", "0"), "--steps 0: give 1 or more"),
    ],
)
def test_what_cannot_be_is_refused_before_there_is_a_folder(
    words: tuple[str, ...], message: str, refused: Callable[..., str], tmp_path: Path
) -> None:
    assert message in refused("zero-shot", *words, "--out", "run")
    assert not (tmp_path / "run").exists()
