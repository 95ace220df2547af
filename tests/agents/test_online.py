"""Agents that act, and modes of phases: the population law, exact resume, evaluation that changes nothing."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from orl import training
from orl.agent import Agent
from orl.agents import IQL, SAC, SPEQ
from orl.agents.critic_bias import critic_bias
from orl.dataset import Dataset
from orl.evaluation import evaluate

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {
    "hidden_sizes": (8, 8), "batch_size": 8, "target_entropy": -1.0, "learning_starts": 10, "learning_rate": 3e-3,
    "tau": 0.05, "buffer_size": 33,
}  # fmt: skip
PHASES: dict[str, Any] = {"period": 15, "phase_updates": 12, "check_every": 2, "dropout_rate": 0.1, **SMALL}
AUTOMATIC: dict[str, Any] = {"patience": 3, "tolerance": 0.02, "held_out": 0.3, "smoothing": 2, **PHASES}
VARIANTS: dict[str, tuple[type[SAC | SPEQ], dict[str, Any]]] = {
    "sac": (SAC, SMALL),
    "redq": (SAC, {"num_critics": 4, "actor_q": "mean", "utd_ratio": 2, "policy_delay": 2, **SMALL}),
    "droq": (SAC, {"layer_norm": True, "dropout_rate": 0.2, "actor_q": "mean", "utd_ratio": 1.5, **SMALL}),
    "speq": (SPEQ, PHASES),
    "speq-td-length": (SPEQ, {"length": "td_error", **AUTOMATIC}),
    "speq-value-length": (SPEQ, {**AUTOMATIC, "length": "policy_value", "restore_best": False, "tolerance": 0.0}),
    "speq-new-data": (SPEQ, {"timing": "new_data", "new_share": 0.6, "length": "td_error", **AUTOMATIC}),
    "speq-td-timing": (SPEQ, {"timing": "td_error", "error_ratio": 0.98, **AUTOMATIC}),
    "speq-td-both": (SPEQ, {"timing": "td_error", "error_ratio": 0.98, "length": "td_error", **AUTOMATIC}),
}
# SAC and REDQ as they are: in the contract test
every_mode = pytest.mark.parametrize("variant", [name for name in VARIANTS if name not in ("sac", "redq")])
SEEDS = [0, 3, 5]
STEPS = 40


def make(variant: str, source: Any, seed: Any = 0) -> SAC | SPEQ:
    kind, settings = VARIANTS[variant]
    return kind(source, seed=seed, **settings)


def everything(agent: Agent) -> dict[str, Tensor]:
    """Learners, buffer, running episodes, running phase."""
    return agent.state()[0] | agent.online_state()[0]


def assert_close(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
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
                rtol=1e-9,
                atol=1e-9,
                equal_nan=True,
                msg=lambda text, name=name: f"{name}: {text}",
            )


def assert_same(first: Agent, second: Agent) -> None:
    """Bit for bit."""
    mine, other = everything(first), everything(second)
    assert mine.keys() == other.keys()
    for name, values in mine.items():
        assert values.dtype == other[name].dtype, name
        assert values.numpy().tobytes() == other[name].numpy().tobytes(), name
    assert first.state()[1] == second.state()[1]
    assert first.online_state()[1] == second.online_state()[1]


# The population law.


@every_mode
def test_the_population_law_online(variant: str, stroll: str, float64: None) -> None:
    """Learner k acts, stores, learns and stops as it would alone."""
    together = make(variant, stroll, SEEDS).learn(STEPS)
    tensors = everything(together)
    assert any(name.startswith("optimizer") for name in tensors)
    for k, seed in enumerate(SEEDS):
        alone = make(variant, stroll, seed).learn(STEPS)
        assert_close({name: values[k : k + 1] for name, values in tensors.items()}, everything(alone))
    if variant.startswith("speq"):  # in all of these but two learners stop at different times, or take no part
        counts = tensors["stabilization_updates"].tolist()
        assert (len(set(counts)) == 1) == (variant in ("speq", "speq-new-data")), counts
        assert counts[0] == 24 or variant != "speq"
        assert counts[0] < 24 or variant != "speq-new-data"
    returns = tensors["collector/recent_returns"]
    assert not torch.equal(returns[0].nan_to_num(), returns[1].nan_to_num())


@pytest.mark.parametrize("variant", ["droq", "speq-td-length"])
def test_the_law_from_data_to_an_environment_with_several_copies(
    variant: str, stroll: str, make_data: MakeData, float64: None
) -> None:
    data = [make_data(rows=40, action_size=1, action_low=-2, action_high=2, seed=seed) for seed in SEEDS]

    def copies(population: int) -> Any:
        keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
        return gymnasium.make_vec(stroll, 2 * population, "sync", vector_kwargs=keywords)

    together = everything(make(variant, data, SEEDS).fit(6).learn(50, env=copies(3)))
    for k, seed in enumerate(SEEDS):
        alone = make(variant, data[k], seed).fit(6).learn(50, env=copies(1))
        assert (alone.updates, alone.steps) == (6 + int(50 * alone.config.utd_ratio), 50)  # no random steps after data
        assert_close({name: values[k : k + 1] for name, values in together.items()}, everything(alone))


# Exact resume.


@every_mode
def test_training_in_parts_is_training_in_one(variant: str, stroll: str, tmp_path: Path) -> None:
    """Bit for bit: stopped before a phase, after it and in the middle of episodes; saved and loaded on the way."""
    whole, parts = make(variant, stroll, [3, 4]).learn(STEPS), make(variant, stroll, [3, 4])
    for steps in (15, 1, 12):
        parts.learn(steps)
    parts.save(tmp_path)
    resumed = type(parts).load(tmp_path)
    assert (resumed.steps, resumed.updates) == (parts.steps, parts.updates)
    assert_same(parts, resumed)
    assert_same(whole, parts.learn(STEPS - 28))
    assert_same(whole, resumed.learn(STEPS - 28))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("speq")])
@pytest.mark.parametrize(("seed", "pieces"), [(3, 1), ([3, 4], 2)], ids=["one", "population"])
def test_a_run_saved_in_the_middle_of_a_phase_continues_bit_for_bit(
    variant: str, stroll: str, tmp_path: Path, seed: Any, pieces: int
) -> None:
    whole, cut = make(variant, stroll, seed).learn(STEPS), make(variant, stroll, seed)
    cut.connect()
    assert isinstance(cut, SPEQ)
    for _ in training.online(cut, STEPS):
        if cut.phases.running is not None and cut.phases.running.updates == 2 * pieces:
            break
    assert cut.phases.running is not None
    cut.save(tmp_path)
    resumed = SPEQ.load(tmp_path)
    assert_same(cut, resumed)  # also before its environments are made: it could be saved again
    resumed.learn(STEPS - resumed.steps)
    assert_same(whole, resumed)


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
from orl import agents
for word in sys.argv[1:]:
    name, folder, steps = word.split(",")
    agent = getattr(agents, name).load(folder)
    agent.learn(int(steps) - agent.steps).save(folder + "-resumed")
"""


