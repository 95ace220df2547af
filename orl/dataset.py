"""Recorded transitions on the host: what `orl.datasets` reads and makes, and what offline agents are given.

Shape key: N transitions, O observation, A action, d context variables.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from orl import checks
from orl.checks import Flags, Floats

# What a `Dataset` has of each transition; data may lack the last two.
ROWS = "observations", "actions", "rewards", "next_observations", "terminated", "truncated", "contexts", "values"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions in the order in which they happened; made by `Dataset.from_arrays`, which checks them.

    Copies made by `with_labels`, `fill` and `with_rewards` share every array but `rewards`, so that a population of
    learners that differ in their rewards alone stores the rest once.
    """

    observations: Floats  # (N, O)
    actions: Floats  # (N, A), in [-1, 1]
    rewards: Floats  # (N,), NaN where unlabelled
    next_observations: Floats  # (N, O)
    terminated: Flags  # (N,), the environment ended: no value beyond
    truncated: Flags  # (N,), the recording stopped: bootstraps
    action_low: Floats  # (A,), the environment's own unit
    action_high: Floats  # (A,), the environment's own unit
    name: str = "arrays"  # id or file name, for tables and messages
    environment_id: str | None = None  # Gymnasium id that the data came from
    whole_episodes: bool = True  # False once rows were picked out: returns are then undefined
    contexts: Floats | None = None  # (N, d), the task of each transition, in the variables' units
    values: Floats | None = None  # (N,), what a critic of that task says of the action

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
            actions: (N, A) in [action_low, action_high]; beyond by at most 1e-3 of the half range they are clipped.
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
        rows: dict[str, Any] = checks.rows(
            name,
            observations=observations,
            actions=actions,
            rewards=rewards,
            next_observations=next_observations,
            terminated=terminated,
            truncated=truncated,
            contexts=contexts,
            values=values,
        )
        size = rows["actions"].shape[1]
        low, high = checks.bound("low", action_low, size, name), checks.bound("high", action_high, size, name)
        rows["actions"] = checks.rescale_actions(rows["actions"], low, high, clip_actions, name)
        rows["truncated"] = rows["truncated"] & ~rows["terminated"]
        own: dict[str, Any] = {"name": name, "environment_id": environment_id, "whole_episodes": whole_episodes}
        return cls(**rows, action_low=low, action_high=high, **own)

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
    def is_labelled(self) -> Flags:
        """(N,) bool: where a reward is known."""
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

    def episode_returns(self) -> NDArray[np.float64]:
        """Undiscounted return of each episode, (episodes,); NaN where a reward of it is hidden."""
        return np.array([self.rewards[rows].sum(dtype=np.float64) for rows in self.episode_slices])

    def with_rewards(self, rewards: ArrayLike, name: str | None = None) -> Dataset:
        """The same transitions with other rewards, (N,)."""
        column = checks.column("rewards", rewards, self.name)
        if len(column) != len(self):
            raise ValueError(f"{self.name}: {len(column)} rewards for {len(self)} transitions; give one per row")
        checks.finite({"rewards": column}, self.name)
        return replace(self, rewards=column, name=name or self.name)

    def with_labels(
        self, fraction: float, *, mode: Literal["transition", "episode"] = "transition", seed: int = 0
    ) -> Dataset:
        """Hide rewards: keep `fraction` of the labels that exist and make the others NaN.

        Args:
            fraction: share kept, in (0, 1]; at least one label stays.
            mode: keep single transitions, or all labels of whole episodes.
            seed: of the draw alone; independent of any training seed.

        Raises:
            ValueError: fraction outside (0, 1], an unknown mode, or no label to begin with.
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction={fraction}: the share of labels to keep lies in (0, 1]")
        if mode not in ("transition", "episode"):
            raise ValueError(f"mode={mode!r}: choose 'transition' or 'episode'")
        known = np.flatnonzero(self.is_labelled)
        if len(known) == 0:
            raise ValueError(f"{self.name}: no reward is labelled, so none can be kept")
        generator = np.random.default_rng(seed)
        keep = np.zeros(len(self), np.bool_)
        if mode == "transition":
            keep[generator.permutation(known)[: max(1, round(fraction * len(known)))]] = True
        else:
            episodes = [rows for rows in self.episode_slices if self.is_labelled[rows].any()]
            for i in generator.permutation(len(episodes))[: max(1, round(fraction * len(episodes)))]:
                keep[episodes[i]] = True
        return replace(self, rewards=np.where(keep, self.rewards, np.float32(np.nan)))

    def labelled(self) -> Dataset:
        """Only the transitions whose reward is known; episodes are no longer whole unless all are."""
        known = self.is_labelled
        if not known.any():
            raise ValueError(f"{self.name}: no labelled transition at all")
        return self if known.all() else self.pick(known)

    def fill(self, value: float | Literal["mean"]) -> Dataset:
        """Give every hidden reward one value: a number, or the mean of the labelled rewards."""
        known = self.is_labelled
        if value == "mean":
            if not known.any():
                raise ValueError(f"{self.name}: no labelled reward to take the mean of")
            value = float(self.rewards[known].mean(dtype=np.float64))
        if isinstance(value, str) or not abs(value) <= float(np.finfo(np.float32).max):
            raise ValueError(f"fill({value!r}): give a finite number or 'mean'")
        return replace(self, rewards=np.where(known, self.rewards, np.float32(value)))

    def pick(self, rows: ArrayLike) -> Dataset:
        """The given rows (indices or a boolean mask) as scattered transitions."""
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
