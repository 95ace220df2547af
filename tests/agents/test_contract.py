"""What every agent promises, whatever its equations."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orl import checkpoint
from orl.agent import Agent
from orl.agents import BC, IQL, TD3BC
from orl.checkpoint import CheckpointError
from orl.dataset import Dataset
from orl.evaluation import evaluate

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 8}
pytestmark = pytest.mark.parametrize("kind", [BC, TD3BC, IQL])


def same(first: Agent, second: Agent) -> bool:
    """Bit-equal state: parameters, targets, moments, statistics, random numbers."""
    (mine, about_mine), (other, about_other) = first.state(), second.state()
    return mine.keys() == other.keys() and about_mine == about_other and all(mine[k].equal(other[k]) for k in mine)


def test_predict_of_one_observation_and_of_a_batch(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), **SMALL).fit(2)
    batch = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    actions, state = agent.predict(batch, deterministic=True)
    assert (actions.shape, actions.dtype, state) == ((5, 2), np.float32, None)
    one, _ = agent.predict(batch[3], deterministic=True)
    assert one.shape == (2,)
    np.testing.assert_allclose(one, actions[3], atol=1e-6)
    assert agent.predict(batch)[0].shape == (5, 2)


@pytest.mark.parametrize("shape", [(4,), (5, 2), (1, 5, 3), ()])
def test_predict_refuses_observations_of_another_size(
    kind: type[Agent], make_data: MakeData, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"observations have shape .*; give \(3,\) or \(n, 3\)"):
        kind(make_data(), **SMALL).predict(np.zeros(shape, np.float32))


def test_policies_refuse_what_is_no_observation_of_theirs(kind: type[Agent], make_data: MakeData) -> None:
    agent, observation = kind(make_data(), **SMALL), np.array([0.0, np.nan, 1.0], np.float32)
    for act in (lambda: agent.predict(observation, deterministic=True), lambda: agent.act(observation[None, None])):
        with pytest.raises(ValueError, match="observations hold NaN or infinity: nan"):
            act()
    for shape in ((2, 5, 3), (1, 5, 4), (5, 3)):
        with pytest.raises(ValueError, match=r"observations have shape .*; give \(1, n, 3\)"):
            agent.act(np.zeros(shape, np.float32))


def test_predict_refuses_a_population(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[0, 1], **SMALL)
    with pytest.raises(ValueError, match=r"population of 2; predict with agent.learner\(k\)"):
        agent.predict(np.zeros(3, np.float32))
    observations = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    expected = agent.act(observations)
    for k in range(2):
        actions, _ = agent.learner(k).predict(observations[k], deterministic=True)
        np.testing.assert_allclose(actions, expected[k], atol=1e-6)


def test_actions_are_in_the_environment_s_unit_and_within_its_bounds(kind: type[Agent], make_data: MakeData) -> None:
    """Bounds of Pendulum; a saturated policy reaches them exactly and never passes them."""
    data = make_data(action_size=1, action_low=-2.0, action_high=2.0)
    agent = kind(data, **SMALL)
    layer = agent.actor.network.layers[-1]  # type: ignore[attr-defined]
    for sign in (-1.0, 1.0):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(50 * sign)
        assert (agent.predict(data.observations, deterministic=True)[0] == 2 * sign).all()
        sampled = agent.predict(data.observations, deterministic=False)[0]
        assert sampled.min() >= -2.0
        assert sampled.max() <= 2.0
    with torch.no_grad():
        layer.bias.fill_(float(np.arctanh(0.25)))
    np.testing.assert_allclose(agent.predict(data.observations, deterministic=True)[0], 0.5, rtol=1e-5)


def test_metrics_are_finite_with_one_value_per_learner(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[0, 1, 2], **SMALL)
    seen: set[str] = set()
    for _ in range(4):
        metrics = agent.gradient_step(*next(agent.batches(1)))
        seen |= metrics.keys()
        for name, values in metrics.items():
            assert values.shape == (3,), name
            assert torch.isfinite(values).all(), name
            assert not values.requires_grad, name
    assert "actor_loss" in seen


def test_the_same_seed_is_bit_equal_and_another_is_not(kind: type[Agent], make_data: MakeData) -> None:
    first, again, other = (kind(make_data(), seed=seed, **SMALL).fit(70) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_global_random_state_is_neither_read_nor_changed(kind: type[Agent], make_data: MakeData) -> None:
    torch.manual_seed(1)
    first = kind(make_data(), **SMALL).fit(5)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(first, kind(make_data(), **SMALL).fit(5))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("seed", [0, [4, 9], [1, 1]])
def test_save_and_load_give_the_same_agent(kind: type[Agent], make_data: MakeData, tmp_path: Path, seed: Any) -> None:
    agent = kind(make_data(), seed=seed, **SMALL).fit(3)
    agent.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert same(agent, loaded)
    assert (loaded.config, loaded.seeds, loaded.updates) == (agent.config, agent.seeds, 3)
    observations = np.random.default_rng(0).normal(size=(agent.population, 4, 3)).astype(np.float32)
    assert np.array_equal(loaded.act(observations), agent.act(observations))
    assert np.array_equal(loaded.act(observations, deterministic=False), agent.act(observations, deterministic=False))


def test_an_untrained_agent_can_be_saved(kind: type[Agent], make_data: MakeData, tmp_path: Path) -> None:
    data = make_data()
    agent = kind(data, **SMALL)
    agent.save(tmp_path)
    assert same(kind.load(tmp_path).fit(3, data), agent.fit(3))


def test_a_checkpoint_of_another_agent_is_refused(kind: type[Agent], make_data: MakeData, tmp_path: Path) -> None:
    other = next(each for each in (BC, TD3BC, IQL) if each is not kind)
    other(make_data(), **SMALL).save(tmp_path)
    words = f"a checkpoint of {other.__name__}, not of {kind.__name__}; use {other.__name__}.load"
    with pytest.raises(CheckpointError, match=words):
        kind.load(tmp_path)


def test_only_the_same_training_may_save_to_a_folder_again(
    kind: type[Agent], make_data: MakeData, tmp_path: Path
) -> None:
    """What it goes on from, and what is done again from the start; not the same agent on other data."""
    data = make_data()
    agent = kind(data, **SMALL).fit(3)
    agent.save(tmp_path)
    kind.load(tmp_path).fit(2, data).save(tmp_path)
    agent.learner(0).fit(3, data).save(tmp_path)
    assert checkpoint.numbers(tmp_path) == [6, 5]
    others = (
        kind(make_data(seed=1), **SMALL),
        kind(data, seed=1, **SMALL),
        kind(data, hidden_sizes=(8,), batch_size=8),
        kind(data.with_rewards(data.rewards + 1), **SMALL),
    )
    for other in others:
        with pytest.raises(CheckpointError, match=r"checkpoint-5: of another training, .*; save to another folder"):
            other.fit(7).save(tmp_path)
    again = kind(data, **SMALL).fit(3)
    with pytest.raises(CheckpointError, match=r"checkpoint-5: of the same training, but later; load it to go on"):
        again.save(tmp_path)
    assert checkpoint.numbers(tmp_path) == [6, 5]
    again.fit(3).save(tmp_path)
    assert same(kind.load(tmp_path), again)


def test_a_learner_of_a_population_is_the_same_training_as_alone(
    kind: type[Agent], make_data: MakeData, tmp_path: Path
) -> None:
    """So that learners trained apart, as in jobs, go on together in their folders, and one of them alone."""
    data = [make_data(seed=seed) for seed in (0, 1)]
    for k in range(2):
        kind(data[k], seed=k, **SMALL).fit(2).save(tmp_path / f"seed-{k}")
    kind(data, seed=[0, 1], **SMALL).fit(4).save(tmp_path)
    kind.load(tmp_path).fit(1, data).learner(1).save(tmp_path / "seed-1")
    assert checkpoint.numbers(tmp_path / "seed-1") == [5, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_learner_that_diverged_is_named_and_neither_saved_nor_played(
    kind: type[Agent], make_data: MakeData, tmp_path: Path, value: float
) -> None:
    data = make_data()
    agent = kind(data, seed=[3, 4], **SMALL).fit(2)
    with torch.no_grad():
        agent.networks["actor"].get_parameter("network.layers.0.weight")[1].fill_(value)
    said = r"seed 4: training diverged by update 2, .* are NaN or infinite; lower \w*learning_rate \(0\.0\d+\).*rewards"
    uses: list[Callable[[], object]] = [
        lambda: agent.save(tmp_path / "run"),
        lambda: agent.act(np.stack([data.observations] * 2)),
        lambda: agent.learner(1).predict(data.observations),
        lambda: agent.learner(1).predict(data.observations[0], deterministic=True),
        lambda: evaluate(agent, "Pendulum-v1", episodes=1),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=said):
            use()
    assert not (tmp_path / "run").exists()
    agent.learner(0).save(tmp_path / "run")
    with pytest.raises(ValueError, match=said.replace("update 2", "update 3")):
        agent.fit(1)


def test_unknown_overrides_name_the_near_field(kind: type[Agent], make_data: MakeData) -> None:
    with pytest.raises(ValueError, match=f"'batchsize' is not a field of {kind.__name__}Config; .* batch_size"):
        kind(make_data(), batchsize=8)
    with pytest.raises(ValueError, match="did you mean hidden_sizes"):
        kind(make_data(), hidden_size=(8,))


@pytest.mark.parametrize("field", ["batch_size", "learning_rate"])
def test_settings_below_zero_are_refused(kind: type[Agent], make_data: MakeData, field: str) -> None:
    names = [each.name for each in dataclasses.fields(kind.Config) if each.name.endswith(field)]
    assert names
    for name in names:
        with pytest.raises(ValueError, match=rf"{kind.__name__}Config\.{name}=-1: must be above 0"):
            kind(make_data(), **{name: -1})


def test_every_switch_runs_both_ways(kind: type[Agent], make_data: MakeData) -> None:
    switches: list[dict[str, Any]] = []
    for field in dataclasses.fields(kind.Config):
        if field.type == "bool":
            switches += [{field.name: True}, {field.name: False}]
        elif "None" in str(field.type):
            switches += [{field.name: None}, {field.name: 3}]
    assert switches
    for switch in switches:
        agent = kind(make_data(), **SMALL, **switch).fit(4)
        metrics = agent.gradient_step(*next(agent.batches(1)))
        assert all(torch.isfinite(values).all() for values in metrics.values()), switch


def test_hidden_rewards_leak_loudly(kind: type[Agent], make_data: MakeData) -> None:
    sparse = make_data().with_labels(0.5)
    with pytest.raises(ValueError, match="30 of 60 rewards are hidden") as error:
        kind(sparse, **SMALL)
    for remedy in ("labelled()", "fill(0.0)", "fill('mean')", "RewardModel"):
        assert remedy in str(error.value)
    for data in (sparse.labelled(), sparse.fill(0.0), sparse.fill("mean")):
        kind(data, **SMALL).fit(2)


def test_data_of_another_size_are_refused(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), **SMALL)
    for other in (make_data(observation_size=4), make_data(action_size=1), make_data(action_low=-3, action_high=3)):
        with pytest.raises(ValueError, match="the agent"):
            agent.fit(1, other)
    assert agent.updates == 0
    with pytest.raises(ValueError, match="updates=0: give a whole number, at least 1"):
        agent.fit(0)


def test_no_gradient_reaches_a_target(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), **SMALL).fit(5)
    moved = {id(parameter) for optimizer in agent.optimizers.values() for parameter in optimizer.parameters}
    for name, network in agent.networks.items():
        for parameter in network.parameters():
            assert (id(parameter) in moved) != name.endswith("_target"), name
            assert parameter.requires_grad != name.endswith("_target"), name


# The population law and its consequences.


def variants(make_data: MakeData) -> list[Dataset]:
    """One learner has other rewards on shared rows, another one other data of another size."""
    data = make_data(rows=60, seed=1)
    return [data, data.with_rewards(2 - 3 * data.rewards), make_data(rows=130, seed=2)]


def assert_close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        if values.dtype == torch.uint8:
            assert torch.equal(values, second[name]), name
        else:
            torch.testing.assert_close(
                values, second[name], rtol=1e-10, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}"
            )


def test_the_population_law(kind: type[Agent], make_data: MakeData, float64: None) -> None:
    """Learner k of a population equals the same learner alone: parameters, targets, moments, random numbers."""
    datasets, seeds = variants(make_data), [5, 6, 5]
    together = kind(datasets, seed=seeds, **SMALL).fit(20)
    tensors = together.state()[0]
    assert any(name.startswith("optimizer") for name in tensors)
    for k, (data, seed) in enumerate(zip(datasets, seeds, strict=True)):
        alone = kind(data, seed=seed, **SMALL).fit(20)
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, alone.state()[0])


def test_a_learner_taken_out_continues_as_in_the_population(
    kind: type[Agent], make_data: MakeData, float64: None
) -> None:
    datasets = variants(make_data)
    together = kind(datasets, seed=[5, 6, 7], **SMALL).fit(11)
    taken = [together.learner(k).fit(9, data) for k, data in enumerate(datasets)]
    tensors = together.fit(9).state()[0]
    for k, learner in enumerate(taken):
        assert learner.updates == 20
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, learner.state()[0])


def test_learners_with_one_seed_and_one_dataset_are_equal(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[3, 3], **SMALL).fit(10)
    assert all(torch.equal(values[0], values[1]) for values in agent.state()[0].values())


SCRIPT = """
import sys, numpy as np, torch
torch.set_num_threads(1)
from orl import agents
from orl.dataset import Dataset
name, folder, updates, out = sys.argv[1:]
arrays = np.load(folder + "/data.npz")
agent = getattr(agents, name).load(folder + "/run")
agent.fit(int(updates), Dataset.from_arrays(**arrays)).save(out)
"""


@pytest.mark.parametrize("updates", [37, 64])
def test_a_run_resumes_exactly_in_another_process(
    kind: type[Agent], make_data: MakeData, tmp_path: Path, updates: int
) -> None:
    """2N updates equal N, saved, loaded elsewhere, and N more: inside a block of random numbers and at its end."""
    data = make_data()
    keys = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
    np.savez(tmp_path / "data.npz", **{key: getattr(data, key) for key in keys})
    overrides = SMALL | ({"cosine_horizon": 100} if kind is IQL else {})
    kind(data, seed=[0, 5], **overrides).fit(updates).save(tmp_path / "run")
    command = [sys.executable, "-c", SCRIPT, kind.__name__, str(tmp_path), str(updates), str(tmp_path / "resumed")]
    subprocess.run(command, check=True, timeout=120)
    assert same(kind(data, seed=[0, 5], **overrides).fit(2 * updates), kind.load(tmp_path / "resumed"))
