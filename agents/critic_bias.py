"""How far the critics are from what the policy really gets: Q minus the Monte-Carlo return.

Source: Chen et al. 2021 (REDQ, arXiv 2101.05982), section 3 and figure 2; the return is soft, as the critics' target.

Shape key: P population, E episodes, T decisions, O observation, A action.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from orl import seeding
from orl.agents.flash_sac.agent import FlashSAC
from orl.agents.sac import SAC
from orl.arrays import Array, BoolArray, Float32Array, Float64Array
from orl.environment import make_vector
from orl.rollout import play

HORIZON = 350  # decisions before a truncation whose return is not used: 0.99^350 = 0.03 of it is missing


class Bias(NamedTuple):
    """Normalised by the absolute mean of the returns, each (P,); NaN for a learner without a usable state."""

    mean: Float64Array
    std: Float64Array


def critic_bias(
    agent: SAC | FlashSAC, environment_id: str, *, episodes: int = 3, seed: int = 0, **keywords: Any
) -> Bias:
    """Play episodes with sampled actions and compare every Q(s, a), the mean of the critics, with what followed.

    Starts and noise come from the evaluation stream of `seed`; training is not touched.

    Args:
        agent: P soft actor-critic learners.
        environment_id: Gymnasium id.
        episodes: E, per learner.
        seed: of starts and noise, the same for every learner.
        keywords: for the environment.

    Returns:
        Mean and standard deviation of the error of each learner, (P,).
    """
    population = agent.population
    starts = seeding.sequence(seed, "evaluation").generate_state(episodes).tolist()
    generator = seeding.torch_generator(seed, "evaluation", agent.device)
    coefficient = agent.entropy_weight()
    values, log_probs, rewards, alive = [], [], [], []

    def act(observations: Array) -> Float32Array:
        inputs = torch.as_tensor(observations, dtype=torch.get_default_dtype(), device=agent.device)
        inputs = agent.normalizer(inputs.view(population, episodes, -1))
        noise = torch.randn(episodes, agent.spaces.action_size, generator=generator, device=agent.device)
        with torch.no_grad():
            noise = noise.expand(population, -1, -1)
            actions, log_prob = agent.actions(inputs, noise), agent.actor.sample(inputs, noise)[1]
            values.append(_flat(agent.q_values(inputs, actions).mean(1)))
        log_probs.append(_flat(coefficient * log_prob))
        in_unit = agent.spaces.to_environment(actions.cpu().numpy().astype(np.float32))
        return in_unit.reshape(population * episodes, -1)

    truncated_at_end = np.zeros(population * episodes, bool)
    with closing(make_vector(environment_id, population * episodes, **keywords)) as environment:
        for numbers, step in play(environment, act, starts * population):
            running = numbers >= 0
            rewards.append(step.rewards)
            alive.append(running)
            truncated_at_end |= running & step.truncated & ~step.terminated
    shape = (-1, population, episodes)
    returns, usable = _soft_returns(
        np.array(rewards), np.array(log_probs), np.array(alive), truncated_at_end, agent.config.discount
    )
    return _summary(np.array(values).reshape(shape), returns.reshape(shape), usable.reshape(shape))


def _flat(values: Tensor) -> Float64Array:
    return values.cpu().numpy().astype(np.float64).ravel()


def _soft_returns(
    rewards: Float64Array,
    log_probs: Float64Array,
    alive: BoolArray,
    truncated: BoolArray,
    discount: float,
) -> tuple[Float64Array, BoolArray]:
    """G_t = r_t + gamma (G_{t+1} - alpha log pi_{t+1}), (T, N), and which of them are whole enough."""
    returns, following = np.zeros_like(rewards), np.zeros(rewards.shape[1])
    for t in reversed(range(len(rewards))):
        returns[t] = np.where(alive[t], rewards[t] + discount * following, 0.0)
        following = np.where(alive[t], returns[t] - log_probs[t], 0.0)
    left = alive.sum(0) - np.arange(len(rewards))[:, None]
    return returns, alive & (~truncated | (left > HORIZON))


def _summary(values: Float64Array, returns: Float64Array, usable: BoolArray) -> Bias:
    means, stds = [], []
    for k in range(values.shape[1]):
        chosen = usable[:, k]
        scale = abs(returns[:, k][chosen].mean()) if chosen.any() else np.nan
        error = (values[:, k] - returns[:, k])[chosen] / scale
        means.append(error.mean() if chosen.any() else np.nan)
        stds.append(error.std() if chosen.any() else np.nan)
    return Bias(np.array(means), np.array(stds))
