"""Policies in files: what comes back acts as what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from orl.agents import SAC, SPEQ
from orl.evaluation import evaluate
from orl.scripts.running.saved_policies import SavedPolicy, write_policy

SMALL: dict[str, Any] = {"hidden_sizes": (9, 7), "target_entropy": -1.0, "learning_starts": 5, "batch_size": 8}


def observations(count: int = 30) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)


@pytest.mark.parametrize("kind", [SAC, SPEQ])
def test_a_policy_acts_as_the_learner_that_it_was_written_from(kind: Any, tmp_path: Path) -> None:
    """In the environment's unit: Pendulum's torque is up to 2."""
    agent = kind("Pendulum-v1", seed=[4, 9], **SMALL).learn(15)
    path = tmp_path / "new" / "policy.safetensors"
    write_policy(agent, 1, path, steps=15, preset="sac", **{"return": -1234.5})
    policy = SavedPolicy(path)
    actions = policy(observations())
    assert (actions.shape, actions.dtype) == ((30, 1), np.float32)
    expected, _ = agent.learner(1).predict(observations(), deterministic=True)
    np.testing.assert_allclose(actions, expected, rtol=1e-6, atol=1e-6)
    other, _ = agent.learner(0).predict(observations(), deterministic=True)
    assert not np.allclose(actions, other, atol=1e-3)
    assert policy.facts["agent"] == kind.__name__
    assert (policy.facts["seed"], policy.facts["steps"], policy.facts["return"]) == (9, 15, -1234.5)
    assert policy.spaces.environment_id == "Pendulum-v1"
    assert path.stat().st_size < 4_000  # the actor alone


def test_a_policy_with_one_hidden_layer(tmp_path: Path) -> None:
    agent = SAC("Pendulum-v1", **{**SMALL, "hidden_sizes": (5,)})
    write_policy(agent, 0, tmp_path / "policy.safetensors")
    expected, _ = agent.predict(observations(), deterministic=True)
    np.testing.assert_allclose(SavedPolicy(tmp_path / "policy.safetensors")(observations()), expected, atol=1e-6)


def test_samples_repeat_with_their_seed_and_are_those_of_the_policy(tmp_path: Path) -> None:
    agent = SAC("Pendulum-v1", **SMALL)
    write_policy(agent, 0, tmp_path / "policy.safetensors")

    def sampled(seed: int) -> SavedPolicy:
        return SavedPolicy(tmp_path / "policy.safetensors", deterministic=False, seed=seed)

    first, second = sampled(3), sampled(3)
    one = first(observations())
    assert np.array_equal(one, second(observations()))
    assert not np.array_equal(one, first(observations()))
    assert not np.array_equal(one, sampled(4)(observations()))
    same = np.zeros((4_000, 3), np.float32)
    mine = sampled(1)(same)
    theirs, _ = agent.predict(same, deterministic=False)
    assert mine.mean() == pytest.approx(theirs.mean(), abs=0.1)
    assert mine.std() == pytest.approx(theirs.std(), rel=0.05)


def test_a_policy_from_a_file_earns_what_its_learner_earned(tmp_path: Path) -> None:
    agent = SAC("Pendulum-v1", **SMALL).learn(15)
    write_policy(agent, 0, tmp_path / "policy.safetensors")
    policy = SavedPolicy(tmp_path / "policy.safetensors")

    class Alone:
        population = 1

        def act(self, observations: Any, *, deterministic: bool = True) -> Any:
            return policy(observations[0])[None]

    theirs, mine = (evaluate(each, "Pendulum-v1", episodes=2).returns for each in (agent, Alone()))
    np.testing.assert_allclose(mine, theirs, rtol=1e-3)


@pytest.mark.parametrize("content", [b"", b"no tensors", None])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.safetensors"
    if content is None:
        save_file({"weight": torch.zeros(2)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.safetensors: not a policy that orl wrote"):
        SavedPolicy(path)


def test_a_file_of_orl_s_without_an_actor_is_refused(tmp_path: Path) -> None:
    agent = SAC("Pendulum-v1", **SMALL)
    write_policy(agent, 0, tmp_path / "policy.safetensors")
    policy = SavedPolicy(tmp_path / "policy.safetensors")
    path = tmp_path / "cut.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata={"orl": json.dumps(policy.facts)})
    with pytest.raises(ValueError, match=r"cut\.safetensors: not a policy that orl wrote"):
        SavedPolicy(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"nowhere\.safetensors"):
        SavedPolicy(tmp_path / "nowhere.safetensors")
