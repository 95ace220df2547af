"""Recorded transitions on the host: what `orl.datasets` reads and makes, and what offline agents are given.

Shape key: N transitions, O observation, A action, d context variables.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from orl.arrays import Array, BoolArray, Float32Array, Float64Array

ACTION_TOLERANCE = 1e-3  # of the half range: an action this far beyond its bound is rounding, not another action space
# The arrays with one row per transition; data may lack the last two.
ROWS = "observations", "actions", "rewards", "next_observations", "terminated", "truncated", "contexts", "values"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions in the order in which they happened; `Dataset.from_arrays` makes and checks one.

    Copies made by `with_labels`, `fill` and `with_rewards` share every array but `rewards`, so that a population of
    learners that differ in their rewards alone stores the rest once.
    """

    observations: Float32Array  # (N, O)
    actions: Float32Array  # (N, A), in [-1, 1]
    rewards: Float32Array  # (N,), NaN where unlabelled
    next_observations: Float32Array  # (N, O)
    terminated: BoolArray  # (N,), the environment ended: no value beyond
    truncated: BoolArray  # (N,), the recording stopped: bootstraps
    action_low: Float32Array  # (A,), the environment's own unit
    action_high: Float32Array  # (A,), the environment's own unit
    name: str = "arrays"  # id or file name, for tables and messages
    environment_id: str | None = None  # Gymnasium id that the data came from
    whole_episodes: bool = True  # False once rows were picked out: returns are then undefined
    contexts: Float32Array | None = None  # (N, d), the task of each transition, in the variables' units
    values: Float32Array | None = None  # (N,), what a critic of that task says of the action

    @classmethod
    def from_arrays(
        cls,
        observations: ArrayLike,
        actions: ArrayLike,
        rewards: ArrayLike,
        next_observations: ArrayLike,
        terminated: ArrayLike,
        truncated: ArrayLike,
        *,
        action_low: ArrayLike = -1.0,
        action_high: ArrayLike = 1.0,
        clip_actions: bool = False,
        name: str = "arrays",
        environment_id: str | None = None,
        whole_episodes: bool = True,
        contexts: ArrayLike | None = None,
        values: ArrayLike | None = None,
    ) -> Dataset:
        """Check arrays and rescale their actions from the environment's unit to [-1, 1].

        Args:
            observations: (N, O), finite.
            actions: (N, A) in [action_low, action_high]; those beyond by at most 1e-3 of the half range are clipped.
            rewards: (N,) or (N, 1); NaN means unlabelled.
            next_observations: (N, O), finite.
            terminated: (N,), nonzero where the environment ended.
            truncated: (N,), nonzero where the recording stopped; where both are set, termination wins.
            action_low: scalar or (A,), lower bound of the actions as given.
            action_high: scalar or (A,), upper bound of the actions as given.
            clip_actions: clip actions that lie beyond the bounds instead of refusing them.
            name: what tables and messages call the data.
            environment_id: Gymnasium id of the environment.
            whole_episodes: whether consecutive rows up to a flag form one episode.
            contexts: (N, d), finite, the task of each transition, in the variables' units.
            values: (N,) or (N, 1), finite, what a critic of that task says of the action.

        Raises:
            ValueError: shapes that differ, no row, infinities, NaN outside `rewards`, actions out of bounds.
        """
        rows: dict[str, Any] = {
            "observations": _matrix("observations", observations, name),
            "actions": _matrix("actions", actions, name),
            "rewards": _column("rewards", rewards, name),
            "next_observations": _matrix("next_observations", next_observations, name),
            "terminated": to_flags("terminated", terminated, name),
            "truncated": to_flags("truncated", truncated, name),
        }
        if contexts is not None:
            rows["contexts"] = _matrix("contexts", contexts, name)
        if values is not None:
            rows["values"] = _column("values", values, name)
        check_lengths(rows, name)
        features = rows["observations"].shape[1], rows["next_observations"].shape[1]
        if features[0] != features[1]:
            raise ValueError(f"{name}: observations have {features[0]} features, next_observations {features[1]}")
        _check_finite(rows, name)
        size = rows["actions"].shape[1]
        low, high = _bound("low", action_low, size, name), _bound("high", action_high, size, name)
        rows["actions"] = _to_unit(rows["actions"], low, high, clip_actions, name)
        rows["truncated"] = rows["truncated"] & ~rows["terminated"]
        rows |= {"action_low": low, "action_high": high}
        return cls(**rows, name=name, environment_id=environment_id, whole_episodes=whole_episodes)

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def observation_size(self) -> int:
        """Number of observation features, O."""
        return int(self.observations.shape[1])

    @property
    def action_size(self) -> int:
        """Number of action dimensions, A."""
        return int(self.actions.shape[1])

    @property
    def is_labelled(self) -> BoolArray:
        """(N,) bool: whether the row has a reward."""
        return ~np.isnan(self.rewards)

    @property
    def episode_slices(self) -> list[slice]:
        """Rows of each episode, in order; the last one may lack its end.

        Raises:
            ValueError: rows were picked out, so that episodes are no longer whole.
        """
        if not self.whole_episodes:
            raise ValueError(f"{self.name}: rows were picked out of their episodes; use the data they came from")
        ends = np.flatnonzero(self.terminated | self.truncated) + 1
        if len(ends) == 0 or ends[-1] != len(self):
            ends = np.append(ends, len(self))
        starts = np.concatenate([[0], ends[:-1]])
        return [slice(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]

    def episode_returns(self) -> Float64Array:
        """Undiscounted return of each episode, (episodes,); NaN where a reward of it is hidden."""
        return np.array([self.rewards[rows].sum(dtype=np.float64) for rows in self.episode_slices])

    def with_rewards(self, rewards: ArrayLike, name: str | None = None) -> Dataset:
        """The same transitions with other rewards, (N,)."""
        column = _column("rewards", rewards, self.name)
        if len(column) != len(self):
            raise ValueError(f"{self.name}: {len(column)} rewards for {len(self)} transitions; give one per row")
        _check_finite({"rewards": column}, self.name)
        return replace(self, rewards=column, name=name or self.name)

    def with_labels(
        self, fraction: float, *, mode: Literal["transition", "episode"] = "transition", seed: int = 0
    ) -> Dataset:
        """Hide rewards: keep `fraction` of the labels that exist and make the others NaN.

        Args:
            fraction: share of the labels that stay, in (0, 1]; at least one stays.
            mode: whether single transitions stay, or all labels of whole episodes.
            seed: of this draw alone; independent of any training seed.

        Raises:
            ValueError: fraction outside (0, 1], an unknown mode, or no label to begin with.
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction={fraction}: the share of labels to keep lies in (0, 1]")
        if mode not in ("transition", "episode"):
            raise ValueError(f"mode={mode!r}: choose 'transition' or 'episode'")
        labelled = np.flatnonzero(self.is_labelled)
        if len(labelled) == 0:
            raise ValueError(f"{self.name}: no reward is labelled, so none can be kept")
        generator = np.random.default_rng(seed)
        keep = np.zeros(len(self), np.bool_)
        if mode == "transition":
            keep[generator.permutation(labelled)[: max(1, round(fraction * len(labelled)))]] = True
        else:
            episodes = [rows for rows in self.episode_slices if self.is_labelled[rows].any()]
            for i in generator.permutation(len(episodes))[: max(1, round(fraction * len(episodes)))]:
                keep[episodes[i]] = True
        return replace(self, rewards=np.where(keep, self.rewards, np.float32(np.nan)))

    def labelled(self) -> Dataset:
        """Only the transitions that have a reward; episodes are no longer whole unless all have one."""
        if not self.is_labelled.any():
            raise ValueError(f"{self.name}: no labelled transition at all")
        return self if self.is_labelled.all() else self.pick(self.is_labelled)

    def fill(self, value: float | Literal["mean"]) -> Dataset:
        """Give every hidden reward one value: a number, or the mean of the labelled rewards."""
        labelled = self.is_labelled
        if value == "mean":
            if not labelled.any():
                raise ValueError(f"{self.name}: no labelled reward to take the mean of")
            value = float(self.rewards[labelled].mean(dtype=np.float64))
        if isinstance(value, str) or not abs(value) <= float(np.finfo(np.float32).max):
            raise ValueError(f"fill({value!r}): give a finite number or 'mean'")
        return replace(self, rewards=np.where(labelled, self.rewards, np.float32(value)))

    def pick(self, rows: ArrayLike) -> Dataset:
        """Some rows (indices or a boolean mask) as scattered transitions."""
        rows = np.asarray(rows)
        arrays = {name: getattr(self, name) for name in ROWS}
        picked = {name: array[rows] for name, array in arrays.items() if array is not None}
        if not len(picked["rewards"]):
            raise ValueError(f"{self.name}: no transition is picked")
        return replace(self, **picked, whole_episodes=False)

    def best_episodes(self, fraction: float) -> Dataset:
        """The `fraction` in (0, 1] of finished episodes with the highest returns, at least one, in their order."""
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction={fraction}: the share of episodes to keep lies in (0, 1]")
        require_rewards(self)
        episodes = [s for s in self.episode_slices if self.terminated[s.stop - 1] or self.truncated[s.stop - 1]]
        if not episodes:
            raise ValueError(f"{self.name}: no episode is finished, so none can be ranked")
        returns = [self.rewards[rows].sum(dtype=np.float64) for rows in episodes]
        count = max(1, round(fraction * len(episodes)))
        best = sorted(np.argsort(returns, kind="stable")[-count:])
        rows = np.concatenate([np.arange(episodes[i].start, episodes[i].stop) for i in best])
        return replace(self.pick(rows), whole_episodes=True)


def require_rewards(data: Dataset) -> None:
    """Refuse data with hidden rewards, naming the remedies."""
    hidden = int(len(data) - data.is_labelled.sum())
    if hidden:
        raise ValueError(
            f"{data.name}: {hidden} of {len(data)} rewards are hidden (NaN); use labelled(), fill(0.0), fill('mean') "
            "or RewardModel(data).fit().impute(data)"
        )


def content_hashes(datasets: Sequence[Dataset]) -> list[str]:
    """SHA-256 of the transitions of each dataset, whatever its name; an array that several share is read once."""
    hashes: dict[int, bytes] = {}
    joined = []
    for data in datasets:
        joined.append(hashlib.sha256(data.action_low.tobytes() + data.action_high.tobytes()))
        for array in (data.observations, data.actions, data.rewards, data.terminated, data.truncated, data.contexts):
            if array is not None:
                if id(array) not in hashes:
                    hashes[id(array)] = hashlib.sha256(np.ascontiguousarray(array).data).digest()
                joined[-1].update(hashes[id(array)])
    return [each.hexdigest() for each in joined]


def to_flags(key: str, values: ArrayLike, name: str) -> BoolArray:
    """(N,) bool from (N,) or (N, 1) of zeros and ones.

    Raises:
        ValueError: another shape, or other values.
    """
    array = _flat(key, values, name)
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(f"{name}: {key} holds values other than 0 and 1")
    return np.ascontiguousarray(array, np.bool_)


def check_lengths(arrays: Mapping[str, Array], name: str) -> None:
    """Raise a ValueError unless all arrays have the same number of rows, and at least one."""
    lengths = {key: len(array) if array.ndim else 0 for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{name}: arrays differ in length: " + ", ".join(f"{k} {n}" for k, n in lengths.items()))
    if lengths["rewards"] == 0:
        raise ValueError(f"{name}: holds no transition")


def _matrix(key: str, values: ArrayLike, name: str) -> Float32Array:
    """(N, features) float32."""
    array = np.ascontiguousarray(values, np.float32)
    if array.ndim != 2:
        raise ValueError(f"{name}: {key} has shape {array.shape}; give (transitions, features)")
    return array


def _column(key: str, values: ArrayLike, name: str) -> Float32Array:
    """(N,) float32 from (N,) or (N, 1)."""
    return np.ascontiguousarray(_flat(key, values, name), np.float32)


def _flat(key: str, values: ArrayLike, name: str) -> Array:
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name}: {key} has shape {array.shape}; give (transitions,)")
    return array


def _check_finite(arrays: Mapping[str, Array], name: str) -> None:
    """No infinity anywhere, and NaN in rewards only (unlabelled)."""
    for key, array in arrays.items():
        wrong = np.isinf(array) if key == "rewards" else ~np.isfinite(array)
        rows = np.flatnonzero(wrong.reshape(len(array), -1).any(axis=1))
        if len(rows):
            what = "infinity" if key == "rewards" else "NaN or infinity"
            raise ValueError(f"{name}: {key} has {what} in {len(rows)} rows, the first is row {rows[0]}")


def _bound(side: str, values: ArrayLike, size: int, name: str) -> Float32Array:
    """One finite action bound per dimension, (A,)."""
    array = np.asarray(values, np.float32)
    if array.shape not in ((), (size,)):
        raise ValueError(
            f"{name}: the bound action_{side} has shape {array.shape}; give one number, or one per action, ({size},)"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: action_{side} is {array.tolist()}; actions need finite bounds")
    return np.broadcast_to(array, (size,)).copy()


def _to_unit(actions: Float32Array, low: Float32Array, high: Float32Array, clip: bool, name: str) -> Float32Array:
    """Rescale actions from [low, high] to [-1, 1]; bounds of -1 and 1 leave them bit-equal."""
    if actions.shape[1] == 0:
        raise ValueError(f"{name}: actions have no dimension")
    if not (low < high).all():
        raise ValueError(f"{name}: action bounds low {low.tolist()} and high {high.tolist()} leave no room")
    scaled = np.asarray((actions - (high + low) / 2) / ((high - low) / 2), np.float32)
    if float(np.abs(scaled).max()) > 1.0 + ACTION_TOLERANCE and not clip:
        row, dimension = np.unravel_index(int(np.abs(scaled).argmax()), scaled.shape)
        raise ValueError(
            f"{name}: action {actions[row, dimension]:g} in row {row} is outside "
            f"[{low[dimension]:g}, {high[dimension]:g}]; clip_actions clips it"
        )
    return np.clip(scaled, -1.0, 1.0).astype(np.float32)
