"""`orl speed` with tiny settings."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from orl.agents import IQL, TD3BC
from orl.scripts.benchmarks import baseline_worker
from orl.scripts.benchmarks.baselines import Baselines
from orl.scripts.benchmarks.benchmark_cases import random_data, updates
from orl.scripts.benchmarks.pendulum import contenders, time_to_solve
from orl.scripts.benchmarks.plain_agents import PlainIQL, PlainTD3BC
from orl.scripts.benchmarks.prices import Price, read_prices
from orl.scripts.benchmarks.sizes import STEPS_IN
from orl.scripts.benchmarks.timing import BenchmarkCase, machine
from orl.scripts.commands.speed import Speed, lay_out
from orl.scripts.figures.speed import speed_figure


def test_speed(orl: Any, tmp_path: Path) -> None:
    """With a package that answers, and one that is not installed."""
    python = tmp_path / "peers" / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\nwhile read -r line; do echo done; done\n")
    python.chmod(0o755)
    words = (
        "--parts",
        "packages",
        "--populations",
        1,
        2,
        "--repeats",
        1,
        "--updates",
        1,
        "--executions",
        "eager",
        "--device",
        "cpu",
    )
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


def test_small_updates_steps_and_prices(here: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--parts", "sizes", "learn", "--populations", 1, "--repeats", 1, "--sizes", "8/8", "4/8/2")
    here("speed", *words, "--executions", "eager", "--other-version", sys.executable, "--device", "cpu", "--out", "run")
    assert "sac update" in capsys.readouterr().out
    table = (tmp_path / "run" / "tables.md").read_text()
    assert "| update | units/batch | learners | eager, ms | ratio | matrix products alone, ms | ratio |" in table
    assert re.search(r"\| speq phase update \| 4/8 \| 2 \| [\d.]+ \| 1.00 \| [\d.]+ \| [\d.]+ \|", table)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    of_phase = {row["case"]: row for row in rows if row["what"] == "speq phase update, 4/8, 2 learners"}
    assert set(of_phase) == {"orl, eager", "matrix products alone"}
    assert of_phase["matrix products alone"]["ratio"] > of_phase["orl, eager"]["ratio"] == 1
    steps = {row["case"]: row for row in rows if row["what"] == "step of learn(), SAC 64/64"}
    assert set(steps) == {"orl, eager", "orl, other version", "SB3", "sbx", "RLtools", "RLtools with MKL"}
    assert steps["sbx"]["note"] == "not installed"
    assert steps["orl, other version"]["ratio"] == 1
    assert 0.3 < steps["orl, eager"]["ratio"] < 3  # it is the same version
    assert steps["SB3"]["processor_milliseconds"] > 0
    parts = {row["case"]: row["milliseconds"] for row in rows if row["what"].endswith("SAC 64/64, eager")}
    assert list(parts) == ["acting", "environment", "buffer", "drawing and gathering", "update", "the rest"]
    assert parts["update"] > parts["buffer"] > 0

    prices = read_prices(tmp_path / "run" / "prices.json")
    kinds = {(price.agent, price.kind) for price in prices if price.hidden_sizes == (8, 8)}
    assert {("sac", "update"), ("droq", "critic_update"), ("speq", "phase_update"), ("iql", "update")} <= kinds
    (price,) = [p for p in prices if (p.agent, p.kind, p.learners) == ("sac", "update", 2)]
    timed = {row["what"]: row for row in rows if row["case"] == "orl, eager"}["sac update, 4/8, 2 learners"]
    assert price == Price("sac", "update", "cpu", "eager", (4, 4), 8, 2, timed["processor_milliseconds"])
    assert {price.env for price in prices if price.kind == "step"} == set(STEPS_IN)


WORKER = """#!{python}
import json, sys
seed = int(sys.argv[3])
if seed == {fails}:
    sys.exit(1)
print("compiling")
for k in (1, 2):
    value = 100 * k - 350 - {late} * seed
    print(json.dumps(dict(steps=100 * k, seconds=k + 0.5, compiler_seconds=10 * (1 - seed), **{{"return": value}})))
"""


def pendulum(folder: Path, *, fails: int = -1, late: int = 0) -> list[dict[str, Any]]:
    """Rows of two seeds of a package that solves the task at its second evaluation, unless it is late."""
    python = folder / "sbx" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(WORKER.format(python=sys.executable, fails=fails, late=late))
    python.chmod(0o755)
    who = {name: each for name, each in contenders([], folder, None).items() if name != "SB3"}
    return time_to_solve(who, 2, 1, 2)


def test_each_seed_is_charged_with_the_compiler_that_worked_for_the_first(tmp_path: Path) -> None:
    row, *missing = pendulum(tmp_path)
    assert (row["case"], row["solved"], row["compiler_seconds"]) == ("sbx", 2, 10)
    assert (row["seconds"], row["steps"], row["milliseconds_per_step"]) == (12.5, 200, 12.5)
    assert [len(seed["evaluations"]) for seed in row["seeds"]] == [2, 2]
    assert [(each["case"], each["note"]) for each in missing] == [
        ("RLtools", "not installed"),
        ("RLtools with MKL", "not installed"),
    ]
    machine = {"cores": 2, "processor": "x86_64", "threads": 1, "cuda": None}
    (layout,) = lay_out({"rows": [], "machine": machine, "pendulum": [row, *missing]})
    assert layout.cells[0] == ["sbx", "12.5", "10.0", "200", "12.50", "2 of 2"]
    assert layout.cells[1][:2] == ["RLtools", "not installed"]


def test_a_task_that_half_the_seeds_do_not_solve_has_no_median(tmp_path: Path) -> None:
    row = pendulum(tmp_path, late=100)[0]
    assert (row["seconds"], row["note"]) == (None, "solved by 1 of 2 in 15,000 steps")


def test_a_training_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sbx: its process failed; run `.*baseline_worker.py sbx solve 1 1` to see"):
        pendulum(tmp_path, fails=1)


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "results" / "speed").glob("cpu*.json")), ids=str)
def test_stored_results_can_be_drawn(file: Path, tmp_path: Path) -> None:
    speed_figure(json.loads(file.read_text())["rows"], tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_sizes_that_are_none_are_refused(refused: Any, tmp_path: Path) -> None:
    for wrong in ("64", "64/64/1/1", "64/0", "a/b"):
        assert f"--sizes {wrong}: write UNITS/BATCH" in refused("speed", "--sizes", wrong)
    assert "no such file" in refused("speed", "--other-version", tmp_path / "none")


def test_our_training_is_solved_by_its_return(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations count for nothing, and the training ends with the first one that is good enough."""
    monkeypatch.setattr(baseline_worker, "EVALUATE_EVERY", 20)
    monkeypatch.setattr(baseline_worker, "EPISODES", 1)
    monkeypatch.setattr(baseline_worker, "LEARNING_STARTS", 10)
    monkeypatch.setattr(baseline_worker, "SOLVED", -10_000.0)
    (evaluation,) = baseline_worker.solve(baseline_worker.maker("orl-eager"), 0)
    assert evaluation["steps"] == 20
    assert -2_000 < evaluation["return"] < 0 < evaluation["seconds"]
    monkeypatch.setattr(baseline_worker, "SOLVED", 0.0)
    monkeypatch.setattr(baseline_worker, "MOST_STEPS", 60)
    three = list(baseline_worker.solve(baseline_worker.maker("sb3"), 0))
    assert [each["steps"] for each in three] == [20, 40, 60]


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
