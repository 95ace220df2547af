"""Updates that can't be recorded or compiled run eagerly, and a record that gives other numbers is never used."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from orl.buffer import Batch, Metrics
from orl.execution import Execution, GraphRunner, run_eagerly, run_updates
from orl.noise import Noise
from orl.program import CompiledProgram, ReplayedProgram

CPU = torch.device("cpu")


class Counter:
    """A sum of rewards, and how often Python was asked for it."""

    def __init__(self) -> None:
        self.total, self.counted = torch.zeros(2), np.zeros((), int)  # NumPy counts where nobody looks
        self.number = 0

    @property
    def calls(self) -> int:
        return int(self.counted)

    def update(self, batch: Batch, noise: Noise, scale: float = 1.0) -> Metrics:
        self.counted += 1
        self.total.add_(batch.rewards.sum(-1) * scale + noise["drift"])
        return {"total": self.total.clone()}

    def views(self, batch: Batch, noise: Noise) -> Metrics:
        self.total.add_(batch.rewards[:, 1:].sum(-1))
        return {"total": self.total.clone()}

    def draws(self, batch: Batch, noise: Noise) -> Metrics:
        self.total.add_(torch.rand(2))
        return {"total": self.total.clone()}

    def asks(self, batch: Batch, noise: Noise) -> Metrics:
        if self.total.sum().item() < 1e9:
            self.total.add_(batch.rewards.sum(-1))
        return {"total": self.total.clone()}

    def alternates(self, batch: Batch, noise: Noise) -> Metrics:
        self.counted += 1
        return {"total": self.total.mul_(self.calls).clone()}

    def counts(self, batch: Batch, noise: Noise) -> Metrics:
        self.number += 1
        return {"total": self.total.add_(self.number).clone()}

    def replaces(self, batch: Batch, noise: Noise) -> Metrics:
        self.total = self.total + batch.rewards.sum(-1)
        return {"total": self.total.clone()}

    def takes(self, batch: Batch, noise: Noise) -> Metrics:
        return {"total": self.total.add_(torch.from_numpy(batch.rewards.numpy().max(-1))).clone()}

    def lists(self, batch: Batch, noise: Noise) -> Metrics:
        return {"total": self.total.add_(torch.tensor(batch.rewards.tolist()).sum(-1)).clone()}

    def measures(self, batch: Batch, noise: Noise) -> Metrics:
        return {"total": self.total.add_(len(batch.rewards[batch.rewards > 9.0])).clone()}


def inputs(updates: int, batch_size: int = 3) -> tuple[Batch, Noise]:
    rewards = torch.arange(updates * 2.0 * batch_size).view(updates, 2, batch_size)
    features = rewards.unsqueeze(-1)
    return Batch(features, features, rewards, features, rewards), {"drift": rewards.mean(-1)}


def totals(execution: Execution, *counts: int, batch_sizes: tuple[int, ...] = (3,)) -> tuple[Tensor, Counter]:
    counter, run = Counter(), run_updates(execution, CPU)
    for count in counts:
        for batch_size in batch_sizes:
            for scale in (1.0, 0.5):
                metrics = run(counter.update, *inputs(count, batch_size), scale)
                assert torch.equal(metrics["total"], counter.total)
    return counter.total, counter


@pytest.mark.parametrize("counts", [(1,) * 9, (2, 1, 16, 5), (16, 16)])
def test_a_graph_does_what_eager_updates_do_in_pieces_of_any_size(counts: tuple[int, ...]) -> None:
    eager, graph, auto = (totals(execution, *counts) for execution in ("eager", "graph", "auto"))
    assert torch.equal(eager[0], graph[0])
    assert torch.equal(eager[0], auto[0])
    assert eager[1].calls == 2 * sum(counts)
    assert graph[1].calls == auto[1].calls == 2 * (GraphRunner.FIRST_UPDATES + 1)  # both kinds, the recorded one too


def test_other_shapes_are_recorded_anew() -> None:
    eager, graph = (totals(execution, 3, 3, batch_sizes=(3, 4, 1)) for execution in ("eager", "graph"))
    assert torch.equal(eager[0], graph[0])
    assert graph[1].calls == 6 * (GraphRunner.FIRST_UPDATES + 1)


def test_inputs_of_another_layout_or_kind_are_recorded_anew() -> None:
    """A view of a graph's input is made from the memory that it had when it was recorded."""
    eager, graph, run = Counter(), Counter(), run_updates("graph", CPU)
    batches, noise = inputs(6)
    for change in (
        lambda values: values,
        lambda values: values.mT.contiguous().mT if values.dim() > 2 else values,
        lambda values: values.double(),
    ):
        laid_out = Batch(*map(change, batches[:5])), noise
        run_eagerly(eager.views, *laid_out)
        run(graph.views, *laid_out)
    assert torch.equal(eager.total, graph.total)


