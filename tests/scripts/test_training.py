"""The threads and the precision that a run trains with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orl.agents import SAC_PRESET
from orl.checkpoint import write_json
from orl.scripts.commands.train import Train
from orl.scripts.running.launching import Launching


def options(**fields: Any) -> Train[Any]:
    return Train(SAC_PRESET, env="Pendulum-v1", agent="sac", device="cpu", **fields)


def threads(out: Path, **fields: Any) -> int:
    """Those that a run in this folder sets, and says that it has."""
    assert options(**fields).set_arithmetic(out)["threads"] == torch.get_num_threads()
    return torch.get_num_threads()


def test_a_new_run_has_the_threads_that_were_asked_for_or_those_that_torch_has(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    assert threads(tmp_path) == 2
    assert threads(tmp_path, launching=Launching(launcher="serial")) == 2
    assert threads(tmp_path, threads=3) == 3
    assert threads(tmp_path, launching=Launching(launcher="process")) == 1


def test_a_run_that_goes_on_keeps_its_threads(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    write_json(tmp_path / "config.json", {"threads": 2})
    assert threads(tmp_path) == 2
    assert threads(tmp_path, threads=1) == 1  # which the folder refuses
    write_json(tmp_path / "config.json", {"steps": 10})  # of a run from before threads were recorded
    assert options().set_arithmetic(tmp_path)["threads"] is None


def test_a_precision_that_the_device_has_not_got_warns_and_trains_with_float32(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="precision 'high' changes nothing on cpu: products stay float32"):
        assert options(precision="high").set_arithmetic(tmp_path)["precision"] == "high"
    assert torch.get_float32_matmul_precision() == "high"
    assert options().set_arithmetic(tmp_path)["precision"] == "highest"  # without a warning, which would be an error
    assert torch.get_float32_matmul_precision() == "highest"
