"""What trainings will cost, by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from orl.agents import SAC, SPEQ_PRESET, TD3BC, IQLConfig, TD3BCConfig
from orl.agents.sac import DROQ_PRESET
from orl.scripts.benchmarks.prices import Kind, Price, counts, predict, read_prices, write_prices
from orl.scripts.commands.train import Train

SMALL: dict[str, Any] = {"hidden_sizes": (128, 128), "batch_size": 128, "execution": "compile"}
PIECES: dict[Kind, float] = {"update": 30.0, "critic_update": 20.0, "phase_update": 10.0, "step": 1.0}


def training(agent: str, config: Any, **options: Any) -> Train[Any]:
    return Train(dataclasses.replace(config, **SMALL), agent=agent, **options)


def price(kind: Kind, milliseconds: float, **other: Any) -> Price:
    fields = {"agent": "droq", "device": "cpu", "execution": "compile", "hidden_sizes": (128, 128), "batch_size": 128}
    fields |= {"learners": 10, "env": "Hopper-v5" if kind == "step" else None}
    return Price(kind=kind, milliseconds=milliseconds, **fields | other)  # type: ignore[arg-type]


PRICES = [price(kind, milliseconds) for kind, milliseconds in PIECES.items()]


def test_updates_steps_and_phases_are_counted() -> None:
    speq = training("speq", SPEQ_PRESET, env="Hopper-v5", steps=100_000, seeds=10)
    assert counts(speq) == {"update": 95_000, "phase_update": 9 * 75_000, "step": 100_000}  # none after the last step
    droq = dataclasses.replace(DROQ_PRESET, utd_ratio=8.105263, policy_delay=8)
    counted = counts(training("droq", droq, env="Hopper-v5", steps=100_000, seeds=10))
    assert counted == {"update": 769_999 / 8, "critic_update": 769_999 * 7 / 8, "step": 100_000}
    assert counts(training("td3bc", TD3BCConfig(), dataset="hop.npz", updates=50)) == {
        "update": 25,
        "critic_update": 25,
    }
    assert TD3BC.algorithm() != SAC.algorithm()


def test_a_prediction_by_hand() -> None:
    speq = training("speq", SPEQ_PRESET, env="Hopper-v5", steps=100_000, seeds=10)
    prices = [dataclasses.replace(each, agent="speq") for each in PRICES]
    hours, note = dataclasses.astuple(predict(speq, "Hopper-v5", prices, "cpu"))
    assert hours == pytest.approx((95_000 * 30 + 675_000 * 10 + 100_000) / 3.6e6)
    assert note == ""


def test_the_nearest_price_is_taken_and_named() -> None:
    speq = training("speq", SPEQ_PRESET, env="Walker2d-v5", steps=100_000, seeds=10)
    predicted = predict(speq, "Walker2d-v5", [*PRICES, price("update", 99.0, hidden_sizes=(256, 256))], "cpu")
    assert predicted.core_hours == pytest.approx((95_000 * 30 + 675_000 * 10 + 100_000) / 3.6e6)
    assert predicted.note == (
        "update by that of agent droq; phase update by that of agent droq; step by that of agent droq, env Hopper-v5"
    )


@pytest.mark.parametrize(("learners", "expected"), [(1, 5.0), (4, 11.0), (10, 23.0), (30, 69.0)])
def test_between_two_populations_prices_lie_on_a_line(learners: int, expected: float) -> None:
    prices = [price("update", 5.0, agent="iql", learners=1), price("update", 23.0, agent="iql", learners=10)]
    iql = training("iql", IQLConfig(), dataset="hop.npz", updates=3_600_000, seeds=learners)
    predicted = predict(iql, "Hopper-v5", prices, "cpu")
    assert predicted.core_hours == pytest.approx(expected)
    assert ("1 and 10 learners" in predicted.note) == (learners == 4)


def test_without_a_price_there_is_no_prediction() -> None:
    iql = training("iql", IQLConfig(), dataset="hop.npz", updates=10)
    assert predict(iql, "Hopper-v5", PRICES, "cpu").note == "no price of an update of iql on cpu"
    assert predict(iql, "Hopper-v5", [], "cpu").core_hours is None
    droq = training("droq", DROQ_PRESET, env="Hopper-v5", steps=6_000)
    without_steps = [each for each in PRICES if each.kind != "step"]
    assert "environment steps not counted" in predict(droq, "Hopper-v5", without_steps, "cpu").note
    assert predict(droq, "Hopper-v5", PRICES, "cuda").core_hours is None


def test_prices_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    assert read_prices(path) == []
    write_prices(path, PRICES, {"cores": 2})
    assert read_prices(path) == PRICES
    wrong = {"prices": [dataclasses.asdict(PRICES[0]) | {"hiden_sizes": [1]}]}
    path.write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match=r"'hiden_sizes' is no entry of a price; did you mean hidden_sizes\?"):
        read_prices(path)
    path.write_text(json.dumps({"prices": [{"agent": "sac"}]}))
    with pytest.raises(ValueError, match="a price without kind, device, execution"):
        read_prices(path)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no prices; give what `orl speed` wrote"):
        read_prices(path)


def test_auto_is_priced_as_what_it_runs() -> None:
    prices = [price("update", 1.0, agent="iql", device=device, execution="eager") for device in ("cpu", "cuda")]
    prices += [dataclasses.replace(each, execution="graph", milliseconds=2.0) for each in prices]
    iql = training("iql", IQLConfig(hidden_sizes=(128, 128), batch_size=128), dataset="hop.npz", updates=3_600_000)
    iql = dataclasses.replace(iql, seeds=10, config=dataclasses.replace(iql.config, execution="auto"))
    assert predict(iql, "Hopper-v5", prices, "cpu").core_hours == 2.0
    assert predict(iql, "Hopper-v5", prices, "cuda").core_hours == 1.0
