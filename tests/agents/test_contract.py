"""What every public agent of `orl.agents` promises, whatever its equations; `conftest.py` collects them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from torch import Tensor

from orl import checkpoint, training
from orl.agent import Agent
from orl.agents import FlashSAC
from orl.checkpoint import CheckpointError
from orl.config import OnlineConfig
from orl.dataset import Dataset
from orl.evaluation import evaluate
from orl.execution import run_updates
from orl.networks import StackedMLP

MakeData = Callable[..., Dataset]
Settings = dict[str, Any]


@pytest.fixture
def kind(agent_case: Any) -> type[Agent]:
    return agent_case.kind  # type: ignore[no-any-return]


@pytest.fixture
def small(agent_case: Any) -> Settings:
    return agent_case.small  # type: ignore[no-any-return]


@pytest.fixture
def make_data(agent_case: Any) -> MakeData:
    """With contexts where the agent needs them."""
    return agent_case.make_data  # type: ignore[no-any-return]


def same(first: Agent, second: Agent) -> bool:
    """Bit-equal state: parameters, targets, moments, statistics, random numbers."""
    (mine, about_mine), (other, about_other) = first.state(), second.state()
    return mine.keys() == other.keys() and about_mine == about_other and all(mine[k].equal(other[k]) for k in mine)


def observations_of(agent: Agent, *shape: int) -> np.ndarray[Any, Any]:
    """Random observations (*shape, O)."""
    size = agent.spaces.observation_size
    return np.random.default_rng(0).normal(size=(*shape, size)).astype(np.float32)


def has_mlp(agent: Agent) -> bool:
    """Whether its policy is an MLP of `orl.networks`."""
    return isinstance(getattr(agent.networks.get("actor"), "network", None), StackedMLP)


def field_names(kind: type[Agent], *ends: str) -> list[str]:
    """The fields of the agent's configuration whose names end like one of these."""
    names = [field.name for field in dataclasses.fields(kind.Config) if field.name.endswith(ends)]
    assert names
    return names


