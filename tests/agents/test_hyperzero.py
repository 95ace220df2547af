"""HyperZero and the concatenating baseline: what both promise, and the equations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import onnxruntime
import pytest
import torch

import orl.envs
from orl.agents import HyperZero
from orl.agents.hyperzero.baselines import CONCATENATION_PRESET, UVFA_PRESET, ContextualCloning
from orl.agents.hyperzero.context_batches import ContextSampler
from orl.agents.hyperzero.hypernetwork import ContextEncoding
from orl.agents.hyperzero.hyperzero import HYPERZERO_PAPER_PRESET, HYPERZERO_PRESET, ContextualAgent
from orl.checkpoint import CheckpointError
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset

assert orl.envs
SPACE = ContextSpace(
    (ContextVariable("mass", "kg", 0.5, 2.0, 1.0, "log"), ContextVariable("speed", "m/s", -1.0, 3.0, 1.0))
)
SMALL: dict[str, Any] = {
    "contexts": SPACE,
    "embedding_sizes": (8, 16),
    "embedding_blocks": 1,
    "hidden_sizes": (16,),
    "contexts_per_batch": 4,
    "rows_per_context": 4,
}
MakeData = Callable[..., Dataset]
KINDS = [(HyperZero, HYPERZERO_PRESET), (HyperZero, HYPERZERO_PAPER_PRESET), (ContextualCloning, UVFA_PRESET)]
both = pytest.mark.parametrize(("kind", "preset"), KINDS, ids=["hyperzero", "paper", "uvfa"])


@pytest.fixture
def make_tasks(make_tasks: MakeData) -> MakeData:
    """In contexts of SPACE."""
    return functools.partial(make_tasks, space=SPACE)


def with_context(observations: Any, context: Any) -> np.ndarray[Any, Any]:
    """What an environment of `context_mode="concat"` shows."""
    normalized = np.broadcast_to(SPACE.normalize(context), (len(observations), 2))
    return np.concatenate([observations, normalized], axis=1).astype(np.float32)


@both
def test_a_policy_by_itself_does_what_the_agent_does(
    kind: type[ContextualAgent], preset: Any, make_tasks: MakeData
) -> None:
    """In the environment's units, for contexts that no row has, alone or among others."""
    agent = kind(make_tasks(action_low=-2.0, action_high=2.0), preset, **SMALL).fit(20)
    observations = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    contexts = [{"mass": 0.7, "speed": 2.0}, {"mass": 1.9, "speed": -1.0}]
    shown = [with_context(observations, list(context.values())) for context in contexts]
    together = agent.predict(np.concatenate(shown))[0]
    for i, context in enumerate(contexts):
        policy = agent.policy(context)
        actions = policy(torch.from_numpy(observations)).detach().numpy()
        np.testing.assert_allclose(actions, agent.predict(shown[i])[0], atol=1e-5)
        np.testing.assert_allclose(actions, together[6 * i : 6 * i + 6], atol=1e-5)
        np.testing.assert_allclose(actions[0], agent.predict(shown[i][0])[0], atol=1e-5)
    assert np.abs(together[:6] - together[6:]).max() > 1e-4
    assert np.abs(together).max() <= 2.0


@both
def test_a_policy_by_itself_is_exact_where_a_feature_hardly_varies(
    kind: type[ContextualAgent], preset: Any, make_tasks: MakeData
) -> None:
    data = make_tasks()
    data.observations[:, 0] = data.next_observations[:, 0] = 10_000.0
    agent = kind(data, preset, **SMALL).fit(20)
    observations = data.observations[:6]
    actions = agent.policy([0.7, 2.0])(torch.from_numpy(observations)).detach().numpy()
    np.testing.assert_allclose(actions, agent.predict(with_context(observations, [0.7, 2.0]))[0], atol=1e-5)


