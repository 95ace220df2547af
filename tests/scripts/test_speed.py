"""`orl speed` with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_speed(orl: Any, tmp_path: Path) -> None:
    out = tmp_path / "speed"
    ended = orl("speed", "--populations", 1, 2, "--repeats", 1, "--updates", 1, "--out", out)
    assert "update: TD3BC, 2 learners" in ended.stdout
    results = json.loads((out / "results.json").read_text())
    assert results["machine"]["threads"] == 1
    rows = results["rows"]
    names = {row["what"] for row in rows}
    assert {"update: SB3 SAC", "update: TD3BC, 1 learner", "update: IQL, 2 learners"} <= names
    assert "step of orl/Racing-v0, 256 cars" in names
    for row in rows:
        assert row["milliseconds"] > 0
        assert row["per_second"] > 0


def test_wrong_numbers_are_refused(refused: Any) -> None:
    assert "1 or more" in refused("speed", "--repeats", 0)
