"""One piece of another package's work, repeated on demand; `orl speed --baselines` runs this in its environment.

Nothing of orl is imported here. Each line on standard input asks for one repetition, and a line on standard output
answers it.

    python baseline_worker.py "sbx SAC" OBSERVATION_SIZE ACTION_SIZE ROWS THREADS
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

BATCH = 256
DROPOUT_RATE = 0.01
UTD_RATIO = 20


class Noise:
    """Transitions of the sizes that are asked for: timing does not depend on the values."""

    def __init__(self, observation_size: int, action_size: int, rows: int) -> None:
        generator = np.random.default_rng(0)
        self.observations = generator.standard_normal((rows, observation_size)).astype(np.float32)
        self.actions = generator.uniform(-1, 1, (rows, action_size)).astype(np.float32)
        self.rewards = generator.standard_normal(rows).astype(np.float32)
        self.timeouts = np.arange(rows) % 1000 == 999


def sbx(noise: Noise, updates: int, **settings: Any) -> Callable[[], object]:
    """So many critic updates, on a buffer of noise."""
    import gymnasium
    from sbx import SAC
    from stable_baselines3.common.logger import configure

    environment: gymnasium.Env[Any, Any] = gymnasium.Env()  # nobody acts in it
    environment.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, noise.observations.shape[1:])
    environment.action_space = gymnasium.spaces.Box(-1.0, 1.0, noise.actions.shape[1:])
    agent = SAC("MlpPolicy", environment, seed=0, buffer_size=len(noise.rewards), batch_size=BATCH, **settings)
    agent.set_logger(configure(None, []))
    buffer = agent.replay_buffer
    buffer.observations[:, 0], buffer.next_observations[:, 0] = noise.observations, noise.observations
    buffer.actions[:, 0], buffer.rewards[:, 0], buffer.full = noise.actions, noise.rewards, True
    return lambda: agent.train(updates, BATCH)


def d3rlpy(noise: Noise, name: str) -> Callable[[], object]:
    """One update, its batch included."""
    import d3rlpy as package

    data = package.dataset.MDPDataset(
        noise.observations, noise.actions, noise.rewards, np.zeros(len(noise.rewards)), noise.timeouts
    )
    scaler = package.preprocessing.StandardObservationScaler(noise.observations.mean(0), noise.observations.std(0))
    agent = getattr(package.algos, name)(observation_scaler=scaler, batch_size=BATCH).create(device="cpu:0")
    agent.build_with_dataset(data)
    return lambda: agent.update(data.sample_transition_batch(BATCH))


def work(name: str, noise: Noise) -> Callable[[], object]:
    """The piece of work of that name."""
    if name == "sbx SAC":
        return sbx(noise, 1)
    if name == "sbx DroQ":
        network = {"dropout_rate": DROPOUT_RATE, "layer_norm": True}
        return sbx(noise, UTD_RATIO, policy_delay=UTD_RATIO, policy_kwargs=network)
    return d3rlpy(noise, {"d3rlpy TD3BC": "TD3PlusBCConfig", "d3rlpy IQL": "IQLConfig"}[name])


def main() -> None:
    """Answer until standard input ends."""
    name, observations, actions, rows, threads = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # JAX has no other way to be told how many cores to use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    repeat = work(name, Noise(int(observations), int(actions), int(rows)))
    for _ in sys.stdin:
        repeat()
        print("done", file=answers, flush=True)


if __name__ == "__main__":
    main()
