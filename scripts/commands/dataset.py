"""`orl dataset VERB`: make, list, describe and convert datasets. Nothing is downloaded."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tyro
from gymnasium.spaces import Box
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table

from orl import datasets
from orl.datasets import minari
from orl.datasets.files import SUFFIXES
from orl.scripts.data import mujoco as mujoco_datasets
from orl.scripts.data import racing as racing_datasets
from orl.scripts.data import recording
from orl.scripts.data.mujoco import MujocoDataset
from orl.scripts.data.racing import RacingDataset
from orl.scripts.main import check_least
from orl.scripts.running.run_directory import JsonObject
from orl.spelling import did_you_mean

if TYPE_CHECKING:
    from orl.dataset import Dataset


GROUPS = {"all": "orl/", "orl/racing/all": "orl/racing/"} | {
    f"orl/{body}/all": f"orl/{body}/" for body in mujoco_datasets.ENVIRONMENTS
}
OURS: Mapping[str, RacingDataset | MujocoDataset] = ChainMap(
    racing_datasets.DATASETS,  # type: ignore[arg-type]
    mujoco_datasets.DATASETS,  # type: ignore[arg-type]
)
EPISODES = 100


@dataclass(frozen=True)
class Make:
    """Make datasets on this machine.

    Ours by id (`orl dataset make orl/racing/expert-v0 orl/hopper/medium-v0`), by environment (`orl/hopper/all`), or
    `all`; or one of your own, of random actions or of a policy that you have:
    `orl dataset make mine/halfcheetah/sac-v0 --env HalfCheetah-v5 --policy sac.zip --steps 100000`.
    They go to the Minari store: MINARI_DATASETS_PATH, or ~/.minari/datasets.
    """

    ids: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids of ours to make (`orl dataset list` shows them), orl/racing/all, orl/hopper/all and so on, or all; with --env
    the id of the new dataset."""
    env: str | None = None
    """Gymnasium id of an environment with continuous actions, for a dataset of its own."""
    policy: str = "random"
    """What acts in --env: random (uniform actions); a .zip of Stable-Baselines3 (SAC, TD3, DDPG, PPO, A2C); a
    .safetensors policy or a folder with a checkpoint of orl. Nothing in a .zip is unpickled."""
    deterministic: bool = False
    """Take the policy's modes; by default its samples, as D4RL does."""
    id: str | None = None
    """The id of the dataset made with --env, as another way to say it; by default local/ENV/POLICY-v0."""
    episodes: int | None = None
    """Whole episodes to record with --env; 100 if --steps is not given either."""
    steps: int | None = None
    """Transitions to record, in whole episodes: with --env, or of each MuJoCo set of ours (200,000 by default; D4RL's
    have a million). Racing sets have sizes of their own."""
    seed: int = 0
    """Of the actions and resets with --env; the sets of ours have their own."""
    overwrite: bool = False
    """Replace datasets that are there; without it they are left as they are."""

    def run(self) -> None:
        """Check everything, then make what is not there yet."""
        check_least(self, 1, "steps", "episodes")
        check_least(self, 0, "seed")
        if self.env is not None:
            self._make_own()
            return
        for name in ("id", "policy", "deterministic", "episodes", "seed"):
            if getattr(self, name) != getattr(Make, name):
                raise ValueError(f"--{name} goes with --env: the environment to act in")
        for identifier in self._ours():
            self._make_ours(identifier)

    def _ours(self) -> list[str]:
        """Ids of ours that are to be made."""
        if not self.ids:
            raise ValueError(f"name datasets to make: {_our_ids()}; or --env for one of your own")
        makeable = [*racing_datasets.DATASETS, *mujoco_datasets.shipped()]
        chosen: list[str] = []
        for identifier in self.ids:
            if identifier in GROUPS:
                chosen += [each for each in makeable if each.startswith(GROUPS[identifier])]
                continue
            if identifier not in OURS:
                others = f"choose from {_our_ids()}; --env makes others, and orl specialists --dataset"
                remedy = did_you_mean(identifier, (*OURS, *GROUPS), others, alike=0.9)
                raise ValueError(f"{identifier!r} is none of ours; {remedy}")
            OURS[identifier].check(identifier, self.steps)
            chosen.append(identifier)
        return list(dict.fromkeys(chosen))

    def _make_ours(self, identifier: str) -> None:
        if self._is_there(identifier):
            return
        with _progress_bar(identifier, "transitions") as progress:
            make = racing_datasets.make if identifier in racing_datasets.DATASETS else mujoco_datasets.make
            make(identifier, steps=self.steps, overwrite=self.overwrite, progress=progress)
        Console().print(f"made {identifier}: {summary(datasets.load(identifier))}", soft_wrap=True)

    def _make_own(self) -> None:
        assert self.env is not None
        names = [*self.ids, *([self.id] if self.id is not None else [])]
        if len(names) > 1:
            raise ValueError(f"--env makes one dataset, and {', '.join(names)} are {len(names)} ids; give one")
        if self.steps is not None and self.episodes is not None:
            raise ValueError(f"--steps {self.steps} and --episodes {self.episodes}: give one of the two")
        environment_id = recording.resolve_environment(self.env)
        identifier = names[0] if names else recording.default_id(environment_id, self.policy)
        minari.check_id(identifier)
        minari.check_location(identifier)
        if identifier in OURS:
            raise ValueError(f"{identifier} is the name of a dataset of ours; give another id")
        if self._is_there(identifier):
            return
        policy = recording.load_policy(self.policy, environment_id, deterministic=self.deterministic, seed=self.seed)
        episodes = EPISODES if self.episodes is None and self.steps is None else self.episodes
        with _progress_bar(identifier, "transitions" if episodes is None else "episodes") as progress:
            recorded = recording.record(
                policy, environment_id, episodes=episodes, steps=self.steps, seed=self.seed, progress=progress
            )
        recording.write(
            recorded,
            identifier,
            environment_id,
            algorithm=policy.name,
            description=f"{environment_id}: {len(recorded):,} episodes of {policy.name}, seed {self.seed}.",
            packages=policy.packages,
            overwrite=self.overwrite,
        )
        Console().print(f"made {identifier}: {summary(datasets.load(identifier))}", soft_wrap=True)

    def _is_there(self, identifier: str) -> bool:
        is_there = minari.exists(identifier) and not self.overwrite
        if is_there:
            size = minari.metadata(identifier)["total_steps"]
            Console().print(f"{identifier} exists, {size:,} transitions; --overwrite makes it anew", soft_wrap=True)
        return is_there


