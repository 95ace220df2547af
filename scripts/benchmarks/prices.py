"""What pieces of training cost in processor time, and what a training will cost by them.

`orl speed` writes a table of prices, `orl benchmark` predicts with it. The file is JSON:

    {"machine": {...}, "prices": [
      {"agent": "sac", "kind": "update", "device": "cpu", "execution": "graph", "hidden_sizes": [128, 128],
       "batch_size": 128, "learners": 10, "env": null, "milliseconds": 15.0}]}
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from orl import checkpoint
from orl.execution import chosen_execution
from orl.scripts.running.registry import presets
from orl.scripts.running.run_directory import JsonObject
from orl.scripts.running.training_run import Training
from orl.spelling import did_you_mean
from orl.training import updates_due

Kind = Literal["update", "critic_update", "phase_update", "step"]
HOUR = 3.6e6  # milliseconds


@dataclass(frozen=True)
class Price:
    """Processor time of one piece of training, of all learners together."""

    agent: str  # name at the command line, such as "droq"
    kind: Kind
    """`update`: batch, random numbers and gradient step, with the actor's. `critic_update`: without the actor's.
    `phase_update`: one of a stabilization phase. `step`: of the environment, with acting and storing, without updates.
    """
    device: str  # "cpu" or "cuda"
    execution: str  # that ran it: "eager", "graph", "compile"
    hidden_sizes: tuple[int, ...]  # of the networks
    batch_size: int  # transitions per update and learner
    learners: int  # side by side
    milliseconds: float  # of processor time, all threads, all learners
    env: str | None = None  # of a `step`


@dataclass(frozen=True)
class Prediction:
    """What a training will cost."""

    core_hours: float | None  # of training alone, without evaluations; None: nothing has a price
    note: str  # which prices are not those of this very training; empty where all are


def write_prices(path: Path, prices: Iterable[Price], machine: JsonObject) -> None:
    """Write a table of prices, with the machine that they hold on."""
    checkpoint.write_json(path, {"machine": machine, "prices": [dataclasses.asdict(price) for price in prices]})


def read_prices(path: Path) -> list[Price]:
    """The prices of a file; none where it is not there.

    Raises:
        ValueError: an entry that is none.
    """
    if not path.exists():
        return []
    content = checkpoint.read_json(path)
    names = [field.name for field in dataclasses.fields(Price)]
    if not isinstance(content, dict) or "prices" not in content:
        raise ValueError(f"{path}: no prices; give what `orl speed` wrote")
    prices = []
    for entry in content["prices"]:
        for name in entry:
            if name not in names:
                raise ValueError(f"{path}: {name!r} is no entry of a price; {did_you_mean(name, names)}")
        if missing := [name for name in names if name not in entry and name != "env"]:
            raise ValueError(f"{path}: a price without {', '.join(missing)}; let `orl speed` write the file anew")
        if entry["kind"] not in get_args(Kind):
            raise ValueError(f"{path}: kind {entry['kind']!r}; {did_you_mean(entry['kind'], get_args(Kind))}")
        prices.append(Price(**entry | {"hidden_sizes": tuple(entry["hidden_sizes"])}))
    return prices


def predict(training: Training[Any], env: str, prices: Sequence[Price], device: str) -> Prediction:
    """Core-hours of a training: its updates and steps, each at the price of the nearest that was measured.

    Args:
        training: the options of `orl train`.
        env: Gymnasium id that it acts in.
        prices: of this machine.
        device: "cpu" or "cuda".
    """
    total, notes = 0.0, []
    for kind, count in counts(training).items():
        found = _price(training, kind, env, prices, device)
        if found is None and kind == "step":  # small beside the updates
            notes.append("environment steps not counted")
        elif found is None:
            piece = f"{'an' if kind == 'update' else 'a'} {kind.replace('_', ' ')}"
            return Prediction(None, f"no price of {piece} of {training.agent} on {device}")
        else:
            total += count * found[0]
            notes += [found[1]] if found[1] else []
    if getattr(training.config, "length", "fixed") != "fixed":
        notes.append("phases at their longest")
    return Prediction(total / HOUR, "; ".join(dict.fromkeys(notes)))


def counts(training: Training[Any]) -> dict[Kind, float]:
    """How often each kind of piece comes in a training, without those that never do."""
    config, steps = training.config, training.num_steps
    updates = training.num_updates
    if steps:
        updates += updates_due(config.utd_ratio, config.learning_starts, 0, steps)
    with_actor = updates / getattr(config, "policy_delay", 1)
    per_phase, period = getattr(config, "phase_updates", 0), getattr(config, "period", 0)
    in_phases = per_phase * ((steps - 1) // period) if steps and per_phase and period else 0
    pieces: dict[Kind, float] = {
        "update": with_actor, "critic_update": updates - with_actor, "phase_update": in_phases, "step": steps
    }  # fmt: skip
    return {kind: count for kind, count in pieces.items() if count}


def _price(
    training: Training[Any], kind: Kind, env: str, prices: Sequence[Price], device: str
) -> tuple[float, str] | None:
    """Milliseconds of a piece, and a note where they are of something else; None where nothing like it has a price."""
    wanted = _wanted(training, kind, env, device)
    algorithms = {name: preset.agent_class.algorithm() for name, preset in presets().items()}
    of_its_class = [price for price in prices if algorithms.get(price.agent) == algorithms[training.agent]]
    alike = [price for price in of_its_class if (price.kind, price.device) == (kind, device)]
    if not alike:
        return None
    nearest = min(alike, key=lambda price: _distance(price, wanted))
    as_many = [dataclasses.replace(price, learners=nearest.learners, milliseconds=0.0) for price in alike]
    of_nearest = dataclasses.replace(nearest, milliseconds=0.0)
    same = sorted((p.learners, p.milliseconds) for p, one in zip(alike, as_many, strict=True) if one == of_nearest)
    milliseconds = _interpolated(same, wanted.learners)
    differing = [
        f"{name.replace('_', ' ')} {_text(getattr(nearest, name))}"
        for name in ("agent", "execution", "hidden_sizes", "batch_size", "env")
        if getattr(nearest, name) != getattr(wanted, name)
    ]
    if wanted.learners not in dict(same):
        differing.append(f"{' and '.join(str(learners) for learners, _ in _around(same, wanted.learners))} learners")
    return milliseconds, f"{kind.replace('_', ' ')} by that of {', '.join(differing)}" if differing else ""


def _wanted(training: Training[Any], kind: Kind, env: str, device: str) -> Price:
    config = training.config
    sizes = getattr(config, "hidden_sizes", None) or (getattr(config, "critic_width", 256),) * 2
    execution = chosen_execution(config.execution, torch.device(device))
    return Price(
        training.agent, kind, device, execution, tuple(sizes), config.batch_size,
        training.launching.side_by_side(training.seeds), 0.0, env if kind == "step" else None,
    )  # fmt: skip


def _distance(price: Price, wanted: Price) -> tuple[float, ...]:
    """First what changes a price most: sizes of the networks and the batch, then execution, agent and learners."""
    sizes = abs(math.log(sum(price.hidden_sizes) / sum(wanted.hidden_sizes)))
    batch = abs(math.log(price.batch_size / wanted.batch_size))
    return (
        sizes + batch, price.env != wanted.env, price.execution != wanted.execution, price.agent != wanted.agent,
        abs(math.log(price.learners / wanted.learners)),
    )  # fmt: skip


def _around(same: Sequence[tuple[int, float]], learners: int) -> list[tuple[int, float]]:
    """The two prices on both sides of a number of learners, or the outermost one."""
    below = [price for price in same if price[0] <= learners][-1:]
    return below + [price for price in same if price[0] > learners][:1]


def _interpolated(same: Sequence[tuple[int, float]], learners: int) -> float:
    """Between two populations along a line; of more learners than were measured, as much for each."""
    around = _around(same, learners)
    (few, low), (many, high) = around[0], around[-1]
    if few == many:
        return low * max(learners / few, 1.0)
    return low + (high - low) * (learners - few) / (many - few)


def _text(value: object) -> str:
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)
