"""SPEQ's phases: what they change, when they begin, when they stop, and with which critics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from orl import seeding, training
from orl.agents import SPEQ, SPEQ_AUTO_PRESET, SPEQ_PRESET
from orl.agents.phases import HeldOut, Phases, phase_start
from orl.dataset import Dataset
from orl.noise import NoiseBlocks

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {
    "hidden_sizes": (8, 8), "batch_size": 8, "target_entropy": -1.0, "learning_starts": 10, "learning_rate": 3e-3,
    "tau": 0.05, "buffer_size": 200, "dropout_rate": 0.2, "period": 20, "phase_updates": 12, "check_every": 3,
}  # fmt: skip


def up_to_the_phase(source: Any, seed: Any = 0, **settings: Any) -> SPEQ:
    """An agent that stands before its first phase, after step 20."""
    return SPEQ(source, seed=seed, **{**SMALL, **settings}).learn(20)


def module_of(name: str) -> str:
    return name.removeprefix("optimizer/").split("/")[0]


@pytest.mark.parametrize("length", ["fixed", "td_error", "policy_value"])
def test_a_phase_changes_critics_and_targets_and_nothing_else(stroll: str, length: str) -> None:
    """Actor, entropy coefficient, their moments, buffer, running episodes and random numbers stay bit-equal."""
    agent = up_to_the_phase(stroll, [0, 1], length=length, restore_best=False)
    learners, experience = agent.state()[0], agent.online_state()[0]
    for metrics in agent.phase():
        assert torch.isfinite(metrics["critic_loss"]).all()
    after = agent.state()[0]
    assert after["stabilization_updates"].min() > 0
    moved = {name for name, values in after.items() if not values.equal(learners[name])}
    expected = {name for name in after if module_of(name) in ("critic", "critic_target")}
    steps = {name for name in expected if name.endswith("/step")}
    assert moved == expected - (steps if length != "fixed" else set()) | {"last_phase", "stabilization_updates"}
    for name, values in agent.online_state()[0].items():
        assert values.numpy().tobytes() == experience[name].numpy().tobytes(), name


def test_a_fixed_phase_is_the_online_critic_update_again_and_again(stroll: str, float64: None) -> None:
    """The same function on the same loss, with random numbers of the phase's own, named by the step alone.

    A phase computes the next policy of all transitions at once, which rounds differently.
    """
    agent = up_to_the_phase(stroll, [3, 4])
    soft = agent.select([0, 1])
    numbers = NoiseBlocks([3, 4], soft.critic_noise_specs(), torch.device("cpu"), "phase", (20,))
    assert agent.replay_buffer is not None
    for _ in range(12):
        random = numbers.next()
        metrics = soft.update_critic(agent.replay_buffer.sample(random["indices"]), random)
    *_, last = agent.phase()
    torch.testing.assert_close(last["critic_loss"], metrics["critic_loss"], rtol=1e-9, atol=0)
    for name in ("critic", "critic_target"):
        for mine, other in zip(agent.networks[name].parameters(), soft.networks[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)


def test_starts_of_phases() -> None:
    reached = {steps: phase_start(steps, 10, 25) for steps in (0, 9, 10, 20, 29, 30, 31, 39, 40)}
    assert reached == {0: None, 9: None, 10: None, 20: None, 29: None, 30: 30, 31: 30, 39: 30, 40: 40}


def test_no_phase_starts_at_the_end_of_the_warm_up() -> None:
    """Nothing was learned before it."""
    assert phase_start(29, 10, 20) is None
    assert phase_start(30, 10, 20) == 30


def test_without_phases_none_is_due(stroll: str) -> None:
    agent = SPEQ(stroll, **{**SMALL, "phase_updates": 0}).learn(60)
    assert list(agent.phase()) == []
    assert "last_phase" not in agent.buffers


def test_phases_come_in_pieces_and_are_counted(stroll: str) -> None:
    agent = SPEQ(stroll, **{**SMALL, "phase_updates": 10}).learn(20)
    work = agent.progress_count
    assert [metrics["phase_updates"].tolist() for metrics in agent.phase()] == [[3], [6], [9], [10]]
    assert (agent.steps, agent.total_phase_updates, agent.progress_count) == (20, 10, work + 10)
    assert list(agent.phase()) == []
    assert agent.buffers["stabilization_updates"].tolist() == [10]


@pytest.mark.parametrize("copies", [1, 3])
def test_phases_follow_each_period_but_not_the_warm_up_nor_the_last_step(stroll: str, copies: int) -> None:
    environment = gymnasium.make_vec(stroll, copies, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    agent = SPEQ(environment, **{**SMALL, "learning_starts": 20, "phase_updates": 3})
    agent.connect()
    places = [moment.steps for moment in training.online(agent, 60) if moment.in_phase]
    assert places == ([40] if copies == 1 else [42])  # none at 20, nothing was learned yet, nor at 60
    assert agent.updates == agent.steps - 20 == 40
    places = [moment.steps for moment in training.online(agent, 21) if moment.in_phase]
    assert places == ([60, 80] if copies == 1 else [60])  # training went on, and the one of 60 comes first


def test_no_step_is_repeated_where_copies_jump_over_places(stroll: str) -> None:
    """Seven copies and a period of five: one phase per place that was passed, not one per multiple of five."""
    environment = gymnasium.make_vec(stroll, 7, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    agent = SPEQ(environment, **{**SMALL, "period": 5, "phase_updates": 2})
    agent.connect()
    assert [moment.steps for moment in training.online(agent, 35) if moment.in_phase] == [21, 28]


# Automatic length.


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[list[float]]) -> None:
    """Checks see these scores, (checks, P), the first one before the phase."""
    remaining = iter(scores)
    monkeypatch.setattr(HeldOut, "score", lambda self, agent: torch.tensor(next(remaining)))


def critics(agent: SPEQ, learner: int) -> list[Tensor]:
    names = ("critic", "critic_target")
    return [each[learner].detach().clone() for name in names for each in agent.networks[name].parameters()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("restore_best", [True, False])
def test_a_phase_stops_after_patience_with_the_critics_that_were_asked_for(
    stroll: str, monkeypatch: pytest.MonkeyPatch, restore_best: bool
) -> None:
    """Learner 0 is best at the first check, learner 1 at the third; 2 gets worse at once. Patience is two checks."""
    scores = [[5.0, 5.0, 5.0], [4.0, 4.9, 6.0], [4.1, 4.8, 7.0], [4.2, 3.0, 8.0], [4.3, 3.1, 9.0], [4.0, 3.2, 0.0]]
    scripted(monkeypatch, scores)
    agent = up_to_the_phase(
        stroll, [0, 1, 2], length="td_error", patience=2, smoothing=1, tolerance=0.0, restore_best=restore_best
    )
    agent.config = dataclasses.replace(agent.config, phase_updates=1_000)
    seen = [[critics(agent, k) for k in range(3)]]
    counts = []
    for metrics in agent.phase():
        counts.append(metrics["phase_updates"].tolist())
        seen.append([critics(agent, k) for k in range(3)])
    assert counts == [[3, 3, 3], [6, 6, 6], [9, 9, 6], [9, 12, 6], [9, 15, 6]]
    assert agent.buffers["stabilization_updates"].tolist() == [9, 15, 6]
    chosen = [1, 3, 0] if restore_best else [3, 5, 2]
    for k, check in enumerate(chosen):
        assert equal(critics(agent, k), seen[check][k]), k


@pytest.mark.parametrize(
    ("scores", "updates"),
    [
        ([-100.0, -100.05, -100.05], 6),  # 0.05 % is no improvement ...
        ([-100.0, -99.95, -99.95], 6),  # ... and getting worse none either, which SOPE's rule takes for one
        ([-100.0, -100.2, -100.2, -100.2], 9),
        ([100.0, 99.95, 99.95], 6),
        ([100.0, 99.8, 99.8, 99.8], 9),
    ],
)
def test_the_tolerance_is_a_share_of_the_best_score_of_either_sign(
    stroll: str, monkeypatch: pytest.MonkeyPatch, scores: list[float], updates: int
) -> None:
    scripted(monkeypatch, [[score] for score in scores])
    agent = up_to_the_phase(stroll, length="policy_value", patience=2, smoothing=1, tolerance=0.001)
    list(agent.phase())
    assert agent.buffers["stabilization_updates"].tolist() == [updates]


def test_scores_are_smoothed(stroll: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [[8.0], [4.0], [4.0], [8.0], [0.0]])
    agent = up_to_the_phase(stroll, length="td_error", smoothing=3)  # weight 2 / (3 + 1)
    assert [metrics["held_out_score"].item() for metrics in agent.phase()] == [6.0, 5.0, 6.5, 3.25]


def test_a_phase_ends_at_its_longest_where_it_still_improves(stroll: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [[float(-check)] for check in range(99)])
    agent = up_to_the_phase(stroll, length="td_error", smoothing=1)
    list(agent.phase())
    assert agent.buffers["stabilization_updates"].tolist() == [12]


def test_held_out_transitions_are_chosen_by_the_seed_and_never_trained_on(
    stroll: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = up_to_the_phase(stroll, [3, 4], length="td_error", held_out=0.25)
    assert agent.replay_buffer is not None
    drawn: list[Tensor] = []
    gather = agent.replay_buffer.gather
    monkeypatch.setattr(agent.replay_buffer, "gather", lambda indices: drawn.append(indices) or gather(indices))
    list(agent.phase())
    everything, held, *batches = drawn  # everything, once, for the policy of the next observations
    assert everything.shape == (2, 20)
    assert held.shape == (2, 5)
    trained = torch.cat(batches).movedim(1, 0).flatten(1)
    assert trained.shape[1] == 8 * agent.total_phase_updates
    for k in range(2):
        own = torch.randperm(20, generator=seeding.torch_generator(3 + k, "phase", key=(20, 2)))
        assert held[k].tolist() == own[:5].tolist()
        assert set(trained[k].tolist()) == set(range(20)) - set(held[k].tolist())


def test_scores_of_a_check_by_hand(stroll: str, float64: None) -> None:
    """No unit is dropped, the noise of next actions is the same in all checks, targets are those of the check."""
    agent = up_to_the_phase(stroll, length="td_error", smoothing=1, restore_best=False, patience=99)
    held = 2  # a tenth of 20
    generator = seeding.torch_generator(0, "phase", key=(20, 2))
    rows = torch.randperm(20, generator=generator)[:held]
    noise = torch.randn(held, 1, generator=generator)
    assert agent.replay_buffer is not None
    batch = agent.replay_buffer.gather(rows.unsqueeze(0))
    soft = agent

    def values_and_targets() -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            actions, log_prob = soft.actor.sample(batch.next_observations, noise.unsqueeze(0))
            following = soft.critic_target(batch.next_observations, actions).amin(1)
            following = following - soft.entropy_coefficient() * log_prob
            targets = batch.rewards + 0.99 * (1 - batch.terminated) * following
            return soft.critic(batch.observations, batch.actions), targets.unsqueeze(1)

    before, _ = values_and_targets()
    score = 1.0
    for metrics in agent.phase():
        if agent.phases.running is None:  # the critics of the last check are those of the end here
            break
        values, targets = values_and_targets()
        score *= ((values - targets).square().mean() / (before - targets).square().mean()).item()
        before = values
        assert metrics["held_out_score"].item() == pytest.approx(score, rel=1e-9)


def test_the_value_of_the_policy_by_hand(stroll: str, float64: None) -> None:
    """SOPE: the mean of alpha log pi - mean_i Q_i at the policy's own actions, with common random numbers."""
    agent = up_to_the_phase(stroll, length="policy_value", smoothing=1, restore_best=False, patience=99)
    generator = seeding.torch_generator(0, "phase", key=(20, 2))
    rows = torch.randperm(20, generator=generator)[:2]
    noise = torch.randn(2, 1, generator=generator)
    assert agent.replay_buffer is not None
    batch = agent.replay_buffer.gather(rows.unsqueeze(0))
    for metrics in agent.phase():
        with torch.no_grad():
            actions, log_prob = agent.actor.sample(batch.observations, noise.unsqueeze(0))
            values = agent.critic(batch.observations, actions).mean(1)
            expected = (agent.entropy_coefficient() * log_prob - values).mean()
        if agent.phases.running is not None:
            assert metrics["held_out_score"].item() == pytest.approx(expected.item(), rel=1e-9)