@dataclass(frozen=True)
class List:
    """List the datasets of ours, made or not, and all others in the local Minari store."""

    def run(self) -> None:
        """Print a table."""
        local = minari.local_ids()
        numbers = (Column(name, justify="right", no_wrap=True) for name in ("episodes", "transitions", "MB"))
        mean = Column("mean return", justify="right")
        table = Table(
            Column("id", no_wrap=True),
            *numbers,
            mean,
            "made",
            title=f"datasets in {minari.store_root()}",
            title_justify="left",
        )
        for identifier in dict.fromkeys([*racing_datasets.DATASETS, *mujoco_datasets.shipped(), *local]):
            about = local.get(identifier)
            if about is None:
                episodes, transitions = OURS[identifier].sizes
                table.add_row(identifier, "" if episodes is None else str(episodes), f"{transitions:,}", "", "", "no")
                continue
            mean_return = about.get("mean_return")
            table.add_row(
                identifier,
                f"{about['total_episodes']:,}",
                f"{about['total_steps']:,}",
                f"{about.get('dataset_size', float('nan')):.1f}",
                "" if mean_return is None else f"{mean_return:.1f}",
                "yes",
            )
        Console().print(table)


@dataclass(frozen=True)
class Card:
    """Write a dataset's card: a README.md with its numbers, and figures of returns, actions and coverage."""

    source: tyro.conf.Positional[str]
    """A Minari id, or an .hdf5 or .npz file."""
    out: Path
    """Folder for the card."""
    env: str | None = None
    """Gymnasium id of the environment, for a file: its action bounds and references."""

    def run(self) -> None:
        """Write it and say where it is."""
        data = datasets.load(self.source, self.env)
        facts = None if self.source.endswith(SUFFIXES) else minari.metadata(self.source)
        self.out.mkdir(parents=True, exist_ok=True)
        pictures = {}
        if (trace := racing_datasets.replay(self.source)) is not None:
            from orl.scripts.figures.racing import visits_figure

            picture = pictures["Where the cars were, and how fast"] = self.out / "visits.png"
            visits_figure(racing_datasets.track(), trace, picture)
        path = datasets.card(data, self.out, facts=facts, pictures=pictures)
        Console().print(f"{path}: {summary(data)}", soft_wrap=True)


