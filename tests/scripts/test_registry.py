"""Agents by name: those of this package, and those of other packages, by entry points."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orl import agents
from orl.scripts.running.registry import online_presets, presets

PACKAGE = '''
"""Agents of another package."""

from orl.agents import BC, SAC, BCConfig, SACConfig


class Mimic(BC):
    """Cloning of another package."""


small = (Mimic, BCConfig(hidden_sizes=(5,)))
wrong_config = (Mimic, SACConfig())
nothing = 3
'''
ENTRY_POINTS = """
[orl.agents]
mimic = others:Mimic
mimic-small = others:small
mimic-wrong = others:wrong_config
nothing = others:nothing
gone = others_that_are_gone:Mimic
sac = others:Mimic
"""
LEFT_OUT = {
    "mimic-wrong": "TypeError: others:wrong_config: the configuration of Mimic is a BCConfig",
    "nothing": "TypeError: others:nothing is no subclass of orl.agent.Agent",
    "gone": "ModuleNotFoundError: No module named 'others_that_are_gone'",
    "sac": "ValueError: the name is taken",
}


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with agents, installed as pip would."""
    site = tmp_path / "site"
    (site / "others-1.0.dist-info").mkdir(parents=True)
    (site / "others.py").write_text(PACKAGE)
    (site / "others-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (site / "others-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    presets.cache_clear()
    yield
    presets.cache_clear()


def test_the_agents_of_this_package() -> None:
    names = list(presets())
    from_data = [name for name in names if presets()[name].needs_data]
    assert {"bc", "iql", "td3bc"} <= set(from_data)
    assert names == sorted(from_data) + sorted(set(names) - set(from_data))
    assert {"sac", "redq", "droq", "speq", "speq-auto", "sope", "flash-sac", "flash-speq"} <= set(names)
    droq, iql = presets()["droq"], presets()["iql"]
    assert (droq.agent_class, droq.config) == (agents.DroQ, agents.DROQ_PRESET)
    assert (iql.agent_class, iql.config) == (agents.IQL, agents.IQLConfig())
    assert presets()["iql"].can_train_online
    assert not presets()["bc"].can_train_online
    assert set(online_presets()) == set(names) - set(from_data)
    assert presets()["flash-speq"].summary.endswith("(FlashSAC 2026). With phase_updates=20000.")
    assert "length=policy_value" in presets()["sope"].summary
    assert "With" not in presets()["speq"].summary  # the class's own configuration


def test_a_class_that_is_exported_is_an_agent_at_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a preset, under its own name, with the defaults of its configuration."""

    class NewConfig(agents.BCConfig):
        """A configuration of its own."""

    class New(agents.BC):
        """An agent of its own."""

        Config = NewConfig

    monkeypatch.setattr(agents, "New", New, raising=False)
    presets.cache_clear()
    try:
        assert (presets()["new"].agent_class, presets()["new"].config) == (New, NewConfig())
        assert presets()["bc"].agent_class is agents.BC
    finally:
        presets.cache_clear()


def test_agents_of_another_package_are_trained_and_evaluated(
    other_package: None, here: Callable[..., None], hopper_file: Path, tmp_path: Path, capsys: Any
) -> None:
    with pytest.warns(UserWarning, match="is left out") as warned, pytest.raises(SystemExit) as stop:
        here("train", "--help")
    assert stop.value.code == 0
    said = [str(each.message) for each in warned]
    assert len(said) == len(LEFT_OUT)
    for name, why in LEFT_OUT.items():
        (message,) = [each for each in said if f"{name!r}" in each]
        assert message.startswith(f"the agent {name!r} of others is left out: {why}")
    shown = capsys.readouterr().out
    assert "mimic-small  Cloning of another package." in shown
    words = ("--dataset", hopper_file, "--env", "Hopper-v5", "--updates", 10, "--eval-episodes", 1, "--batch-size", 8)
    for name, sizes in (("mimic", [256, 256]), ("mimic-small", [5])):
        here("train", name, *words, "--out", tmp_path / name)
        assert json.loads((tmp_path / name / "config.json").read_text())["config"]["hidden_sizes"] == sizes
        here("evaluate", tmp_path / name, "--episodes", 1, "--out", tmp_path / f"{name}-played")
        (row,) = json.loads((tmp_path / f"{name}-played" / "results.json").read_text())["rows"]
        assert row["agent"] == name
