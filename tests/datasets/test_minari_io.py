"""Minari: what is written is read, by us and by Minari; the flat cache; what is refused."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from orl.datasets import Episode, load, read, record, to_dataset, to_episodes, write
from orl.datasets.minari import cache_path, local_ids
from orl.environment import make

from .conftest import make_episodes

UNIT = Box(-1.0, 1.0, (2,), np.float32)
ABOUT: dict[str, Any] = {"algorithm_name": "dice", "description": "Random numbers.", "action_space": UNIT}


def same_episodes(left: list[Episode], right: list[Episode]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        for field in ("observations", "actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), terminated=st.booleans(), seed=st.integers(0, 99))
def test_round_trip(lengths: list[int], terminated: bool, seed: int) -> None:
    episodes = make_episodes(lengths, seed=seed, terminated=terminated)
    write(episodes, "orl/dice/random-v0", **ABOUT, overwrite=True)
    for data in (read("orl/dice/random-v0"), load("orl/dice/random-v0"), load("orl/dice/random-v0")):
        same_episodes(to_episodes(data), episodes)


def test_an_environment_gives_spaces_bounds_and_versions(store: Path) -> None:
    environment = gymnasium.make("Pendulum-v1")
    environment.action_space.seed(0)
    episodes = record(lambda _: environment.action_space.sample(), environment, episodes=2, seed=0)
    environment.close()
    write(
        episodes,
        "orl/pendulum/random-v0",
        environment_id="Pendulum-v1",
        algorithm_name="uniform",
        description="Two.",
        ref_min_score=-1200.0,
        ref_max_score=-150.0,
    )
    data = load("orl/pendulum/random-v0", "Pendulum-v1")
    assert data.environment_id == "Pendulum-v1"
    assert data.action_high.tolist() == [2.0]
    np.testing.assert_allclose(data.actions[:200, 0] * 2.0, episodes[0].actions[:, 0], atol=1e-6)
    assert data.truncated.sum() == 2
    cached = load("orl/pendulum/random-v0")
    np.testing.assert_allclose(cached.actions, data.actions, atol=1e-6)
    assert (cached.environment_id, cached.action_low.tolist()) == ("Pendulum-v1", [-2.0])
    theirs = minari.load_dataset("orl/pendulum/random-v0")
    assert theirs.total_steps == 400
    assert [about["seed"] for about in theirs.storage.get_episode_metadata([0, 1])] == [e.seed for e in episodes]
    np.testing.assert_array_equal(theirs[1].observations, episodes[1].observations)
    assert theirs.storage.metadata["author"] == {"the orl contributors"}
    assert any(line.startswith("gymnasium==") for line in theirs.storage.metadata["requirements"])
    assert theirs.recover_environment().action_space.high == 2.0
    np.testing.assert_allclose(minari.get_normalized_score(theirs, np.array([-1200.0, -150.0])), [0, 1])
    assert list(minari.list_local_datasets()) == ["orl/pendulum/random-v0"]


def test_nan_rewards_survive(episodes: list[Episode]) -> None:
    episodes[0].rewards[:2] = np.nan
    write(episodes, "dice/random-v0", **ABOUT)
    assert load("dice/random-v0").is_labelled.sum() == 10
    assert load("dice/random-v0").is_labelled.sum() == 10  # from the cache


def test_an_existing_set_is_replaced_only_on_request(episodes: list[Episode]) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)
    with pytest.raises(ValueError, match=r"exists already.*overwrite"):
        write(episodes[:1], "orl/dice/random-v0", **ABOUT)
    assert len(load("orl/dice/random-v0")) == 12
    write(episodes[:1], "orl/dice/random-v0", **ABOUT, overwrite=True)
    assert len(load("orl/dice/random-v0")) == 4  # and not the cached 12


def test_a_failed_write_leaves_what_was_there(
    episodes: list[Episode], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)

    def fail(*_: Any, **__: Any) -> None:
        visible = {path.name for path in store.iterdir() if not path.name.startswith(".")}
        assert visible == {"orl"}  # nothing half written, not even for a moment
        raise OSError("disk full")

    monkeypatch.setattr("minari.dataset._storages.hdf5_storage.HDF5Storage.update_episodes", fail)
    for identifier in ("orl/dice/random-v0", "orl/dice/other-v0"):
        with pytest.raises(OSError, match="disk full"):
            write(episodes[:1], identifier, **ABOUT, overwrite=True)
    assert list(minari.list_local_datasets()) == ["orl/dice/random-v0"]
    assert len(load("orl/dice/random-v0")) == 12
    assert [path.name for path in store.iterdir()] == ["orl"]


def test_the_cache_is_used_and_follows_the_data(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)
    first = load("orl/dice/random-v0")
    with monkeypatch.context() as patch:
        patch.setattr("orl.datasets.minari.read", lambda *_, **__: pytest.fail("read again"))
        again = load("orl/dice/random-v0")
    same_episodes(to_episodes(again), to_episodes(first))
    assert list(minari.list_local_datasets()) == ["orl/dice/random-v0"]
    cache_path("orl/dice/random-v0").write_bytes(b"broken")
    same_episodes(to_episodes(load("orl/dice/random-v0")), to_episodes(first))
    assert cache_path("orl/dice/random-v0").stat().st_size > 100  # made anew


def test_a_store_that_cannot_be_written_to_is_read(episodes: list[Episode], monkeypatch: pytest.MonkeyPatch) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)
    monkeypatch.setattr("orl.datasets.minari.cache_path", lambda _: Path("/nowhere/.flat.safetensors"))
    assert len(load("orl/dice/random-v0")) == 12


def test_the_cache_is_made_anew_for_data_that_were_changed_in_place(episodes: list[Episode], store: Path) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)
    load("orl/dice/random-v0")
    minari.load_dataset("orl/dice/random-v0").storage.update_episodes(
        [EpisodeBuffer(observations=np.zeros((3, 3)), actions=np.zeros((2, 2)), rewards=[0, 0],
                       terminations=[False, False], truncations=[False, False])]
    )  # fmt: skip
    data = load("orl/dice/random-v0")
    assert len(data) == 14
    assert data.truncated[-1]  # an episode that nothing ended was cut


def test_an_environment_is_taken_for_a_set_that_states_none() -> None:
    write(
        make_episodes([3], action_size=1), "dice/one-v0", **ABOUT | {"action_space": Box(-2.0, 2.0, (1,), np.float32)}
    )
    assert load("dice/one-v0").environment_id is None
    assert load("dice/one-v0", "Pendulum-v1").environment_id == "Pendulum-v1"


def test_a_million_transitions_load_from_the_cache_in_two_seconds() -> None:
    write(make_episodes([1000] * 1000, observation_size=11, action_size=2), "orl/dice/large-v0", **ABOUT)
    assert len(load("orl/dice/large-v0")) == 1_000_000
    start = time.perf_counter()
    assert len(load("orl/dice/large-v0")) == 1_000_000
    assert time.perf_counter() - start < 2.0


def test_absent_malformed_and_damaged_sets(episodes: list[Episode], store: Path) -> None:
    with pytest.raises(ValueError, match="orl dataset make orl/racing/expert-v0"):
        load("orl/racing/expert-v0")
    with pytest.raises(ValueError, match=r"download=True\) fetches it, or: minari download mujoco/hopper/expert-v0"):
        load("mujoco/hopper/expert-v0")
    write(episodes, "orl/dice/random-v0", **ABOUT)
    with pytest.raises(ValueError, match="did you mean orl/dice/random-v0"):
        load("orl/dice/randm-v0")
    with pytest.raises(ValueError, match="did you mean orl/dice/random-v0"):
        load("random-v0")
    for identifier in ("orl/hopper", "orl//x-v0", "random v0", "../x-v0", ""):
        with pytest.raises(ValueError, match="is no data set id"):
            load(identifier)
    with pytest.raises(ValueError, match="actions have size 2, those of Pendulum-v1 have 1"):
        load("orl/dice/random-v0", "Pendulum-v1")
    data = store / "orl/dice/random-v0/data"
    cache_path("orl/dice/random-v0").unlink()
    (data / "main_data.hdf5").write_bytes((data / "main_data.hdf5").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cannot be read.*orl dataset make orl/dice/random-v0 --overwrite"):
        load("orl/dice/random-v0")
    (data / "metadata.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        load("orl/dice/random-v0")


def test_what_cannot_be_written_is_refused(episodes: list[Episode]) -> None:
    with pytest.raises(ValueError, match="is no data set id"):
        write(episodes, "orl/dice", **ABOUT)
    with pytest.raises(ValueError, match="no episode"):
        write([], "orl/dice/random-v0", **ABOUT)
    with pytest.raises(ValueError, match="environment_id"):
        write(episodes, "orl/dice/random-v0", algorithm_name="dice", description="")
    with pytest.raises(ValueError, match="their spaces"):
        write(episodes, "orl/dice/random-v0", environment_id="Pendulum-v1", algorithm_name="dice", description="")


def test_sets_are_not_written_over_or_into_others(episodes: list[Episode]) -> None:
    write(episodes, "orl/dice-v0/random-v0", **ABOUT)
    with pytest.raises(ValueError, match="is a folder, but no data set"):
        write(episodes, "orl/dice-v0", **ABOUT, overwrite=True)
    with pytest.raises(ValueError, match="inside the data set orl/dice-v0/random-v0"):
        write(episodes, "orl/dice-v0/random-v0/other-v0", **ABOUT)
    assert len(load("orl/dice-v0/random-v0")) == 12


def test_discrete_and_dictionary_spaces_are_refused() -> None:
    buffer = EpisodeBuffer(
        observations=np.zeros((3, 2)), actions=np.zeros(2, int), rewards=[0.0, 0.0], terminations=[False, False],
        truncations=[False, True],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="is set to None|env_spec is None"):
        minari.create_dataset_from_buffers(
            "discrete-v0", [buffer], action_space=gymnasium.spaces.Discrete(2), observation_space=Box(-1, 1, (2,))
        )
    with pytest.raises(ValueError, match="discrete-v0: actions are Discrete"):
        load("discrete-v0")


def test_shuffled_rows_are_no_episodes(episodes: list[Episode]) -> None:
    data = to_dataset(episodes)
    with pytest.raises(ValueError, match="picked out"):
        to_episodes(data.pick([3, 1, 0]))
    with pytest.raises(ValueError, match="does not lead to row"):
        to_episodes(replace(data, next_observations=data.next_observations[::-1]))


def test_metadata_is_json_without_nan(episodes: list[Episode], store: Path) -> None:
    episodes[0].rewards[0] = np.nan
    write(episodes, "orl/dice/random-v0", **ABOUT)
    text = (store / "orl/dice/random-v0/data/metadata.json").read_text()
    json.loads(text, parse_constant=lambda value: pytest.fail(value))


def test_every_load_gives_the_same_numbers() -> None:
    """The first one, which makes the cache, too."""
    generator = np.random.default_rng(0)
    episode = Episode(
        generator.normal(size=(201, 3)).astype(np.float32), generator.uniform(-0.4, 0.4, (200, 1)).astype(np.float32),
        generator.normal(size=200).astype(np.float32), np.zeros(200, bool), np.arange(200) == 199,
    )  # fmt: skip
    write([episode], "orl/dice/odd-v0", **{**ABOUT, "action_space": Box(-0.4, 0.4, (1,))})
    loads = [load("orl/dice/odd-v0") for _ in range(3)]
    for name in ("observations", "actions", "rewards"):
        assert np.array_equal(getattr(loads[0], name), getattr(loads[1], name)), name
        assert np.array_equal(getattr(loads[1], name), getattr(loads[2], name)), name


def test_an_environment_with_other_arguments_is_told_of() -> None:
    environment = gymnasium.make("Pendulum-v1", g=1.0, max_episode_steps=5)
    buffer = EpisodeBuffer(
        observations=environment.reset(seed=0)[0][None].repeat(3, 0), actions=np.zeros((2, 1), np.float32),
        rewards=[0.0, 0.0], terminations=[False, False], truncations=[False, True],
    )  # fmt: skip
    with warnings.catch_warnings(action="ignore"):  # of facts that it would like to have
        minari.create_dataset_from_buffers("other/moon-v0", buffer=[buffer], env=environment)
    for _ in range(2):  # from the cache, too
        with pytest.warns(UserWarning, match=r"recorded in Pendulum-v1 with \{'g': 1.0, 'max_episode_steps': 5\}"):
            load("other/moon-v0")


def test_stray_folders_hide_no_set(episodes: list[Episode], store: Path) -> None:
    write(episodes, "orl/dice/random-v0", **ABOUT)
    for stray in ("foo/backup/data", "f/a-v0/data", ".hidden/a-v0/data"):
        (store / stray).mkdir(parents=True)
    (store / "f/a-v0/data/metadata.json").write_text("[]")
    assert list(local_ids()) == ["orl/dice/random-v0"]


def test_an_unknown_environment_is_one_line(episodes: list[Episode]) -> None:
    with pytest.raises(ValueError, match="Nope-v0: no such environment"):
        write(episodes, "orl/dice/random-v0", **{**ABOUT, "environment_id": "Nope-v0"})


def test_a_module_that_a_set_names_is_not_imported(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(make_episodes([3]), "orl/dice/random-v0", **ABOUT)
    path = store / "orl" / "dice" / "random-v0" / "data" / "metadata.json"
    spec = json.loads(gymnasium.spec("Pendulum-v1").to_json()) | {"id": "named_in_data:Other-v0"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"env_spec": json.dumps(spec)}))
    (tmp_path / "named_in_data.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    for read_set in (read, load, load):  # the last one from the cache
        data = read_set("orl/dice/random-v0")
        assert data.environment_id == "Other-v0"
    with pytest.raises(ValueError, match=r"named_in_data:Other-v0: read from a file, .* no module that a file names"):
        make(read("orl/dice/random-v0").environment_id)
