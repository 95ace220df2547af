"""Contexts and critic values of recorded data: every form of storage keeps them, exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from gymnasium.spaces import Box

import orl.envs
from orl.context import ContextSpace, ContextVariable
from orl.dataset import ROWS, Dataset
from orl.datasets import (  # fmt: skip
    Episode,
    card,
    context_space,
    load,
    mix,
    pieces,
    read_hdf5,
    read_npz,
    to_dataset,
    to_episodes,
    write,
    write_hdf5,
    write_npz,
)
from orl.datasets.files import to_transitions
from orl.datasets.minari import metadata

from .conftest import make_episodes

assert orl.envs
SET = "orl/dice/tasks-v0"
ENV = "orl/ContextPendulum-v0"
SPACE = ContextSpace(
    (ContextVariable("mass", "kg", 0.5, 2.0, 1.0, "log"), ContextVariable("length", "m", 0.5, 2.0, 1.0, "log"))
)
ABOUT: dict[str, Any] = {"algorithm_name": "dice", "description": "", "action_space": Box(-1, 1, (2,), np.float32)}
Write, Read = Callable[[Dataset, Path], None], Callable[[Path], Dataset]


@pytest.fixture
def tasks() -> list[Episode]:
    """Three episodes in two contexts that single precision does not hold, the same two in a row."""
    generator = np.random.default_rng(3)
    contexts = np.array([[0.7, 1.9], [1.1, 0.6], [1.1, 0.6]])
    return [
        replace(episode, context=context, values=generator.normal(size=len(episode)))
        for episode, context in zip(make_episodes([4, 1, 7]), contexts, strict=True)
    ]


def same(left: Dataset, right: Dataset) -> None:
    for name in ROWS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name))


def test_episodes_become_rows_and_episodes_again(tasks: list[Episode]) -> None:
    data = to_dataset(tasks)
    assert data.contexts is not None
    assert data.values is not None
    assert data.contexts.dtype == data.values.dtype == np.float32
    np.testing.assert_array_equal(data.contexts[[0, 3, 4, 5, 11]][:, 0], np.float32([0.7, 0.7, 1.1, 1.1, 1.1]))
    np.testing.assert_array_equal(data.values[4], np.float32(tasks[1].values))
    again = to_episodes(data)
    for mine, theirs in zip(again, tasks, strict=True):
        np.testing.assert_array_equal(mine.context, np.float32(theirs.context))
        np.testing.assert_array_equal(mine.values, np.float32(theirs.values))
    same(to_dataset(again), data)


@pytest.mark.parametrize(("write", "read", "suffix"), [(write_npz, read_npz, "npz"), (write_hdf5, read_hdf5, "hdf5")])
@pytest.mark.parametrize("lacks", [None, "contexts", "values"])
def test_files_keep_them(
    write: Write, read: Read, suffix: str, lacks: str | None, tasks: list[Episode], tmp_path: Path
) -> None:
    data = to_dataset(tasks)
    if lacks is not None:
        data = replace(data, **{lacks: None})  # type: ignore[arg-type]
    write(data, tmp_path / f"tasks.{suffix}")
    same(read(tmp_path / f"tasks.{suffix}"), data)


def test_minari_and_its_cache_keep_them(tasks: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tasks, SET, **ABOUT)
    data = to_dataset(tasks)
    same(load(SET), data)
    monkeypatch.setattr("orl.datasets.minari.read", lambda *_, **__: pytest.fail("read again"))
    same(load(SET), data)
    assert context_space(SET) is None


def test_minari_reads_what_an_episode_was_reset_with_and_recovers_its_environment() -> None:
    contexts = np.array([[0.7, 1.9], [1.1, 0.6]])
    tasks = [
        replace(episode, context=context, values=episode.rewards.astype(np.float64) / 3)
        for episode, context in zip(make_episodes([4, 2], action_size=1), contexts, strict=True)
    ]
    write(tasks, SET, environment_id=ENV, contexts=SPACE, algorithm_name="dice", description="")
    assert context_space(SET) == SPACE
    assert load(SET).environment_id == ENV
    theirs = minari.load_dataset(SET)
    environment = theirs.recover_environment()
    assert environment.get_wrapper_attr("context_space") == SPACE
    for k, about in enumerate(theirs.storage.get_episode_metadata([0, 1])):
        np.testing.assert_array_equal(about["options"]["context"], contexts[k])
        np.testing.assert_array_equal(theirs[k].infos["critic_values"], tasks[k].values)
        np.testing.assert_array_equal(environment.reset(options=about["options"])[1]["context"], contexts[k])
    environment.close()


def test_options_of_another_kind_are_no_context(tasks: list[Episode]) -> None:
    write([replace(episode, context=None) for episode in tasks], SET, **ABOUT)
    for k, options in enumerate(({"options/context": "hills"}, {"options/context/mass": 2.0}, {"options/start": 1})):
        minari.load_dataset(SET).storage.update_episode_metadata([options], [k])
    assert load(SET).contexts is None


def test_pieces_and_mixtures_keep_them(tasks: list[Episode]) -> None:
    piece = pieces(tasks, 3, 3, seed=0)[0]
    k = next(k for k, each in enumerate(tasks) if each.context is piece.context)
    start = tasks[k].rewards.tolist().index(piece.rewards[0])
    assert piece.values is not None
    assert tasks[k].values is not None
    np.testing.assert_array_equal(piece.values, tasks[k].values[start : start + 3])
    assert to_dataset(mix([tasks, tasks], [1, 1], 4, seed=0)).contexts is not None


def test_without_next_observations_they_follow_the_rows_that_stay(tasks: list[Episode]) -> None:
    data = to_dataset(tasks)
    arrays = {name: getattr(data, name) for name in ("observations", "actions", "rewards", "contexts", "values")}
    flat = to_transitions(arrays | {"terminals": data.terminated, "timeouts": np.arange(12) % 4 == 3}, "flat")
    rows = [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert data.contexts is not None
    assert data.values is not None
    np.testing.assert_array_equal(flat["contexts"], data.contexts[rows])
    np.testing.assert_array_equal(flat["values"], data.values[rows])


def test_some_with_and_some_without_are_refused(tasks: list[Episode], store: Path) -> None:
    for key in ("context", "values"):
        mixed = [replace(tasks[0], **{key: None}), *tasks[1:]]  # type: ignore[arg-type]
        for make in (to_dataset, lambda episodes: write(episodes, SET, **ABOUT)):
            with pytest.raises(ValueError, match=f"1 of 3 episodes have no {key}; give it for all, or for none"):
                make(mixed)
    longer = replace(tasks[0], context=np.ones(3))
    with pytest.raises(ValueError, match=r"contexts have \[2, 3\] variables"):
        to_dataset([longer, *tasks[1:]])
    assert not store.exists()


def test_what_is_not_an_episodes_own_is_refused(tasks: list[Episode]) -> None:
    with pytest.raises(ValueError, match=r"context has shape \(1, 2\); give one number per variable"):
        replace(tasks[0], context=np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"4 rewards has values \(5,\); give one for each"):
        replace(tasks[0], values=np.ones(5))
    data = to_dataset(tasks)
    assert data.contexts is not None
    contexts = data.contexts.copy()
    contexts[8] += 1.0
    with pytest.raises(ValueError, match="the context changes within the episode that begins in row 5"):
        to_episodes(replace(data, contexts=contexts))


def test_variables_must_fit_the_contexts(tasks: list[Episode], store: Path) -> None:
    one = ContextSpace(SPACE.variables[:1])
    narrow = ContextSpace((SPACE.variables[0], replace(SPACE.variables[1], high=1.5)))
    bare = [replace(episode, context=None) for episode in tasks]
    for space, episodes, words in (
        (one, tasks, r"contexts have shape \(3, 2\)"),
        (SPACE, bare, "contexts have shape"),
        (narrow, tasks, r"length=1\.9 is outside"),
    ):
        with pytest.raises(ValueError, match=words):
            write(episodes, SET, **ABOUT, contexts=space)
    assert not store.exists()


def test_a_card_says_which_contexts_there_are(tasks: list[Episode], tmp_path: Path) -> None:
    write(tasks, SET, **ABOUT, contexts=SPACE)
    text = card(load(SET), tmp_path / "card", facts=metadata(SET)).read_text()
    assert "| contexts | 2: mass 0.7 to 1.1 kg, length 0.6 to 1.9 m |" in text
    assert "| values of a critic | " in text
    assert (
        "| contexts | 2: not named 0.7 to 1.1, not named 0.6 to 1.9 |" in card(load(SET), tmp_path / "bare").read_text()
    )
