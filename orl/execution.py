"""How the gradients of an update are computed: operation by operation, or as one compiled function.

A compiled function gives the same numbers up to rounding. Compiling takes seconds to a minute, once per process,
method and shape; torch keeps what it made on disk for the next process.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, TypeVar

import torch

Execution = Literal["eager", "compile"]
P = ParamSpec("P")
R = TypeVar("R")


def compilable(method: Callable[P, R]) -> Callable[P, R]:
    """A method, a pure function of tensors and parameters, that `execution="compile"` of its `config` compiles whole.

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
        torch._dynamo.config.trace_autograd_ops = True  # type: ignore[attr-defined]
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
