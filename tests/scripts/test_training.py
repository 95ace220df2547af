"""The threads that a run trains on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from orl.agents.sac import SAC_PRESET
from orl.checkpoint import write_json
from orl.scripts.launching import Launching
from orl.scripts.train_online import TrainOnline


@pytest.fixture(autouse=True)
def same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def options(**fields: Any) -> TrainOnline[Any]:
    return TrainOnline("Pendulum-v1", SAC_PRESET, agent="sac", **fields)


def test_a_new_run_has_the_threads_that_were_asked_for_or_those_that_torch_has(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    assert options().set_threads(tmp_path) == 2
    assert options(launching=Launching(launcher="serial")).set_threads(tmp_path) == 2
    assert options(threads=3).set_threads(tmp_path) == torch.get_num_threads() == 3
    assert options(launching=Launching(launcher="process")).set_threads(tmp_path) == torch.get_num_threads() == 1


def test_a_run_that_goes_on_keeps_its_threads(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_json(tmp_path / "config.json", {"threads": 2})
    assert options().set_threads(tmp_path) == torch.get_num_threads() == 2
    assert options(threads=1).set_threads(tmp_path) == 1  # which the folder refuses
    write_json(tmp_path / "config.json", {"steps": 10})  # of a run from before threads were recorded
    assert options().set_threads(tmp_path) is None
