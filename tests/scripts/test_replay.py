"""What a training saw, as a dataset: against a record that was made while it acted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from orl import datasets
from orl.agents import IQL, SAC
from orl.rollout import Collector, Step
from orl.scripts.running.training_run import replay_dataset

SMALL: dict[str, Any] = {"hidden_sizes": (4,), "batch_size": 4, "target_entropy": -1.0, "learning_starts": 1_000}


class Record:
    """Every step of every copy, and where its episode ended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps: list[Step] = []
        self.ended: list[Any] = []
        original = Collector.step

        def step(collector: Collector, actions: Any) -> Step:
            taken = original(collector, actions)
            self.steps.append(taken)
            self.ended.append(collector.lengths == 0)  # (P, n): a new episode has begun
            return taken

        monkeypatch.setattr(Collector, "step", step)

    def of(self, learner: int, copy: int, name: str) -> Any:
        return np.array([getattr(step, name)[learner, copy] for step in self.steps])


def acted(stroll: str, seeds: list[int], copies: int, steps: int, **settings: Any) -> SAC:
    keywords = {"autoreset_mode": AutoresetMode.SAME_STEP}
    environment = gymnasium.make_vec(stroll, copies * len(seeds), "sync", vector_kwargs=keywords)
    return SAC(environment, seed=seeds, **SMALL, **settings).learn(steps)


@pytest.mark.parametrize(("copies", "capacity"), [(1, 500), (3, 500), (1, 41), (3, 42), (3, 41), (3, 40)])
def test_rows_and_ends_are_those_that_happened(
    stroll: str, monkeypatch: pytest.MonkeyPatch, copies: int, capacity: int
) -> None:
    """Also where the oldest were overwritten, in the middle of a step of all copies or not."""
    record = Record(monkeypatch)
    agent = acted(stroll, [0, 1], copies, 120, buffer_size=capacity)
    assert agent.replay_buffer is not None
    left = min(capacity, 120)
    for k in range(2):
        data = replay_dataset(agent, k)
        assert len(data) == left
        assert (data.environment_id, data.action_high.tolist()) == (stroll, [2.0])
        row = 0
        oldest = (120 - left) % copies  # the copy whose row is the oldest one
        for copy in ((oldest + i) % copies for i in range(copies)):
            count = len(range((copy - oldest) % copies, left, copies))
            rows, taken = slice(row, row + count), slice(len(record.steps) - count, None)
            np.testing.assert_array_equal(data.observations[rows], record.of(k, copy, "observations")[taken])
            np.testing.assert_array_equal(data.next_observations[rows], record.of(k, copy, "next_observations")[taken])
            np.testing.assert_allclose(data.rewards[rows], record.of(k, copy, "rewards")[taken], rtol=1e-6)
            np.testing.assert_allclose(data.actions[rows], record.of(k, copy, "actions")[taken], atol=1e-6)
            terminated = record.of(k, copy, "terminated")[taken]
            ended = np.array([each[k, copy] for each in record.ended])[taken]
            ended[-1] = True  # the recording stopped
            assert (capacity < 120) or (terminated.any() and (ended & ~terminated)[:-1].any())
            np.testing.assert_array_equal(data.terminated[rows], terminated)
            np.testing.assert_array_equal(data.truncated[rows], ended & ~terminated)
            row += count
        assert row == left


def test_returns_of_its_episodes_are_those_of_the_training(stroll: str) -> None:
    agent = acted(stroll, [3], 1, 60)
    data = replay_dataset(agent, 0)
    assert agent.collector is not None
    returns = [float(data.rewards[rows].sum()) for rows in data.episode_slices]
    ended = int(agent.collector.episodes[0])
    assert len(returns) in (ended, ended + 1)
    np.testing.assert_allclose(returns[:ended], agent.collector.recent_returns[0, :ended], rtol=1e-5)


def test_a_replay_trains_an_offline_agent_after_a_round_trip(stroll: str, tmp_path: Path) -> None:
    data = replay_dataset(acted(stroll, [3], 1, 60), 0)
    datasets.write_npz(data, tmp_path / "replay.npz")
    again = datasets.load(str(tmp_path / "replay.npz"))
    np.testing.assert_array_equal(again.truncated, data.truncated)
    np.testing.assert_allclose(again.actions, data.actions, atol=1e-6)
    agent = IQL(again, hidden_sizes=(4,), batch_size=4).fit(3)
    metrics = agent.gradient_steps(*next(agent.batches(1)))
    assert all(values.isfinite().all() for values in metrics.values())


def test_an_agent_that_has_not_acted_has_no_replay(stroll: str) -> None:
    with pytest.raises(ValueError, match=r"SAC has no replay; let it learn\(\) first"):
        replay_dataset(SAC(stroll, **SMALL), 0)
