"""Put episodes of several sources together, and cut them into pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from orl.datasets.episodes import Episode


def shares(total: int, ratios: Sequence[float]) -> list[int]:
    """Split `total` in the given ratios, by largest remainder: the counts sum to `total`.

    Raises:
        ValueError: a negative total, no ratio, a negative one, or a sum of zero.
    """
    if total < 0:
        raise ValueError(f"total={total}: give a number >= 0")
    weights = np.asarray(ratios, np.float64)
    if len(weights) == 0 or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() == 0:
        raise ValueError(f"ratios={list(ratios)}: give numbers >= 0 with a positive sum")
    exact = total * weights / weights.sum()
    counts = np.floor(exact + 1e-9).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return [int(count) for count in counts]


def mix(sources: Sequence[Sequence[Episode]], ratios: Sequence[float], total: int, *, seed: int) -> list[Episode]:
    """Draw `total` episodes in the given ratios, without replacement, and shuffle their order.

    Args:
        sources: episodes of each source.
        ratios: share of each source, by episodes; they need not sum to one.
        total: number of episodes.
        seed: of the draw and the order.

    Raises:
        ValueError: ratios for another number of sources, or a source with too few episodes.
    """
    if len(sources) != len(ratios):
        raise ValueError(f"{len(sources)} sources and {len(ratios)} ratios; give one ratio per source")
    generator = np.random.default_rng(seed)
    chosen: list[Episode] = []
    for i, (source, count) in enumerate(zip(sources, shares(total, ratios), strict=True)):
        if count > len(source):
            raise ValueError(f"source {i} has {len(source)} episodes, {count} are wanted; record more of them")
        chosen += [source[j] for j in generator.permutation(len(source))[:count]]
    return [chosen[i] for i in generator.permutation(len(chosen))]


def pieces(episodes: Sequence[Episode], length: int, count: int, *, seed: int) -> list[Episode]:
    """Cut `count` stretches of `length` consecutive decisions out of episodes, none overlapping another.

    Args:
        episodes: to cut.
        length: decisions per piece.
        count: number of pieces.
        seed: of the draw.

    Returns:
        Pieces in random order; each ends truncated, unless the environment ended just there.

    Raises:
        ValueError: fewer than `count` stretches to choose from.
    """
    if length < 1 or count < 1:
        raise ValueError(f"length={length}, count={count}: both are at least 1")
    starts = [(episode, start) for episode in episodes for start in range(0, len(episode) - length + 1, length)]
    if len(starts) < count:
        raise ValueError(f"{len(starts)} stretches of {length} decisions, {count} are wanted; record more episodes")
    chosen = np.random.default_rng(seed).permutation(len(starts))[:count]
    return [_cut(starts[i][0], starts[i][1], length) for i in chosen]


def _cut(episode: Episode, start: int, length: int) -> Episode:
    rows = slice(start, start + length)
    truncations = episode.truncations[rows].copy()
    truncations[-1] = not episode.terminations[rows][-1]
    return replace(
        episode,
        observations=episode.observations[start : start + length + 1],
        actions=episode.actions[rows],
        rewards=episode.rewards[rows],
        terminations=episode.terminations[rows],
        truncations=truncations,
        values=None if episode.values is None else episode.values[rows],
    )
