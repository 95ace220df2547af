"""How updates run: from Python, as graphs that are replayed without it, or compiled.

`graph` records an update once and replays it: on a CPU its operations, bit for bit the ones that Python would call
(`orl.program`), on CUDA its kernels. `compile` fuses the recorded operations, which changes the last digits.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from orl import torch_private
from orl.buffer import Batch, Metrics
from orl.noise import Noise, of_updates, tensors_of
from orl.program import CompiledProgram, ReplayedProgram

Execution = Literal["auto", "eager", "graph", "compile"]
Update = Callable[..., Metrics]  # of a batch, of random numbers, and of what Python decides
R = TypeVar("R")


def run_updates(execution: Execution, device: torch.device) -> Callable[..., Metrics]:
    """What does an agent's updates.

    Args:
        execution: one of four; where a graph can't be had, "auto" says nothing.
        device: of the agent.
    """
    return run_eagerly if chosen_execution(execution, device) == "eager" else GraphRunner(execution, device)


def chosen_execution(execution: Execution, device: torch.device) -> Execution:
    """What "auto" stands for: "graph" on a CPU, "eager" elsewhere."""
    return execution if execution != "auto" else "graph" if device.type == "cpu" else "eager"


def run_eagerly(update: Update, batches: Batch, noise: Noise, *decisions: Hashable) -> Metrics:
    """Do updates one after the other; the metrics of the last.

    Args:
        update: a method that changes tensors in place, and decides nothing in Python that `decisions` do not say.
        batches: (n, P, ...), of n updates.
        noise: their random numbers.
        decisions: further arguments of all of them, such as whether the actor is updated.
    """
    metrics: Metrics = {}
    for i in range(len(batches.rewards)):
        batch = Batch(*(values if values is None else values[i] for values in batches))  # type: ignore[arg-type]
        metrics = update(batch, {name: values[i] for name, values in noise.items()}, *decisions)
    return metrics


class Graph(Protocol):
    """An update that was done and can be done again without the Python that it is made of.

    Attributes:
        metrics: of the update that was done.
        error: why it can't be done again.
    """

    metrics: Metrics
    error: BaseException | None

    def __init__(self, update: Update, batch: Batch, noise: Noise, *decisions: Hashable) -> None: ...

    def __call__(self, inputs: Sequence[Tensor]) -> Metrics:
        """Do n updates with inputs (n, P, ...); the metrics of the last."""
        ...

    def is_current(self, owner: Any) -> bool:
        """Whether the update's object still has what the graph works on."""
        ...