@both
def test_weights_that_are_changed_in_place_act(kind: type[ContextualAgent], preset: Any, make_tasks: MakeData) -> None:
    agent, other = (kind(make_tasks(), preset, seed=seed, **SMALL).fit(3) for seed in (0, 1))
    shown = with_context(np.zeros((1, 3)), [0.7, 2.0])
    before = agent.predict(shown)[0]
    agent.model.load_state_dict(other.model.state_dict())
    assert not np.array_equal(agent.predict(shown)[0], before)
    np.testing.assert_array_equal(agent.predict(shown)[0], other.predict(shown)[0])


@both
def test_policies_follow_training(kind: type[ContextualAgent], preset: Any, make_tasks: MakeData) -> None:
    agent = kind(make_tasks(), preset, **SMALL)
    observations = with_context(np.ones((2, 3)), [1.0, 1.0])
    before = agent.predict(observations)[0]
    after = agent.fit(5).predict(observations)[0]
    assert np.abs(after - before).max() > 1e-5


def test_a_policy_can_be_exported(make_tasks: MakeData) -> None:
    policy = HyperZero(make_tasks(), **SMALL).fit(3).policy([1.0, 1.0])
    observations = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(policy, (observations,)).module()
    torch.testing.assert_close(exported(observations), policy(observations))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # of torch about itself
def test_a_policy_can_be_written_as_onnx(make_tasks: MakeData, tmp_path: Path) -> None:
    policy = HyperZero(make_tasks(), **SMALL).fit(3).policy([1.0, 1.0])
    observations = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "policy.onnx"
    torch.onnx.export(policy, (observations[:2],), path, dynamo=True, dynamic_shapes=({0: "n"},), verbose=False)
    session = onnxruntime.InferenceSession(path)
    (actions,) = session.run(None, {session.get_inputs()[0].name: observations.numpy()})
    np.testing.assert_allclose(actions, policy(observations).detach(), rtol=1e-5, atol=1e-6)


def test_initially_every_context_has_the_same_network_of_ordinary_size(make_tasks: MakeData) -> None:
    agent = HyperZero(make_tasks(), contexts=SPACE)
    embedded = agent.embed(torch.tensor([[[-1.0, -1.0], [0.0, 1.0], [5.0, 9.0]]]))
    for part, inputs in (("policy", 3), ("value", 5)):
        for (weight, bias), fan_in in zip(agent.model[part](embedded), (inputs, 256), strict=True):
            assert weight.shape[2] == fan_in
            assert weight.abs().max() <= fan_in**-0.5
            assert weight.std().item() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)
            assert bias.abs().max() <= fan_in**-0.5
            assert (weight == weight[:, :1]).all()
            assert (bias == bias[:, :1]).all()


def test_constant_norm_hides_the_size_of_a_context_and_raw_does_not(make_tasks: MakeData) -> None:
    grid = SPACE.grid(5)
    normalized = torch.as_tensor(SPACE.normalize(grid)[None], dtype=torch.float32)
    encoded = ContextEncoding(SPACE, "constant_norm", torch.device("cpu"))(normalized)
    torch.testing.assert_close(encoded.square().sum(-1), torch.full((1, 25), 2.0))
    raw = ContextEncoding(SPACE, "raw", torch.device("cpu"))(normalized)
    np.testing.assert_allclose(raw[0].numpy(), grid, atol=1e-5)


