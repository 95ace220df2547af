"""`orl speed` with tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from orl.agents import IQL, TD3BC
from orl.scripts.benchmarks.baselines import Baselines
from orl.scripts.benchmarks.benchmark_cases import random_data, updates
from orl.scripts.benchmarks.plain_agents import PlainIQL, PlainTD3BC
from orl.scripts.benchmarks.timing import BenchmarkCase, machine
from orl.scripts.commands.speed import Speed


def test_speed(orl: Any, tmp_path: Path) -> None:
    """With a package that answers, and one that is not installed."""
    python = tmp_path / "peers" / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nwhile read -r line; do echo done; done\n")
    python.chmod(0o755)
    words = ("--populations", 1, 2, "--repeats", 1, "--updates", 1, "--executions", "eager", "--device", "cpu")
    out = tmp_path / "speed"
    ended = orl("speed", *words, "--baselines", tmp_path / "peers", "--out", out)
    for said in ("TD3BC update", "10/10", "not installed", "not measured here"):
        assert said in ended.stdout
    assert (out / "speed.png").stat().st_size > 10_000
    results = json.loads((out / "results.json").read_text())
    assert results["machine"]["threads"] == 1
    rows = results["rows"]
    raced = {(row["what"], row["case"]): row for row in rows}
    assert {("SAC update", "SB3"), ("IQL update", "orl, eager, 2 learners")} <= raced.keys()
    for bound in ("matrix products", "memory traffic"):
        assert ("stabilization update", f"{bound} alone, 2 learners") in raced
    assert ("DroQ, 20 updates a step", "plain modules") in raced
    assert ("HyperZero update", "orl, eager, 1 learner") in raced
    assert ("SAC update in 20 contexts", "orl, together") in raced
    assert ("step of orl/Racing-v0", "256 cars") in raced
    assert raced["SAC update", "sbx"]["ratio"] > 1  # it does nothing
    assert raced["IQL update", "d3rlpy"]["note"] == "not installed"
    bases = [row["ratio"] for row in rows if row.get("against") == row["case"]]
    assert bases == pytest.approx([1.0] * 9)
    for row in rows:
        if "note" in row:
            assert row["milliseconds"] is None
        else:
            assert row["milliseconds"] > 0
            assert row["per_second"] > 0
            assert ("processor_milliseconds" in row) == (row["case"] != "sbx")


def test_a_package_whose_process_ends_is_named(tmp_path: Path) -> None:
    python = tmp_path / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    peers = Baselines(tmp_path, [1, 1, 1], 1)
    contender = peers.case("sbx SAC")
    assert contender is not None
    with pytest.raises(ValueError, match=r"ended; run `echo \| .*python .*baseline_worker.py 'sbx SAC' 1 1 1 1` to"):
        contender.work()
    peers.close()
    assert peers.case("d3rlpy IQL") is None


@pytest.mark.parametrize(("kind", "plain"), [(TD3BC, PlainTD3BC), (IQL, PlainIQL)])
def test_plain_formulations_move_every_network(kind: Any, plain: Any) -> None:
    formulation = plain(random_data())
    networks = [formulation.actor, *formulation.critics, *formulation.targets]
    before = [[parameter.clone() for parameter in network.parameters()] for network in networks]
    formulation.update()
    formulation.update()
    for network, old in zip(networks, before, strict=True):
        assert not any(map(torch.equal, network.parameters(), old))
    assert sum(p.numel() for p in formulation.actor.parameters()) == sum(
        p.numel() for p in kind(random_data()).actor.network.parameters()
    )


def test_wrong_numbers_are_refused(refused: Any) -> None:
    assert "1 or more" in refused("speed", "--repeats", 0)


def test_a_population_that_does_not_fit_has_a_row_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_: Any) -> Any:
        raise MemoryError("too large")

    speed = Speed(populations=(1, 2), executions=("eager",), repeats=1, updates=1, device="cpu")
    contenders = speed._ours(TD3BC, None, lambda agent: refuses(agent) if agent.population > 1 else updates(agent))
    rows = {row["case"]: row for row in speed._time("TD3BC update", contenders, "orl, eager, 1 learner")}
    assert rows["orl, eager, 1 learner"]["ratio"] == pytest.approx(1.0)
    assert rows["orl, eager, 2 learners"]["note"] == "does not fit in memory"


def test_every_batch_has_rows_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same ones again would lie in the processor's cache."""
    raced: dict[str, Any] = {}
    monkeypatch.setattr(Speed, "_time", lambda _, what, contenders, *__: raced.update({what: contenders}) or [])
    Speed(repeats=1, updates=1, device="cpu")._others()
    for name, contender in raced["batch of 256"].items():
        assert not torch.equal(contender.work().rewards, contender.work().rewards), name


def test_other_packages_work_on_cpus_and_race_no_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nwhile read -r line; do [ "$JAX_PLATFORMS" = cpu ] && echo done; done\n')
    python.chmod(0o755)
    speed, ours = Speed(baselines=tmp_path, repeats=1), {"SB3": BenchmarkCase(lambda: None)}
    rows = speed._time("SAC update", ours, "SB3", {"sbx": "sbx SAC"}, 1)
    assert [row["case"] for row in rows if row["milliseconds"]] == ["SB3", "sbx"]
    monkeypatch.setattr("orl.scripts.commands.speed.pick_device", lambda _: torch.device("cuda"))
    assert [row.get("note") for row in speed._time("SAC update", ours, "SB3", {"sbx": "sbx SAC"}, 1)] == [
        None,
        "timed on CPUs alone",
    ]


def test_what_was_measured_on_a_cpu_is_not_called_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "H100")
    assert machine(torch.device("cpu"))["cuda"] is None
    assert machine(torch.device("cuda"))["cuda"] == "H100"


def test_all_turns_have_as_many_updates_of_the_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """TD3+BC has one in every second update; where it is compiled, the first turn, which does not count, does that."""
    raced: dict[str, tuple[Any, ...]] = {}
    monkeypatch.setattr(Speed, "_time", lambda _, what, *rest: raced.update({what: rest}) or [])
    for asked, even in ((1, 2), (10, 10)):
        Speed(populations=(1,), executions=("eager",), updates=asked, device="cpu")._offline()
        assert raced["TD3BC update"][-1] == even
