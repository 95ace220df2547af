"""`--policy`: random actions, policies and checkpoints of ours, archives of Stable-Baselines3."""

from __future__ import annotations

import base64
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch

from orl import datasets
from orl.agents import SAC
from orl.environment import Spaces
from orl.scripts.data.behaviour_policies import load_policy
from orl.scripts.running.saved_policies import write_policy

PENDULUM = Spaces.of("Pendulum-v1")  # actions in [-2, 2]
OBSERVATIONS = np.random.default_rng(0).normal(size=(5, 3))
SMALL = {"net_arch": [8, 4]}


def archive(path: Path, algorithm: str = "SAC", env: Any = "Pendulum-v1", **keywords: Any) -> Any:
    """A tiny agent of Stable-Baselines3, saved."""
    if algorithm in ("SAC", "TD3", "DDPG"):
        keywords["buffer_size"] = 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keywords = {"policy_kwargs": dict(SMALL), **keywords}
        agent = getattr(stable_baselines3, algorithm)("MlpPolicy", env, seed=1, device="cpu", **keywords)
        agent.save(path)
    return agent


@pytest.mark.parametrize("algorithm", ["SAC", "TD3", "DDPG", "PPO", "A2C"])
def test_an_archive_acts_as_its_agent(algorithm: str, tmp_path: Path) -> None:
    kinds = {"policy_kwargs": {**SMALL, "activation_fn": torch.nn.ELU}} if algorithm in ("SAC", "PPO") else {}
    agent = archive(tmp_path / "agent.zip", algorithm, **kinds)
    behaviour = load_policy(str(tmp_path / "agent.zip"), PENDULUM, deterministic=True)
    expected = agent.predict(OBSERVATIONS, deterministic=True)[0]
    np.testing.assert_allclose(behaviour.act(OBSERVATIONS), expected, rtol=1e-6)
    assert algorithm in behaviour.name
    assert "agent.zip (sha256 " in behaviour.name


def test_samples_of_an_archive_repeat_and_leave_torch_alone(tmp_path: Path) -> None:
    archive(tmp_path / "agent.zip")
    before = torch.get_rng_state()

    def samples(seed: int) -> np.ndarray:
        behaviour = load_policy(str(tmp_path / "agent.zip"), PENDULUM, seed=seed)
        return np.stack([behaviour.act(OBSERVATIONS) for _ in range(200)])

    drawn = samples(0)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(samples(0), drawn)
    assert (samples(1) != drawn).all()
    assert drawn.shape == (200, 5, 1)
    assert drawn.std(axis=0).min() > 0.3
    assert np.abs(drawn).max() <= 2.0