# Automatic timing.


def test_a_phase_waits_for_new_data(stroll: str) -> None:
    """20 new ones of 20, 20 of 40 and 40 of 80 are a share of 0.45; 20 of 60 and of 100 and 40 of 120 are not."""
    agent = SPEQ(stroll, **{**SMALL, "timing": "new_data", "new_share": 0.45, "phase_updates": 3})
    agent.connect()
    assert [moment.steps for moment in training.online(agent, 130) if moment.in_phase] == [20, 40, 80]
    assert agent.buffers["last_phase"].tolist() == [80]


@pytest.mark.parametrize(("scale", "takes_part"), [(1.0, False), (30.0, True)])
def test_a_phase_waits_until_the_newest_transitions_have_larger_errors(
    stroll: str, scale: float, takes_part: bool
) -> None:
    """The rewards of the newest period, multiplied; the other learner's stay as they are."""
    agent = SPEQ(stroll, seed=[0, 1], **{**SMALL, "timing": "td_error", "error_ratio": 2.0}).learn(60)
    assert agent.replay_buffer is not None
    agent.replay_buffer.rewards.view(2, -1)[0, 40:60] *= scale
    assert agent.phases.due(agent, 60).tolist() == [takes_part, False]
    before = [critics(agent, k) for k in range(2)]
    list(agent.phase())
    assert agent.buffers["stabilization_updates"].tolist() == [12 * takes_part, 0]
    assert [equal(critics(agent, k), before[k]) for k in range(2)] == [not takes_part, True]
    assert agent.buffers["last_phase"].tolist() == [60 * takes_part, 0]