def test_eager_execution_calls_the_update_alone() -> None:
    assert run_updates("eager", CPU) is run_eagerly
    assert run_updates("auto", torch.device("cuda")) is run_eagerly  # no graph was ever run there


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("draws", "aten.rand.default draws random numbers"),
        ("asks", "aten._local_scalar_dense.default asks for numbers"),
        ("takes", "numpy asks for numbers"),
        ("lists", "tolist asks for numbers"),
        ("measures", "aten.index.Tensor asks for numbers"),
        ("counts", "Python changes 'number'"),
        ("replaces", "it makes 'total' anew, which can only be changed in place"),
    ],
)
@pytest.mark.parametrize("execution", ["graph", "compile"])
def test_what_can_not_be_recorded_warns_once_and_goes_on(method: str, reason: str, execution: Execution) -> None:
    torch.manual_seed(0)
    eager, graph = Counter(), Counter()
    run_eagerly(getattr(eager, method), *inputs(9))
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=f"updates run eagerly, execution='{execution}' failed: {reason}") as said:
        run_updates(execution, CPU)(getattr(graph, method), *inputs(9))
    assert len(said) == 1
    assert torch.equal(eager.total, graph.total)


def test_automatic_execution_falls_back_silently() -> None:
    counter, run = Counter(), run_updates("auto", CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(counter.asks, *inputs(9))
    assert not run.makes_graphs  # type: ignore[attr-defined]


@pytest.mark.parametrize("execution", ["graph", "compile"])
def test_a_record_that_gives_other_numbers_is_not_used(execution: Execution, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one from which an interpreter dropped an operation: here the last one that writes."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    for program in (ReplayedProgram, CompiledProgram):
        read = program._read

        def without(self: Any, num_inputs: int, results: str, read: Any = read) -> None:
            last = max(i for i, line in enumerate(self.lines) if "add_" in line)
            del self.lines[last]
            read(self, num_inputs, results)

        monkeypatch.setattr(program, "_read", without)
    eager, graph = Counter(), Counter()
    run_eagerly(eager.update, *inputs(9))
    with pytest.warns(UserWarning, match="the update gives other numbers"):
        run_updates(execution, CPU)(graph.update, *inputs(9))
    assert torch.equal(eager.total, graph.total)


def test_without_a_compiler_there_is_one_warning_and_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fails)
    with pytest.warns(UserWarning, match=r"execution='compile' failed: no C\+\+ compiler") as said:
        compiled = totals("compile", 5, 5)
    assert len(said) == 1
    assert torch.equal(compiled[0], totals("eager", 5, 5)[0])


def test_an_update_that_is_another_one_every_time_is_outside_the_contract() -> None:
    """Its record is right where it was taken: `decisions` have to say what Python decides."""
    counter = Counter()
    graph = ReplayedProgram(counter.alternates, *(each for each in _one(inputs(1))))
    assert graph.error is None


def _one(stacked: tuple[Batch, Noise]) -> tuple[Batch, Noise]:
    batch, noise = stacked
    return Batch(*(values[0] for values in batch[:5])), {name: values[0] for name, values in noise.items()}  # type: ignore[index]


def test_the_text_of_a_program_has_a_line_for_each_operation() -> None:
    program = ReplayedProgram(Counter().update, *_one(inputs(1)))
    assert program.error is None
    lines = [line.strip() for line in program.source.splitlines()]
    assert sum("torch.ops.aten.add_(" in line for line in lines) == 1
    assert sum("torch.ops.aten.sum(" in line for line in lines) == 1