@dataclass(frozen=True)
class Convert:
    """Convert between Minari, D4RL .hdf5 and .npz: `orl dataset convert old.hdf5 me/hopper/old-v0 --env Hopper-v5`."""

    source: tyro.conf.Positional[str]
    """A Minari id, or an .hdf5 or .npz file."""
    target: tyro.conf.Positional[str]
    """A Minari id, or an .hdf5 or .npz file."""
    env: str | None = None
    """Gymnasium id of the environment, for a file: its action bounds, and the specification that Minari keeps."""
    overwrite: bool = False
    """Replace a target that is there."""

    def run(self) -> None:
        """Read, check and write."""
        to_file = self.target.endswith(SUFFIXES)
        if not to_file:
            minari.check_id(self.target)
        there = Path(self.target).exists() if to_file else minari.exists(self.target)
        if there and not self.overwrite:
            raise ValueError(f"{self.target} exists already; give --overwrite or another target")
        data = datasets.load(self.source, self.env)
        if to_file:
            writer = datasets.write_npz if self.target.endswith(".npz") else datasets.write_hdf5
            writer(data, self.target)
        else:
            self._to_minari(data)
        Console().print(f"{self.source} -> {self.target}: {summary(data)}", soft_wrap=True)

    def _to_minari(self, data: Dataset) -> None:
        facts: JsonObject = {} if self.source.endswith(SUFFIXES) else minari.metadata(self.source)
        datasets.write(
            datasets.to_episodes(data),
            self.target,
            environment_id=data.environment_id,
            action_space=Box(data.action_low, data.action_high, dtype=np.float32),
            contexts=None if self.source.endswith(SUFFIXES) else minari.context_space(self.source),
            algorithm_name=facts.get("algorithm_name", "not stated"),
            description=facts.get("description", f"Converted from {Path(self.source).name}."),
            ref_min_score=facts.get("ref_min_score"),
            ref_max_score=facts.get("ref_max_score"),
            author=", ".join(sorted(facts.get("author", {"not stated"}))),
            made_with=facts.get("requirements", ()),
            overwrite=self.overwrite,
        )


DatasetVerbs = Make | List | Card | Convert  # tyro calls them make, list, card and convert


def _our_ids() -> str:
    """Ids of ours, in few words."""
    bodies, levels = ",".join(mujoco_datasets.ENVIRONMENTS), ",".join(mujoco_datasets.LEVELS)
    return f"all, {', '.join(racing_datasets.DATASETS)}, orl/{{{bodies}}}/{{{levels}}}-v0"


def summary(data: Dataset) -> str:
    """A set in one line of numbers."""
    if not data.whole_episodes:
        return f"{len(data):,} scattered transitions"
    returns = data.episode_returns()
    mean = f"mean return {returns.mean():.1f}" if np.isfinite(returns).all() else "rewards partly hidden"
    contexts = "" if data.contexts is None else f", {len(np.unique(data.contexts, axis=0)):,} contexts"
    return f"{len(data):,} transitions, {len(returns):,} episodes{contexts}, {mean}"


@contextmanager
def _progress_bar(title: str, unit: str) -> Iterator[recording.Progress]:
    """A progress bar, on terminals only, as a function of how many of how many."""
    columns, console = (*Progress.get_default_columns(), MofNCompleteColumn(), TextColumn(unit)), Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda completed, total: progress.update(task, completed=completed, total=total)
