"""The whole state of an environment as text, so that a run can continue in the middle of an episode.

The text holds, of every wrapper and of the environment itself, the attributes that are numbers, texts, arrays, random
generators, or lists, tuples and dicts of such (as `TimeLimit`'s elapsed steps). Of MuJoCo it also holds the integration
state and the positions of the bodies, of environments with a context what `context_state` gives and `restore_context`
takes, and of environments with `get_state` and `set_state` what these give and take. An environment whose state is in
objects of its own needs the last two: without them there is no state that could be restored. Spaces, functions and
frozen dataclasses are taken for settings, which do not change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorWrapper
from numpy.random import Generator


def environment_state(environment: Any) -> str:
    """The state of an environment, or of a vector one with `get_state`, as JSON; empty where it cannot be written."""
    inner = environment.unwrapped
    own = inner.get_state() if hasattr(inner, "get_state") else None
    context = inner.context_state() if hasattr(inner, "context_state") else None
    mujoco = _mujoco_state(inner)
    layers = list(_layers(environment))
    if not all(_is_complete(layer) for layer in (layers if own is None and mujoco is None else layers[:-1])):
        return ""
    state = {"layers": [_attributes(layer) for layer in layers], "own": own, "context": context, "mujoco": mujoco}
    return json.dumps(_encode(state), separators=(",", ":"))


def restore_environment(environment: Any, text: str) -> None:
    """Put an environment made with the same arguments into the state that `environment_state` described.

    Raises:
        ValueError: it has other wrappers.
    """
    state, layers = _decode(json.loads(text)), list(_layers(environment))
    if len(layers) != len(state["layers"]):
        raise ValueError(
            f"{environment}: has {len(layers) - 1} wrappers, the one that was saved {len(state['layers']) - 1}; "
            "give the environment that the agent was trained in"
        )
    for layer, attributes in zip(layers, state["layers"], strict=True):
        for name, value in attributes.items():
            current = vars(layer).get(name)
            if isinstance(value, Generator) and isinstance(current, Generator):  # it may have other names, too
                current.bit_generator.state = value.bit_generator.state
            else:
                setattr(layer, name, value)
    if state["context"] is not None:  # before MuJoCo's state: it changes the model
        environment.unwrapped.restore_context(state["context"])
    if state["own"] is not None:
        environment.unwrapped.set_state(state["own"])
    if state["mujoco"] is not None:
        _restore_mujoco(environment.unwrapped, state["mujoco"])


def _layers(environment: Any) -> Iterator[Any]:
    """The wrappers from outside to inside, then the environment."""
    while isinstance(environment, gymnasium.Wrapper | VectorWrapper):
        yield environment
        environment = environment.env
    yield environment


def _is_complete(layer: object) -> bool:
    """Whether `_attributes` gives all that may change."""
    return all(_is_data(value) or _is_setting(value) for name, value in vars(layer).items() if name != "env")


def _is_data(value: Any) -> bool:
    """What can be written as text, and made from it again."""
    if type(value) in (list, tuple):
        return all(map(_is_data, value))
    if type(value) is dict:
        return all(isinstance(key, str | int) and _is_data(item) for key, item in value.items())
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufU"
    return value is None or isinstance(value, bool | int | float | str | np.number | np.bool_ | Generator)


def _is_setting(value: Any) -> bool:
    """What does not change: spaces, functions, and frozen collections of such and of data."""
    if type(value) in (dict, tuple):
        return all(_is_data(item) or _is_setting(item) for item in (value.values() if type(value) is dict else value))
    if is_dataclass(value) and value.__dataclass_params__.frozen:  # type: ignore[union-attr]
        return _is_setting(tuple(getattr(value, field.name) for field in fields(value)))
    return callable(value) or isinstance(value, gymnasium.Space | EnvSpec | type)


def _attributes(layer: object) -> dict[str, Any]:
    return {name: value for name, value in vars(layer).items() if name != "env" and _is_data(value)}


# `mjSTATE_INTEGRATION` leaves out where the bodies are, from which Ant and Humanoid compute their first reward.
_BODY_POSITIONS = ("xpos", "xipos")


def _mujoco_state(environment: Any) -> dict[str, Any] | None:
    data, model = getattr(environment, "data", None), getattr(environment, "model", None)
    if type(data).__name__ != "MjData":
        return None
    import mujoco

    integration = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    return {"integration": integration, **{name: getattr(data, name).copy() for name in _BODY_POSITIONS}}


def _restore_mujoco(environment: Any, state: dict[str, Any]) -> None:
    import mujoco

    mujoco.mj_setState(environment.model, environment.data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name in _BODY_POSITIONS:
        getattr(environment.data, name)[:] = state[name]


def _encode(value: Any) -> Any:
    """As JSON; a value that JSON has no form for becomes a dict whose one key says what it is."""
    if isinstance(value, np.ndarray | np.number | np.bool_):
        array = np.asarray(value)
        return {":array": [array.tolist(), array.dtype.str, list(array.shape)]}
    if isinstance(value, Generator):
        return {":generator": _encode(value.bit_generator.state)}
    if isinstance(value, tuple):
        return {":tuple": [_encode(item) for item in value]}
    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        return {":items": [[key, _encode(item)] for key, item in value.items()]}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    return [_encode(item) for item in value] if isinstance(value, list) else value


def _decode(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if ":array" in value:
        values, kind, shape = value[":array"]
        return np.array(values, kind).reshape(shape)
    if ":generator" in value:
        return _generator(_decode(value[":generator"]))
    if ":tuple" in value:
        return tuple(map(_decode, value[":tuple"]))
    if ":items" in value:
        return {key: _decode(item) for key, item in value[":items"]}
    return {key: _decode(item) for key, item in value.items()}


def _generator(state: dict[str, Any]) -> Generator:
    bits = getattr(np.random, state["bit_generator"])()
    bits.state = state
    return Generator(bits)
