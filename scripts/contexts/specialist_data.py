"""Episodes of specialists, each in the context that it was trained for, as a dataset.

Shape key: P learners and as many contexts, E episodes of each, O observation, A action, d context variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch

from orl import seeding
from orl.agents import SAC, FlashSAC
from orl.arrays import Float32Array, Float64Array
from orl.context import ContextSpace
from orl.dataset import Dataset
from orl.datasets import Episode, record
from orl.datasets.episodes import to_dataset
from orl.environment import Spaces, make_vector


def specialist_episodes(
    agent: SAC | FlashSAC,
    env: str,
    space: ContextSpace,
    contexts: Float64Array,
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
    starts = np.concatenate(
        [seeding.sequence(seed, "evaluation", k).generate_state(episodes) for k in range(population)]
    ).tolist()
    values: list[Float32Array] = []

    def act(observations: Float32Array) -> Float32Array:
        """The policies' modes (P * E, A) in the environment's unit; stores min_i Q_i(s, a), (P * E,), of (P * E, O)."""
        shape = (population, episodes, observations.shape[-1])
        inputs = torch.as_tensor(observations.reshape(shape), dtype=torch.get_default_dtype(), device=agent.device)
        with torch.no_grad():
            inputs = agent.normalizer(inputs)
            actions = agent.actions(inputs, None)
            values.append(agent.q_values(inputs, actions).amin(1).cpu().numpy().astype(np.float32).ravel())
        in_unit = agent.spaces.to_environment(actions.cpu().numpy().astype(np.float32))
        return in_unit.reshape(len(observations), -1)

    with closing(make_vector(env, len(copies), contexts=space.ranges, context=copies.tolist())) as environment:
        played = record(act, environment, episodes=len(copies), seed=starts)  # one in each copy
    columns = np.stack(values, axis=1)  # (P * E, T)
    return [
        replace(episode, context=context, values=column[: len(episode)])
        for episode, context, column in zip(played, copies, columns, strict=True)
    ]


def transitions(episodes: Sequence[Episode], spaces: Spaces) -> Dataset:
    """Of specialists' episodes, in the environment that the spaces name."""
    return to_dataset(
        episodes,
        action_low=spaces.action_low,
        action_high=spaces.action_high,
        name="specialists",
        environment_id=spaces.environment_id,
    )
