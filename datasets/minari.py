"""Minari data sets on this machine: read them (through a cache), write them, list them.

The local store is the folder `MINARI_DATASETS_PATH`, or `~/.minari/datasets`. Ids follow Minari's grammar
`(namespace/)(environment/)name-vN`, such as `orl/racing/expert-v0`. Another machine is asked only with `download=True`.

Of a set with contexts, the metadata have names, units and ranges of the variables as `contexts`. An episode's context
(d,) is the option `context` in the episode's metadata, as its environment was reset with it. The values that a critic
gives the actions are `critic_values` (T,) in the episode's infos.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import parse_dataset_id
from minari.dataset.minari_storage import MinariStorage
from minari.namespace import create_namespace, list_local_namespaces
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from orl.arrays import Array
from orl.context import ContextSpace, ContextVariable
from orl.dataset import ROWS, Dataset
from orl.datasets.episodes import Episode, environment_actions, of_every_episode, require_boxes, to_dataset
from orl.datasets.files import replacing
from orl.environment import make, recorded_id
from orl.spelling import did_you_mean

Metadata = dict[str, Any]

AUTHOR = "the orl contributors"
REQUIREMENTS = ("gymnasium", "numpy", "orl")
VALUES = "critic_values"
CACHE_LAYOUT = 2  # of the cache file; older files have another number and are not read
# Minari recommends these; they are None where there is nothing true to say.
_UNSTATED = r"`(author_email|code_permalink|eval_env)` is set to None|env_spec is None"


def read(dataset_id: str, *, download: bool = False, clip_actions: bool = False) -> Dataset:
    """Read a Minari data set and flatten it; `orl.datasets.load` does so once and caches the result.

    Args:
        dataset_id: of a set in the local store.
        download: fetch the set with Minari if it is not there.
        clip_actions: clip actions beyond the bounds instead of refusing them.

    Raises:
        ValueError: a malformed id, a set that is not there or is damaged, spaces that are not flat Boxes.
    """
    data = open_dataset(dataset_id, download=download)
    _, box = require_boxes(data.observation_space, data.action_space, dataset_id)
    try:
        episodes = _read_episodes(data)
    except (OSError, KeyError, AssertionError) as error:
        raise _damaged(dataset_id, error) from error
    return to_dataset(
        episodes,
        action_low=box.low,
        action_high=box.high,
        clip_actions=clip_actions,
        name=dataset_id,
        environment_id=recorded_id(data.env_spec.id) if data.env_spec is not None else None,
    )


def read_cached(dataset_id: str, *, download: bool = False, clip_actions: bool = False) -> Dataset:
    """Read a Minari data set through its cache: one flat file beside the data, valid until the data change.

    Minari has one HDF5 group per episode, which takes a Python loop to read; a flat file is read at the disk's speed.
    Arguments and errors are those of `read`.
    """
    if exists(dataset_id):
        cached = _read_cache(dataset_id, clip_actions)
        if cached is not None:
            return cached
    data = read(dataset_id, download=download, clip_actions=clip_actions)
    if not clip_actions:  # clipped data would answer later calls that ask for a refusal
        _write_cache(data, dataset_id)
        data = _read_cache(dataset_id, clip_actions) or data  # rounded as in every later call
    return data


def open_dataset(dataset_id: str, *, download: bool = False) -> minari.MinariDataset:
    """Minari's own object for a set.

    Raises:
        ValueError: a malformed id, a set that is not there (the message says how to get it) or is damaged.
    """
    check_id(dataset_id)
    if not exists(dataset_id) and not download:
        remedy = "if Minari hosts it, datasets.load(..., download=True) fetches it, or: minari download"
        if dataset_id.startswith("orl/"):
            remedy = "make it: orl dataset make"
        local = local_ids()
        ends_alike = {other.rsplit("/", 1)[-1]: other for other in local}  # a name without what goes before it
        meant = did_you_mean(ends_alike.get(dataset_id, dataset_id), local, f"{remedy} {dataset_id}", alike=0.9)
        raise ValueError(f"{dataset_id} is not in {store_root()}; {meant}")
    try:
        return minari.load_dataset(dataset_id, download=download)
    except Exception as error:  # JSON, HDF5, hosting and version errors have no common class
        if download and not exists(dataset_id):
            raise ValueError(f"{dataset_id} cannot be downloaded: {' '.join(str(error).split())}") from error
        raise _damaged(dataset_id, error) from error


def metadata(dataset_id: str) -> Metadata:
    """Minari's metadata of a local set: `algorithm_name`, `description`, `requirements`, `ref_min_score`, ..."""
    return dict(open_dataset(dataset_id).storage.metadata)


def context_space(dataset_id: str) -> ContextSpace | None:
    """The variables of a local set's contexts, with their units and ranges; None where the metadata have none."""
    variables = metadata(dataset_id).get("contexts")
    return ContextSpace(tuple(ContextVariable(**variable) for variable in variables)) if variables else None


