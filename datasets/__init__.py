"""Recorded data: make, write, read, check, mix and describe them.

`load` takes a Minari id, a D4RL `.hdf5` path or an `.npz` path and returns an `orl.dataset.Dataset`. Ids that begin
with `orl/` are made on this machine by `orl dataset make ID`; nothing is fetched unless `download=True` says so.
"""

from orl.datasets.cache import read_cached
from orl.datasets.cards import card
from orl.datasets.checking import Report, check
from orl.datasets.episodes import Episode, to_dataset, to_episodes
from orl.datasets.files import read_hdf5, read_npz, write_hdf5, write_npz
from orl.datasets.loading import load
from orl.datasets.minari_io import context_space, read, write
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
