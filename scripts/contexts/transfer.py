"""Policies in contexts that they may not have been trained for.

Shape key: P policies, N contexts, E episodes, d context variables, O observation, A action.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl.arrays import Float64Array
from orl.context import ContextSpace
from orl.environment import Spaces
from orl.evaluation import evaluate
from orl.rollout import Policy

COPIES = 10_000  # of the environment at a time


class RandomActions:
    """Uniform actions inside the bounds of an environment, for `orl.evaluation.evaluate`."""

    population = 1

    def __init__(self, env: str, seed: int = 0) -> None:
        spaces = Spaces.of(env)
        self.low, self.high = spaces.action_low, spaces.action_high
        self.generator = np.random.default_rng(seed)

    def act(self, observations: NDArray[Any], *, deterministic: bool = True) -> NDArray[Any]:
        """(1, E, O) to (1, E, A)."""
        shape = (*observations.shape[:-1], len(self.low))
        return self.generator.uniform(self.low, self.high, shape).astype(np.float32)


def transfer_returns(
    policy: Policy,
    env: str,
    space: ContextSpace,
    contexts: Float64Array,
    *,
    episodes: int = 10,
    seed: int = 0,
    **keywords: Any,
) -> Float64Array:
    """Undiscounted returns (P, N, E) of every policy in every context, rows sources and columns targets.

    Args:
        policy: P learners.
        env: Gymnasium id of an environment with contexts.
        space: its variables that differ.
        contexts: (N, d).
        episodes: E, in each context.
        seed: of the starts, which are the same for all policies and contexts.
        keywords: for the environment, such as `context_mode="concat"` for policies that are to see the context.
    """
    at_once = max(1, COPIES // (policy.population * episodes))
    parts = []
    for first in range(0, len(contexts), at_once):
        targets = contexts[first : first + at_once]
        copies = np.tile(targets.repeat(episodes, axis=0), (policy.population, 1)).tolist()
        everywhere = _Everywhere(policy, len(targets))
        played = evaluate(
            everywhere, env, episodes=episodes, seed=seed, contexts=space.ranges, context=copies, **keywords
        )
        parts.append(played.returns.reshape(policy.population, -1, episodes))
    return np.concatenate(parts, axis=1)


class _Everywhere:
    """Each policy as often as there are targets, so that the starts are the same in all of them."""

    def __init__(self, policy: Policy, targets: int) -> None:
        self.policy, self.population = policy, policy.population * targets

    def act(self, observations: NDArray[Any], *, deterministic: bool = True) -> NDArray[Any]:
        learners = observations.reshape(self.policy.population, -1, observations.shape[-1])
        actions = self.policy.act(learners, deterministic=deterministic)
        return actions.reshape(*observations.shape[:-1], -1)