def test_runs_continue_bit_for_bit_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real environments: Hopper falls every twenty steps, Pendulum stops within its episode, SPEQ in a phase."""
    monkeypatch.chdir(tmp_path)  # MuJoCo's log
    plans = [
        ("droq", "Hopper-v5", [0, 5], 31),
        ("speq-td-length", "Hopper-v5", [0, 5], 15),
        ("sac", "Pendulum-v1", 3, 31),
    ]
    total = 60
    words = []
    for i, (variant, environment, seed, stop) in enumerate(plans):
        agent = make(variant, environment, seed)
        agent.connect()
        for moment in training.online(agent, total):
            if moment.steps == stop and (moment.in_phase or not isinstance(agent, SPEQ)):
                break
        agent.save(tmp_path / str(i))
        words.append(f"{type(agent).__name__},{tmp_path / str(i)},{total}")
    subprocess.run([sys.executable, "-c", SCRIPT, *words], check=True, timeout=600, cwd=tmp_path)
    for i, (variant, environment, seed, _) in enumerate(plans):
        whole = make(variant, environment, seed).learn(total)
        resumed = type(whole).load(tmp_path / f"{i}-resumed")
        resumed.learn(7)
        whole.learn(7)
        assert_same(whole, resumed)


def test_a_given_environment_is_given_again_at_load(stroll: str, tmp_path: Path) -> None:
    whole = SAC(gymnasium.make(stroll, length=4), seed=3, **SMALL).learn(50)
    SAC(gymnasium.make(stroll, length=4), seed=3, **SMALL).learn(26).save(tmp_path)
    assert_same(whole, SAC.load(tmp_path, env=gymnasium.make(stroll, length=4)).learn(24))
    assert_same(whole, SAC.load(tmp_path).learn(24, env=gymnasium.make(stroll, length=4)))


def test_environments_that_do_not_fit_begin_new_episodes_and_say_so(stroll: str, tmp_path: Path) -> None:
    keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
    SAC(gymnasium.make_vec(stroll, 2, "sync", vector_kwargs=keywords), **SMALL).learn(26).save(tmp_path)
    agent = SAC.load(tmp_path, env=stroll)
    with pytest.warns(UserWarning, match="the environment cannot be put back where it was; new episodes begin"):
        agent.learn(4)
    assert agent.steps == 30
    assert len(agent.replay_buffer) == 30  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_an_environment_of_ones_own_is_not_replaced_by_one_of_its_id(stroll: str, kind: str, tmp_path: Path) -> None:
    """Which may have other rewards, or other arguments."""
    keywords = {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}, "length": 4}
    own: Any = gymnasium.make(stroll, length=4)
    if kind == "vector":
        own = gymnasium.make_vec(stroll, 2, "sync", **keywords)
    agent = SAC(own, **SMALL).learn(26)
    agent.save(tmp_path)
    for other in (SAC.load(tmp_path), agent.learner(0)):
        with pytest.raises(ValueError, match=r"there is no environment to learn in; give one to learn\(\) or load\(\)"):
            other.learn(4)
    loaded = SAC.load(tmp_path)
    wrapped = gymnasium.wrappers.TransformReward(gymnasium.make(stroll, length=4), float)
    if kind == "single":
        for _ in range(2):  # the first attempt leaves nothing behind
            with pytest.raises(ValueError, match="wrappers, the one that was saved"):
                loaded.learn(4, env=wrapped)
        assert len(loaded.learn(4, env=gymnasium.make(stroll, length=4)).replay_buffer) == 30  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["id", "single", "vector"])
def test_the_same_environment_again_goes_on_with_its_episodes(stroll: str, kind: str) -> None:
    def source() -> Any:
        if kind == "vector":
            return gymnasium.make_vec(stroll, 2, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
        return gymnasium.make(stroll) if kind == "single" else stroll

    first, second = source(), source()
    whole = SAC(first, **SMALL).learn(40)
    assert_same(whole, SAC(second, **SMALL).learn(12, env=second).learn(28, env=second))


def test_environments_in_processes_of_their_own_give_the_same_numbers() -> None:
    found = []
    for mode in ("sync", "async"):
        keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
        environment = gymnasium.make_vec("Pendulum-v1", 4, mode, vector_kwargs=keywords, max_episode_steps=15)
        agent = SAC(environment, seed=[0, 1], **SMALL).learn(40)
        found.append({name: values.numpy().tobytes() for name, values in everything(agent).items()})
        del found[-1]["collector/environments"]  # other processes keep their states to themselves
        environment.close()
    assert found[0] == found[1]


def test_a_checkpoint_without_an_environment_asks_for_one(make_data: MakeData, tmp_path: Path) -> None:
    SAC(make_data(), **SMALL).fit(2).save(tmp_path)
    with pytest.raises(ValueError, match=r"there is no environment to learn in; give one to learn\(\)"):
        SAC.load(tmp_path).learn(5)


# Apart from training.


@pytest.mark.parametrize("variant", ["droq", "speq-td-both"])
def test_evaluation_between_changes_nothing(variant: str, stroll: str) -> None:
    """Returns, sampled returns and the critics' bias, at every step and within phases."""
    plain, watched = make(variant, stroll, [0, 1]).learn(60), make(variant, stroll, [0, 1])
    watched.connect()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state = torch.random.get_rng_state()
    for i, _ in enumerate(training.online(watched, 60)):
        if i % 7 == 0:
            evaluate(watched, stroll, episodes=2)
            critic_bias(watched, stroll, episodes=1)
    assert_same(plain, watched)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.random.get_rng_state(), torch_state)


