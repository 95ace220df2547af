"""D4RL `.hdf5` and `.npz`: boundaries by hand, round trips, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st

from orl.dataset import Dataset
from orl.datasets import load, read_hdf5, read_npz, to_dataset, write_hdf5, write_npz
from orl.datasets.files import to_transitions

from .conftest import make_episodes

FIELDS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")


def write_flat(path: Path, **changes: Any) -> Path:
    """Two episodes of three rows as D4RL writes them; row 2 is a timeout, row 5 a terminal. None leaves a key out."""
    arrays: dict[str, Any] = {
        "observations": np.arange(6, dtype=np.float32)[:, None] * np.ones(11, np.float32),
        "actions": np.full((6, 3), 0.5, np.float32),
        "rewards": np.arange(6, dtype=np.float32),
        "terminals": np.array([0, 0, 0, 0, 0, 1], bool),
        "timeouts": np.array([0, 0, 1, 0, 0, 0], bool),
    }
    arrays |= changes
    arrays = {key: value for key, value in arrays.items() if value is not None}
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, value in arrays.items():
                file[key] = value
    return path


@pytest.fixture(params=["data.hdf5", "data.h5", "data.npz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / request.param


def test_without_next_observations_unknown_rows_are_dropped(path: Path) -> None:
    data = load(write_flat(path), "Hopper-v5")
    assert data.observations[:, 0].tolist() == [0, 1, 3, 4, 5]  # row 2, the timeout, has no next observation
    assert data.next_observations[:, 0].tolist() == [1, 2, 4, 5, 5]  # the terminal's is its own
    assert data.rewards.tolist() == [0, 1, 3, 4, 5]
    assert data.terminated.tolist() == [False, False, False, False, True]
    assert data.truncated.tolist() == [False, True, False, False, False]
    assert data.environment_id == "Hopper-v5"
    assert data.name == path.name


def test_without_next_observations_the_last_row_of_a_cut_file_is_dropped(path: Path) -> None:
    data = load(write_flat(path, terminals=np.zeros(6)))
    assert data.observations[:, 0].tolist() == [0, 1, 3, 4]
    assert data.truncated.tolist() == [False, True, False, True]


def test_an_episode_that_is_only_a_timeout_leaves_nothing_behind(path: Path) -> None:
    timeouts = np.array([0, 1, 1, 0, 0, 0])
    data = load(write_flat(path, timeouts=timeouts))
    assert data.observations[:, 0].tolist() == [0, 3, 4, 5]
    assert data.truncated.tolist() == [True, False, False, False]


def test_next_observations_keep_every_row(path: Path) -> None:
    following = np.array([1, 2, 10, 4, 5, 11], np.float32)[:, None] * np.ones(11, np.float32)
    data = load(write_flat(path, next_observations=following))
    assert data.next_observations[:, 0].tolist() == [1, 2, 10, 4, 5, 11]
    assert data.truncated.tolist() == [False, False, True, False, False, False]
    assert data.terminated.tolist() == [False] * 5 + [True]
    assert data.episode_returns().tolist() == [3.0, 12.0]


def test_boundaries_that_were_not_marked_are_found(path: Path) -> None:
    following = np.array([1, 2, 10, 4, 5, 11], np.float32)[:, None] * np.ones(11, np.float32)
    data = load(write_flat(path, next_observations=following, timeouts=None))
    assert data.truncated.tolist() == [False, False, True, False, False, False]


def test_shuffled_rows_have_no_episodes(path: Path) -> None:
    data = load(write_flat(path, next_observations=np.full((6, 11), 50.0), terminals=np.zeros(6), timeouts=np.zeros(6)))
    assert not data.truncated.any()
    with pytest.raises(ValueError, match="picked out"):
        data.episode_returns()


def test_equal_flags_are_time_limits(path: Path) -> None:
    flags = np.array([0, 0, 1, 0, 0, 1])[:, None]
    rewards = np.arange(6.0)[:, None]
    following = np.arange(1, 7)[:, None] * np.ones(11)
    data = load(write_flat(path, terminals=flags, timeouts=flags, rewards=rewards, next_observations=following))
    assert not data.terminated.any()
    assert data.truncated.tolist() == [False, False, True, False, False, True]


def test_a_terminal_wins_where_both_flags_are_set(path: Path) -> None:
    following = np.arange(1, 7)[:, None] * np.ones(11)
    data = load(write_flat(path, timeouts=np.array([0, 0, 1, 0, 0, 1]), next_observations=following))
    assert data.terminated.tolist() == [False] * 5 + [True]
    assert data.truncated.tolist() == [False, False, True, False, False, False]


def test_a_terminal_at_a_time_limit_is_kept_without_next_observations(path: Path) -> None:
    data = load(write_flat(path, timeouts=np.array([0, 0, 1, 0, 0, 1])))
    assert data.observations[:, 0].tolist() == [0, 1, 3, 4, 5]
    assert data.terminated.tolist() == [False] * 4 + [True]


def test_names_of_a_large_file_are_cut(path: Path) -> None:
    many = {f"episode_{i}": np.zeros(1) for i in range(20)}
    with pytest.raises(ValueError, match=r"lacks rewards; it holds actions, .* and 12 more") as caught:
        load(write_flat(path, rewards=None, **many))
    assert len(str(caught.value)) < 400


def test_nan_rewards_are_unlabelled(path: Path) -> None:
    rewards = np.array([0, np.nan, 2, 3, np.nan, 5])
    assert load(write_flat(path, rewards=rewards)).is_labelled.tolist() == [True, False, True, False, True]


def test_bounds_come_from_the_environment(path: Path) -> None:
    write_flat(path, actions=np.full((6, 3), 1.5))
    with pytest.raises(ValueError, match="outside"):
        load(path)

    class Wide(gymnasium.Env[Any, Any]):
        observation_space = Box(-1, 1, (11,), np.float32)
        action_space = Box(-3, 3, (3,), np.float32)

    data = load(path, Wide())
    np.testing.assert_allclose(data.actions, 0.5)
    np.testing.assert_allclose(data.action_high, 3.0)


COLUMNS = ("rewards", "terminals", "timeouts")
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "NaN observations": ({"observations": np.full((6, 11), np.nan)}, "observations has NaN"),
    "infinite rewards": ({"rewards": np.full(6, np.inf)}, "rewards has infinity"),
    "no rewards": ({"rewards": None}, "lacks rewards; it holds actions, observations, terminals, timeouts"),
    "no flags": ({"terminals": None, "timeouts": None}, "lacks terminals, timeouts"),
    "lengths": ({"rewards": np.zeros(5)}, "differ in length: .*rewards 5"),
    "scalar": ({"rewards": np.float32(1)}, "differ in length: .*rewards 0"),
    "action size": ({"actions": np.zeros((6, 2))}, "actions have size 2, those of Hopper-v5 have 3"),
    "observation size": ({"observations": np.zeros((6, 12))}, "observations have size 12, .*have 11"),
    "three times the bound": (
        {"actions": np.full((6, 3), 3.0)},
        "action 3 in row 0 is outside .*clip_actions clips it",
    ),
    "flags of two": ({"terminals": np.full(6, 2)}, "terminals holds values other than 0 and 1"),
    "flat actions": ({"actions": np.zeros(6)}, r"actions has shape \(6,\)"),
    "no row": ({k: np.zeros((0, 11)) for k in ("observations", "actions", *COLUMNS)}, "holds no transition"),
    "only timeouts": ({"timeouts": np.ones(6), "terminals": np.zeros(6)}, "add next_observations"),
    "next size": ({"next_observations": np.zeros((6, 4))}, "next_observations 4"),
    "text": ({"actions": np.full((6, 3), b"left")}, "real numbers"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_refused_in_one_line(case: str, path: Path) -> None:
    changes, message = BROKEN[case]
    with pytest.raises(ValueError, match=message) as caught:
        load(write_flat(path, **changes), "Hopper-v5")
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)


def test_a_file_cut_in_half_is_refused(path: Path) -> None:
    generator = np.random.default_rng(0)
    write_flat(path, observations=generator.normal(size=(6, 11)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut short.*again") as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_files_of_another_format_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="another format"):
        load(path)


def test_an_npz_with_objects_is_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, observations=np.array([{}], object))
    with pytest.raises(ValueError, match="cannot be read"):
        load(path)


def test_missing_files_and_unknown_environments(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load(tmp_path / "none.hdf5")
    with pytest.raises(ValueError, match=r"files end in \.hdf5"):
        load(tmp_path / "none.csv")
    path = write_flat(tmp_path / "data.npz")
    with pytest.raises(ValueError, match="Hoper-v5: no such environment; did you mean Hopper-v5"):
        load(path, "Hoper-v5")
    with pytest.raises(ValueError, match="continuous"):
        load(path, gymnasium.make("CartPole-v1"))


Writer, Reader = Callable[[Dataset, Path], None], Callable[[Path], Dataset]


@pytest.mark.parametrize(("write", "read", "suffix"), [(write_hdf5, read_hdf5, ".hdf5"), (write_npz, read_npz, ".npz")])
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), terminated=st.booleans(), seed=st.integers(0, 99))
def test_round_trip(
    write: Writer,
    read: Reader,
    suffix: str,
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    terminated: bool,
    seed: int,
) -> None:
    low, high = np.array([-1.0, -2.0]), np.array([1.0, 5.0])
    data = to_dataset(
        make_episodes(lengths, seed=seed, terminated=terminated), action_low=low, action_high=high
    ).with_labels(0.5, seed=seed)
    path = tmp_path_factory.mktemp("round") / f"data{suffix}"
    write(data, path)
    back = read(path)
    for field in FIELDS:
        if field == "actions":
            np.testing.assert_allclose(back.actions, data.actions, atol=1e-6)
        elif field not in ("terminated", "truncated"):
            np.testing.assert_array_equal(getattr(back, field), getattr(data, field))
    np.testing.assert_array_equal(back.terminated | back.truncated, data.terminated | data.truncated)
    np.testing.assert_array_equal(back.terminated, data.terminated)
    np.testing.assert_array_equal(back.action_high, data.action_high)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = to_dataset(make_episodes([3]))

    def fail(_: Dataset) -> None:
        raise OSError("disk full")

    for write, path in ((write_hdf5, tmp_path / "a.hdf5"), (write_npz, tmp_path / "a.npz")):
        write(data, path)
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("orl.datasets.files._to_arrays", fail)
            with pytest.raises(OSError, match="disk full"):
                write(data, path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@settings(max_examples=60, deadline=None)
@given(
    episodes=st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=6), unfinished=st.integers(0, 3)
)
def test_no_next_observation_crosses_a_boundary(episodes: list[tuple[int, bool]], unfinished: int) -> None:
    parts = [e for i, (n, ended) in enumerate(episodes) for e in make_episodes([n], seed=i, terminated=ended)]
    whole = to_dataset(parts)
    arrays = {
        "observations": whole.observations,
        "actions": whole.actions,
        "rewards": np.arange(len(whole), dtype=np.float32),  # names the row
        "terminals": whole.terminated,
        "timeouts": whole.truncated,
    }
    if unfinished and not whole.terminated[-1]:
        arrays["timeouts"] = whole.truncated & (np.arange(len(whole)) < len(whole) - 1)
    if (arrays["terminals"] == arrays["timeouts"]).all() or not (whole.terminated | ~ends(whole)).any():
        return  # time limits alone, or nothing but rows whose next observation is unknown
    flat = to_transitions(arrays, "flat")
    rows = flat["rewards"].astype(int)
    assert set(rows) == set(np.flatnonzero(whole.terminated | ~ends(whole)))
    inside = ~flat["terminated"]
    np.testing.assert_array_equal(flat["next_observations"][inside], whole.next_observations[rows[inside]])
    np.testing.assert_array_equal(flat["terminated"], whole.terminated[rows])
    # a row ends its episode exactly if the row after it is not its successor
    successor = np.append(np.diff(rows) == 1, False)
    np.testing.assert_array_equal((flat["terminated"] | flat["truncated"])[inside], ~successor[inside])


def ends(data: Dataset) -> Any:
    return data.terminated | data.truncated


@pytest.mark.parametrize("suffix", [".npz", ".hdf5"])
def test_scattered_rows_stay_scattered(suffix: str, tmp_path: Path) -> None:
    data = to_dataset(make_episodes([20, 20]), action_low=-1, action_high=1)
    data = data.pick(np.arange(40) % 10 != 3)  # most rows still lead to the next one
    (write_npz if suffix == ".npz" else write_hdf5)(data, tmp_path / f"rows{suffix}")
    again = load(tmp_path / f"rows{suffix}")
    assert not again.whole_episodes
    for name in FIELDS:
        assert np.array_equal(getattr(again, name), getattr(data, name)), name


def test_scattered_rows_need_their_next_observations(tmp_path: Path) -> None:
    path = write_flat(tmp_path / "rows.npz", scattered=np.array(True))
    with pytest.raises(ValueError, match=r"rows.npz: the next observations of scattered rows are unknown; add"):
        load(path)


def test_a_single_array_is_no_file_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.arange(3))
    with pytest.raises(ValueError, match="cannot be read"):
        load(tmp_path / "array.npz")
