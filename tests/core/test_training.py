"""The offline loop and its progress bar."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from orl import training
from orl.buffer import Batch
from orl.noise import Noise
from orl.training import NO_PROGRESS


class Counter:
    """A learner that counts."""

    updates = 5
    steps = 0
    copies = 1
    due = 1  # updates a step
    phases: tuple[int, ...] = ()  # steps that a phase of two pieces follows

    def collect(self) -> int:
        self.steps += self.copies
        return self.due

    def phase(self) -> Iterator[dict[str, Tensor]]:
        if self.steps in self.phases:
            self.phases = tuple(each for each in self.phases if each != self.steps)
            yield {"piece": torch.tensor([1.0])}
            yield {"piece": torch.tensor([2.0])}

    def batches(self, updates: int) -> Iterator[tuple[Batch, Noise]]:
        while updates:
            count = min(updates, 4)
            yield Batch(*[torch.zeros(count, 1)] * 5), {"number": torch.arange(self.updates, self.updates + count)}
            updates -= count

    def gradient_steps(self, batches: Batch, noise: Noise) -> dict[str, Tensor]:
        metrics = {}
        for number in noise["number"]:
            assert number == self.updates
            self.updates += 1
            metrics["count"] = torch.tensor([float(self.updates)])
            if self.updates % 3 == 0:
                metrics["actor"] = torch.tensor([float(self.updates)])
        return metrics


def test_it_yields_after_every_update_and_does_no_more_than_it_is_asked() -> None:
    learner = Counter()
    seen = []
    for updates, metrics in training.offline(learner, 3):
        assert learner.updates == updates  # the consumer acts between updates
        seen.append((updates, metrics["count"].item()))
    assert seen == [(6, 6.0), (7, 7.0), (8, 8.0)]


def test_it_yields_at_multiples_and_at_the_end() -> None:
    learner = Counter()
    assert [updates for updates, _ in training.offline(learner, 8, every=6)] == [6, 12, 13]
    assert [updates for updates, _ in training.offline(learner, 2, every=100)] == [15]
    assert learner.updates == 15


@pytest.mark.parametrize("number", [0, -3, 2.5, float("nan"), float("inf")])
def test_what_is_no_count_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match=f"updates={number}: give a whole number, at least 1"):
        next(training.offline(Counter(), number))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"steps={number}: give a whole number, at least 1"):
        next(training.online(Counter(), number))  # type: ignore[arg-type]


def test_a_count_may_be_written_as_a_float() -> None:
    assert [updates for updates, _ in training.offline(Counter(), 3e0)] == [6, 7, 8]  # type: ignore[arg-type]


def test_a_progress_bar_shows_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(training.offline(Counter(), 4, progress_bar=True))) == 4
    assert "4/4" in capsys.readouterr().out


def test_an_invisible_progress_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with NO_PROGRESS as advance:
        advance(3)
    assert capsys.readouterr().out == ""


def training_steps(learner: Counter, steps: int) -> list[tuple[int, int, bool]]:
    return [(step.steps, learner.updates - 5, step.in_phase) for step in training.online(learner, steps)]


def test_online_it_yields_after_every_step_and_its_updates() -> None:
    learner = Counter()
    assert training_steps(learner, 3) == [(1, 1, False), (2, 2, False), (3, 3, False)]
    learner.due = 2
    assert training_steps(learner, 1) == [(4, 5, False)]
    learner.due = 0
    assert [step.metrics for step in training.online(learner, 2)] == [{}, {}]


def test_online_copies_share_the_steps() -> None:
    learner = Counter()
    learner.copies = 4
    assert [steps for steps, _, _ in training_steps(learner, 10)] == [4, 8, 12]  # the last step of all copies is whole


def test_a_phase_follows_its_step_and_none_the_last_one() -> None:
    learner = Counter()
    learner.phases = (2, 4)
    expected = [(1, 1, False), (2, 2, False), (2, 2, True), (2, 2, True), (3, 3, False), (4, 4, False)]
    assert training_steps(learner, 4) == expected
    assert training_steps(learner, 1) == [(4, 4, True), (4, 4, True), (5, 5, False)]  # training went on after all


def test_metrics_of_several_updates_are_the_last_of_each() -> None:
    learner = Counter()
    learner.due = 3
    found = [step.metrics for step in training.online(learner, 2)]
    assert [metrics["count"].item() for metrics in found] == [8.0, 11.0]
    assert [metrics["actor"].item() for metrics in found] == [6.0, 9.0]  # not every update has one


def test_a_progress_bar_shows_the_steps_and_not_the_phases(capsys: pytest.CaptureFixture[str]) -> None:
    learner = Counter()
    learner.copies, learner.phases = 2, (4,)
    assert len(list(training.online(learner, 8, progress_bar=True))) == 6
    assert "8/8" in capsys.readouterr().out