def test_global_random_state_does_not_matter(stroll: str) -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = make("speq-td-both", stroll, 0).learn(45)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert_same(first, make("speq-td-both", stroll, 0).learn(45))


@pytest.mark.parametrize("variant", ["droq", "speq"])
def test_a_learner_taken_out_has_no_data_and_learns_on(variant: str, stroll: str) -> None:
    """A copy of learner k begins with an empty buffer; no phase begins before it has passed the warm-up again."""
    population = make(variant, stroll, [0, 1]).learn(40)
    one = population.learner(1)
    observations = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(one.predict(observations[1], deterministic=True)[0], population.act(observations)[1])
    before = one.total_phase_updates
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one.learn(8)
    assert one.replay_buffer is not None
    assert len(one.replay_buffer) == 8
    assert one.total_phase_updates == before
    assert all(values.isfinite().all() for name, values in one.state()[0].items() if values.is_floating_point())
    one.learn(13)  # to step 61: past the warm-up at the place 60
    if isinstance(one, SPEQ):
        assert one.total_phase_updates == before + 12


@pytest.mark.parametrize("variant", ["droq", "speq"])
def test_predict_metrics_and_bounds(variant: str, stroll: str) -> None:
    agent = make(variant, stroll, [0, 1])
    agent.connect()
    for moment in training.online(agent, 25):
        for name, values in moment.metrics.items():
            assert values.shape == (2,), name
            assert values.isfinite().all(), name
            assert not values.requires_grad, name
    with pytest.raises(ValueError, match=r"population of 2; predict with agent.learner\(k\)"):
        agent.predict(np.zeros(3, np.float32))
    one = agent.learner(0)
    assert one.predict(np.zeros(3))[0].shape == (1,)
    assert one.predict(np.zeros((5, 3)), deterministic=True)[0].shape == (5, 1)
    with torch.no_grad():
        one.actor.network.layers[-1].bias.fill_(50.0)
    assert (one.predict(np.zeros((5, 3)), deterministic=True)[0] == 2.0).all()  # the environment's bound
    assert one.predict(np.zeros((500, 3)))[0].max() <= 2.0


