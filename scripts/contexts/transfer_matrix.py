"""The transfer matrix: what policies return in contexts that they may not have been trained for.

Shape key: P policies, N contexts, E episodes, d context variables, O observation, A action.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np

from orl.arrays import Float32Array, Float64Array
from orl.context import ContextSpace
from orl.evaluation import evaluate
from orl.rollout import Policy

NUM_ENVS = 10_000  # copies of the environment at a time


def transfer_returns(
    policy: Policy,
    env: str,
    space: ContextSpace,
    contexts: Float64Array,
    *,
    episodes: int = 10,
    seed: int = 0,
    context_mode: Literal["hidden", "concat"] = "hidden",
) -> Float64Array:
    """Undiscounted returns (P, N, E) of every policy in every context, rows sources and columns targets.

    Args:
        policy: P learners.
        env: Gymnasium id of an environment with contexts.
        space: its variables that differ.
        contexts: (N, d).
        episodes: E, in each context.
        seed: of the starts, which are the same for all policies and contexts.
        context_mode: "concat" for policies that see the context.
    """
    at_once = max(1, NUM_ENVS // (policy.population * episodes))
    parts = []
    for first in range(0, len(contexts), at_once):
        targets = contexts[first : first + at_once]
        copies = np.tile(targets.repeat(episodes, axis=0), (policy.population, 1)).tolist()
        options = {"contexts": space.ranges, "context": copies, "context_mode": context_mode}
        played = evaluate(_RepeatedPolicies(policy, len(targets)), env, episodes=episodes, seed=seed, **options)
        parts.append(played.returns.reshape(policy.population, -1, episodes))
    return np.concatenate(parts, axis=1)


class _RepeatedPolicies:
    """Every policy as often as there are targets, so that the starts are the same in all of them."""

    def __init__(self, policy: Policy, targets: int) -> None:
        self.policy, self.population = policy, policy.population * targets

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        learners = observations.reshape(self.policy.population, -1, observations.shape[-1])
        actions = self.policy.act(learners, deterministic=deterministic)
        return actions.reshape(*observations.shape[:-1], -1)


def write_matrix(folder: Path, space: ContextSpace, contexts: Float64Array, matrix: Float64Array) -> None:
    """`transfer.npy` and `transfer.csv`: mean returns, rows sources, columns targets; NaN where not trained."""
    np.save(folder / "transfer.npy", matrix)
    names = [space.text(context) for context in contexts]
    lines = [[name, *(f"{number:.1f}" for number in row)] for name, row in zip(names, matrix, strict=True)]
    with (folder / "transfer.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["source", *names], *lines])