def test_the_newest_transitions_are_found_after_the_buffer_wrapped(
    stroll: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = SPEQ(stroll, **{**SMALL, "buffer_size": 25, "timing": "td_error", "period": 10}).learn(32)
    assert agent.replay_buffer is not None
    assert agent.replay_buffer.position == 7
    drawn: list[Tensor] = []
    gather = agent.replay_buffer.gather
    monkeypatch.setattr(agent.replay_buffer, "gather", lambda indices: drawn.append(indices) or gather(indices))
    agent.phases.due(agent, 30)
    newest, all_of_it = (set(indices.flatten().tolist()) for indices in drawn)
    assert newest == {0, 1, 2, 3, 4, 5, 6, 22, 23, 24}
    assert all_of_it == set(range(25))


# At the edges.


def test_the_first_update_of_all_can_be_a_phase_s(stroll: str) -> None:
    """No update was due before it, so that Adam's moments are zero; a learner that took no part has none after it."""
    settings = {**SMALL, "utd_ratio": 0.01, "length": "td_error", "patience": 1, "smoothing": 1}
    agent = SPEQ(stroll, seed=[0, 1], **settings).learn(20)
    assert agent.updates == 0
    list(agent.phase())
    assert agent.buffers["stabilization_updates"].min() > 0
    idle = SPEQ(stroll, seed=[0, 1], **{**SMALL, "utd_ratio": 0.01, "timing": "new_data"}).learn(20)
    before = [critics(idle, k) for k in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Phases, "due", lambda self, agent, place: torch.tensor([True, False]))
        list(idle.phase())
    assert [equal(critics(idle, k), before[k]) for k in range(2)] == [False, True]
    moments = [value for name, value in idle.state()[0].items() if "optimizer/critic/" in name and "exp" in name]
    assert all(value[0].abs().sum() > 0 and value[1].abs().sum() == 0 for value in moments)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"period": 0}, "period=0: must be above 0"),
        ({"phase_updates": -5}, "phase_updates=-5: must not be negative"),
        ({"held_out": 1.0, "length": "td_error"}, r"held_out=1.0: an automatic length needs a share in \(0, 1\)"),
        ({"held_out": 0.0, "length": "policy_value"}, "held_out=0.0: an automatic length needs a share"),
        ({"tolerance": -0.1}, r"tolerance=-0.1: must lie in \[0, 1\]"),
        ({"patience": 0}, "patience=0: must be above 0"),
        ({"buffer_size": 10}, "buffer_size=10: phases need a buffer that reaches past learning_starts=10"),
        ({"dropout_rate": 1.0}, "dropout_rate=1.0"),
    ],
)
def test_phases_that_cannot_be_are_refused(stroll: str, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=rf"SACConfig\.{words}"):
        SPEQ(stroll, **{**SMALL, **settings})


