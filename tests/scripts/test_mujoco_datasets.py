"""Data sets of D4RL's levels from a ladder, and the program that builds ladders, on untrained policies."""

from __future__ import annotations

import json
from pathlib import Path

import minari
import numpy as np
import pytest

from orl import datasets
from orl.agents import SAC
from orl.checkpoint import write_json
from orl.scripts.commands.dataset import List, Make
from orl.scripts.data import ladder
from orl.scripts.data import mujoco as mujoco_datasets
from orl.scripts.data.mujoco import DATASETS, LEVELS, Ladder
from orl.scripts.data.recording import load_policy, record
from orl.scripts.running.saved_policies import SavedPolicy, write_policy

STEPS = [100, 200, 300, 400, 500]
SHIPPED = [body for body in mujoco_datasets.ENVIRONMENTS if Ladder.of(body) is not None]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training of two seeds leaves behind; each policy is an untrained one of its own."""
    folder = tmp_path_factory.mktemp("run")
    history = []
    for steps in STEPS:
        agent = SAC("Hopper-v5", seed=[steps, steps + 1], hidden_sizes=(8, 8))
        for k in range(2):
            path = folder / f"seed-{k}" / "policies" / f"step-{steps}.safetensors"
            agent.seeds = [0, 1]
            write_policy(agent, k, path, steps=steps, **{"return": steps / 10 + 100 * k}, preset="sac")
        history.append({"steps": steps, "returns": [[steps / 10], [steps / 10 + 100]], "after_phase": False})
    history.append({"steps": 501, "returns": [[0.0], [0.0]], "after_phase": True})
    write_json(folder / "config.json", {"env": "Hopper-v5", "agent": "sac", "config": {"tau": 0.005}})
    write_json(folder / "history.json", history)
    write_json(folder / "results.json", {"command": "orl train sac --env Hopper-v5", "versions": {"orl": "0"}})
    return folder


@pytest.fixture(scope="session")
def built(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ladders with that of Hopper."""
    ladders = tmp_path_factory.mktemp("ladders")
    ladder.Build(run, rungs=3, candidates=2, selection_episodes=2, episodes=3, out=ladders / "hopper").run()
    return ladders


