"""Play a behaviour policy in copies of an environment, and keep what happened as a data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import gymnasium

from orl import datasets
from orl.datasets import Episode, recording
from orl.environment import Spaces

if TYPE_CHECKING:
    from orl.scripts.data.behaviour_policies import Behaviour

COPIES = 10  # of the environment, at most; samples depend on it

Progress = Callable[[int, int], None]  # so far, of how many


def record_own(
    dataset_id: str,
    behaviour: Behaviour,
    environment_id: str,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a data set of a behaviour policy.

    Args:
        dataset_id: of the new set.
        behaviour: what acts.
        environment_id: Gymnasium id.
        episodes: how many; or
        steps: as many episodes as hold this many transitions.
        seed: of the resets.
        overwrite: replace a set that is there.
        progress: called with what was recorded so far and its final number, of episodes or of transitions.
    """

    def report(finished: int, played: int) -> None:
        if progress is not None:
            now, all_of_it = (finished, episodes) if episodes is not None else (played, steps or 0)
            progress(min(now, all_of_it), all_of_it)

    recorded = play(behaviour, environment_id, episodes=episodes, steps=steps, seed=seed, progress=report)
    reference = datasets.REFERENCES.get(environment_id)
    with quiet_simulator():
        datasets.write(
            recorded,
            dataset_id,
            environment_id=environment_id,
            algorithm_name=behaviour.name,
            description=f"{environment_id}: {len(recorded):,} episodes of {behaviour.name}, seed {seed}.",
            ref_min_score=reference.random if reference else None,
            ref_max_score=reference.expert if reference else None,
            packages=behaviour.packages,
            overwrite=overwrite,
        )


def play(
    behaviour: Behaviour,
    environment_id: str,
    *,
    episodes: int | None = None,
    steps: int | None = None,
    seed: int,
    progress: recording.Progress | None = None,
) -> list[Episode]:
    """Whole episodes of a behaviour policy, in copies of its environment side by side.

    Args:
        behaviour: what acts.
        environment_id: Gymnasium id.
        episodes: how many; or
        steps: as many episodes as hold this many transitions.
        seed: of the resets.
        progress: called with the numbers of finished episodes and of transitions so far.

    Raises:
        MemoryError: the size, computed first, is more than there is.
    """
    limit = gymnasium.spec(environment_id).max_episode_steps
    copies = min(COPIES, episodes if episodes is not None else -(-(steps or 1) // (limit or 1)))
    with quiet_simulator():
        spaces = Spaces.of(environment_id)
        refuse_memory(steps or (episodes or 0) * (limit or 1), spaces)
        environment = gymnasium.make_vec(environment_id, num_envs=copies)
        try:
            return datasets.record(
                behaviour.act, environment, episodes=episodes, steps=steps, seed=seed, progress=progress
            )
        finally:
            environment.close()


def load_behaviour(source: str, environment_id: str, *, deterministic: bool = False, seed: int = 0) -> Behaviour:
    """A policy for an environment; torch is imported here, so that what needs no policy stays quick.

    Args:
        source: `random`, an archive of Stable-Baselines3, a policy or a checkpoint of ours.
        environment_id: Gymnasium id.
        deterministic: modes instead of samples.
        seed: of the samples.

    Raises:
        ValueError: nothing of that name, or a policy that cannot be read or does not fit the environment.
    """
    from orl.scripts.data import behaviour_policies as behaviours

    with quiet_simulator():
        return behaviours.load_behaviour(source, Spaces.of(environment_id), deterministic=deterministic, seed=seed)


def environment_named(name: str) -> str:
    """The environment's id with its version, if it can be made and acted in.

    Raises:
        ValueError: it cannot, or its spaces are of another kind.
    """
    with quiet_simulator():
        found = Spaces.of(name).environment_id
    assert found is not None
    return found


def default_id(environment_id: str, source: str) -> str:
    """`local/halfcheetah/sac-v0` for `sac.zip` in HalfCheetah-v5; a `seed-K` has its run's name before it."""
    body = re.sub(r"-v\d+$", "", environment_id).rpartition("/")[2].lower()
    named = Path(source).resolve()
    stem = f"{named.parent.name}-{named.name}" if re.fullmatch(r"seed-\d+", named.name) else named.stem
    policy = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "policy"
    return f"local/{body}/{policy}-v0"


def refuse_memory(transitions: int, spaces: Spaces) -> None:
    """Raise MemoryError where so many transitions do not fit, as episodes and once more as what is written."""
    import torch

    from orl.device import available_memory

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
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda _: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)
