"""Whole episodes of a policy in copies of an environment, apart from training in every respect.

Shape key: P population, E episodes, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from orl import seeding
from orl.checks import Floats
from orl.environment import Spaces, make_vector


class Policy(Protocol):
    """What can be evaluated: P learners that act side by side."""

    @property
    def population(self) -> int:
        """Number of learners, P."""
        ...

    def act(self, observations: Floats, *, deterministic: bool = True) -> Floats:
        """(P, E, O) to (P, E, A), in the environment's unit."""
        ...


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Whole episodes, episode e of every learner from the same start."""

    returns: NDArray[np.float64]  # (P, E), undiscounted
    lengths: NDArray[np.int64]  # (P, E), decisions
    infos: dict[str, NDArray[Any]]  # (P, E) each: numeric entries of the last step's info
    traces: dict[str, NDArray[np.float64]]  # (T, P, E) each: recorded entries of every step's info, NaN after the end


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
        ValueError: no episode, an unknown id, an environment that does not fit the policy's `spaces` (if it has any),
            or a key that the step's info lacks.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: give at least one")
    if not isinstance(environment_id, str):
        raise ValueError(f"{environment_id!r}: evaluation makes copies of its own; give an environment id")
    population = policy.population
    environment = make_vector(environment_id, population * episodes, **keywords)
    try:
        spaces = getattr(policy, "spaces", None)
        if spaces is not None:
            spaces.check(Spaces.of(environment), environment_id)
        starts = seeding.sequence(seed, "evaluation").generate_state(episodes).tolist()
        return _play(policy, environment, (population, episodes), starts * population, deterministic, record)
    finally:
        environment.close()


def _play(
    policy: Policy,
    environment: VectorEnv[Any, Any, Any],
    shape: tuple[int, int],
    seeds: list[int],
    deterministic: bool,
    record: Sequence[str],
) -> Evaluation:
    same_step = environment.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
    observations, _ = environment.reset(seed=seeds)  # type: ignore[arg-type]
    count, whole = len(seeds), environment.action_space.shape
    returns, lengths, running = np.zeros(count), np.zeros(count, np.int64), np.ones(count, bool)
    infos: dict[str, NDArray[Any]] = {}
    traces: dict[str, list[NDArray[np.float64]]] = {key: [] for key in record}
    while running.any():
        actions = policy.act(observations.reshape(*shape, -1), deterministic=deterministic)
        observations, rewards, terminated, truncated, step_infos = environment.step(actions.reshape(whole))
        returns += np.where(running, rewards, 0.0)
        lengths += running
        ended = terminated | truncated
        if same_step and ended.any():
            step_infos = _before_reset(step_infos, ended)
        for key, values in traces.items():
            if key not in step_infos:
                raise ValueError(f"record={list(record)}: steps have no {key!r}; theirs are {sorted(step_infos)}")
            values.append(np.where(running, step_infos[key], np.nan))
        ended &= running
        if ended.any():
            _keep(infos, step_infos, ended)
        running &= ~ended
    return Evaluation(
        returns.reshape(shape),
        lengths.reshape(shape),
        {key: values.reshape(shape) for key, values in infos.items()},
        {key: np.stack(values).reshape(-1, *shape) for key, values in traces.items()},
    )


def _before_reset(step_infos: dict[str, Any], ended: NDArray[np.bool_]) -> dict[str, Any]:
    """Infos of the step itself, where a vector environment gives those of the reset for copies that ended."""
    final = {key: values for key, values in step_infos["final_info"].items() if np.shape(values) == ended.shape}
    return step_infos | {key: np.where(ended, values, step_infos.get(key, values)) for key, values in final.items()}


def _keep(infos: dict[str, NDArray[Any]], step_infos: dict[str, Any], ended: NDArray[np.bool_]) -> None:
    """Copy the numeric entries of the copies that ended; Gymnasium's `_key` says which copies have a key."""
    for key, values in step_infos.items():
        numeric = isinstance(values, np.ndarray) and values.shape == ended.shape and values.dtype.kind in "fiub"
        if numeric and not key.startswith("_"):
            kept = infos.setdefault(key, np.zeros_like(values))
            kept[ended] = values[ended]
