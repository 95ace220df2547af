"""`orl dataset`: every verb, on small data in a store of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import tyro

from orl import datasets
from orl.agents import SAC
from orl.datasets import Episode
from orl.scripts.commands.dataset import DatasetVerbs
from orl.scripts.data import mujoco as mujoco_datasets
from orl.scripts.data import racing as racing_datasets
from orl.scripts.data.racing import DATASETS, DECISIONS

RANDOM = "orl/pendulum/random-v0"


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return root


def orl(*words: str) -> None:
    tyro.cli(DatasetVerbs, args=list(words)).run()  # type: ignore[call-overload]


def make_random(episodes: int = 2) -> None:
    orl("make", "--env", "Pendulum-v1", "--id", RANDOM, "--episodes", str(episodes))


def test_make_a_random_set_once(capsys: pytest.CaptureFixture[str]) -> None:
    make_random()
    assert f"made {RANDOM}: 400 transitions, 2 episodes, mean return -" in capsys.readouterr().out
    first = datasets.load(RANDOM)
    assert np.abs(first.actions).max() > 0.9
    make_random(episodes=3)
    assert "exists, 400 transitions; --overwrite" in capsys.readouterr().out
    assert len(datasets.load(RANDOM)) == 400
    orl("make", "--env", "Pendulum-v1", "--id", RANDOM, "--episodes", "2", "--overwrite")
    np.testing.assert_array_equal(datasets.load(RANDOM).observations, first.observations)
    assert minari.load_dataset(RANDOM).storage.metadata["algorithm_name"] == "uniform random actions"


def test_a_store_named_by_a_relative_path(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", "store")
    make_random()
    assert (store / RANDOM / "data").is_dir()
    assert len(datasets.load(RANDOM)) == 400


def test_a_damaged_set_is_named_before_it_is_left_as_it_is(store: Path) -> None:
    make_random()
    (store / RANDOM / "data" / "metadata.json").unlink()
    with pytest.raises(ValueError, match=f"{RANDOM} in .* cannot be read .*--overwrite"):
        make_random()


def test_make_a_set_of_a_policy_by_steps() -> None:
    agent = SAC("Pendulum-v1", hidden_sizes=(8, 8), target_entropy=-1.0)
    agent.save("agent")
    words = ("make", "--env", "Pendulum-v1", "--policy", "agent", "--steps", "300", "--seed", "3")
    orl(*words)
    orl(*words, "mine/pendulum/modes-v0", "--deterministic")
    samples, modes = datasets.load("local/pendulum/agent-v0"), datasets.load("mine/pendulum/modes-v0")
    assert len(samples) == len(modes) == 400  # two whole episodes
    np.testing.assert_array_equal(samples.observations[0], modes.observations[0])
    assert (samples.actions != modes.actions).any()
    about = minari.load_dataset("local/pendulum/agent-v0").storage.metadata
    assert about["algorithm_name"] == "SAC of orl after 0 steps and 0 updates, samples"
    assert about["description"].endswith("seed 3.")
    expected = agent.predict(modes.observations, deterministic=True)[0]
    np.testing.assert_allclose(modes.actions * 2.0, expected, atol=1e-5)
    for run in ("one", "other"):  # of which both have a seed-0
        agent.save(f"{run}/seed-0")
        orl("make", "--env", "Pendulum-v1", "--policy", f"{run}/seed-0", "--episodes", "1")
        assert datasets.load(f"local/pendulum/{run}-seed-0-v0").observations.shape == (200, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name datasets to make"),
        (["orl/racing/expert-v7"], "none of ours; did you mean orl/racing/expert-v0?"),
        (["mine/runs-v0"], "none of ours; choose from all, orl/racing/basic-v0"),
        (["orl/racing/expert-v0", "--steps", "5"], "has a size of its own"),
        (["orl/hopper/random-v0", "--policy", "sac.zip"], "--policy goes with --env"),
        (["orl/hopper/random-v0", "--seed", "1"], "--seed goes with --env"),
        (["orl/hopper/random-v0", "--env", "Hopper-v5"], "name of a dataset of ours"),
        (["--env", "Pendulum-v1", "--id", RANDOM, "--steps", "0"], "--steps 0: give 1 or more"),
        (["--env", "Pendulum-v1", "--steps", "5", "--episodes", "5"], "give one of the two"),
        (["a/b-v0", "c/d-v0", "--env", "Pendulum-v1"], "are 2 ids"),
        (["--env", "Pendulum-v1", "--policy", "none.zip"], "no such file"),
        (["--env", "Pendulum-v1", "--id", "no version"], "is no data set id"),
        (["--env", "Pendulm-v1", "--id", RANDOM], "Pendulm-v1: no such environment"),
        (["--env", "no name", "--id", RANDOM], "no name: cannot be made"),
        (["--env", "CartPole-v1", "--id", RANDOM], "one-dimensional Box"),
    ],
)
def test_make_refuses(words: list[str], message: str, store: Path) -> None:
    with pytest.raises(ValueError, match=message):
        orl("make", *words)
    assert not store.exists()


def test_list_shows_ours_and_others(capsys: pytest.CaptureFixture[str]) -> None:
    make_random()
    orl("list")
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("│")}
    assert list(lines) == [*DATASETS, *mujoco_datasets.shipped(), RANDOM]
    assert "200,000" in lines["orl/racing/mix-large-v0"]
    assert lines["orl/racing/mix-large-v0"].split()[-2] == "no"
    assert lines[RANDOM].split()[-2] == "yes"
    assert "400" in lines[RANDOM]


def test_card_of_a_set_and_of_a_file(tmp_path: Path) -> None:
    make_random()
    orl("card", RANDOM, "--out", str(tmp_path / "card"))
    assert "| actions chosen by | uniform random actions |" in (tmp_path / "card" / "README.md").read_text()
    datasets.write_npz(datasets.load(RANDOM), tmp_path / "data.npz")
    orl("card", str(tmp_path / "data.npz"), "--env", "Pendulum-v1", "--out", str(tmp_path / "file"))
    assert "| actions | 1, in [-2, 2] |" in (tmp_path / "file" / "README.md").read_text()
    with pytest.raises(ValueError, match="no such file"):
        orl("card", str(tmp_path / "none.npz"), "--out", str(tmp_path / "none"))


def test_convert_goes_round(tmp_path: Path) -> None:
    make_random()
    flat, packed, back = str(tmp_path / "a.hdf5"), str(tmp_path / "b.npz"), "mine/pendulum/copy-v0"
    orl("convert", RANDOM, flat)
    orl("convert", flat, packed)
    orl("convert", packed, back, "--env", "Pendulum-v1")
    orl("convert", back, "mine/pendulum/again-v0")
    first, last = datasets.load(RANDOM), datasets.load("mine/pendulum/again-v0")
    np.testing.assert_array_equal(last.observations, first.observations)
    np.testing.assert_array_equal(last.truncated, first.truncated)
    np.testing.assert_allclose(last.actions, first.actions, atol=1e-6)
    assert last.environment_id == "Pendulum-v1"
    with pytest.raises(ValueError, match="exists already; give --overwrite"):
        orl("convert", RANDOM, packed)
    with pytest.raises(ValueError, match="exists already; give --overwrite"):
        orl("convert", packed, back)
    orl("convert", RANDOM, packed, "--overwrite")


def test_convert_does_not_say_that_data_were_made_with_what_is_installed(tmp_path: Path) -> None:
    make_random()
    orl("convert", RANDOM, str(tmp_path / "old.hdf5"))
    orl("convert", str(tmp_path / "old.hdf5"), "mine/pendulum/old-v0", "--env", "Pendulum-v1")
    assert not minari.load_dataset("mine/pendulum/old-v0").storage.metadata["requirements"]
    minari.load_dataset(RANDOM).storage.update_metadata({"requirements": ["gymnasium==1.0.0"]})
    orl("convert", RANDOM, "mine/pendulum/copy-v0")
    assert minari.load_dataset("mine/pendulum/copy-v0").storage.metadata["requirements"] == ["gymnasium==1.0.0"]


def test_recipes_have_the_sizes_and_ratios_of_the_original() -> None:
    sizes = {identifier.split("/")[-1]: recipe.sizes[1] for identifier, recipe in DATASETS.items()}
    assert sizes == {
        "basic-v0": 100_000,
        "medium-v0": 100_000,
        "expert-v0": 100_000,
        "mix-large-v0": 200_000,
        "mix-small-v0": 5_000,
        "basic-small-v0": 5_000,
    }
    for name in ("large", "small"):
        assert DATASETS[f"orl/racing/mix-{name}-v0"].counts == {"basic": 90, "medium": 7, "expert": 3}
    assert len({recipe.seed for recipe in DATASETS.values()}) == 6


def scripted(skill: str, episodes: int, *, seed: int, progress: Any = None, **_: Any) -> list[Episode]:
    """Stand-in for the drivers: the skill is told by the reward."""
    generator = np.random.default_rng(seed)
    level = {"basic": 1.0, "medium": 2.0, "expert": 3.0}[skill]
    end = np.arange(DECISIONS) == DECISIONS - 1
    shape = (DECISIONS + 1, 33)
    return [
        Episode(
            generator.normal(size=shape).astype(np.float32),
            generator.uniform(-1, 1, (DECISIONS, 2)).astype(np.float32),
            np.full(DECISIONS, level),
            end & False,
            end,
            seed=k,
        )
        for k in range(episodes)
    ]


def test_small_sets_are_pieces_in_the_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(racing_datasets, "drive", scripted)
    orl("make", "orl/racing/mix-small-v0")
    data = datasets.load("orl/racing/mix-small-v0", "orl/Racing-v0")
    slices = data.episode_slices
    assert [rows.stop - rows.start for rows in slices] == [50] * 100
    assert data.truncated.sum() == 100
    assert not data.terminated.any()
    levels = [int(data.rewards[rows.start]) for rows in slices]
    assert [levels.count(level) for level in (1, 2, 3)] == [90, 7, 3]
    assert levels != sorted(levels)


@pytest.mark.slow
def test_all_six_sets_are_made_on_this_machine() -> None:
    orl("make", "orl/racing/all")
    returns = {name: datasets.load(name).episode_returns() for name in DATASETS}
    mean = {name.split("/")[-1]: float(values.mean()) for name, values in returns.items()}
    assert mean["basic-v0"] < mean["medium-v0"] < mean["expert-v0"]
    assert mean["basic-v0"] < mean["mix-large-v0"] < mean["medium-v0"]
    for name, recipe in DATASETS.items():
        assert len(datasets.load(name)) == recipe.sizes[1]
        assert minari.load_dataset(name).total_steps == recipe.sizes[1]
        score = minari.get_normalized_score(minari.load_dataset(name), returns["orl/racing/expert-v0"]).mean()
        assert 0.5 < score < 1.1


def test_references_are_those_of_the_environment() -> None:
    """Two episodes: the driver hardly varies, random actions do. The slow test below measures all of it."""
    measured = racing_datasets.measure(episodes=2)
    assert measured.expert == pytest.approx(datasets.REFERENCES["orl/Racing-v0"].expert, rel=0.02)
    assert set(racing_datasets.racing_ids()) <= set(datasets.REFERENCES)


@pytest.mark.slow
@pytest.mark.parametrize("environment_id", racing_datasets.racing_ids())
def test_references_are_measured_as_the_table_says(environment_id: str) -> None:
    measured = racing_datasets.measure(environment_id)
    assert measured == pytest.approx(datasets.REFERENCES[environment_id], rel=1e-3)


def test_the_card_of_a_racing_set_shows_the_track(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    few = racing_datasets.RacingDataset({"medium": 1.0}, 2, seed=7)
    monkeypatch.setitem(DATASETS, "orl/racing/medium-v0", few)
    orl("make", "orl/racing/medium-v0")
    trace = racing_datasets.replay("orl/racing/medium-v0")
    assert trace is not None
    assert trace["x"].shape == (DECISIONS, 2)
    orl("card", "orl/racing/medium-v0", "--out", str(tmp_path / "card"))
    assert "scripted" in (tmp_path / "card" / "README.md").read_text()
    assert (tmp_path / "card" / "visits.png").stat().st_size > 10_000
    monkeypatch.setattr(racing_datasets, "ENVIRONMENT", "orl/RacingOval-v0")  # not the one that made the data
    assert racing_datasets.replay("orl/racing/medium-v0") is None


def test_a_racing_set_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    few = racing_datasets.RacingDataset({"expert": 0.5, "basic": 0.5}, 4, seed=7, in_pieces=True)
    monkeypatch.setitem(racing_datasets.DATASETS, "orl/racing/expert-v0", few)
    progress: list[tuple[int, int]] = []
    racing_datasets.make("orl/racing/expert-v0", progress=lambda *counts: progress.append(counts))
    first = datasets.load("orl/racing/expert-v0")
    assert progress[-1] == (8_000, 8_000)
    racing_datasets.make("orl/racing/expert-v0", overwrite=True)
    again = datasets.load("orl/racing/expert-v0")
    assert len(first) == 200
    np.testing.assert_array_equal(again.observations, first.observations)
    np.testing.assert_array_equal(again.actions, first.actions)