def environment_keywords(dataset_id: str) -> Metadata:
    """How a local set's environment differed from the one that its id makes, contexts apart."""
    spec = open_dataset(dataset_id).env_spec
    if spec is None or spec.id not in gymnasium.registry:
        return {}
    usual, ours = gymnasium.registry[spec.id], {"contexts", "context", "context_mode"}
    keywords = {key: value for key, value in spec.kwargs.items() if key not in ours and usual.kwargs.get(key) != value}
    if spec.max_episode_steps != usual.max_episode_steps:
        keywords["max_episode_steps"] = spec.max_episode_steps
    return keywords


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
        description: one or two sentences for people who come across the set.
        ref_min_score: return of the random policy; with `ref_max_score`, enables Minari's normalized score.
        ref_max_score: return of the reference policy.
        author: who made it.
        code_permalink: address of the code that made it.
        packages: more of those whose versions the data depend on.
        made_with: these versions, as pip writes them, of data that were not made here and now; none if unknown.
        overwrite: replace a set of this id.

    Raises:
        ValueError: a malformed id, one that exists or is the name of a folder of others, no episode, neither
            environment nor action space, some episodes with a context or values and some without, or a context that
            is refused by `contexts`.
    """
    check_id(dataset_id)
    if not episodes:
        raise ValueError(f"{dataset_id}: no episode to write")
    if exists(dataset_id) and not overwrite:
        raise ValueError(f"{dataset_id} exists already; give overwrite=True (--overwrite) or another id")
    check_location(dataset_id)
    rows, _ = of_every_episode(episodes, "context", dataset_id), of_every_episode(episodes, "values", dataset_id)
    if contexts is not None:
        contexts.rows(rows or [()])
    observation_space, action_space, environment = _spaces(environment_id, contexts, action_space, episodes[0])
    buffers = [_to_buffer(episode, observation_space, action_space) for episode in episodes]
    mean_return = float(np.mean([episode.rewards.sum(dtype=np.float64) for episode in episodes]))
    with _written_aside(dataset_id), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_UNSTATED, category=UserWarning)
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
        if np.isfinite(mean_return):  # JSON has no NaN
            made.storage.update_metadata({"mean_return": mean_return})
        if contexts is not None:
            made.storage.update_metadata({"contexts": [asdict(variable) for variable in contexts.variables]})


def requirements(environment_id: str | None = None, packages: Sequence[str] = ()) -> list[str]:
    """Installed versions that the data depend on, as pip writes them."""
    simulators = []
    if environment_id is not None and "mujoco" in str(gymnasium.spec(environment_id).entry_point):
        simulators = ["mujoco"]
    return [f"{name}=={importlib.metadata.version(name)}" for name in (*REQUIREMENTS, *simulators, *packages)]


def store_root() -> Path:
    """Folder of the local store; not created."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root).absolute() if root is not None else Path.home() / ".minari" / "datasets"


def exists(dataset_id: str) -> bool:
    """Whether a set of this id is in the local store."""
    return (store_root() / dataset_id / "data").is_dir()


def local_ids() -> dict[str, Metadata]:
    """Metadata of all readable sets in the local store, by id."""
    readable = {}
    for folder in sorted(path.parent for path in store_root().rglob("data/metadata.json")):
        dataset_id = folder.parent.relative_to(store_root()).as_posix()
        try:
            parse_dataset_id(dataset_id)  # also refuses hidden folders
            content = MinariStorage.read_raw_metadata(folder)
        except Exception:  # JSON, HDF5 and Minari's errors have no common class
            continue
        if content.get("dataset_id") == dataset_id:
            readable[dataset_id] = dict(content)
    return readable


def check_id(dataset_id: str) -> None:
    """Raise a ValueError for an id that Minari's grammar refuses, or that has no version."""
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:  # TypeError: Minari's int(None) without a version
        raise ValueError(
            f"{dataset_id!r} is no data set id; write (namespace/)(environment/)name-vN, such as orl/hopper/random-v0"
        ) from error


def check_location(dataset_id: str) -> None:
    """Raise a ValueError for an id whose folder holds other sets, or lies inside another set."""
    folder = store_root() / dataset_id
    if folder.exists() and not exists(dataset_id):
        raise ValueError(f"{folder} is a folder, but no data set; give another id")
    parts = dataset_id.split("/")
    for i in range(1, len(parts)):
        if exists(outer := "/".join(parts[:i])):
            raise ValueError(f"{dataset_id} would lie inside the data set {outer}; give another id")


@contextmanager
def _written_aside(dataset_id: str) -> Iterator[None]:
    """Let Minari write into a hidden folder of the store, and move the set to its own folder if the block succeeds."""
    root = store_root()
    root.mkdir(parents=True, exist_ok=True)
    previous = os.environ.get("MINARI_DATASETS_PATH")
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as aside:  # Minari skips hidden folders
        os.environ["MINARI_DATASETS_PATH"] = aside
        try:
            yield
        finally:
            del os.environ["MINARI_DATASETS_PATH"]
            if previous is not None:
                os.environ["MINARI_DATASETS_PATH"] = previous
        namespace = parse_dataset_id(dataset_id)[0]
        if namespace is not None and namespace not in list_local_namespaces():
            create_namespace(namespace)
        target, replaced = root / dataset_id, Path(aside) / ".replaced"
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            os.replace(target, replaced)
        try:
            os.replace(Path(aside) / dataset_id, target)
        except OSError:
            if replaced.exists():
                os.replace(replaced, target)
            raise


