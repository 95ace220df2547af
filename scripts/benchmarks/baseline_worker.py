"""A package's work in an environment of its own; `orl speed` runs this there, and nothing of this one is imported.

    python baseline_worker.py "sbx SAC" OBSERVATION_SIZE ACTION_SIZE ROWS THREADS   an update of a network of 256 units
    python baseline_worker.py "sbx learn" THREADS                                   steps of SAC on Pendulum-v1
    python baseline_worker.py "sbx solve" SEED THREADS                              the same until it is solved

The first two repeat their work: each line on standard input asks for it once, and a line on standard output
answers, `done` and the seconds of processor time that it took. The third writes a line of JSON for each evaluation.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

BATCH = 256
DROPOUT_RATE = 0.01
UTD_RATIO = 20

# SAC on Pendulum-v1, the same in every package.
ENVIRONMENT = "Pendulum-v1"
UNITS, SMALL_BATCH, LEARNING_RATE, LEARNING_STARTS = 64, 64, 1e-3, 500
MOST_STEPS, EVALUATE_EVERY, EPISODES, SOLVED = 15_000, 500, 10, -200.0
TIMED_STEPS = 200  # of one repetition of "learn"


class Learner(NamedTuple):
    """A training of any package."""

    learn: Callable[[int], object]  # so many environment steps
    act: Callable[[Any], Any]  # the deterministic action for an observation


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


# SAC on Pendulum-v1: imports come first, and are not timed; what is returned makes the training.


def orl(execution: str) -> Callable[[int], Learner]:
    """This package, whichever version is installed."""
    from orl.agents import SAC

    settings: dict[str, Any] = {
        "hidden_sizes": (UNITS, UNITS),
        "batch_size": SMALL_BATCH,
        "learning_rate": LEARNING_RATE,
        "learning_starts": LEARNING_STARTS,
        "target_entropy": -1.0,
        "buffer_size": MOST_STEPS,
        "execution": execution,
    }

    def make(seed: int) -> Learner:
        agent = SAC(ENVIRONMENT, seed=seed, device="cpu", **settings)
        return Learner(agent.learn, lambda observation: agent.predict(observation, deterministic=True)[0])

    return make


def baselines3(package: str) -> Callable[[int], Learner]:
    """Stable-Baselines3, or sbx."""
    if package == "sbx":
        from sbx import SAC
    else:
        from stable_baselines3 import SAC
    settings = {
        "policy_kwargs": {"net_arch": [UNITS, UNITS]},
        "batch_size": SMALL_BATCH,
        "learning_rate": LEARNING_RATE,
        "learning_starts": LEARNING_STARTS,
        "buffer_size": MOST_STEPS,
        "device": "cpu",
    }

    def make(seed: int) -> Learner:
        model = SAC("MlpPolicy", ENVIRONMENT, seed=seed, **settings)
        return Learner(
            lambda steps: model.learn(steps, reset_num_timesteps=False),
            lambda observation: model.predict(observation, deterministic=True)[0],
        )

    return make


def rltools() -> Callable[[int], Learner]:
    """RLtools, which compiles the training for the environment's sizes and settings."""
    import gymnasium
    import rltools as package  # type: ignore[import-not-found]

    def environment() -> Any:
        return gymnasium.wrappers.RescaleAction(gymnasium.make(ENVIRONMENT), np.float32(-1.0), np.float32(1.0))

    settings = {
        "ACTOR_HIDDEN_DIM": UNITS,
        "CRITIC_HIDDEN_DIM": UNITS,
        "ACTOR_BATCH_SIZE": SMALL_BATCH,
        "CRITIC_BATCH_SIZE": SMALL_BATCH,
        "OPTIMIZER_ALPHA": LEARNING_RATE,
        "N_WARMUP_STEPS": LEARNING_STARTS,
        "ALPHA": 1.0,
        "STEP_LIMIT": MOST_STEPS,
    }

    def make(seed: int) -> Learner:
        state = package.SAC(environment, enable_evaluation=False, interface_name="pendulum", **settings).State(seed)
        space: Any = gymnasium.make(ENVIRONMENT).action_space

        def learn(steps: int) -> None:
            for _ in range(steps):
                state.step()

        return Learner(learn, lambda observation: space.high * np.clip(state.action(observation), -1.0, 1.0))

    return make


def maker(package: str) -> Callable[[int], Learner]:
    """What makes a package's training from a seed; our own is called by its execution, as `orl-eager`."""
    if package.startswith("orl-"):
        return orl(package.removeprefix("orl-"))
    return rltools() if package == "rltools" else baselines3(package)


def solve(make: Callable[[int], Learner], seed: int) -> Iterator[dict[str, float]]:
    """Train until an evaluation is good enough; says how long training took, evaluations apart.

    Yields:
        Steps, mean return, seconds of processor time of this process without evaluations, and those of a compiler's.
    """
    start = time.process_time()
    learner, evaluations = make(seed), 0.0
    for steps in range(EVALUATE_EVERY, MOST_STEPS + 1, EVALUATE_EVERY):
        learner.learn(EVALUATE_EVERY)
        before = time.process_time()
        value = evaluate(learner.act)
        evaluations += time.process_time() - before
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        yield {
            "steps": steps,
            "return": value,
            "seconds": time.process_time() - start - evaluations,
            "compiler_seconds": children.ru_utime + children.ru_stime,
        }
        if value >= SOLVED:
            return


def evaluate(act: Callable[[Any], Any]) -> float:
    """Mean return of the same episodes for every package."""
    import gymnasium

    environment, total = gymnasium.make(ENVIRONMENT), 0.0
    for episode in range(EPISODES):
        observation, _ = environment.reset(seed=10_000 + episode)
        ended = False
        while not ended:
            observation, reward, terminated, truncated, _ = environment.step(act(observation))
            total += float(reward)
            ended = terminated or truncated
    return total / EPISODES


def learning(package: str) -> Callable[[], object]:
    """Some steps of a training that is under way."""
    learner = maker(package)(0)
    learner.learn(LEARNING_STARTS + TIMED_STEPS)
    return lambda: learner.learn(TIMED_STEPS)


def main() -> None:
    """Answer until standard input ends, or until the task is solved."""
    name, *arguments, threads = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):  # JAX has no other way to be told how many cores to use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    answers, sys.stdout = sys.stdout, sys.stderr  # what packages print is no answer
    package, task = name.split()
    if task == "solve":
        for evaluation in solve(maker(package), int(arguments[0])):
            print(json.dumps(evaluation), file=answers, flush=True)
        return
    repeat = learning(package) if task == "learn" else work(name, Noise(*map(int, arguments)))
    for _ in sys.stdin:
        start = time.process_time()
        repeat()
        print("done", time.process_time() - start, file=answers, flush=True)


if __name__ == "__main__":
    main()