@pytest.mark.parametrize("kind", [SAC, SPEQ])
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("CartPole-v1", "CartPole-v1: actions are Discrete"),
        ("Nowhere-v0", r"Nowhere-v0: no such environment"),
        ("orl/Nowhere-v0", r"orl/Nowhere-v0: no such environment; `import orl.envs`"),
    ],
)
def test_environments_that_agents_cannot_act_in_are_refused(
    kind: Any, source: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(gymnasium.registry, "orl/Racing-v0", raising=False)  # whatever another test imported
    with pytest.raises(ValueError, match=words):
        kind(source)


def test_environments_that_seeds_cannot_share_are_refused_at_once(stroll: str) -> None:
    with pytest.raises(ValueError, match="one environment for 2 seeds; give an id, or a vector environment"):
        SAC(gymnasium.make(stroll), seed=[0, 1], **SMALL)
    with pytest.raises(ValueError, match="3 copies of the environment cannot be shared by 2 seeds"):
        SAC(gymnasium.make_vec(stroll, 3, "sync"), seed=[0, 1], **SMALL)


def test_without_its_data_an_agent_gathers_transitions_before_it_goes_on(
    stroll: str, make_data: MakeData, tmp_path: Path
) -> None:
    """By its own policy, for as long as a beginner acts at random; also from a checkpoint in the middle of it."""
    settings: dict[str, Any] = {"hidden_sizes": (8,), "batch_size": 8, "learning_starts": 10, "buffer_size": 500}
    agent = IQL(make_data(action_size=1, action_low=-2, action_high=2), **settings).fit(4)
    agent.save(tmp_path / "fitted")
    agent.learn(6, env=stroll)
    assert agent.updates == 10  # its data are there
    loaded = IQL.load(tmp_path / "fitted").learn(6, env=stroll)
    assert (loaded.updates, len(loaded.replay_buffer or ())) == (4, 6)
    loaded.save(tmp_path / "begun")
    resumed = IQL.load(tmp_path / "begun").learn(9)
    assert (resumed.updates, len(resumed.replay_buffer or ())) == (4 + 5, 15)
    assert_same(loaded.learn(9), resumed)
    first = [a.replay_buffer.gather(torch.tensor([[row]])).actions for a, row in ((agent, 60), (loaded, 0))]  # type: ignore[union-attr]
    assert torch.equal(*first)  # the policy's own


def test_data_after_acting_leave_the_policy_as_it_is_and_say_what_they_replace(
    stroll: str, make_data: MakeData
) -> None:
    data = make_data(action_size=1, action_low=-2, action_high=2)
    agent = IQL(stroll, hidden_sizes=(8,), batch_size=8, learning_starts=10, buffer_size=500).learn(30)
    observations = np.random.default_rng(0).normal(size=(5, 3))
    before = agent.predict(observations, deterministic=True)[0]
    with pytest.warns(UserWarning, match="the 30 transitions of its own give way to the data"):
        agent.attach(data)
    np.testing.assert_array_equal(agent.predict(observations, deterministic=True)[0], before)
    agent.learn(4)
    assert len(agent.replay_buffer or ()) == len(data) + 4


def test_an_agent_that_acted_and_then_learned_from_data_can_be_saved(
    stroll: str, make_data: MakeData, tmp_path: Path
) -> None:
    agent = SAC(stroll, **SMALL).learn(20)
    with pytest.warns(UserWarning, match="transitions of its own give way"):
        agent.fit(3, make_data(action_size=1, action_low=-2, action_high=2)).save(tmp_path)
    loaded = SAC.load(tmp_path)
    assert loaded.updates == agent.updates == 13
    loaded.learn(5)
    assert loaded.collector is not None
    assert loaded.collector.episodes[0] > 0


@pytest.mark.parametrize("how", ["data", "updates"])
def test_a_phase_that_was_left_ends_where_its_transitions_or_its_actor_change(
    how: str, stroll: str, make_data: MakeData
) -> None:
    agent = make("speq", stroll)
    assert isinstance(agent, SPEQ)
    agent.connect()
    for moment in training.online(agent, 40):
        if moment.in_phase:
            break
    assert agent.phases.running is not None
    done = agent.total_phase_updates
    if how == "data":
        with pytest.warns(UserWarning, match="give way to the data"):
            agent.attach(make_data(rows=20, action_size=1, action_low=-2, action_high=2))
    else:
        agent.gradient_steps(*next(agent.batches(1)))
    agent.learn(2)
    assert agent.phases.running is None
    assert agent.total_phase_updates == done == agent.buffers["stabilization_updates"][0]
