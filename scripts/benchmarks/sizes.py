"""What updates and steps cost by agent, size of the networks, learners and execution, in processor time."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from orl.agent import Agent
from orl.agents import (
    AWAC,
    BC,
    DROQ_PRESET,
    IQL,
    REDQ_PRESET,
    SAC,
    SAC_PRESET,
    SAC_SMALL_PRESET,
    SPEQ_PRESET,
    TD3BC,
)
from orl.agents.phases import Phase
from orl.environment import Spaces
from orl.execution import Execution
from orl.scripts.benchmarks.benchmark_cases import ENVIRONMENT, random_data, updates
from orl.scripts.benchmarks.hardware_bounds import MatrixProducts
from orl.scripts.benchmarks.prices import Kind, Price
from orl.scripts.benchmarks.timing import BenchmarkCase, Work, time_interleaved
from orl.scripts.running.run_directory import JsonObject

STEPS_IN = ("Pendulum-v1", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5")  # environments whose steps have a price
NEVER = sys.maxsize


class Size(NamedTuple):
    """Of networks with two hidden layers."""

    units: int  # of each hidden layer
    batch_size: int
    learners: int

    def __str__(self) -> str:
        return f"{self.units}/{self.batch_size}, {self.learners} learner{'s' if self.learners > 1 else ''}"

    @property
    def work(self) -> int:
        """Multiplications of one product between hidden layers."""
        return self.learners * self.batch_size * self.units**2


def read_sizes(texts: Sequence[str], populations: Sequence[int]) -> list[Size]:
    """Sizes of a command line: `64/64` for each population, `128/256/10` for one of them.

    Raises:
        ValueError: another form, or a number below 1.
    """
    sizes = []
    for text in texts:
        try:
            units, batch_size, *learners = map(int, text.split("/"))
            found = [Size(units, batch_size, each) for each in learners or populations]
        except ValueError:
            found = []
        if not found or len(text.split("/")) > 3 or min(map(min, found)) < 1:
            raise ValueError(f"--sizes {text}: write UNITS/BATCH or UNITS/BATCH/LEARNERS, as 64/64 or 128/256/10")
        sizes += found
    return sizes


class Priced(NamedTuple):
    """An update that has a price."""

    agent: str  # name at the command line
    kind: Kind
    agent_class: type[Agent]
    config: Any
    overrides: dict[str, Any]
    work: Callable[[Any, int], Work]  # so many updates at a time

    @property
    def name(self) -> str:
        """In tables."""
        return f"{self.agent} {self.kind.replace('_', ' ')}"


def _one_by_one(agent: Agent, count: int) -> Work:
    """Updates between which there are steps."""
    one = updates(agent)

    def work() -> None:
        for _ in range(count):
            one()

    return work


def _fit(agent: Agent, count: int) -> Work:
    return lambda: agent.fit(count)


def _phase(agent: Any, count: int) -> Work:
    """Updates of a stabilization phase that never ends."""
    agent.config = replace(agent.config, check_every=count, phase_updates=NEVER)
    phase = Phase(agent, agent.steps, torch.ones(agent.population, dtype=torch.bool, device=agent.device))
    return lambda: phase.advance(agent)


_DROPOUT = {"dropout_rate": 0.01}
_WITH_ACTOR, _CRITICS = {"policy_delay": 1}, {"policy_delay": NEVER}
PRICED = [
    Priced("sac", "update", SAC, SAC_PRESET, {}, _one_by_one),
    Priced("speq", "phase_update", SAC, SPEQ_PRESET, _DROPOUT, _phase),
    Priced("td3bc", "update", TD3BC, None, _WITH_ACTOR, _fit),
    Priced("iql", "update", IQL, None, {}, _fit),
    Priced("sac", "critic_update", SAC, SAC_PRESET, _CRITICS, updates),
    Priced("td3bc", "critic_update", TD3BC, None, _CRITICS, _fit),
    Priced("droq", "update", SAC, DROQ_PRESET, _DROPOUT | _WITH_ACTOR, _one_by_one),
    Priced("droq", "critic_update", SAC, DROQ_PRESET, _DROPOUT | _CRITICS, updates),
    Priced("redq", "update", SAC, REDQ_PRESET, _WITH_ACTOR, _one_by_one),
    Priced("redq", "critic_update", SAC, REDQ_PRESET, _CRITICS, updates),
    Priced("awac", "update", AWAC, None, {}, _fit),
    Priced("bc", "update", BC, None, {}, _fit),
]


def time_updates(
    each: Priced, size: Size, executions: Sequence[Execution], device: torch.device, turns: int
) -> list[JsonObject]:
    """Rows of all executions of an update at one size; the products alone stand beside that of a phase."""
    what, on_cpu = f"{each.name}, {size}", device.type == "cpu"
    count = 16 if size.work <= 10 * 128**3 else 4  # updates of one repetition
    cases, executed = {}, {}
    for execution in executions:
        agent, name = _agent(each, size, execution, device), f"orl, {execution}"
        cases[name], executed[name] = BenchmarkCase(each.work(agent, count), size.learners, count), execution
    if each.kind == "phase_update":
        sizes = Spaces.of(ENVIRONMENT).observation_size, Spaces.of(ENVIRONMENT).action_size, size.learners, device
        products = MatrixProducts(*sizes, units=size.units, batch_size=size.batch_size)
        cases["matrix products alone"] = BenchmarkCase(products, size.learners)
    rows = time_interleaved(what, cases, next(iter(cases), None), None, turns, by_processor=on_cpu)
    for row in rows:
        if row["case"] in executed:
            row |= {"agent": each.agent, "kind": each.kind, "execution": executed[row["case"]], **size._asdict()}
    return rows


def _agent(each: Priced, size: Size, execution: Execution, device: torch.device) -> Any:
    sizes = {"hidden_sizes": (size.units, size.units), "batch_size": size.batch_size}
    with warnings.catch_warnings(action="ignore"):  # an execution that can't be had, an unknown task
        return each.agent_class(
            random_data(),
            each.config,
            seed=list(range(size.learners)),
            device=str(device),
            execution=execution,
            **sizes,
            **each.overrides,
        )


def time_collecting(populations: Sequence[int], turns: int) -> list[JsonObject]:
    """Rows of environment steps, with acting and storing, of SAC with small networks on the CPU."""
    rows = []
    for env in STEPS_IN:
        cases, learners_of = {}, {}
        for learners in populations:
            with warnings.catch_warnings(action="ignore"):  # of an unknown task
                config = replace(SAC_SMALL_PRESET, buffer_size=100_000, learning_starts=0)
                agent = SAC(env, config, seed=list(range(learners)), device="cpu")
            agent.connect()
            name = f"orl, {learners} learner{'s' if learners > 1 else ''}"
            cases[name], learners_of[name] = BenchmarkCase(agent.collect, learners), learners
        for row in time_interleaved(f"step in {env}", cases, None, None, turns):
            about = Size(SAC_SMALL_PRESET.hidden_sizes[0], SAC_SMALL_PRESET.batch_size, learners_of[row["case"]])
            rows.append(row | {"agent": "sac", "kind": "step", **about._asdict(), "env": env})
    return rows


def prices_of(rows: Sequence[JsonObject], executions: Sequence[str]) -> list[Price]:
    """Prices, of rows that were timed on a CPU; those of a step hold for every execution."""
    return [
        Price(
            row["agent"],
            row["kind"],
            "cpu",
            execution,
            (row["units"],) * 2,
            row["batch_size"],
            row["learners"],
            row["processor_milliseconds"],
            row.get("env"),
        )
        for row in rows
        if "kind" in row
        for execution in ([row["execution"]] if "execution" in row else executions)
    ]
