"""Whole episodes, the form in which data are recorded and stored, and the way to flat transitions and back.

Shape key: T decisions of an episode, N of all, O observation, A action, d context variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium.spaces import Box, Space
from numpy.typing import ArrayLike

from orl.arrays import Array, BoolArray
from orl.dataset import Dataset

CONTINUITY_TOLERANCE = 1e-4  # relative: float32 files of float64 simulators


@dataclass(frozen=True, eq=False)
class Episode:
    """One recorded stretch of consecutive decisions, with the observation that follows the last of them."""

    observations: Array  # (T + 1, O)
    actions: Array  # (T, A), in the environment's own unit, as executed
    rewards: Array  # (T,), NaN where unlabelled
    terminations: Array  # (T,), bool: the environment ended
    truncations: Array  # (T,), bool: the recording stopped
    seed: int | None = None  # that the environment was reset with
    context: Array | None = None  # (d,), the task, in the variables' units
    values: Array | None = None  # (T,), what a critic of that task says of the actions

    def __post_init__(self) -> None:
        steps = len(self.rewards)
        lengths = [len(self.observations) - 1, len(self.actions), len(self.terminations), len(self.truncations)]
        if steps == 0 or any(length != steps for length in lengths):
            raise ValueError(
                f"an episode of {steps} rewards has {lengths[0] + 1} observations, {lengths[1]} actions, "
                f"{lengths[2]} terminations, {lengths[3]} truncations; give T + 1 observations and T of the rest, T > 0"
            )
        if self.context is not None and np.ndim(self.context) != 1:
            raise ValueError(f"an episode's context has shape {np.shape(self.context)}; give one number per variable")
        if self.values is not None and np.shape(self.values) != (steps,):
            raise ValueError(f"an episode of {steps} rewards has values {np.shape(self.values)}; give one for each")

    def __len__(self) -> int:
        return len(self.rewards)


def to_dataset(
    episodes: Sequence[Episode],
    *,
    action_low: ArrayLike = -1.0,
    action_high: ArrayLike = 1.0,
    clip_actions: bool = False,
    name: str = "arrays",
    environment_id: str | None = None,
) -> Dataset:
    """Flatten episodes into transitions, losing nothing: every next observation is the recorded one.

    Args:
        episodes: at least one.
        action_low: scalar or (A,), the environment's lower action bound.
        action_high: scalar or (A,), the environment's upper action bound.
        clip_actions: clip actions beyond the bounds instead of refusing them.
        name: what tables and messages call the data.
        environment_id: Gymnasium id of the environment.

    Raises:
        ValueError: no episode, some with a context or values and some without, or what `Dataset.from_arrays` refuses.
    """
    if not episodes:
        raise ValueError(f"{name}: holds no episode")
    contexts, values = of_every_episode(episodes, "context", name), of_every_episode(episodes, "values", name)
    truncated = np.concatenate([episode.truncations for episode in episodes]).astype(np.bool_)
    # An episode's last row ends it in any case: rows of the next one must not be taken for its continuation.
    truncated[np.cumsum([len(episode) for episode in episodes]) - 1] = True
    return Dataset.from_arrays(
        np.concatenate([episode.observations[:-1] for episode in episodes]),
        np.concatenate([episode.actions for episode in episodes]),
        np.concatenate([episode.rewards for episode in episodes]),
        np.concatenate([episode.observations[1:] for episode in episodes]),
        np.concatenate([episode.terminations for episode in episodes]),
        truncated,
        action_low=action_low,
        action_high=action_high,
        clip_actions=clip_actions,
        name=name,
        environment_id=environment_id,
        contexts=contexts and np.repeat(contexts, [len(episode) for episode in episodes], axis=0),
        values=values and np.concatenate(values),
    )


def of_every_episode(episodes: Sequence[Episode], key: Literal["context", "values"], name: str) -> list[Array] | None:
    """The context, or the values, of every episode; None if no episode has any.

    Raises:
        ValueError: some have it and some have not, or contexts of different lengths.
    """
    arrays = [array for episode in episodes if (array := getattr(episode, key)) is not None]
    if 0 < len(arrays) < len(episodes):
        lacking = len(episodes) - len(arrays)
        raise ValueError(f"{name}: {lacking} of {len(episodes)} episodes have no {key}; give it for all, or for none")
    if key == "context" and len(lengths := {len(array) for array in arrays}) > 1:
        raise ValueError(f"{name}: contexts have {sorted(lengths)} variables; give the same ones for all episodes")
    return arrays or None


def to_episodes(data: Dataset) -> list[Episode]:
    """Cut flat transitions at their flags, actions in the environment's unit; the inverse of `to_dataset`.

    Raises:
        ValueError: rows that are not consecutive, or whose contexts differ within an episode.
    """
    slices = data.episode_slices
    broken = np.flatnonzero(find_gaps(data.observations, data.next_observations, data.terminated | data.truncated))
    if len(broken):
        raise ValueError(
            f"{data.name}: row {broken[0]} does not lead to row {broken[0] + 1} ({len(broken)} such rows); episodes "
            "need consecutive rows, so keep these data as .hdf5 or .npz"
        )
    if data.contexts is not None:
        for rows in slices:
            if (data.contexts[rows] != data.contexts[rows.start]).any():
                raise ValueError(f"{data.name}: the context changes within the episode that begins in row {rows.start}")
    actions = environment_actions(data)
    return [
        Episode(
            np.concatenate([data.observations[rows], data.next_observations[rows.stop - 1 : rows.stop]]),
            actions[rows],
            data.rewards[rows],
            data.terminated[rows],
            data.truncated[rows],
            context=None if data.contexts is None else data.contexts[rows.start],
            values=None if data.values is None else data.values[rows],
        )
        for rows in slices
    ]


def environment_actions(data: Dataset) -> Array:
    """(N, A) float32: the actions in the environment's own unit again."""
    low, high = data.action_low, data.action_high
    if (low == -1.0).all() and (high == 1.0).all():
        return data.actions
    return np.clip(low + (data.actions + 1.0) * ((high - low) / 2), low, high)


def require_boxes(observation_space: Space[Any], action_space: Space[Any], name: str) -> tuple[Box, Box]:
    """Both spaces, if they are of the kind that this package learns from; else a ValueError."""
    if not (isinstance(observation_space, Box) and len(observation_space.shape) == 1):
        raise ValueError(f"{name}: observations are {observation_space}; only a flat Box (features,) can be read")
    if not (isinstance(action_space, Box) and len(action_space.shape) == 1):
        raise ValueError(f"{name}: actions are {action_space}; only continuous actions in a flat Box can be read")
    return observation_space, action_space


def find_gaps(observations: Array, next_observations: Array, ends: Array) -> BoolArray:
    """(N,) bool: rows inside an episode whose next observation is not the observation of the next row."""
    broken = np.zeros(len(observations), np.bool_)
    following = observations[1:]
    margin = CONTINUITY_TOLERANCE * (1.0 + np.abs(following))
    broken[:-1] = (np.abs(next_observations[:-1] - following) > margin).any(axis=1) & ~ends[:-1]
    return broken
