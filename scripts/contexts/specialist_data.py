"""Episodes of specialists, each in the context that it was trained for, as a dataset.

Shape key: P learners and as many contexts, E episodes of each, O observation, A action, d context variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from orl import seeding
from orl.agents import SAC, FlashSAC
from orl.context import ContextSpace, Floats
from orl.dataset import Dataset
from orl.datasets import Episode
from orl.datasets.episodes import to_dataset
from orl.datasets.recording import EpisodeBuilder
from orl.environment import Spaces, make_vector


def specialist_episodes(
    agent: SAC | FlashSAC,
    env: str,
    space: ContextSpace,
    contexts: Floats,
    *,
    episodes: int = 10,
    seed: int = 0,
) -> list[Episode]:
    """Play deterministic episodes of every learner in its own context, which it does not see, all of them at once.

    Learner k begins its episodes in states of its own, which `seed` and k decide. No random number of the agent is
    used, and nothing of it changes.

    Args:
        agent: P soft actor-critic learners.
        env: Gymnasium id of an environment with contexts.
        space: its variables that differ.
        contexts: (P, d), row k that of learner k.
        episodes: E, of each learner.
        seed: of the starts.

    Returns:
        P * E episodes, learner by learner, with their contexts. Their values are the smallest of the learner's critics'
        Q(s, a), as in the critics' targets: without its entropy, in units of rewards, no unit dropped.

    Raises:
        ValueError: no episode, or as many contexts as there are learners are not given.
    """
    population = agent.population
    if len(contexts) != population:
        raise ValueError(f"{len(contexts)} contexts for {population} learners; give each learner its own")
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: give at least one")
    copies = contexts.repeat(episodes, axis=0)
    starts = [seeding.sequence(seed, "evaluation", k).generate_state(episodes) for k in range(population)]
    environment = make_vector(env, len(copies), contexts=space.ranges, context=copies.tolist())
    try:
        return _play(agent, environment, np.concatenate(starts).tolist(), copies)
    finally:
        environment.close()


def transitions(episodes: Sequence[Episode], spaces: Spaces) -> Dataset:
    """Of specialists' episodes, in the environment that the spaces name."""
    return to_dataset(
        episodes,
        action_low=spaces.action_low,
        action_high=spaces.action_high,
        name="specialists",
        environment_id=spaces.environment_id,
    )


def _play(
    agent: SAC | FlashSAC, environment: VectorEnv[Any, Any, Any], starts: list[int], contexts: Floats
) -> list[Episode]:
    """One episode in each copy of an environment that resets copies in the step in which their episode ends."""
    observations, _ = environment.reset(seed=starts)  # type: ignore[arg-type]
    diaries = [EpisodeBuilder(start, observation) for start, observation in zip(starts, observations, strict=True)]
    values: list[NDArray[np.float32]] = []
    while running := [i for i, diary in enumerate(diaries) if not diary.ended]:
        actions, found = _actions_and_values(agent, observations)
        values.append(found)
        observations, rewards, terminated, truncated, infos = environment.step(actions)
        ended = terminated | truncated
        for i in running:
            following = infos["final_obs"][i] if ended[i] else observations[i]
            diaries[i].add(actions[i], float(rewards[i]), bool(terminated[i]), bool(truncated[i]), following)
    columns = np.stack(values, axis=1)  # (P * E, T)
    played = (diary.close() for diary in diaries)
    return [
        replace(episode, context=context, values=column[: len(episode)])
        for episode, context, column in zip(played, contexts, columns, strict=True)
    ]


def _actions_and_values(
    agent: SAC | FlashSAC, observations: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The policies' modes (P * E, A) in the environment's unit, and min_i Q_i(s, a), (P * E,), of (P * E, O)."""
    shape = (agent.population, -1, observations.shape[-1])
    inputs = torch.as_tensor(observations.reshape(shape), dtype=torch.get_default_dtype(), device=agent.device)
    with torch.no_grad():
        inputs = agent.normalizer(inputs)
        actions = agent.actions(inputs, None)
        values = agent.q_values(inputs, actions).amin(1)
    in_unit = agent.spaces.to_environment(actions.cpu().numpy().astype(np.float32))
    return in_unit.reshape(len(observations), -1), values.cpu().numpy().astype(np.float32).ravel()
