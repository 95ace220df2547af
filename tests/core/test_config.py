"""Configurations: overrides are checked against the fields."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Literal

import numpy as np
import pytest

from orl.config import check_fraction, check_positive, make_config


@dataclasses.dataclass(frozen=True)
class Settings:
    learning_rate: float = 1e-3
    hidden_sizes: tuple[int, ...] = (8,)
    horizon: int | None = None
    execution: Literal["eager", "compile"] = "eager"

    def __post_init__(self) -> None:
        check_positive(self, "learning_rate", "horizon")


def test_defaults_overrides_and_a_given_configuration() -> None:
    assert make_config(Settings, None, {}) == Settings()
    assert make_config(Settings, Settings(horizon=5), {"learning_rate": 0.1}) == Settings(0.1, horizon=5)


def test_lists_become_tuples() -> None:
    """A manifest read from JSON makes an equal, hashable configuration."""
    config = make_config(Settings, None, {"hidden_sizes": [4, 4]})
    assert config.hidden_sizes == (4, 4)
    hash(config)


def test_an_unknown_field_names_the_near_one_or_all() -> None:
    with pytest.raises(ValueError, match="'learning_rat' is not a field of Settings; did you mean learning_rate"):
        make_config(Settings, None, {"learning_rat": 1})
    with pytest.raises(ValueError, match="choose one of learning_rate, hidden_sizes, horizon, execution"):
        make_config(Settings, None, {"zzz": 1})


def test_a_configuration_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="config is a dict; give a Settings"):
        make_config(Settings, {"learning_rate": 1}, {})


@pytest.mark.parametrize(("field", "value"), [("learning_rate", 0), ("learning_rate", -0.1), ("horizon", -1)])
def test_fields_that_must_be_positive(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Settings\.{field}=.*: must be above 0"):
        make_config(Settings, None, {field: value})


def test_shares_lie_between_zero_and_one() -> None:
    check_fraction(Settings(learning_rate=1.0), "learning_rate")
    with pytest.raises(ValueError, match=r"Settings\.learning_rate=1\.5: must lie in \[0, 1\]"):
        check_fraction(Settings(learning_rate=1.5), "learning_rate")


def test_a_value_that_is_none_of_the_choices_names_them() -> None:
    expected = r"Settings\.execution='graph': choose one of 'eager', 'compile'"
    with pytest.raises(ValueError, match=expected):
        make_config(Settings, None, {"execution": "graph"})
    with pytest.raises(ValueError, match=expected):
        make_config(Settings, Settings(execution="graph"), {})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "fast", "float"),
        ("learning_rate", True, "float"),
        ("hidden_sizes", 64, r"tuple\[int, \.\.\.\]"),
        ("hidden_sizes", ["a"], r"tuple\[int, \.\.\.\]"),
        ("horizon", "soon", r"int \| None"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=rf"Settings\.{name}=.*: give {expected}"):
        make_config(Settings, None, {name: value})


def test_numbers_of_numpy_become_those_of_python() -> None:
    given = {"learning_rate": np.float32(0.5), "hidden_sizes": np.array([4, 8]), "horizon": np.int64(3)}
    for config in (make_config(Settings, None, given), make_config(Settings, Settings(**given), {})):
        assert json.loads(json.dumps(dataclasses.asdict(config))) == {
            "learning_rate": 0.5,
            "hidden_sizes": [4, 8],
            "horizon": 3,
            "execution": "eager",
        }


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("learning_rate", float("inf"), "learning_rate=inf: give a finite number"),
        ("learning_rate", float("nan"), "learning_rate=nan: "),
        ("hidden_sizes", (8, 0), r"hidden_sizes=\(8, 0\): a layer has at least one unit"),
        ("horizon", 2.5, r"horizon=2\.5: give int | None"),
    ],
)
def test_values_that_no_training_can_have(field: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_config(Settings, None, {field: value})
    with pytest.raises(ValueError, match=message):
        make_config(Settings, Settings(**{field: value}), {})