def test_predict_of_one_observation_and_of_a_batch(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    agent = kind(make_data(), **small).fit(2)
    batch = observations_of(agent, 5)
    actions, state = agent.predict(batch, deterministic=True)
    assert (actions.shape, actions.dtype, state) == ((5, 2), np.float32, None)
    one, _ = agent.predict(batch[3], deterministic=True)
    assert one.shape == (2,)
    np.testing.assert_allclose(one, actions[3], atol=1e-6)
    assert agent.predict(batch)[0].shape == (5, 2)


@pytest.mark.parametrize("shape", [(4,), (5, 2), (1, 5, 3), ()])
def test_predict_refuses_observations_of_another_size(
    kind: type[Agent], small: Settings, make_data: MakeData, shape: tuple[int, ...]
) -> None:
    agent = kind(make_data(), **small)
    size = agent.spaces.observation_size
    with pytest.raises(ValueError, match=rf"observations have shape .*; give \({size},\) or \(n, {size}\)"):
        agent.predict(np.zeros(shape, np.float32))


def test_policies_refuse_what_is_no_observation_of_theirs(
    kind: type[Agent], small: Settings, make_data: MakeData
) -> None:
    agent = kind(make_data(), **small)
    size = agent.spaces.observation_size
    observation = np.ones(size, np.float32)
    observation[1] = np.nan
    for act in (lambda: agent.predict(observation, deterministic=True), lambda: agent.act(observation[None, None])):
        with pytest.raises(ValueError, match="observations hold NaN or infinity: nan"):
            act()
    for shape in ((2, 5, size), (1, 5, size + 1), (5, size)):
        with pytest.raises(ValueError, match=rf"observations have shape .*; give \(1, n, {size}\)"):
            agent.act(np.zeros(shape, np.float32))


def test_predict_refuses_a_population(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[0, 1], **small)
    with pytest.raises(ValueError, match=r"population of 2; predict with agent.learner\(k\)"):
        agent.predict(np.zeros(agent.spaces.observation_size, np.float32))
    observations = observations_of(agent, 2, 4)
    expected = agent.act(observations)
    for k in range(2):
        actions, _ = agent.learner(k).predict(observations[k], deterministic=True)
        np.testing.assert_allclose(actions, expected[k], atol=1e-6)


def test_actions_are_in_the_environment_s_unit_and_within_its_bounds(
    kind: type[Agent], small: Settings, make_data: MakeData
) -> None:
    """Bounds of Pendulum; a saturated policy reaches them exactly and never passes them."""
    agent = kind(make_data(action_size=1, action_low=-2.0, action_high=2.0), **small)
    observations = observations_of(agent, 60)

    def check_bounds() -> None:
        for deterministic in (True, False):
            actions = agent.predict(1_000 * observations, deterministic=deterministic)[0]
            assert actions.min() >= -2.0
            assert actions.max() <= 2.0

    check_bounds()
    if not has_mlp(agent):
        return
    layer: Any = agent.networks["actor"].get_submodule("network.layers")[-1]  # type: ignore[index]
    for sign in (-1.0, 1.0):
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.fill_(50 * sign)
        assert (agent.predict(observations, deterministic=True)[0] == 2 * sign).all()
        check_bounds()
    with torch.no_grad():
        layer.bias.fill_(float(np.arctanh(0.25)))
    np.testing.assert_allclose(agent.predict(observations, deterministic=True)[0], 0.5, rtol=1e-5)


def test_metrics_are_finite_with_one_value_per_learner(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[0, 1, 2], **small)
    seen: set[str] = set()
    for _ in range(4):
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        seen |= metrics.keys()
        for name, values in metrics.items():
            assert values.shape == (3,), name
            assert torch.isfinite(values).all(), name
            assert not values.requires_grad, name
    assert "actor_loss" in seen


def test_the_same_seed_is_bit_equal_and_another_is_not(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    first, again, other = (kind(make_data(), seed=seed, **small).fit(70) for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)


def test_global_random_state_is_neither_read_nor_changed(
    kind: type[Agent], small: Settings, make_data: MakeData
) -> None:
    torch.manual_seed(1)
    first = kind(make_data(), **small).fit(5)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    assert same(first, kind(make_data(), **small).fit(5))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("seed", [0, [4, 9], [1, 1]])
def test_save_and_load_give_the_same_agent(
    kind: type[Agent], small: Settings, make_data: MakeData, tmp_path: Path, seed: Any
) -> None:
    agent = kind(make_data(), seed=seed, **small).fit(3)
    agent.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert same(agent, loaded)
    assert (loaded.config, loaded.seeds, loaded.updates) == (agent.config, agent.seeds, 3)
    observations = observations_of(agent, agent.population, 4)
    assert np.array_equal(loaded.act(observations), agent.act(observations))
    assert np.array_equal(loaded.act(observations, deterministic=False), agent.act(observations, deterministic=False))


def test_an_untrained_agent_can_be_saved(
    kind: type[Agent], small: Settings, make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data()
    agent = kind(data, **small)
    agent.save(tmp_path)
    assert same(kind.load(tmp_path).fit(3, data), agent.fit(3))


def test_a_checkpoint_of_another_agent_is_refused(kind: type[Agent], every_agent: Any, tmp_path: Path) -> None:
    other = next(case for case in every_agent.values() if case.kind.algorithm() != kind.algorithm())
    other(other.make_data()).save(tmp_path)
    name = other.kind.algorithm()
    words = f"a checkpoint of {name}, not of {kind.algorithm()}; use {name}.load"
    with pytest.raises(CheckpointError, match=words):
        kind.load(tmp_path)


def test_only_the_same_training_may_save_to_a_folder_again(
    kind: type[Agent], small: Settings, make_data: MakeData, tmp_path: Path
) -> None:
    """What it goes on from, and what is done again from the start; not the same agent on other data."""
    data = make_data()
    agent = kind(data, **small).fit(3)
    agent.save(tmp_path)
    kind.load(tmp_path).fit(2, data).save(tmp_path)
    agent.learner(0).fit(3, data).save(tmp_path)
    assert checkpoint.numbers(tmp_path) == [6, 5]
    others = (
        kind(make_data(seed=1), **small),
        kind(data, seed=1, **small),
        kind(data, **small | dict.fromkeys(field_names(kind, "learning_rate"), 0.1)),
        kind(data.with_rewards(data.rewards + 1), **small),
    )
    for other in others:
        with pytest.raises(CheckpointError, match=r"checkpoint-5: of another training, .*; save to another folder"):
            other.fit(7).save(tmp_path)
    again = kind(data, **small).fit(3)
    with pytest.raises(CheckpointError, match=r"checkpoint-5: of the same training, but later; load it to go on"):
        again.save(tmp_path)
    assert checkpoint.numbers(tmp_path) == [6, 5]
    again.fit(3).save(tmp_path)
    assert same(kind.load(tmp_path), again)


def test_a_learner_of_a_population_is_the_same_training_as_alone(
    kind: type[Agent], small: Settings, make_data: MakeData, tmp_path: Path
) -> None:
    """So that learners trained apart, as in jobs, go on together in their folders, and one of them alone."""
    data = [make_data(seed=seed) for seed in (0, 1)]
    for k in range(2):
        kind(data[k], seed=k, **small).fit(2).save(tmp_path / f"seed-{k}")
    kind(data, seed=[0, 1], **small).fit(4).save(tmp_path)
    kind.load(tmp_path).fit(1, data).learner(1).save(tmp_path / "seed-1")
    assert checkpoint.numbers(tmp_path / "seed-1") == [5, 4]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_learner_that_diverged_is_named_and_neither_saved_nor_played(
    kind: type[Agent], small: Settings, make_data: MakeData, tmp_path: Path, value: float
) -> None:
    data = make_data()
    agent = kind(data, seed=[3, 4], **small).fit(2)
    with torch.no_grad():
        policy = agent.networks.get("actor", next(iter(agent.networks.values())))
        next(values for name, values in policy.named_parameters() if name.endswith("weight"))[1].fill_(value)
    said = r"seed 4: training diverged by update 2, .* are NaN or infinite; lower \w*learning_rate \(0\.0\d+\).*rewards"
    observations = observations_of(agent, 2, 5)
    uses: list[Callable[[], object]] = [
        lambda: agent.save(tmp_path / "run"),
        lambda: agent.act(observations),
        lambda: agent.learner(1).predict(observations[1]),
        lambda: agent.learner(1).predict(observations[1, 0], deterministic=True),
        lambda: evaluate(agent, "Pendulum-v1", episodes=1),
    ]
    for use in uses:
        with pytest.raises(ValueError, match=said):
            use()
    assert not (tmp_path / "run").exists()
    agent.learner(0).save(tmp_path / "run")
    with pytest.raises(ValueError, match=said.replace("update 2", "update 3")):
        agent.fit(1)


def test_unknown_overrides_name_the_near_field(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    (batch, *_), (layer, *_) = field_names(kind, "batch_size", "per_batch"), field_names(kind, "hidden_sizes", "width")
    typed, short = batch.replace("_", ""), layer[:-1]
    with pytest.raises(ValueError, match=f"'{typed}' is not a field of {kind.Config.__name__}; .* {batch}"):
        kind(make_data(), **{typed: 8})
    with pytest.raises(ValueError, match=f"did you mean {layer}"):
        kind(make_data(), **{short: (8,)})


@pytest.mark.parametrize("ends", [("batch_size", "per_batch"), ("learning_rate",)], ids=["batch", "learning_rate"])
def test_settings_below_zero_are_refused(
    kind: type[Agent], small: Settings, make_data: MakeData, ends: tuple[str, ...]
) -> None:
    for name in field_names(kind, *ends):
        with pytest.raises(ValueError, match=rf"{kind.Config.__name__}\.{name}=-1: must be above 0"):
            kind(make_data(), **small | {name: -1})


@pytest.mark.filterwarnings("ignore:no published target entropy")  # of None, for data of no published environment
def test_every_switch_runs_both_ways(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    switches: list[Settings] = []
    for name, hint in get_type_hints(kind.Config).items():
        if hint is bool:
            switches += [{name: True}, {name: False}]
        elif type(None) in get_args(hint):
            switches += [{name: None}, {name: 3 if int in get_args(hint) else 0.5}]
        elif get_origin(hint) is Literal and name != "execution":
            switches += [{name: choice} for choice in get_args(hint)]
    assert switches
    for switch in switches:
        agent = kind(make_data(), **small | switch).fit(4)
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert all(torch.isfinite(values).all() for values in metrics.values()), switch


def test_hidden_rewards_leak_loudly(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    sparse = make_data().with_labels(0.5)
    with pytest.raises(ValueError, match="30 of 60 rewards are hidden") as error:
        kind(sparse, **small)
    for remedy in ("labelled()", "fill(0.0)", "fill('mean')", "RewardModel"):
        assert remedy in str(error.value)
    for data in (sparse.fill(0.0), sparse.fill("mean")):
        kind(data, **small).fit(2)
    if kind is FlashSAC:  # it scales rewards by the returns of episodes
        with pytest.raises(ValueError, match="these rows form none; fill hidden rewards in"):
            kind(sparse.labelled(), **small)
    else:
        kind(sparse.labelled(), **small).fit(2)


def test_data_of_another_size_are_refused(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    agent = kind(make_data(), **small)
    for other in (make_data(observation_size=4), make_data(action_size=1), make_data(action_low=-3, action_high=3)):
        with pytest.raises(ValueError, match="the agent"):
            agent.fit(1, other)
    assert agent.updates == 0
    with pytest.raises(ValueError, match="updates=0: give a whole number, at least 1"):
        agent.fit(0)


def test_no_gradient_reaches_a_target(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    agent = kind(make_data(), **small).fit(5)
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


def assert_close(first: Mapping[str, Tensor], second: Mapping[str, Tensor], tolerance: float = 1e-10) -> None:
    assert first.keys() == second.keys()
    for name, values in first.items():
        if name == "collector/environments":  # texts with numbers that were computed from actions in float32
            continue
        if not values.is_floating_point():
            assert values.equal(second[name]), name
        else:
            torch.testing.assert_close(
                values,
                second[name],
                rtol=tolerance,
                atol=tolerance,
                equal_nan=name.startswith("collector/"),
                msg=lambda text, name=name: f"{name}: {text}",
            )


def test_the_population_law(preset_case: Any, float64: None) -> None:
    """Learner k of a population equals the same learner alone: parameters, targets, moments, random numbers.

    Whatever rewards, rows and contexts the others have.
    """
    datasets, seeds = variants(preset_case.make_data), [5, 6, 5]
    together = preset_case(datasets, seed=seeds).fit(20)
    tensors = together.state()[0]
    assert any(name.startswith("optimizer") for name in tensors)
    for k, (data, seed) in enumerate(zip(datasets, seeds, strict=True)):
        alone = preset_case(data, seed=seed).fit(20)
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, alone.state()[0])


def test_a_learner_taken_out_continues_as_in_the_population(
    kind: type[Agent], small: Settings, make_data: MakeData, float64: None
) -> None:
    datasets = variants(make_data)
    together = kind(datasets, seed=[5, 6, 7], **small).fit(11)
    taken = [together.learner(k).fit(9, data) for k, data in enumerate(datasets)]
    tensors = together.fit(9).state()[0]
    for k, learner in enumerate(taken):
        assert learner.updates == 20
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, learner.state()[0])


def test_learners_with_one_seed_and_one_dataset_are_equal(
    kind: type[Agent], small: Settings, make_data: MakeData
) -> None:
    """To rounding; bit for bit where the policy is an MLP."""
    agent = kind(make_data(), seed=[3, 3], **small).fit(10)
    if has_mlp(agent):
        assert all(torch.equal(values[0], values[1]) for values in agent.state()[0].values())
    tensors = agent.state()[0]
    assert_close(*({name: values[k] for name, values in tensors.items()} for k in range(2)), 1e-6)


# Exact resume.


SCRIPT = """
import sys, numpy as np, torch
torch.set_num_threads(1)
from orl import agents
from orl.dataset import Dataset
for word in sys.argv[1:]:
    name, folder, updates = word.split(",")
    data = Dataset.from_arrays(**np.load(folder + "/data.npz"))
    getattr(agents, name).load(folder + "/run").fit(int(updates), data).save(folder + "/resumed")
"""
HALVES = (37, 64)  # updates: inside a block of random numbers, and at its end
KEYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "contexts", "values")


@pytest.fixture(scope="module")
def resumed(every_agent: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`NAME-UPDATES/resumed`: every agent after N updates, saved, loaded in another process, and N more."""
    folder, words = tmp_path_factory.mktemp("resumed"), []
    for name, case in every_agent.items():
        data = case.make_data()
        arrays = {key: getattr(data, key) for key in KEYS if getattr(data, key) is not None}
        for updates in HALVES:
            run = folder / f"{name}-{updates}"
            case(data, seed=[0, 5]).fit(updates).save(run / "run")
            np.savez(run / "data.npz", **arrays)
            words.append(f"{name},{run},{updates}")
    subprocess.run([sys.executable, "-c", SCRIPT, *words], check=True, timeout=300)
    return folder


@pytest.mark.parametrize("updates", HALVES)
def test_a_run_resumes_exactly_in_another_process(
    kind: type[Agent], small: Settings, make_data: MakeData, resumed: Path, updates: int
) -> None:
    """2N updates equal N, saved, loaded elsewhere, and N more."""
    whole = kind(make_data(), seed=[0, 5], **small).fit(2 * updates)
    assert same(whole, kind.load(resumed / f"{kind.__name__}-{updates}" / "resumed"))


# Agents that also learn in environments.

SEEDS = [0, 3, 5]
STEPS = 40


def everything(agent: Agent) -> dict[str, Tensor]:
    """Learners, buffer, running episodes, running phase."""
    return agent.state()[0] | agent.online_state()[0]


def assert_same(first: Agent, second: Agent) -> None:
    """Bit for bit, with buffer and environments."""
    assert same(first, second)
    (mine, about_mine), (other, about_other) = first.online_state(), second.online_state()
    assert about_mine == about_other
    assert mine.keys() == other.keys()
    for name, values in mine.items():
        assert values.numpy().tobytes() == other[name].numpy().tobytes(), name


def test_the_population_law_online(acting_case: Any, stroll: str, float64: None) -> None:
    """Learner k acts, stores and learns as it would alone."""
    together = acting_case(stroll, seed=SEEDS).learn(STEPS)
    assert together.updates > 0
    tensors = everything(together)
    for k, seed in enumerate(SEEDS):
        alone = acting_case(stroll, seed=seed).learn(STEPS)
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, everything(alone), 1e-9)
    returns = tensors["collector/recent_returns"]
    assert not torch.equal(returns[0].nan_to_num(), returns[1].nan_to_num())


def test_the_population_law_from_data_to_an_environment(acting_case: Any, stroll: str, float64: None) -> None:
    data = acting_case.make_data(rows=40, action_size=1, action_low=-2, action_high=2)
    together = acting_case(data, seed=SEEDS, buffer_size=100).fit(6).learn(30, env=stroll)
    counts = together.updates, together.steps, len(together.replay_buffer or ())
    assert counts == (6 + int(30 * together.config.utd_ratio), 30, 70)  # no random steps after data
    for k, seed in enumerate(SEEDS):
        alone = acting_case(data, seed=seed, buffer_size=100).fit(6).learn(30, env=stroll)
        assert_close(
            {name: values[k : k + 1] for name, values in everything(together).items()}, everything(alone), 1e-9
        )


def test_training_in_parts_is_training_in_one(acting_case: Any, stroll: str, tmp_path: Path) -> None:
    """Bit for bit: stopped in the middle of episodes, saved and loaded on the way."""
    whole, parts = acting_case(stroll, seed=[3, 4]).learn(STEPS), acting_case(stroll, seed=[3, 4])
    for steps in (15, 1, 12):
        parts.learn(steps)
    parts.save(tmp_path)
    resumed = acting_case.kind.load(tmp_path)
    assert (resumed.steps, resumed.updates) == (parts.steps, parts.updates)
    assert_same(parts, resumed)
    assert_same(whole, parts.learn(STEPS - 28))
    assert_same(whole, resumed.learn(STEPS - 28))


def test_metrics_and_actions_while_acting(acting_case: Any, stroll: str) -> None:
    agent = acting_case(stroll, seed=[0, 1])
    agent.connect()
    for moment in training.online(agent, 25):
        for name, values in moment.metrics.items():
            assert values.shape == (2,), name
            assert values.isfinite().all(), name
            assert not values.requires_grad, name
    stored = agent.replay_buffer.gather(torch.arange(25).expand(2, -1))
    assert stored.actions.abs().max() <= 1.0
    one = agent.learner(0)
    assert one.predict(np.zeros(3))[0].shape == (1,)
    assert np.abs(one.predict(np.zeros((500, 3)))[0]).max() <= 2.0


def test_evaluation_between_changes_nothing(acting_case: Any, stroll: str) -> None:
    """Nor is the global random state read or changed."""
    torch.manual_seed(1)
    plain, watched = acting_case(stroll, seed=[0, 1]).learn(STEPS), acting_case(stroll, seed=[0, 1])
    watched.connect()
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    for i, _ in enumerate(training.online(watched, STEPS)):
        if i % 7 == 0:
            evaluate(watched, stroll, episodes=1)
    assert_same(plain, watched)
    assert torch.equal(torch.random.get_rng_state(), state)


# Executions: graphs learn what eager updates learn, bit for bit on a CPU.


@pytest.mark.parametrize("execution", ["graph", "auto"])
def test_graphs_learn_what_eager_updates_learn(preset_case: Any, execution: str) -> None:
    """Of a population, in blocks of several sizes, and on other data."""
    first, second = (preset_case.make_data(rows=rows, seed=rows) for rows in (60, 80))
    eager, graph = (
        preset_case(first, seed=[5, 6], execution=way, device="cpu").fit(21).fit(1).fit(9, second)
        for way in ("eager", execution)
    )
    assert graph.run.makes_graphs
    assert graph.run.graphs
    mine, other = eager.state()[0], graph.state()[0]
    assert mine.keys() == other.keys()
    assert [name for name, values in mine.items() if not values.equal(other[name])] == []


def test_training_goes_on_from_eager_updates_to_graphs_and_back(acting_case: Any, stroll: str, tmp_path: Path) -> None:
    """Through checkpoints, with the phases that are due on the way."""
    whole = acting_case(stroll, seed=[3, 4], execution="eager", device="cpu").learn(STEPS)
    agent = acting_case(stroll, seed=[3, 4], execution="eager", device="cpu").learn(16)
    for steps, execution in ((13, "graph"), (STEPS - 29, "eager")):
        agent.save(tmp_path)
        agent = acting_case.kind.load(tmp_path, device="cpu")
        agent.run = run_updates(execution, agent.device)  # type: ignore[arg-type]
        agent.learn(steps)
        assert execution == "eager" or agent.run.graphs
    assert_same(whole, agent)


def test_agents_of_recorded_data_alone_do_not_act(kind: type[Agent], small: Settings, make_data: MakeData) -> None:
    if not issubclass(kind.Config, OnlineConfig):
        with pytest.raises(ValueError, match=rf"{kind.__name__} learns from recorded data; use fit\(\)"):
            kind(make_data(), **small).learn(5, env="Pendulum-v1")