def test_the_advice_for_the_configuration_that_is_gone_keeps_the_phases(stroll: str) -> None:
    """`SACConfig()` in its place would be plain SAC."""
    with pytest.raises(ImportError, match=r"give its fields to SPEQ as keywords, or take dataclasses\.replace"):
        exec("from orl.agents import SPEQConfig")
    by_keyword = SPEQ(stroll, dropout_rate=0.2, target_entropy=-1.0).config
    assert by_keyword == dataclasses.replace(SPEQ_PRESET, dropout_rate=0.2, target_entropy=-1.0)
    assert by_keyword.phase_updates > 0


def test_presets() -> None:
    """Section 4 of the paper: period 10,000, 75,000 updates, two critics, UTD 1, the mean of the critics."""
    preset = SPEQ_PRESET
    assert (preset.period, preset.phase_updates, preset.utd_ratio, preset.num_critics) == (10_000, 75_000, 1.0, 2)
    assert (preset.layer_norm, preset.actor_q, preset.length, preset.timing) == (True, "mean", "fixed", "fixed")
    assert (SPEQ_AUTO_PRESET.length, SPEQ_AUTO_PRESET.timing) == ("td_error", "fixed")


def test_offline_to_online_begins_with_the_data(stroll: str, make_data: MakeData) -> None:
    data = make_data(rows=40, action_size=1, action_low=-2, action_high=2)
    agent = SPEQ(data, **SMALL).fit(5)
    agent.learn(25, env=stroll)
    assert agent.replay_buffer is not None
    assert len(agent.replay_buffer) == 65
    assert agent.total_phase_updates == 12
    assert agent.updates == 5 + 25  # no random steps where data were there first