@pytest.mark.parametrize(("kind", "preset"), [(HyperZero, HYPERZERO_PRESET), (ContextualCloning, CONCATENATION_PRESET)])
def test_it_learns_contexts_that_it_never_saw(kind: type[ContextualAgent], preset: Any) -> None:
    """The expert of gain c does a = 0.4 c s; half of the grid is held out."""
    space = ContextSpace((ContextVariable("gain", "x", 0.5, 2.0, 1.0, "log"),))
    generator = np.random.default_rng(0)
    contexts = space.grid(9)[::2].repeat(100, axis=0)
    observations = generator.uniform(-1, 1, (len(contexts), 1))
    actions = 0.4 * contexts * observations
    ends = np.ones(len(contexts))
    data = Dataset.from_arrays(
        observations, actions, 0 * ends, observations, ends, 0 * ends, contexts=contexts, values=actions[:, 0]
    )
    small: dict[str, Any] = SMALL | {"contexts": space, "hidden_sizes": (32,), "rows_per_context": 16}
    agent = kind(data, preset, **small | {"learning_rate": 3e-3}).fit(250)
    unseen = torch.linspace(-1, 1, 50).unsqueeze(1)
    for (gain,) in space.grid(9)[1::2]:
        expert = 0.4 * gain * unseen
        assert (agent.policy({"gain": gain})(unseen) - expert).square().mean() < 0.01 * expert.square().mean()


@both
def test_rows_of_a_context_together_or_one_by_one(
    kind: type[ContextualAgent], preset: Any, make_tasks: MakeData, float64: None
) -> None:
    """Generating a context's weights once for its rows gives the gradients of generating them for every row."""
    agent = kind(make_tasks(), preset, **SMALL).fit(3)
    single = kind(make_tasks(), preset, **SMALL | {"contexts_per_batch": 16, "rows_per_context": 1}).fit(1)
    single.model.load_state_dict(agent.model.state_dict())
    batch = agent.sample(agent.noise.next())
    together, one_by_one = agent.model_gradients(batch), single.model_gradients(batch)
    for first, second in zip(together[0], one_by_one[0], strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)
    assert together[1].keys() == {"actor_loss", "value_loss", "td_loss"}
    for name, metric in together[1].items():
        torch.testing.assert_close(metric, one_by_one[1][name])


@both
def test_values_move_the_policy_through_the_embedding_alone(
    kind: type[ContextualAgent], preset: Any, make_tasks: MakeData
) -> None:
    """And nothing beyond a termination counts: neither the value there nor the state."""
    agent = kind(make_tasks(), preset, **SMALL).fit(3)
    batch = agent.sample(agent.noise.next())
    assert batch.values is not None
    embedded = agent.embed(batch.observations[:, ::4, 3:])

    def errors(terminated: float, moved: float = 0.0) -> dict[str, torch.Tensor]:
        changed = batch._replace(
            terminated=torch.full_like(batch.terminated, terminated), next_observations=batch.next_observations + moved
        )
        return agent.value_errors(changed, agent.model["policy"](embedded), agent.model["value"](embedded))

    td_loss = errors(0.0)["td_loss"].sum()
    reached = torch.autograd.grad(td_loss, tuple(agent.model["policy"].parameters()), allow_unused=True)
    assert all(gradient is None for gradient in reached)
    reached = torch.autograd.grad(errors(0.0)["td_loss"].sum(), tuple(agent.model["value"].parameters()))
    assert any(gradient.abs().max() > 0 for gradient in reached)
    assert (errors(0.0)["td_loss"] != errors(0.0, moved=1.0)["td_loss"]).any()
    assert torch.equal(errors(1.0)["td_loss"], errors(1.0, moved=1.0)["td_loss"])
    expected = ((batch.values - batch.rewards) / agent.buffers["value_std"]).square()
    torch.testing.assert_close(errors(1.0)["td_loss"], expected)


def test_standardised_values_do_not_depend_on_the_unit_of_rewards(make_tasks: MakeData, float64: None) -> None:
    data = make_tasks()
    assert data.values is not None
    scaled = dataclasses.replace(data, rewards=128 * data.rewards, values=128 * data.values)  # exact in float32
    agents = [HyperZero(each, **SMALL).fit(10) for each in (data, scaled)]
    losses = [agent.gradient_steps(*next(agent.batches(1))) for agent in agents]
    for name in ("actor_loss", "value_loss", "td_loss"):
        torch.testing.assert_close(losses[0][name], losses[1][name], rtol=1e-2, atol=0)  # std + 1e-3


