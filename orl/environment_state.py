"""The whole state of an environment as text, so that a run can continue in the middle of an episode.

What is kept: of every wrapper and of the environment itself the attributes that are numbers or arrays (such as
`TimeLimit`'s elapsed steps) and the random generator; of MuJoCo also the integration state and the places of the
bodies; of environments with a context what `context_state` gives, and `restore_context` takes; of environments with
`get_state` and `set_state` what these give. Environments that keep their state elsewhere (lists, objects of their own)
need these last two: without them there is no state that could be restored.
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


def environment_state(environment: Any) -> str:
    """The state of an environment, or of a vector one with `get_state`, as JSON; empty where it cannot be kept."""
    inner = environment.unwrapped
    own = inner.get_state() if hasattr(inner, "get_state") else None
    context = inner.context_state() if hasattr(inner, "context_state") else None
    mujoco = _mujoco_state(inner)
    layers = list(_layers(environment))
    if not all(_is_kept(layer) for layer in (layers if own is None and mujoco is None else layers[:-1])):
        return ""
    state = {"layers": [_attributes(layer) for layer in layers], "own": own, "context": context, "mujoco": mujoco}
    return json.dumps(_encode(state), separators=(",", ":"))


def restore_environment(environment: Any, text: str) -> None:
    """Put an environment made with the same arguments into the state that `environment_state` described."""
    state = _decode(json.loads(text))
    for layer, (attributes, generator) in zip(_layers(environment), state["layers"], strict=True):
        for name, value in attributes.items():
            setattr(layer, name, value)
        if generator is not None:
            layer._np_random = np.random.Generator(np.random.PCG64())
            layer._np_random.bit_generator.state = generator
    if state.get("context") is not None:  # before MuJoCo's state: it changes the model
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


def _is_kept(layer: Any) -> bool:
    """Whether an attribute can be neither the state nor a part of it unless `_attributes` keeps it."""
    return all(_is_constant(value) for name, value in vars(layer).items() if name != "env")


def _is_constant(value: Any) -> bool:
    """Numbers and arrays are kept; texts, spaces, functions, and what is made of such and frozen do not change."""
    if isinstance(value, dict | tuple):
        return all(map(_is_constant, value.values() if isinstance(value, dict) else value))
    if is_dataclass(value) and value.__dataclass_params__.frozen:  # type: ignore[union-attr]
        return all(_is_constant(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biufUS"
    plain = (bool, int, float, str, bytes, np.number, np.bool_, np.random.Generator, gymnasium.Space, EnvSpec, type)
    return value is None or callable(value) or isinstance(value, plain)


def _attributes(layer: Any) -> list[Any]:
    kept = {
        name: value
        for name, value in vars(layer).items()
        if isinstance(value, bool | int | float | np.number | np.bool_)
        or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")
    }
    generator = vars(layer).get("_np_random")
    return [kept, None if generator is None else generator.bit_generator.state]


# `mjSTATE_INTEGRATION` leaves out where the bodies are, from which Ant and Humanoid compute their first reward.
_PLACES = ("xpos", "xipos")


def _mujoco_state(environment: Any) -> dict[str, Any] | None:
    data, model = getattr(environment, "data", None), getattr(environment, "model", None)
    if type(data).__name__ != "MjData":
        return None
    import mujoco

    integration = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, integration, mujoco.mjtState.mjSTATE_INTEGRATION)
    return {"integration": integration, **{name: getattr(data, name).copy() for name in _PLACES}}


def _restore_mujoco(environment: Any, state: dict[str, Any]) -> None:
    import mujoco

    mujoco.mj_setState(environment.model, environment.data, state["integration"], mujoco.mjtState.mjSTATE_INTEGRATION)
    for name in _PLACES:
        getattr(environment.data, name)[:] = state[name]


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.number | np.bool_):
        return {"array": np.asarray(value).tolist(), "type": np.asarray(value).dtype.str, "shape": np.shape(value)}
    if isinstance(value, dict):
        return {key: _encode(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(each) for each in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"array", "type", "shape"}:
        return np.array(value["array"], value["type"]).reshape(value["shape"])
    if isinstance(value, dict):
        return {key: _decode(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_decode(each) for each in value]
    return value