class GraphRunner:
    """Does updates as graphs, one of each kind and shape, after a few that run eagerly.

    A graph whose tensors or settings were replaced is made anew, after twice as many eager updates each time. What
    cannot be had is said once, unless the execution is "auto"; from then on updates run eagerly.

    Args:
        execution: "auto", "graph" or "compile".
        device: of the agent.
    """

    FIRST_UPDATES = 3  # of a kind, eagerly; as many as torch's own `make_graphed_callables` has

    def __init__(self, execution: Execution, device: torch.device) -> None:
        self.execution, self.device, self.makes_graphs = execution, device, True
        self.counts: dict[tuple[Hashable, ...], int] = {}  # of eager updates, by name, decisions and inputs
        self.first: dict[tuple[Hashable, ...], int] = {}  # how many there are before a graph, where one was replaced
        self.graphs: dict[tuple[Hashable, ...], Graph] = {}

    def __call__(self, update: Update, batches: Batch, noise: Noise, *decisions: Hashable) -> Metrics:
        """As `run_eagerly`."""
        if not self.makes_graphs:
            return run_eagerly(update, batches, noise, *decisions)
        inputs = tensors_of(batches, noise)
        kind = update.__name__, decisions, *((values.dtype, values.shape[1:], values.stride()[1:]) for values in inputs)
        if kind in self.graphs:
            if self.graphs[kind].is_current(getattr(update, "__self__", None)):
                return self.graphs[kind](inputs)
            del self.graphs[kind]
            self.counts[kind], self.first[kind] = 0, 2 * self.first.get(kind, self.FIRST_UPDATES)
        first, rest = of_updates(batches, noise, 0), of_updates(batches, noise, slice(1, None))
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if self.counts[kind] > self.first.get(kind, self.FIRST_UPDATES):
            metrics = self._make_graph(kind, update, *first, *decisions)
        elif is_captured(self.execution, self.device):
            metrics = CudaGraph(self.device).warm_up(lambda: update(*first, *decisions))
        else:
            metrics = update(*first, *decisions)
        return self(update, *rest, *decisions) if len(rest[0].rewards) else metrics

    def _make_graph(
        self, kind: tuple[Hashable, ...], update: Update, batch: Batch, noise: Noise, *decisions: Hashable
    ) -> Metrics:
        """Do an update and make its graph."""
        make: type[Graph] = CompiledProgram if self.execution == "compile" else ReplayedProgram
        if is_captured(self.execution, self.device):
            make = CapturedUpdate
        graph = make(update, batch, noise, *decisions)
        if graph.error is None:
            self.graphs[kind] = graph
            return graph.metrics
        self.makes_graphs = False
        self.graphs.clear()
        if self.execution != "auto":
            warnings.warn(f"updates run eagerly, execution={self.execution!r} failed: {graph.error}", stacklevel=4)
        return graph.metrics

    def __getstate__(self) -> dict[str, Any]:  # for copies: graphs compute on the memory of this agent
        return {**self.__dict__, "graphs": {}, "counts": {}}


def is_captured(execution: Execution, device: torch.device) -> bool:
    """Whether graphs are lists of kernels."""
    return device.type == "cuda" and execution != "compile"


class CapturedUpdate:
    """An update whose kernels were captured."""

    def __init__(self, update: Update, batch: Batch, noise: Noise, *decisions: Hashable) -> None:
        self.graph = CudaGraph(batch.rewards.device)
        self.error: BaseException | None = None
        fields = (None if values is None else values.clone() for values in batch)
        copies = Batch(*fields), {name: values.clone() for name, values in noise.items()}  # type: ignore[arg-type]
        self.inputs = tensors_of(*copies)  # where the graph reads
        self.names: list[str] = []  # of the metrics
        try:
            self.values = self.graph.capture(lambda: self._stacked(update(*copies, *decisions)))  # of the metrics
        except Exception as error:  # whatever a capture can fail with; what comes of it hides the cause
            self.error = error.__context__ or error
            self.metrics = update(batch, noise, *decisions)
        else:
            self.metrics = self([values[None] for values in self.inputs])

    def __call__(self, inputs: Sequence[Tensor]) -> Metrics:
        """Do updates; the metrics of the last are the caller's."""
        for of_update in zip(*(values.unbind() for values in inputs), strict=True):
            torch_private.foreach_copy(self.inputs, list(of_update))
            self.graph.replay()
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))

    def is_current(self, owner: Any) -> bool:
        """Taken for granted: nobody knows what kernels work on (decision 0013)."""
        return True

    def _stacked(self, metrics: Metrics) -> Tensor:
        self.names = list(metrics)
        return torch.stack(list(metrics.values()))


class CudaGraph:
    """What a function does on a CUDA device, to be done again without Python."""

    def __init__(self, device: torch.device) -> None:
        self.stream = _stream(device)
        self.graph: Any = None

    def warm_up(self, function: Callable[[], R]) -> R:
        """Call the function as it is, on the stream that others like it will be captured on."""
        present = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(present)
        try:
            with torch.cuda.stream(self.stream):
                return function()
        finally:
            present.wait_stream(self.stream)

    def capture(self, function: Callable[[], R]) -> R:
        """Take down what the function does, which does nothing yet; its results are filled by every replay."""
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self.stream), torch.cuda.graph(self.graph, stream=self.stream):
            return function()

    def replay(self) -> None:
        """Do it."""
        self.graph.replay()


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures on a device: libraries keep memory for every stream that they have seen."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
