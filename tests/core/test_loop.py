"""The offline loop and its progress bar."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from orl import loop
from orl.progress import progress


class Counter:
    """A learner that counts."""

    updates = 5

    def step(self) -> dict[str, Tensor]:
        self.updates += 1
        return {"count": torch.tensor([float(self.updates)])}


def test_it_yields_after_every_update_and_does_no_more_than_it_is_asked() -> None:
    learner = Counter()
    seen = []
    for updates, metrics in loop.offline(learner, 3):
        assert learner.updates == updates  # the consumer acts between updates
        seen.append((updates, metrics["count"].item()))
    assert seen == [(6, 6.0), (7, 7.0), (8, 8.0)]


@pytest.mark.parametrize("updates", [0, -3])
def test_no_updates_are_refused(updates: int) -> None:
    with pytest.raises(ValueError, match=f"updates={updates}: give at least one gradient update"):
        next(loop.offline(Counter(), updates))


def test_a_progress_bar_shows_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(list(loop.offline(Counter(), 4, progress_bar=True))) == 4
    assert "4/4" in capsys.readouterr().out


def test_an_invisible_progress_bar_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 10, visible=False) as advance:
        advance(3)
    assert capsys.readouterr().out == ""
