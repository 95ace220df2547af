"""Write and read Minari data sets, locally; another machine is asked only with `download=True`.

Names, units and ranges of the variables of episodes' contexts are `contexts` in the metadata of a set.
"""

from __future__ import annotations

import importlib.metadata
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Space

from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset
from orl.datasets.episodes import Episode, of_all, to_dataset
from orl.datasets.minari_episodes import read_episodes, to_buffer
from orl.datasets.recording import require_boxes
from orl.datasets.store import exists, local_ids, minari_root, require_id, require_place, staged
from orl.environment import make
from orl.spelling import did_you_mean

AUTHOR = "the orl contributors"
REQUIREMENTS = ("gymnasium", "numpy", "orl")
# Minari recommends these; each is None here for want of something true to say.
UNSTATED = re.compile(r"`(author_email|code_permalink|eval_env)` is set to None|env_spec is None")


def write(
    episodes: Sequence[Episode],
    dataset_id: str,
    *,
    environment_id: str | None = None,
    action_space: Box | None = None,
    contexts: ContextSpace | None = None,
    algorithm_name: str,
    description: str,
    ref_min_score: float | None = None,
    ref_max_score: float | None = None,
    author: str = AUTHOR,
    code_permalink: str | None = None,
    packages: Sequence[str] = (),
    made_with: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write episodes as a Minari data set, which appears only once it is whole.

    Args:
        episodes: at least one, actions in the environment's unit.
        dataset_id: such as `orl/hopper/random-v0`.
        environment_id: Gymnasium id that the episodes came from; without it, `action_space` must be given.
        action_space: bounds of the actions, where there is no environment to take them from.
        contexts: the variables of the episodes' contexts, which the environment exposes.
        algorithm_name: what chose the actions.
        description: one or two sentences for people who find the set.
        ref_min_score: return of the random policy; with `ref_max_score`, enables Minari's normalized score.
        ref_max_score: return of the reference policy.
        author: who made it.
        code_permalink: address of the code that made it.
        packages: more of those whose versions the data depend on.
        made_with: these versions, as pip writes them, of data that were not made here and now; none if not known.
        overwrite: replace a set of this id.

    Raises:
        ValueError: a malformed id, one that exists or is the name of a folder of others, no episode, neither
            environment nor action space, some episodes with a context or values and some without, or a context that
            is refused by `contexts`.
    """
    require_id(dataset_id)
    if not episodes:
        raise ValueError(f"{dataset_id}: no episode to write")
    if exists(dataset_id) and not overwrite:
        raise ValueError(f"{dataset_id} exists already; give overwrite=True (--overwrite) or another id")
    require_place(dataset_id)
    given, _ = of_all(episodes, "context", dataset_id), of_all(episodes, "values", dataset_id)
    if contexts is not None:
        contexts.rows(given or [()])
    observation_space, action_space, environment = _spaces(environment_id, contexts, action_space, episodes[0])
    buffers = [to_buffer(episode, observation_space, action_space) for episode in episodes]
    finished = [episode.rewards.sum(dtype=np.float64) for episode in episodes]
    with staged(dataset_id), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=UNSTATED.pattern, category=UserWarning)
        made = minari.create_dataset_from_buffers(
            dataset_id,
            buffers,
            env=environment,
            eval_env=environment,
            observation_space=observation_space,
            action_space=action_space,
            algorithm_name=algorithm_name,
            author=author,
            code_permalink=code_permalink,
            ref_min_score=ref_min_score,
            ref_max_score=ref_max_score,
            description=description,
            requirements=requirements(environment_id, packages) if made_with is None else list(made_with),
            jpeg_encoding=False,
        )
        mean_return = float(np.mean(finished))
        if np.isfinite(mean_return):  # JSON has no NaN
            made.storage.update_metadata({"mean_return": mean_return})
        if contexts is not None:
            made.storage.update_metadata({"contexts": [asdict(variable) for variable in contexts.variables]})


def read(dataset_id: str, *, download: bool = False, clip_actions: bool = False) -> Dataset:
    """Read a Minari data set and flatten it; `orl.datasets.load` does so once and caches the result.

    Args:
        dataset_id: of a set in the local store.
        download: fetch it with Minari if it is not there.
        clip_actions: clip actions beyond the bounds instead of refusing them.

    Raises:
        ValueError: a malformed id, a set that is not there or is damaged, spaces that are not flat Boxes.
    """
    data = open_dataset(dataset_id, download=download)
    box = require_boxes(data.observation_space, data.action_space, dataset_id)
    try:
        episodes = read_episodes(data)
    except (OSError, KeyError, AssertionError) as error:
        raise ValueError(damaged(dataset_id, error)) from error
    return to_dataset(
        episodes,
        action_low=box.low,
        action_high=box.high,
        clip_actions=clip_actions,
        name=dataset_id,
        environment_id=data.env_spec.id if data.env_spec is not None else None,
    )


def open_dataset(dataset_id: str, *, download: bool = False) -> minari.MinariDataset:
    """Minari's own object for a set, or a ValueError that says how to get it."""
    require_id(dataset_id)
    if not exists(dataset_id) and not download:
        way = (
            f"orl dataset make {dataset_id}"
            if dataset_id.startswith("orl/")
            else "datasets.load(..., download=True) fetches it"
        )
        raise ValueError(
            f"{dataset_id} is not in {minari_root()}; {did_you_mean(dataset_id, local_ids(), way, alike=0.9)}"
        )
    try:
        return minari.load_dataset(dataset_id, download=download)
    except Exception as error:  # JSON, HDF5, hosting and version errors have no common class
        if download and not exists(dataset_id):
            raise ValueError(f"{dataset_id} cannot be downloaded: {' '.join(str(error).split())}") from error
        raise ValueError(damaged(dataset_id, error)) from error


def metadata(dataset_id: str) -> dict[str, Any]:
    """What Minari keeps about a local set: `algorithm_name`, `description`, `requirements`, `ref_min_score`, ..."""
    return dict(open_dataset(dataset_id).storage.metadata)


def keywords_of(dataset_id: str) -> dict[str, Any]:
    """In what a local set's environment differed from the one that its id makes, contexts apart."""
    spec = open_dataset(dataset_id).env_spec
    if spec is None or spec.id not in gymnasium.registry:
        return {}
    usual, ours = gymnasium.registry[spec.id], {"contexts", "context", "context_mode"}
    given = {key: value for key, value in spec.kwargs.items() if key not in ours and usual.kwargs.get(key) != value}
    if spec.max_episode_steps != usual.max_episode_steps:
        given["max_episode_steps"] = spec.max_episode_steps
    return given


def context_space(dataset_id: str) -> ContextSpace | None:
    """The variables of a local set's contexts, with their units and ranges; None where it does not state them."""
    variables = metadata(dataset_id).get("contexts")
    return ContextSpace(tuple(ContextVariable(**each) for each in variables)) if variables else None


def requirements(environment_id: str | None = None, packages: Sequence[str] = ()) -> list[str]:
    """Installed versions that the data depend on, as pip writes them."""
    simulators = []
    if environment_id is not None and "mujoco" in str(gymnasium.spec(environment_id).entry_point):
        simulators = ["mujoco"]
    return [f"{name}=={importlib.metadata.version(name)}" for name in (*REQUIREMENTS, *simulators, *packages)]


def damaged(dataset_id: str, error: Exception) -> str:
    """One line about a set that is there but cannot be read."""
    ours = dataset_id.startswith("orl/")
    way = f"orl dataset make {dataset_id} --overwrite" if ours else "delete its folder and make or download it again"
    return f"{dataset_id} in {minari_root()} cannot be read ({' '.join(str(error).split())}); {way}"


def _spaces(
    environment_id: str | None, contexts: ContextSpace | None, action_space: Box | None, episode: Episode
) -> tuple[Box, Box, EnvSpec | None]:
    if environment_id is not None:
        keywords: dict[str, Any] = {} if contexts is None else {"contexts": contexts.ranges}
        environment = make(environment_id, **keywords)
        box = require_boxes(environment.observation_space, environment.action_space, environment_id)
        observation_space: Space[Any] = environment.observation_space
        environment.close()
        assert isinstance(observation_space, Box)
        return observation_space, box, environment.spec
    if action_space is None:
        raise ValueError("give environment_id, or action_space where there is no environment")
    return Box(-np.inf, np.inf, (episode.observations.shape[1],), np.float32), action_space, None