@pytest.fixture
def ladders(built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for the shipped ones."""
    monkeypatch.setattr(mujoco_datasets, "LADDERS", built)
    return built


def rewards(dataset_id: str) -> np.ndarray:
    return datasets.load(dataset_id).rewards


def test_a_ladder_keeps_policies_and_where_they_came_from(built: Path, run: Path) -> None:
    about = json.loads((built / "hopper" / "ladder.json").read_text())
    assert about["command"] == "orl train sac --env Hopper-v5"
    assert about["config"]["config"] == {"tau": 0.005}
    assert about["evaluation"]["episodes"] == 3
    assert [each["steps"] for each in about["curve"]] == STEPS
    policies = about["policies"]
    assert list(policies)[:2] == ["expert", "medium"]
    expert = policies["expert"]
    assert expert["seed"] == 1  # the better one
    assert all(policies[name]["steps"] < expert["steps"] for name in list(policies)[2:])
    kept = SavedPolicy(built / "hopper" / "expert.safetensors")
    whole = SavedPolicy(run / "seed-1" / "policies" / f"step-{expert['steps']}.safetensors")
    observations = np.random.default_rng(0).normal(size=(4, 11))
    np.testing.assert_allclose(kept(observations), whole(observations), atol=5e-3)
    for name, facts in policies.items():
        for how in ("deterministic", "sampled"):
            assert np.isfinite(list(facts[how].values())).all()
        policy = load_policy(str(built / "hopper" / facts["file"]), "Hopper-v5", seed=ladder.REPORT_SEED)
        played = record(policy, "Hopper-v5", episodes=3, seed=ladder.REPORT_SEED)
        returns = [episode.rewards.sum() for episode in played]
        assert facts["sampled"]["return"] == pytest.approx(np.mean(returns), abs=0.01), name


def test_a_ladder_is_of_a_run_of_its_environment(run: Path, tmp_path: Path) -> None:
    for build, message in (
        (ladder.Build(run, env="Ant-v5", out=tmp_path / "x"), "no run of Ant-v5"),
        (ladder.Build(run, env="Pendulum-v1", out=tmp_path / "x"), "ladders are of Hopper-v5"),
        (ladder.Build(tmp_path, out=tmp_path / "x"), "no run of Hopper-v5"),
    ):
        with pytest.raises(ValueError, match=message):
            build.run()
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("ladders")
def test_every_level_is_made_and_repeats() -> None:
    Make(("orl/hopper/all",), steps=150).run()
    sets = {level: f"orl/hopper/{level}-v0" for level in LEVELS}
    sizes = {level: len(datasets.load(identifier)) for level, identifier in sets.items()}
    for level, size in sizes.items():
        assert size >= (300 if level == "medium-expert" else 150)
        data = datasets.load(sets[level])
        assert data.environment_id == "Hopper-v5"
        assert (data.terminated | data.truncated)[-1]
    both = np.concatenate([rewards(sets["medium"]), rewards(sets["expert"])])
    np.testing.assert_array_equal(rewards(sets["medium-expert"]), both)
    first = {level: rewards(identifier) for level, identifier in sets.items()}
    assert len({values[:50].tobytes() for values in first.values()}) == 5  # medium-expert begins as medium does
    Make(tuple(sets.values()), steps=150, overwrite=True).run()
    for level, identifier in sets.items():
        np.testing.assert_array_equal(rewards(identifier), first[level])


@pytest.mark.usefixtures("ladders")
def test_a_set_says_what_it_is() -> None:
    Make(("orl/hopper/medium-v0", "orl/hopper/full-replay-v0"), steps=60).run()
    about = minari.load_dataset("orl/hopper/medium-v0").storage.metadata
    assert "sampled actions of medium (seed" in about["description"]
    assert "D4RL's set of this level has 1 million" in about["description"]
    assert about["ref_max_score"] == datasets.REFERENCES["Hopper-v5"].expert
    assert {each.split("==")[0] for each in about["requirements"]} >= {"gymnasium", "mujoco", "numpy", "orl", "torch"}
    replay = minari.load_dataset("orl/hopper/full-replay-v0").storage.metadata["description"]
    assert "A mixture, not a true replay" in replay
    assert "in the order of training: random; " in replay


def test_the_replay_climbs_to_its_top() -> None:
    scores = {"expert": 90.0, "medium": 30.0, "step-1": 5.0, "step-2": 50.0, "step-3": 20.0}
    policies = {name: {"sampled": {"return": score}} for name, score in scores.items()}
    made = Ladder(Path(), {"policies": policies})
    assert made.climb("medium") == ["random", "step-1", "step-3", "medium"]
    assert made.climb("expert") == ["random", "step-1", "step-2", "step-3", "expert"]


def test_a_level_without_a_ladder_is_refused_before_anything_is_made(built: Path, store: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mujoco_datasets, "LADDERS", built)
        with pytest.raises(ValueError, match=r"no policies of Ant-v5 come with orl \(only of: Hopper-v5\); train one"):
            Make(("orl/hopper/random-v0", "orl/ant/medium-v0"), steps=10).run()
        assert mujoco_datasets.shipped() == [
            *(f"orl/hopper/{level}-v0" for level in LEVELS),
            *(f"orl/{body}/random-v0" for body in ("halfcheetah", "walker2d", "ant")),
        ]
    assert not store.exists()


@pytest.mark.usefixtures("ladders")
def test_the_list_shows_what_can_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    Make(("orl/hopper/random-v0",), steps=60).run()
    List().run()
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("│ orl/")}
    assert set(mujoco_datasets.shipped()) <= set(lines)
    assert "orl/ant/medium-v0" not in lines
    assert "400,000" in lines["orl/hopper/medium-expert-v0"]
    assert lines["orl/hopper/random-v0"].split()[-2] == "yes"


def test_ids_and_sizes() -> None:
    assert len(DATASETS) == 24
    seeds = {recipe.seed("medium") for recipe in DATASETS.values() if recipe.level != "medium-expert"}
    assert len(seeds) == 20


@pytest.mark.parametrize("body", SHIPPED)
def test_the_ladder_that_is_shipped(body: str) -> None:
    shipped = Ladder.of(body)
    assert shipped is not None
    files = sorted(path.name for path in shipped.folder.iterdir())
    assert files == sorted(["ladder.json", *(facts["file"] for facts in shipped.policies.values())])
    assert sum(path.stat().st_size for path in shipped.folder.iterdir()) < 2**20
    assert shipped.about["environment"] == mujoco_datasets.ENVIRONMENTS[body]
    assert shipped.sampled_return("medium") < shipped.sampled_return("expert")
    for name in shipped.policies:
        load_policy(shipped.file(name), shipped.about["environment"])


@pytest.mark.slow
@pytest.mark.parametrize("body", SHIPPED)
def test_the_shipped_policies_return_what_the_ladder_says(body: str) -> None:
    shipped = Ladder.of(body)
    assert shipped is not None
    for name, facts in shipped.policies.items():
        policy = load_policy(shipped.file(name), shipped.about["environment"], seed=5)
        returns = [
            episode.rewards.sum() for episode in record(policy, shipped.about["environment"], episodes=50, seed=5)
        ]
        sampled = facts["sampled"]
        assert abs(np.mean(returns) - sampled["return"]) < 5.0 * sampled["standard_deviation"] / np.sqrt(50) + 10.0
