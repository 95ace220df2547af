"""Play a behaviour policy in copies of an environment, and write the episodes as a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import gymnasium
import mujoco
import torch

from orl import datasets
from orl.datasets import Episode
from orl.device import available_memory
from orl.environment import Spaces
from orl.scripts.data import behaviour_policies
from orl.scripts.data.behaviour_policies import BehaviourPolicy

NUM_ENVS = 10  # copies of the environment, at most; samples depend on it

Progress = Callable[[int, int], None]  # how many so far, of how many


def no_progress(_: int, __: int) -> None:
    """A `Progress` that shows nothing."""


def record(
    policy: BehaviourPolicy,
    environment_id: str,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int,
    progress: Progress = no_progress,
) -> list[Episode]:
    """Whole episodes of a behaviour policy, in copies of its environment side by side.

    Args:
        policy: acts.
        environment_id: Gymnasium id.
        episodes: how many; or
        steps: as many episodes as hold this many transitions.
        seed: of the resets.
        progress: called with what was recorded so far and its final number, of episodes or of transitions.

    Raises:
        MemoryError: the size, computed first, is more than there is.
    """
    limit = gymnasium.spec(environment_id).max_episode_steps or 1
    goal = steps if episodes is None else episodes
    assert goal is not None

    def report(finished: int, played: int) -> None:
        progress(min(played if episodes is None else finished, goal), goal)

    with quiet_simulator():
        _check_memory(steps or goal * limit, Spaces.of(environment_id))
        num_envs = min(NUM_ENVS, -(-goal // limit) if episodes is None else episodes)
        with closing(gymnasium.make_vec(environment_id, num_envs=num_envs)) as environment:
            return datasets.record(policy.act, environment, episodes=episodes, steps=steps, seed=seed, progress=report)


def write(
    episodes: Sequence[Episode],
    dataset_id: str,
    environment_id: str,
    *,
    algorithm: str,
    description: str,
    packages: Sequence[str] = (),
    overwrite: bool = False,
) -> None:
    """Write a dataset with the references of its environment.

    Args:
        episodes: in their order.
        dataset_id: of the new dataset.
        environment_id: Gymnasium id.
        algorithm: what chose the actions.
        description: for the dataset's card.
        packages: whose versions the actions depend on, besides those that every dataset names.
        overwrite: replace an existing dataset.
    """
    reference = datasets.REFERENCES.get(environment_id)
    with quiet_simulator():
        datasets.write(
            episodes,
            dataset_id,
            environment_id=environment_id,
            algorithm_name=algorithm,
            description=description,
            ref_min_score=reference.random if reference else None,
            ref_max_score=reference.expert if reference else None,
            packages=packages,
            overwrite=overwrite,
        )


def load_policy(source: str, environment_id: str, *, deterministic: bool = False, seed: int = 0) -> BehaviourPolicy:
    """A policy for an environment.

    Args:
        source: `random`, an archive of Stable-Baselines3, a policy or a checkpoint of ours.
        environment_id: Gymnasium id.
        deterministic: modes instead of samples.
        seed: of the samples.

    Raises:
        ValueError: nothing of that name, or a policy that cannot be read or does not fit the environment.
    """
    with quiet_simulator():
        spaces = Spaces.of(environment_id)
        return behaviour_policies.load_policy(source, spaces, deterministic=deterministic, seed=seed)


def resolve_environment(name: str) -> str:
    """The environment's id with its version, if it can be made and acted in.

    Raises:
        ValueError: it cannot, or its spaces are of another kind.
    """
    with quiet_simulator():
        environment_id = Spaces.of(name).environment_id
    assert environment_id is not None
    return environment_id


def default_id(environment_id: str, source: str) -> str:
    """`local/halfcheetah/sac-v0` for `sac.zip` in HalfCheetah-v5; a `seed-K` has its run's name before it."""
    body = re.sub(r"-v\d+$", "", environment_id).rpartition("/")[2].lower()
    path = Path(source).resolve()
    stem = f"{path.parent.name}-{path.name}" if re.fullmatch(r"seed-\d+", path.name) else path.stem
    policy = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "policy"
    return f"local/{body}/{policy}-v0"


def _check_memory(transitions: int, spaces: Spaces) -> None:
    """Raise MemoryError where so many transitions do not fit, as episodes and once more as what is written."""
    size = 2 * transitions * (2 * spaces.observation_size + spaces.action_size + 4) * 8
    free = available_memory(torch.device("cpu"))
    if free is not None and size > free:
        raise MemoryError(
            f"{transitions:,} transitions need {size / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free; "
            "record fewer steps"
        )


@contextmanager
def quiet_simulator() -> Iterator[None]:
    """Keep MuJoCo from warning of a model's file once per copy of an environment, on stderr and in a log file."""
    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
