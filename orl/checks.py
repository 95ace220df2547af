"""What arrays from outside must satisfy before they become a `Dataset`; each refusal names the value and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

CLIP_TOLERANCE = 1e-3  # in units of the half range: rounding, not another action space


def rows(name: str, **given: ArrayLike | None) -> dict[str, NDArray[Any]]:
    """The arrays of N transitions as a `Dataset` holds them, checked against one another; None is left out."""
    kinds: dict[str, Any] = {"rewards": column, "values": column, "terminated": flags, "truncated": flags}
    arrays = {key: kinds.get(key, matrix)(key, array, name) for key, array in given.items() if array is not None}
    lengths(arrays, name)
    finite(arrays, name)
    return arrays


def matrix(key: str, values: ArrayLike, name: str) -> Floats:
    """(N, features) float32."""
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{name}: {key} has shape {array.shape}; give (transitions, features)")
    return array


def column(key: str, values: ArrayLike, name: str) -> Floats:
    """(N,) float32 from (N,) or (N, 1)."""
    return np.ascontiguousarray(_flat(key, values, name), np.float32)


def flags(key: str, values: ArrayLike, name: str) -> Flags:
    """(N,) bool from zeros and ones."""
    array = _flat(key, values, name)
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name}: {key} holds values other than 0 and 1")
    return np.ascontiguousarray(array, np.bool_)


def _flat(key: str, values: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: {key} has shape {array.shape}; give (transitions,)")
    return array


def lengths(arrays: Mapping[str, NDArray[Any]], name: str) -> None:
    """Every array has the same number of rows, at least one, and both observation arrays the same features."""
    sizes = {key: len(array) for key, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{name}: arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in sizes.items()))
    if sizes["rewards"] == 0:
        raise ValueError(f"{name}: holds no transition")
    features = arrays["observations"].shape[1], arrays["next_observations"].shape[1]
    if features[0] != features[1]:
        raise ValueError(f"{name}: observations have {features[0]} features, next_observations {features[1]}")


def finite(arrays: Mapping[str, NDArray[Any]], name: str) -> None:
    """No infinity anywhere, and NaN in rewards only (unlabelled)."""
    for key, array in arrays.items():
        wrong = np.isinf(array) if key == "rewards" else ~np.isfinite(array)
        rows = np.flatnonzero(wrong.reshape(len(array), -1).any(axis=1))
        if len(rows):
            what = "infinity" if key == "rewards" else "NaN or infinity"
            raise ValueError(f"{name}: {key} has {what} in {len(rows)} rows, the first is row {rows[0]}")


def check_observations(observations: ArrayLike, *shapes: tuple[int, ...]) -> NDArray[Any]:
    """What a policy is to act on, of one of these shapes (-1: any length) and finite."""
    array = np.asarray(observations)
    if array.shape not in shapes and not any(_fits(array.shape, shape) for shape in shapes):
        wanted = " or ".join(str(shape).replace("-1", "n") for shape in shapes)
        raise ValueError(f"observations have shape {array.shape}; give {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"observations hold NaN or infinity: {array[~np.isfinite(array)][0]}")
    return array


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(n in (-1, m) for n, m in zip(wanted, shape, strict=True))


def bound(side: str, values: ArrayLike, size: int, name: str) -> Floats:
    """One finite action bound per dimension, (A,)."""
    array = np.asarray(values, np.float32)
    if array.shape not in ((), (size,)):
        raise ValueError(f"{name}: actions have {size} dimensions, the bound action_{side} has shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: action_{side} is {array.tolist()}; actions need finite bounds")
    return np.broadcast_to(array, (size,)).copy()


def rescale_actions(actions: Floats, low: Floats, high: Floats, clip: bool, name: str) -> Floats:
    """From [low, high] to [-1, 1]; what lies beyond by more than rounding is refused unless `clip`."""
    if actions.shape[1] == 0:
        raise ValueError(f"{name}: actions have no dimension")
    if not (low < high).all():
        raise ValueError(f"{name}: action bounds low {low.tolist()} and high {high.tolist()} leave no room")
    scaled = to_unit(actions, low, high)
    if float(np.abs(scaled).max()) > 1.0 + CLIP_TOLERANCE and not clip:
        row, dimension = np.unravel_index(int(np.abs(scaled).argmax()), scaled.shape)
        raise ValueError(
            f"{name}: action {actions[row, dimension]:g} in row {row} is outside "
            f"[{low[dimension]:g}, {high[dimension]:g}]; clip_actions clips it"
        )
    return np.clip(scaled, -1.0, 1.0).astype(np.float32)


def to_unit(actions: Floats, low: Floats, high: Floats) -> Floats:
    """Actions from the environment's unit to [-1, 1]; exactly unchanged where the bounds are -1 and 1."""
    return np.asarray((actions - (high + low) / 2) / ((high - low) / 2), np.float32)


def from_unit(actions: Floats, low: Floats, high: Floats) -> Floats:
    """Actions from [-1, 1] to the environment's unit, never beyond its bounds."""
    scaled = actions * ((high - low) / 2) + (high + low) / 2
    return np.asarray(np.maximum(np.minimum(scaled, high), low), np.float32)  # np.clip takes twice as long
