"""Stable-Baselines3's own callbacks and `evaluate_policy` on agents of ours."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from orl.agents import SAC, SPEQ
from orl.evaluation import evaluate
from orl.rollout import RECENT

SMALL: dict[str, Any] = {"hidden_sizes": (8,), "batch_size": 8, "learning_starts": 10, "target_entropy": -1.0}


class Recorder(BaseCallback):
    """Remembers when it was called, and stops at a step."""

    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at
        self.seen: list[int] = []
        self.calls: list[str] = []

    def _on_training_start(self) -> None:
        self.calls.append(f"start of {self.locals['total_timesteps']}")

    def _on_step(self) -> bool:
        self.seen.append(self.num_timesteps)
        return self.num_timesteps != self.stop_at

    def _on_training_end(self) -> None:
        self.calls.append("end")


def test_a_callback_is_called_after_every_step_and_can_stop(stroll: str) -> None:
    recorder = Recorder(stop_at=7)
    agent = SAC(stroll, **SMALL).learn(20, callback=recorder)
    assert recorder.seen == [1, 2, 3, 4, 5, 6, 7]
    assert recorder.calls == ["start of 20", "end"]
    assert agent.steps == 7
    again = Recorder()
    agent.learn(5, callback=[again])
    assert again.seen == [8, 9, 10, 11, 12]
    assert again.calls == ["start of 12", "end"]


def test_copies_count_together_and_phases_do_not_count(stroll: str) -> None:
    environment = gymnasium.make_vec(stroll, 3, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    recorder = Recorder()
    agent = SPEQ(environment, period=12, phase_updates=4, check_every=2, dropout_rate=0.0, **SMALL)
    agent.learn(30, callback=recorder)
    assert agent.total_phase_updates == 2 * 4  # after 12 and 24
    assert recorder.seen == list(range(3, 31, 3))
    assert recorder.model.n_envs == 3


def test_callbacks_do_not_change_training(stroll: str, tmp_path: Path) -> None:
    plain = SAC(stroll, **SMALL).learn(30)
    watched = SAC(stroll, **SMALL)
    evaluation = EvalCallback(Monitor(gymnasium.make(stroll)), eval_freq=10, n_eval_episodes=2, verbose=0)
    watched.learn(30, callback=[evaluation, CheckpointCallback(10, str(tmp_path))])
    for name, values in plain.state()[0].items():
        assert values.equal(watched.state()[0][name]), name


def test_evaluation_saving_and_a_threshold(stroll: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`evaluations.npz`, a best model that loads, and the end as soon as a return is above -1000."""
    stop = StopTrainingOnRewardThreshold(-1000.0, verbose=1)
    evaluation = EvalCallback(
        Monitor(gymnasium.make(stroll)),
        callback_on_new_best=stop,
        eval_freq=15,
        n_eval_episodes=3,
        log_path=str(tmp_path / "log"),
        best_model_save_path=str(tmp_path / "best"),
    )
    agent = SAC(stroll, **SMALL).learn(60, callback=evaluation)
    assert agent.steps == 15
    assert "Stopping training" in capsys.readouterr().out
    with np.load(tmp_path / "log" / "evaluations.npz") as arrays:
        assert arrays["timesteps"].tolist() == [15]
        assert arrays["results"].shape == arrays["ep_lengths"].shape == (1, 3)
    observation = np.array([0.5, 1.0, 2.0], np.float32)
    best = SAC.load(tmp_path / "best" / "best_model")
    assert best.predict(observation, deterministic=True)[0] == agent.predict(observation, deterministic=True)[0]


def test_checkpoints_resume(stroll: str, tmp_path: Path) -> None:
    callback = CheckpointCallback(10, str(tmp_path), name_prefix="run", save_replay_buffer=True)
    agent = SAC(stroll, **SMALL).learn(25, callback=callback)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run_10_steps", "run_20_steps"]
    resumed = SAC.load(tmp_path / "run_20_steps").learn(5)
    for name, values in agent.state()[0].items():
        assert values.equal(resumed.state()[0][name]), name


def test_a_progress_bar_and_events(stroll: str) -> None:
    recorder = Recorder()
    bar = ProgressBarCallback()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm calls its own bar experimental
        SAC(stroll, **SMALL).learn(12, callback=[bar, EveryNTimesteps(5, recorder), LogEveryNTimesteps(5)])
    assert bar.pbar.n == 12
    assert len(recorder.seen) == 2


def test_a_population_is_refused_before_it_trains(stroll: str) -> None:
    agent = SAC(stroll, seed=[0, 1], **SMALL)
    with pytest.raises(ValueError, match="callbacks watch one learner, this agent is a population of 2"):
        agent.learn(10, callback=Recorder())
    assert agent.steps == 0


def test_something_else_than_a_callback_is_refused(stroll: str) -> None:
    with pytest.raises(ValueError, match="give a callback of Stable-Baselines3, or a list of them"):
        SAC(stroll, **SMALL).learn(10, callback=print)


def test_evaluate_policy_agrees_with_our_evaluation() -> None:
    """Pendulum's returns of one policy from one start; theirs play one after the other."""
    agent = SAC("Pendulum-v1", **SMALL).learn(30)
    environment = Monitor(gymnasium.make("Pendulum-v1"))
    mean, std = evaluate_policy(agent, environment, n_eval_episodes=4)  # type: ignore[arg-type]
    ours = evaluate(agent, "Pendulum-v1", episodes=30).returns
    assert abs(mean - ours.mean()) < 4 * ours.std()
    assert std > 0


def test_a_number_of_episodes_ends_training(stroll: str) -> None:
    agent = SAC(stroll, **SMALL).learn(200, callback=StopTrainingOnMaxEpisodes(3))
    assert agent.collector is not None
    assert agent.collector.lengths[0, 0] == 0
    alone = SAC(stroll, **SMALL)
    ended = 0
    while ended < 3:
        alone.learn(1)
        assert alone.collector is not None
        ended += int(alone.collector.lengths[0, 0] == 0)
    assert agent.steps == alone.steps


class Sums(BaseCallback):
    """Adds up rewards, and compares with what the infos say of finished episodes."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.running, self.lengths = np.zeros(copies), np.zeros(copies, int)
        self.finished = 0

    def _on_step(self) -> bool:
        self.running += self.locals["rewards"]
        self.lengths += 1
        for copy, (over, info) in enumerate(zip(self.locals["dones"], self.locals["infos"], strict=True)):
            assert ("episode" in info) == over
            if over:
                assert info["episode"] == {"r": pytest.approx(self.running[copy]), "l": self.lengths[copy]}
                self.running[copy], self.lengths[copy] = 0.0, 0
                self.finished += 1
        return True


def test_rewards_and_finished_episodes_are_told(stroll: str) -> None:
    environment = gymnasium.make_vec(stroll, 3, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP})
    sums = Sums(3)
    agent = SAC(environment, **SMALL).learn(600, callback=sums)
    assert agent.collector is not None
    assert sums.finished == agent.collector.episodes[0] > RECENT


def test_every_episode_is_told_where_more_end_at_once_than_the_mean_is_taken_over(stroll: str) -> None:
    copies, options = RECENT + 20, {"vector_kwargs": {"autoreset_mode": AutoresetMode.SAME_STEP}, "length": 4}
    sums = Sums(copies)
    SAC(gymnasium.make_vec(stroll, copies, "sync", **options), utd_ratio=0.01, **SMALL).learn(9 * copies, callback=sums)
    assert sums.finished == 2 * copies
