"""`orl dataset VERB`: make, list, describe and convert data sets. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import gymnasium
import numpy as np
import tyro
from gymnasium.spaces import Box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from orl import datasets
from orl.datasets import minari_io, store
from orl.datasets.files import SUFFIXES
from orl.scripts import racing_datasets

if TYPE_CHECKING:
    from orl.dataset import Dataset


@dataclass(frozen=True)
class Make:
    """Make data sets on this machine.

    Ours by id (`orl dataset make orl/racing/expert-v0`, or `all` six), or a new one of a random policy:
    `orl dataset make --env Hopper-v5 --id orl/hopper/random-v0 --episodes 100`.
    They go to the Minari store: MINARI_DATASETS_PATH, or ~/.minari/datasets.
    """

    ids: tyro.conf.Positional[tuple[str, ...]] = ()
    """Ids of ours to make (`orl dataset list` shows them), or `all`."""
    env: str | None = None
    """Gymnasium id of an environment with continuous actions, for a data set of its own."""
    policy: Literal["random"] = "random"
    """What acts in --env: uniform random actions."""
    id: str | None = None
    """Id of the data set made with --env, such as orl/hopper/random-v0."""
    episodes: int = 100
    """Whole episodes to record with --env."""
    seed: int = 0
    """Of the actions and resets with --env; the sets of ours have their own."""
    overwrite: bool = False
    """Replace data sets that are there; without it they are left as they are."""

    def run(self) -> None:
        """Make what is not there yet."""
        if (self.env is None) != (self.id is None):
            raise ValueError("--env and --id go together: the environment to act in, and the name of the data set")
        if not self.ids and self.env is None:
            raise ValueError(f"name data sets to make: all, {', '.join(racing_datasets.RECIPES)}; or --env with --id")
        ids = tuple(racing_datasets.RECIPES) if self.ids == ("all",) else self.ids
        for identifier in ids:
            if identifier not in racing_datasets.RECIPES:
                known = ", ".join(("all", *racing_datasets.RECIPES))
                raise ValueError(f"{identifier!r} is none of ours: {known}; --env and --id make others")
        if self.id is not None:
            store.require_id(self.id)
        racing_datasets.register_environments()
        for identifier in ids:
            self._make(identifier)
        if self.id is not None:
            self._make(self.id)

    def _make(self, identifier: str) -> None:
        console = Console()
        if store.exists(identifier) and not self.overwrite:
            console.print(f"{identifier} exists; --overwrite makes it anew", soft_wrap=True)
            return
        if identifier == self.id:
            self._record(identifier)
        else:
            with _bar(identifier, "transitions") as bar:
                racing_datasets.make(identifier, overwrite=self.overwrite, progress=bar)
        console.print(f"made {identifier}: {_summary(datasets.load(identifier))}", soft_wrap=True)

    def _record(self, identifier: str) -> None:
        assert self.env is not None
        try:
            environment = gymnasium.make(self.env)
        except gymnasium.error.Error as error:
            raise ValueError(f"environment {self.env!r} cannot be made: {error}") from error
        reference = datasets.REFERENCES.get(self.env)
        with _bar(identifier, "episodes") as bar:
            episodes = datasets.record(
                datasets.RandomPolicy(environment, self.seed),
                environment,
                episodes=self.episodes,
                seed=self.seed,
                progress=lambda finished, _: bar(finished, self.episodes),
            )
        environment.close()
        datasets.write(
            episodes,
            identifier,
            environment_id=self.env,
            algorithm_name="uniform random actions",
            description=f"{self.env}: {self.episodes} episodes of uniform random actions, seed {self.seed}.",
            ref_min_score=reference.random if reference else None,
            ref_max_score=reference.expert if reference else None,
            overwrite=self.overwrite,
        )


@dataclass(frozen=True)
class List:
    """List the data sets of ours, made or not, and all others in the local Minari store."""

    def run(self) -> None:
        """Print a table."""
        local = store.local_ids()
        table = Table(title=f"data sets in {store.minari_root()}", title_justify="left")
        for column, justify in (("id", "left"), ("episodes", "right"), ("transitions", "right"), ("MB", "right")):
            table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        table.add_column("mean return", justify="right")
        table.add_column("made")
        for identifier in dict.fromkeys([*racing_datasets.RECIPES, *local]):
            about = local.get(identifier)
            if about is None:
                recipe = racing_datasets.RECIPES[identifier]
                table.add_row(identifier, str(recipe.count), f"{recipe.transitions:,}", "", "", "no")
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
    """Write a data set's card: a README.md with its numbers, and figures of returns, actions and coverage."""

    source: tyro.conf.Positional[str]
    """A Minari id, or an .hdf5 or .npz file."""
    out: Path
    """Folder for the card."""
    env: str | None = None
    """Gymnasium id of the environment, for a file: its action bounds and references."""

    def run(self) -> None:
        """Write it and say where it is."""
        racing_datasets.register_environments()
        data = datasets.load(self.source, self.env)
        facts = None if self.source.endswith(SUFFIXES) else minari_io.metadata(self.source)
        self.out.mkdir(parents=True, exist_ok=True)
        visits = racing_datasets.draw_visits(self.source, self.out / "visits.png")
        pictures = {} if visits is None else {"Where the cars were, and how fast": visits}
        path = datasets.card(data, self.out, facts=facts, pictures=pictures)
        Console().print(f"{path}: {_summary(data)}", soft_wrap=True)


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
        racing_datasets.register_environments()
        to_file = self.target.endswith(SUFFIXES)
        if not to_file:
            store.require_id(self.target)
        there = Path(self.target).exists() if to_file else store.exists(self.target)
        if there and not self.overwrite:
            raise ValueError(f"{self.target} exists already; give --overwrite or another target")
        data = datasets.load(self.source, self.env)
        if to_file:
            writer = datasets.write_npz if self.target.endswith(".npz") else datasets.write_hdf5
            writer(data, self.target)
        else:
            self._to_minari(data)
        Console().print(f"{self.source} -> {self.target}: {_summary(data)}", soft_wrap=True)

    def _to_minari(self, data: Dataset) -> None:
        facts: dict[str, Any] = {} if self.source.endswith(SUFFIXES) else minari_io.metadata(self.source)
        datasets.write(
            datasets.to_episodes(data),
            self.target,
            environment_id=data.environment_id,
            action_space=Box(data.action_low, data.action_high, dtype=np.float32),
            algorithm_name=facts.get("algorithm_name", "not stated"),
            description=facts.get("description", f"Converted from {Path(self.source).name}."),
            ref_min_score=facts.get("ref_min_score"),
            ref_max_score=facts.get("ref_max_score"),
            author=", ".join(sorted(facts.get("author", {"not stated"}))),
            overwrite=self.overwrite,
        )


DatasetVerbs = (
    Annotated[Make, tyro.conf.subcommand("make")]
    | Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Card, tyro.conf.subcommand("card")]
    | Annotated[Convert, tyro.conf.subcommand("convert")]
)


def _summary(data: Dataset) -> str:
    """One line of numbers."""
    if not data.whole_episodes:
        return f"{len(data):,} scattered transitions"
    returns = data.episode_returns()
    mean = f"mean return {returns.mean():.1f}" if np.isfinite(returns).all() else "rewards partly hidden"
    return f"{len(data):,} transitions, {len(returns):,} episodes, {mean}"


@contextmanager
def _bar(title: str, unit: str) -> Iterator[racing_datasets.Progress]:
    """A progress bar, on terminals only, as a function of how many of how many."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda completed, total: progress.update(task, completed=completed, total=total)