def rewrite(source: Path, target: Path, change: Any, without: str = "") -> None:
    """Copy an archive with other JSON."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            if name != without:
                content = old.read(name)
                if name == "data":
                    about = json.loads(content)
                    change(about)
                    content = json.dumps(about).encode()
                new.writestr(name, content)


def test_nothing_in_an_archive_is_unpickled(tmp_path: Path) -> None:
    agent = archive(tmp_path / "agent.zip")
    marker = tmp_path / "run"
    payload = base64.b64encode(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode()).decode()

    def poison(about: dict[str, Any]) -> None:
        for value in about.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = payload

    rewrite(tmp_path / "agent.zip", tmp_path / "poisoned.zip", poison)
    behaviour = load_policy(str(tmp_path / "poisoned.zip"), PENDULUM, deterministic=True)
    np.testing.assert_allclose(behaviour.act(OBSERVATIONS), agent.predict(OBSERVATIONS, deterministic=True)[0])
    assert not marker.exists()


def test_an_old_archive_names_its_shapes_otherwise(tmp_path: Path) -> None:
    archive(tmp_path / "agent.zip")

    def age(about: dict[str, Any]) -> None:
        for key in ("observation_space", "action_space"):
            about[key]["shape"] = about[key].pop("_shape")

    rewrite(tmp_path / "agent.zip", tmp_path / "old.zip", age)
    assert load_policy(str(tmp_path / "old.zip"), PENDULUM).act(OBSERVATIONS).shape == (5, 1)


@pytest.mark.parametrize(
    ("change", "without", "message"),
    [
        (lambda about: about["policy_class"].update(__module__="sb3_contrib.tqc.policies"), "", "sb3_contrib.tqc"),
        (lambda about: about["policy_class"].clear(), "", "an unknown class"),
        (lambda about: about["action_space"].pop("_shape"), "", "action space is no flat vector"),
        (lambda about: about["action_space"].update(high="[3.]"), "", r"high = \[3.0\], Pendulum-v1's \[2.0\]"),
        (lambda about: about.update(use_sde=True), "", "give --deterministic"),
        (lambda about: about["policy_kwargs"].update(features_extractor_class="Mine"), "", "extractor_class = Mine"),
        (lambda about: about["policy_kwargs"].update(activation_fn="<class 'me.Own'>"), "", "none of torch's"),
        (lambda about: about["policy_kwargs"].update(net_arch=[16]), "", "cannot be read"),
        (lambda about: None, "policy.pth", "cannot be read"),
        (lambda about: None, "data", "no policy of Stable-Baselines3"),
    ],
)
def test_archives_that_are_refused(change: Any, without: str, message: str, tmp_path: Path) -> None:
    archive(tmp_path / "agent.zip")
    rewrite(tmp_path / "agent.zip", tmp_path / "other.zip", change, without)
    with pytest.raises(ValueError, match=message) as refusal:
        load_policy(str(tmp_path / "other.zip"), PENDULUM)
    assert "\n" not in str(refusal.value)


def test_files_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    archive(path)
    whole = path.read_bytes()
    with pytest.raises(ValueError, match=r"sizes are \(3, 1\), Hopper-v5 has \(11, 3\)"):
        load_policy(str(path), Spaces.of("Hopper-v5"))
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut short"):
        load_policy(str(path), PENDULUM)
    (tmp_path / "policy.pt").write_bytes(b"1")
    for name, message in (("none.zip", "no such file"), ("policy.pt", r"a \.zip, a \.safetensors")):
        with pytest.raises(ValueError, match=message):
            load_policy(str(tmp_path / name), PENDULUM)


def test_policies_and_checkpoints_of_ours(tmp_path: Path) -> None:
    agent = SAC("Pendulum-v1", seed=[0, 1], hidden_sizes=(8, 8), target_entropy=-1.0)
    write_policy(agent, 1, tmp_path / "one.safetensors", steps=7)
    agent.save(tmp_path / "both")
    expected = agent.learner(1).predict(OBSERVATIONS, deterministic=True)[0]
    for source in ("one.safetensors", "both/seed-1"):
        modes = load_policy(str(tmp_path / source), PENDULUM, deterministic=True)
        np.testing.assert_allclose(modes.act(OBSERVATIONS), expected, rtol=1e-5)
        samples = load_policy(str(tmp_path / source), PENDULUM, seed=3)
        again = load_policy(str(tmp_path / source), PENDULUM, seed=3)
        other = load_policy(str(tmp_path / source), PENDULUM, seed=4)
        drawn = samples.act(OBSERVATIONS)
        np.testing.assert_array_equal(again.act(OBSERVATIONS), drawn)
        assert (other.act(OBSERVATIONS) != drawn).all()
        assert "SAC of orl" in samples.name
        with pytest.raises(ValueError, match="sizes are"):
            load_policy(str(tmp_path / source), Spaces.of("Hopper-v5"))
    with pytest.raises(ValueError, match="2 learners; give the folder of one"):
        load_policy(str(tmp_path / "both"), PENDULUM)
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "one.safetensors").read_bytes()[:100])
    with pytest.raises(ValueError, match="not a policy that orl wrote"):
        load_policy(str(tmp_path / "cut.safetensors"), PENDULUM)


def test_random_actions_fill_the_bounds() -> None:
    behaviour = load_policy("random", PENDULUM, seed=0)
    drawn = np.stack([behaviour.act(OBSERVATIONS) for _ in range(200)])
    assert -2.0 <= drawn.min() < -1.9
    assert 1.9 < drawn.max() <= 2.0
    episodes = datasets.record(behaviour.act, gymnasium.make_vec("Pendulum-v1", 2), episodes=2, seed=0)
    assert len(episodes) == 2


def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path: Path, refused: Any, store: Path) -> None:
    archive(tmp_path / "agent.zip")
    for words, message in (
        (["--env", "Hopper-v5", "--policy", "agent.zip"], "sizes are (3, 1), Hopper-v5 has (11, 3)"),
        (["--env", "Pendulm-v1", "--policy", "agent.zip"], "Pendulm-v1: no such environment"),
        (["--env", "Hopper-v2", "--policy", "agent.zip"], "Hopper-v2: cannot be made"),
        (["--policy", "agent.zip"], "--policy goes with --env"),
        (["--env", "Pendulum-v1", "--policy", "agent"], "no such file or folder"),
        (["--env", "Pendulum-v1", "--policy", "agent.zip", "--steps", "1000000000000"], "GiB of memory"),
        (["orl/ant/expert-v7"], "none of ours"),
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Gymnasium's, of old versions
            assert message in refused("dataset", "make", *words)
    assert not store.exists()
