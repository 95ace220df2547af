"""Episodes as Minari holds them.

An episode's context (d,) is the option `context` that its environment is reset with, in the metadata of the episode;
the values that a critic gives its actions are `critic_values` (T,) in its infos. Ready buffers are written, since
Minari's `DataCollector` needs jax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import minari
import numpy as np
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer

from orl.datasets.episodes import Array, Episode

VALUES = "critic_values"


def to_buffer(episode: Episode, observation_space: Box, action_space: Box) -> EpisodeBuffer:
    """An episode as Minari writes it.

    Raises:
        ValueError: sizes other than the spaces'.
    """
    sizes = episode.observations.shape[1:], episode.actions.shape[1:]
    if sizes != (observation_space.shape, action_space.shape):
        raise ValueError(
            f"episodes have observations {sizes[0]} and actions {sizes[1]}, "
            f"their spaces {observation_space.shape} and {action_space.shape}"
        )
    return EpisodeBuffer(
        seed=episode.seed,
        options=None if episode.context is None else {"context": episode.context},
        observations=np.asarray(episode.observations, observation_space.dtype),  # type: ignore[arg-type]
        actions=np.asarray(episode.actions, action_space.dtype),  # type: ignore[arg-type]
        rewards=np.asarray(episode.rewards, np.float64),  # type: ignore[arg-type]
        terminations=np.asarray(episode.terminations, np.bool_),  # type: ignore[arg-type]
        truncations=np.asarray(episode.truncations, np.bool_),  # type: ignore[arg-type]
        infos=None if episode.values is None else {VALUES: episode.values},
    )


def read_episodes(data: minari.MinariDataset) -> list[Episode]:
    """All episodes of a set, in order."""
    abouts = data.storage.get_episode_metadata(data.episode_indices)
    return [
        Episode(
            episode.observations,
            episode.actions,
            episode.rewards,
            episode.terminations,
            episode.truncations,
            context=_context(about),
            values=(episode.infos or {}).get(VALUES),
        )
        for episode, about in zip(data.iterate_episodes(), abouts, strict=True)
    ]


def _context(about: Mapping[str, Any]) -> Array | None:
    """The context (d,) that an episode was reset with; options of other environments may have any form."""
    context = about.get("options", {}).get("context")
    return context if isinstance(context, np.ndarray) and context.ndim == 1 and context.dtype.kind in "fiu" else None
