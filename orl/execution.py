"""How updates run: operation by operation, with gradients from compiled functions, or whole as CUDA graphs.

All of them give the same numbers up to rounding. Compiling takes seconds to a minute, once per process, method and
shape; torch keeps what it made on disk for the next process. A CUDA graph is the list of an update's kernels, which
the device goes through again without Python; it holds the compiled functions where they compile.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable, Hashable
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

from orl import torch_private
from orl.buffer import Batch, Metrics
from orl.noise import Noise

Execution = Literal["eager", "compile", "graph"]
Update = Callable[..., Metrics]  # of a batch, of random numbers, and of what Python decides
P = ParamSpec("P")
R = TypeVar("R")


def resolve_execution(execution: Execution, device: torch.device) -> Execution:
    """What was asked for, or eager execution where the device has no graphs; that warns."""
    if execution != "graph" or device.type == "cuda":
        return execution
    warnings.warn(f"execution='graph' needs CUDA: on {device} updates run eagerly", stacklevel=4)
    return "eager"


def compilable(method: Callable[P, R]) -> Callable[P, R]:
    """A method, a pure function of tensors and parameters, compiled whole unless `execution` of its `config` is eager.

    What can't be compiled (no C++ compiler, a torch that can't trace gradients) runs eagerly after one warning.
    """

    @functools.wraps(method)
    def run(*arguments: P.args, **names: P.kwargs) -> R:
        owner: Any = arguments[0]
        if owner.config.execution == "eager":
            return method(*arguments, **names)
        compiled: dict[str, Callable[P, R]] = owner.__dict__.setdefault("compiled", {})
        if method.__name__ not in compiled:
            return _first_call(method, compiled, *arguments, **names)
        return compiled[method.__name__](*arguments, **names)

    return run


def _first_call(
    method: Callable[P, R], compiled: dict[str, Callable[P, R]], *arguments: P.args, **names: P.kwargs
) -> R:
    try:
        torch_private.let_compile_trace_gradients()
        graph: Callable[P, R] = torch.compile(  # type: ignore[call-overload]
            method, fullgraph=True, dynamic=False, isolate_recompiles=True
        )
        result = graph(*arguments, **names)
    except Exception as error:  # whatever a compiler can fail with
        warnings.warn(f"{method.__qualname__} runs eagerly, it could not be compiled: {error}", stacklevel=3)
        compiled[method.__name__] = method
        return method(*arguments, **names)
    compiled[method.__name__] = graph
    return result


def run_updates(execution: Execution, device: torch.device) -> Callable[..., Metrics]:
    """What does an agent's updates, given one and its arguments: calls it, or keeps a graph of each kind."""
    return GraphRunner(device) if execution == "graph" else operator.call


class GraphRunner:
    """Does updates as graphs, one of each kind. What can't be captured warns once; from then on updates are called.

    Args:
        device: where.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.makes_graphs = device, True
        self.captured: dict[tuple[Hashable, ...], CapturedUpdate] = {}  # by name and decisions

    def __call__(self, update: Update, batch: Batch, noise: Noise, *decisions: Hashable) -> Metrics:
        """Do an update.

        Args:
            update: a method that changes tensors in place and decides nothing in Python that `decisions` do not say.
            batch: always of the same shapes.
            noise: random numbers, always of the same shapes.
            decisions: its further arguments, such as whether the actor is updated.
        """
        if not self.makes_graphs:
            return update(batch, noise, *decisions)
        kind = update.__name__, *decisions
        if kind not in self.captured:
            self.captured[kind] = CapturedUpdate(batch, noise, self.device)
        try:
            return self.captured[kind](update, batch, noise, *decisions)
        except CaptureError as error:
            warnings.warn(f"updates run from Python, they could not be captured: {error}", stacklevel=3)
            self.makes_graphs = False
            self.captured.clear()
            return update(batch, noise, *decisions)

    def __getstate__(self) -> dict[str, Any]:  # for copies: graphs compute on the memory of this agent
        return {**self.__dict__, "captured": {}}


class CaptureError(Exception):
    """An update that can't be captured."""


class CapturedUpdate:
    """An update that is captured on its fourth call, and replayed from then on.

    The calls before are updates too, in which compilers and libraries make what they make once.

    Args:
        batch: of the update's shapes.
        noise: of the update's shapes.
        device: to make the graph on.
    """

    FIRST_CALLS = 3  # as many as torch's own `make_graphed_callables` has

    def __init__(self, batch: Batch, noise: Noise, device: torch.device) -> None:
        self.graph, self.calls = CudaGraph(device), 0
        self.batch = Batch(*(None if values is None else torch.empty_like(values) for values in batch))  # type: ignore[arg-type]
        self.noise = {name: torch.empty_like(values) for name, values in noise.items()}  # where the graph reads
        self.names: list[str] = []  # of the metrics
        self.values: Tensor | None = None  # where the graph leaves the metrics (M, P)

    def __call__(self, update: Update, batch: Batch, noise: Noise, *decisions: Hashable) -> Metrics:
        """Do the update, always the same one; metrics are the caller's.

        Raises:
            CaptureError: it can't be captured, and was not done.
        """
        torch_private.foreach_copy(_tensors(self.batch, self.noise), _tensors(batch, noise))
        do = functools.partial(update, self.batch, self.noise, *decisions)
        if self.calls < self.FIRST_CALLS:
            self.calls += 1
            return self.graph.warm_up(do)
        if self.values is None:
            try:
                self.values = self.graph.capture(functools.partial(self._stacked, do))
            except Exception as error:  # whatever a capture can fail with; what comes of it hides the cause
                raise CaptureError(error.__context__ or error) from error
        self.graph.replay()
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))

    def _stacked(self, update: Callable[[], Metrics]) -> Tensor:
        metrics = update()
        self.names = list(metrics)
        return torch.stack(list(metrics.values()))


def _tensors(batch: Batch, noise: Noise) -> list[Tensor]:
    return [values for values in (*batch, *noise.values()) if values is not None]


class CudaGraph:
    """What a function does on a CUDA device, to be done again without Python."""

    def __init__(self, device: torch.device) -> None:
        self.stream = _stream(device)
        self.graph: Any = None

    def warm_up(self, function: Callable[[], R]) -> R:
        """Call the function as it is, on the stream that it will be captured on."""
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