@both
@pytest.mark.parametrize("seed", [0, [4, 9]])
def test_save_and_load_give_the_same_agent(
    kind: type[ContextualAgent], preset: Any, make_tasks: MakeData, tmp_path: Path, seed: Any
) -> None:
    data = make_tasks()
    agent = kind(data, preset, seed=seed, **SMALL).fit(3)
    agent.save(tmp_path)
    loaded = kind.load(tmp_path)
    assert (loaded.config, loaded.space) == (agent.config, SPACE)
    (mine, about_mine), (theirs, about_theirs) = agent.fit(3).state(), loaded.fit(3, data).state()
    assert about_mine == about_theirs
    assert all(mine[name].equal(theirs[name]) for name in mine)


def test_no_random_state_of_the_process_is_read_or_changed(make_tasks: MakeData) -> None:
    agents = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        agents.append(HyperZero(make_tasks(), **SMALL).fit(3))
        agents[-1].policy([1.0, 1.0])
        assert torch.equal(torch.random.get_rng_state(), state)
    first, second = (agent.state()[0] for agent in agents)
    assert all(first[name].equal(second[name]) for name in first)


def test_every_context_is_drawn_equally_often_and_with_its_own_rows() -> None:
    contexts = np.array([3.0, 1.0, 3.0, 3.0, 2.0, 3.0], np.float32)[:, None]
    zero = np.zeros(6)
    data = Dataset.from_arrays(
        zero[:, None], zero[:, None], zero, zero[:, None], zero, zero, contexts=contexts, values=np.arange(6)
    )
    sampler = ContextSampler([data, data.with_rewards(zero + 1)], torch.device("cpu"))
    assert len(sampler.values) == 6  # what learners share is stored once
    uniform = torch.rand(2, 9, 1 + 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows, values = sampler.sample(uniform[..., 0], uniform[..., 1:])
    assert torch.equal(rows, values.long())
    drawn = torch.from_numpy(contexts[:, 0])[rows].view(2, 9, 50)
    assert (drawn == drawn[:, :, :1]).all()
    assert drawn[:, :, 0].tolist() == [[1, 1, 1, 2, 2, 2, 3, 3, 3]] * 2
    assert set(rows[:, 300:].flatten().tolist()) == {0, 2, 3, 5}


def test_every_switch_runs_both_ways(make_tasks: MakeData) -> None:
    data = make_tasks()
    without = dataclasses.replace(data, values=None)
    switches: list[dict[str, Any]] = [{"gradient_clip": None}, {"gradient_clip": 0.1}, {"encoding": "raw"}]
    switches += [{name: False} for name in ("normalize_embedding", "standardize_values", "normalize_observations")]
    switches += [{"initialisation": "paper"}, {"td_weight": 0.0}, {"value_weight": 0.0}, {"hidden_sizes": (8, 8)}]
    for switch in switches:
        agent = HyperZero(data, **SMALL | switch).fit(2)
        metrics = agent.gradient_steps(*next(agent.batches(1)))
        assert all(torch.isfinite(values).all() for values in metrics.values()), switch
    agent = HyperZero(without, **SMALL, value_weight=0.0, td_weight=0.0).fit(2)
    cloned = agent.gradient_steps(*next(agent.batches(1)))
    assert cloned.keys() == {"actor_loss"}


def test_it_acts_in_an_environment_that_shows_its_context() -> None:
    keywords: dict[str, Any] = {"contexts": {"mass": (0.5, 2.0)}, "context_mode": "concat"}
    environment = gymnasium.make("orl/ContextPendulum-v0", **keywords)
    space = environment.get_wrapper_attr("context_space")
    agent = HyperZero(environment, **SMALL | {"contexts": space})
    observation, _ = environment.reset(seed=0, options={"context": {"mass": 1.7}})
    action, _ = agent.predict(observation)
    expected = agent.policy({"mass": 1.7})(torch.from_numpy(observation[:3]))
    np.testing.assert_allclose(action, expected.detach().numpy(), atol=1e-5)
    assert environment.action_space.contains(action)


# Bad input.


def test_an_environment_with_another_context_space_is_refused(tmp_path: Path, make_tasks: MakeData) -> None:
    environment = gymnasium.make("orl/ContextPendulum-v0", contexts=("mass",), context_mode="concat")
    with pytest.raises(ValueError, match=r"the environment's contexts are .*, the agent's "):
        HyperZero(environment, **SMALL)
    HyperZero(make_tasks(), **SMALL).save(tmp_path)
    with pytest.raises(ValueError, match=r"the environment's contexts are .*, the agent's "):
        HyperZero.load(tmp_path, env=environment)
    with pytest.raises(CheckpointError, match="a checkpoint of HyperZero, not of ContextualCloning"):
        ContextualCloning.load(tmp_path)


def test_data_that_lack_something_are_refused(make_tasks: MakeData) -> None:
    data = make_tasks()
    for changes, words in (
        ({"contexts": None}, r"arrays: no contexts; give Dataset.from_arrays one for each transition, contexts="),
        ({"values": None}, r"arrays: no values; .* or set value_weight=0 and td_weight=0"),
        ({"contexts": np.full((60, 2), 5.0, np.float32)}, r"context mass=5 is outside \[0.5, 2\] kg"),
        ({"contexts": np.ones((60, 1), np.float32)}, r"contexts have shape \(60, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            HyperZero(dataclasses.replace(data, **changes), **SMALL)
    with pytest.raises(ValueError, match=r"HyperZeroConfig.contexts is empty; give contexts=space"):
        HyperZero(data)
    with pytest.raises(ValueError, match="sizes are"):
        HyperZero(data, **SMALL).fit(1, make_tasks(observation_size=4))
    with pytest.raises(ValueError, match="30 of 60 rewards are hidden"):
        HyperZero(data.with_labels(0.5), **SMALL)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ({"mass": 1.0}, "lacks speed"),
        ({"mass": 1.0, "speed": 1.0, "grip": 1.0}, "unknown context 'grip'"),
        (
            {"mass": 2.5, "speed": 1.0},
            r"mass=2.5 is outside \[0.5, 2\] kg; it is taken with allow_extrapolation",
        ),
        ([1.0, float("nan")], "speed=nan is not finite"),
        ([1.0], r"shape \(1,\)"),
    ],
)
def test_contexts_that_have_no_policy(context: Any, words: str, make_tasks: MakeData) -> None:
    agent = HyperZero(make_tasks(), **SMALL)
    with pytest.raises(ValueError, match=words):
        agent.policy(context)


def test_extrapolation_must_be_allowed_and_a_population_has_no_policy(make_tasks: MakeData) -> None:
    agent = HyperZero(make_tasks(), seed=[0, 1], **SMALL)
    policy = agent.learner(1).policy({"mass": 2.5, "speed": 1.0}, allow_extrapolation=True)
    assert torch.isfinite(policy(torch.zeros(3))).all()
    with pytest.raises(ValueError, match=r"population of 2; make policies with agent.learner\(k\)"):
        agent.policy([1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("learning_rate", -1.0, "must be above 0"),
        ("rows_per_context", 0, "must be above 0"),
        ("gradient_clip", 0.0, "must be above 0"),
        ("discount", 1.5, r"must lie in \[0, 1\]"),
        ("td_weight", -0.1, "give 0 or more"),
        ("hidden_sizes", (), "at least one number"),
    ],
)
def test_settings_that_cannot_be(name: str, value: Any, words: str, make_tasks: MakeData) -> None:
    with pytest.raises(ValueError, match=words):
        HyperZero(make_tasks(), **SMALL | {name: value})
