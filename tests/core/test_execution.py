"""Compiled updates are the eager ones, and what can't be compiled runs."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from orl.execution import compilable


class Doubling:
    def __init__(self, execution: str) -> None:
        self.config = SimpleNamespace(execution=execution)

    @compilable
    def double(self, values: Tensor) -> Tensor:
        return 2.0 * values


def test_eager_execution_never_calls_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    assert Doubling("eager").double(torch.tensor(3.0)).item() == 6.0


def test_without_a_compiler_there_is_one_warning_and_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fails)
    owner = Doubling("compile")
    with pytest.warns(UserWarning, match=r"Doubling\.double runs eagerly.*no C\+\+ compiler"):
        assert owner.double(torch.tensor(3.0)).item() == 6.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert owner.double(torch.tensor(4.0)).item() == 8.0


def test_an_error_of_the_method_itself_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda method, **_: method)
    with pytest.warns(UserWarning, match="runs eagerly"), pytest.raises(TypeError):
        Doubling("compile").double(object())  # type: ignore[arg-type]


def test_a_compiled_method_is_compiled_once_for_each_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda method, **_: compiled.append(method) or method)
    first, second = Doubling("compile"), Doubling("compile")
    for owner in (first, second, first, second):
        assert owner.double(torch.tensor(1.0)).item() == 2.0
    assert len(compiled) == 2
