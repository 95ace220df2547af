"""`orl speed` with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


def test_speed(orl: Any, tmp_path: Path) -> None:
    out = tmp_path / "speed"
    ended = orl("speed", "--populations", 1, 2, "--repeats", 1, "--updates", 1, "--executions", "eager", "--out", out)
    assert "TD3BC update" in ended.stdout
    assert (out / "speed.png").stat().st_size > 10_000
    results = json.loads((out / "results.json").read_text())
    assert results["machine"]["threads"] == 1
    rows = results["rows"]
    raced = {(row["what"], row["contender"]) for row in rows}
    assert {("SAC update", "SB3"), ("IQL update", "orl, eager, 2 learners")} <= raced
    assert ("stabilization update", "matrix products alone, 2 learners") in raced
    assert ("DroQ, 20 updates a step", "plain modules") in raced
    assert ("step of orl/Racing-v0", "256 cars") in raced
    bases = [row["ratio"] for row in rows if row.get("against") == row["contender"]]
    assert bases == pytest.approx([1.0] * 7)
    for row in rows:
        assert row["milliseconds"] > 0
        assert row["per_second"] > 0


def test_wrong_numbers_are_refused(refused: Any) -> None:
    assert "1 or more" in refused("speed", "--repeats", 0)
