"""Recorded data: make, write, read, check, mix and describe them.

`load` takes a Minari id, a D4RL `.hdf5` path or an `.npz` path and returns an `orl.dataset.Dataset`. Ids that begin
with `orl/` are made on this machine by `orl dataset make ID`; nothing is fetched unless `download=True` says so.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

from orl.dataset import Dataset
from orl.datasets.cards import card
from orl.datasets.checking import Report, check
from orl.datasets.episodes import Episode, to_dataset, to_episodes
from orl.datasets.files import SUFFIXES, Environment, action_bounds, read_hdf5, read_npz, write_hdf5, write_npz
from orl.datasets.minari import context_space, environment_keywords, read, read_cached, write
from orl.datasets.mixing import mix, pieces, shares
from orl.datasets.recording import RandomPolicy, record
from orl.datasets.references import REFERENCES, Reference, normalized_score, reference

__all__ = [
    "REFERENCES",
    "Episode",
    "RandomPolicy",
    "Reference",
    "Report",
    "card",
    "check",
    "context_space",
    "load",
    "mix",
    "normalized_score",
    "pieces",
    "read",
    "read_cached",
    "read_hdf5",
    "read_npz",
    "record",
    "reference",
    "shares",
    "to_dataset",
    "to_episodes",
    "write",
    "write_hdf5",
    "write_npz",
]


def load(
    source: str | Path, environment: Environment = None, *, download: bool = False, clip_actions: bool = False
) -> Dataset:
    """Load transitions.

    Args:
        source: a Minari id such as `orl/racing/mix-large-v0`, or the path of an `.hdf5`, `.h5` or `.npz` file.
        environment: Gymnasium id or environment that the data are for: sizes are checked against it, and a file's
            action bounds are taken from it; without it a file's are its own `action_low` and `action_high`, or -1, 1.
        download: fetch a Minari set that is not in the local store; nothing is fetched otherwise.
        clip_actions: clip actions beyond the bounds instead of refusing them.

    Returns:
        The data, actions in [-1, 1]; rewards are NaN where unlabelled.

    Raises:
        ValueError: nothing of that name (the message says how to get it), or data that are damaged or do not fit.
    """
    name = str(source)
    if isinstance(source, Path) or name.endswith(SUFFIXES):
        if not name.endswith(SUFFIXES):
            raise ValueError(f"{name}: files end in {', '.join(SUFFIXES)}")
        reader = read_npz if name.endswith(".npz") else read_hdf5
        return reader(source, environment, clip_actions=clip_actions)
    data = read_cached(name, download=download, clip_actions=clip_actions)
    keywords = environment_keywords(name)
    if keywords and environment is None:
        warnings.warn(
            f"{name} was recorded in {data.environment_id} with {keywords}, which the environment of that id has not",
            stacklevel=2,
        )
    bounds = action_bounds(environment, data.observation_size, data.action_size, name)
    return data if bounds is None else replace(data, environment_id=bounds[2])