def cache_path(dataset_id: str) -> Path:
    """Path of a set's flat file."""
    return store_root() / dataset_id / ".flat.safetensors"


def _cache_key(dataset_id: str) -> str:
    """Changes whenever the set's files do."""
    folder = store_root() / dataset_id / "data"
    files = [path.stat() for name in ("metadata.json", "main_data.hdf5") if (path := folder / name).is_file()]
    return json.dumps([CACHE_LAYOUT, dataset_id, [[stat.st_size, stat.st_mtime_ns] for stat in files]])


def _read_cache(dataset_id: str, clip_actions: bool) -> Dataset | None:
    """The cached set; None without a cache, or with one of other data or one that cannot be read."""
    path = cache_path(dataset_id)
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            if header.get("key") != _cache_key(dataset_id):
                return None
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (SafetensorError, OSError, ValueError):
        return None
    return Dataset.from_arrays(
        **arrays, clip_actions=clip_actions, name=dataset_id, environment_id=recorded_id(header.get("environment_id"))
    )


def _write_cache(data: Dataset, dataset_id: str) -> None:
    arrays = {name: array for name in ROWS if (array := getattr(data, name)) is not None}
    arrays |= {"actions": environment_actions(data), "action_low": data.action_low, "action_high": data.action_high}
    header = {"key": _cache_key(dataset_id)}
    if data.environment_id is not None:
        header["environment_id"] = data.environment_id
    # A store that cannot be written to is read without a cache.
    with suppress(OSError, SafetensorError), replacing(cache_path(dataset_id)) as temporary:
        save_file(arrays, temporary, metadata=header)


def _read_episodes(data: minari.MinariDataset) -> list[Episode]:
    """All episodes of a set, in order."""
    headers = data.storage.get_episode_metadata(data.episode_indices)
    return [
        Episode(
            episode.observations,
            episode.actions,
            episode.rewards,
            episode.terminations,
            episode.truncations,
            context=_context(header),
            values=(episode.infos or {}).get(VALUES),
        )
        for episode, header in zip(data.iterate_episodes(), headers, strict=True)
    ]


def _context(header: Mapping[str, Any]) -> Array | None:
    """The context (d,) that an episode was reset with; options of other environments may have any form."""
    context = header.get("options", {}).get("context")
    return context if isinstance(context, np.ndarray) and context.ndim == 1 and context.dtype.kind in "fiu" else None


def _to_buffer(episode: Episode, observation_space: Box, action_space: Box) -> EpisodeBuffer:
    """An episode as Minari writes it; made here, since Minari's `DataCollector` needs jax."""
    sizes = episode.observations.shape[1:], episode.actions.shape[1:]
    if sizes != (observation_space.shape, action_space.shape):
        raise ValueError(
            f"episodes have observations {sizes[0]} and actions {sizes[1]}, "
            f"their spaces {observation_space.shape} and {action_space.shape}"
        )
    return EpisodeBuffer(
        seed=episode.seed,
        options=None if episode.context is None else {"context": episode.context},
        observations=np.asarray(episode.observations, observation_space.dtype),  # type: ignore[arg-type]
        actions=np.asarray(episode.actions, action_space.dtype),  # type: ignore[arg-type]
        rewards=np.asarray(episode.rewards, np.float64),  # type: ignore[arg-type]
        terminations=np.asarray(episode.terminations, np.bool_),  # type: ignore[arg-type]
        truncations=np.asarray(episode.truncations, np.bool_),  # type: ignore[arg-type]
        infos=None if episode.values is None else {VALUES: episode.values},
    )


def _spaces(
    environment_id: str | None, contexts: ContextSpace | None, action_space: Box | None, episode: Episode
) -> tuple[Box, Box, EnvSpec | None]:
    if environment_id is not None:
        environment = make(environment_id) if contexts is None else make(environment_id, contexts=contexts.ranges)
        environment.close()
        boxes = require_boxes(environment.observation_space, environment.action_space, environment_id)
        return *boxes, environment.spec
    if action_space is None:
        raise ValueError("give environment_id, or action_space where there is no environment")
    return Box(-np.inf, np.inf, (episode.observations.shape[1],), np.float32), action_space, None


def _damaged(dataset_id: str, error: Exception) -> ValueError:
    """The error for a set that is there but cannot be read."""
    ours = dataset_id.startswith("orl/")
    remedy = f"orl dataset make {dataset_id} --overwrite" if ours else "delete its folder and make or download it again"
    return ValueError(f"{dataset_id} in {store_root()} cannot be read ({' '.join(str(error).split())}); {remedy}")
