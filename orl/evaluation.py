"""Whole episodes of a policy in copies of an environment, apart from training in every respect.

Shape key: P population, E episodes, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from orl import seeding
from orl.arrays import Array, BoolArray, Float64Array, IntArray
from orl.environment import Spaces, make_vector
from orl.rollout import Policy, play


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Whole episodes, episode e of every learner from the same start."""

    returns: Float64Array  # (P, E), undiscounted
    lengths: IntArray  # (P, E), decisions
    infos: dict[str, Array]  # (P, E) each: numeric entries of the last step's info
    traces: dict[str, Float64Array]  # (T, P, E) each: recorded entries of every step's info, NaN after the end


def evaluate(
    policy: Policy,
    environment_id: str,
    *,
    episodes: int = 10,
    seed: int = 0,
    deterministic: bool = True,
    record: Sequence[str] = (),
    **keywords: Any,
) -> Evaluation:
    """Play `episodes` episodes per learner, all at once, one copy of the environment for each.

    Every copy plays exactly one episode, so that short ones are not favoured. Starts come from the evaluation stream of
    `seed` alone. Sampled (not deterministic) actions come from the policy's own action generators, which training
    offline does not read; deterministic ones consume no random number.

    Args:
        policy: P learners.
        environment_id: Gymnasium id.
        episodes: E, per learner.
        seed: of the starts.
        deterministic: modes instead of samples.
        record: keys of the step's info to trace.
        keywords: for the environment.

    Raises:
        ValueError: no episode, an unknown id, a policy whose training diverged, an environment that does not fit the
            policy's `spaces` (if it has any), an episode that does not end, or a key that the step's info lacks.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: give at least one")
    if not isinstance(environment_id, str):
        raise ValueError(f"{environment_id!r}: evaluation makes copies of its own; give an environment id")
    population = policy.population
    if hasattr(policy, "check_finite"):  # as agents have, whose training may have diverged
        policy.check_finite()
    shape = population, episodes
    returns, lengths = np.zeros(population * episodes), np.zeros(population * episodes, np.int64)
    infos: dict[str, Array] = {}
    traces: dict[str, list[Float64Array]] = {key: [] for key in record}
    with closing(make_vector(environment_id, population * episodes, **keywords)) as environment:
        spaces = getattr(policy, "spaces", None)
        if spaces is not None:
            spaces.check(Spaces.of(environment), environment_id)

        def act(observations: Array) -> Array:
            actions = policy.act(observations.reshape(*shape, -1), deterministic=deterministic)
            return actions.reshape(environment.action_space.shape)

        starts = seeding.sequence(seed, "evaluation").generate_state(episodes).tolist()
        for numbers, step in play(environment, act, starts * population):
            running = numbers >= 0
            returns += np.where(running, step.rewards, 0.0)
            lengths += running
            for key, values in traces.items():
                if key not in step.infos:
                    raise ValueError(f"record={list(record)}: steps have no {key!r}; theirs are {sorted(step.infos)}")
                values.append(np.where(running, step.infos[key], np.nan))
            ended = running & (step.terminated | step.truncated)
            if ended.any():
                _store_final(infos, step.infos, ended)
    return Evaluation(
        returns.reshape(shape),
        lengths.reshape(shape),
        {key: values.reshape(shape) for key, values in infos.items()},
        {key: np.stack(values).reshape(-1, *shape) for key, values in traces.items()},
    )


def _store_final(infos: dict[str, Array], step_infos: dict[str, Any], ended: BoolArray) -> None:
    """Copy the numeric entries of the copies that ended; Gymnasium's `_key` says which copies have a key."""
    for key, values in step_infos.items():
        numeric = isinstance(values, np.ndarray) and values.shape == ended.shape and values.dtype.kind in "fiub"
        if numeric and not key.startswith("_"):
            final = infos.setdefault(key, np.zeros_like(values))
            final[ended] = values[ended]
