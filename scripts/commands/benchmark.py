"""`orl benchmark CELLS.toml`: train cells of agent, environment or data, and seeds, and log what they cost.

A cell is what one `orl train` does; the file names cells by that verb's options:

    [defaults]            # of all cells
    env = "Hopper-v5"
    steps = 100_000
    seeds = 10
    config = { hidden_sizes = [128, 128], batch_size = 128 }      # hyperparameters

    [[cells]]
    agent = ["sac", "droq"]         # agent, env, dataset and first_seed may be lists: a cell for each combination
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import tyro
from rich.console import Console

from orl import checkpoint
from orl.config import make_config
from orl.device import pick_device
from orl.launcher import Job, JobError, Launcher
from orl.scripts.benchmarks.prices import Prediction, predict, read_prices
from orl.scripts.commands.train import Train, options
from orl.scripts.main import check_least
from orl.scripts.running.registry import Preset, presets
from orl.scripts.running.run_directory import JsonObject
from orl.scripts.running.tables import Layout
from orl.spelling import did_you_mean
from orl.training import progress

OVER = 1.5  # times its prediction: a cell that says so
POLL = 20.0  # seconds between looks at what cells have spent
LISTS = ("agent", "env", "dataset", "first_seed")  # keys that may be lists
TABLES = ("config", "reward_model")  # keys that are tables of hyperparameters
HOUR = 3600.0
FACTS = ("agent", "environment or data", "length", "seeds")  # what all cells share goes into the title
HOURS = ("predicted", "took")
COLUMNS = ("cell", *FACTS, *HOURS, "state")


@dataclass(frozen=True)
class Cell:
    """One agent in one environment, or on one dataset, and a block of seeds that train side by side."""

    name: str  # of its folder
    training: Train[Any]  # as `orl train` has it, with `name` in the folder of all cells as its folder
    predicted: Prediction

    keys: ClassVar[tuple[str, ...]] = (
        "name",
        *(field.name for field in dataclasses.fields(Train) if field.name not in ("out", "launching")),
    )

    @property
    def folder(self) -> Path:
        """Where its run is."""
        return self.training.folder

    @functools.cached_property
    def data_and_env(self) -> tuple[Any, str]:
        """Recorded data, if any, and the environment to act and to evaluate in."""
        data = self.training.data()
        return data, self.training.environment_id(data)

    @property
    def is_finished(self) -> bool:
        """Whether its results are there, whoever made them."""
        return (self.folder / "results.json").exists()

    def history(self) -> list[JsonObject]:
        """Its evaluations so far."""
        file = self.folder / "history.json"
        return checkpoint.read_json(file) if file.exists() else []

    @property
    def took(self) -> float | None:
        """Core-hours of training so far; None: not begun, or by a version that did not measure them."""
        history = self.history()
        seconds = history[-1].get("processor_seconds") if history else None
        return None if seconds is None else seconds / HOUR

    @property
    def is_over(self) -> bool:
        """Whether it has taken 1.5 times its prediction."""
        hours, took = self.predicted.core_hours, self.took
        return hours is not None and took is not None and took > OVER * hours

    def check(self) -> None:
        """Refuse what cannot be trained, and a folder that holds another configuration."""
        self.training.check()
        data, env = self.data_and_env
        file = self.folder / "config.json"
        if not file.exists():
            return
        wanted = {**self.training.described(data, env), "precision": self.training.precision}
        differing = next(_differences(checkpoint.read_json(file), wanted, dataclasses.asdict(self._plain())), None)
        if differing is not None:
            key, was, now = differing
            remedy = "change the cell" if self.history() else "delete the folder, which holds no evaluation"
            raise ValueError(
                f"{self.folder} holds a run with {key} = {was!r}, not {now!r}; {remedy}, or give another --out"
            )

    def _plain(self) -> Train[Any]:
        """The options that nobody gave: what a configuration from before a field was there had."""
        preset = self.training.agent_preset
        return options(self.training.agent, preset._replace(given=type(preset.config)()))

    @property
    def command(self) -> str:
        """The `orl train` that does the same."""
        training = self.training
        default = options(training.agent, _preset(training.agent, training.preset, training.env))
        return " ".join(["orl train", training.agent, *_words(training, default, "")])

    def row(self, state: str) -> JsonObject:
        """For the table of all cells."""
        training, (_, env) = self.training, self.data_and_env
        return {
            "cell": self.name, "agent": training.agent, "env": env, "dataset": training.dataset,
            "updates": training.num_updates, "steps": training.num_steps, "seeds": training.seed_numbers,
            "predicted_core_hours": self.predicted.core_hours, "note": self.predicted.note,
            "core_hours": self.took, "state": state, "command": self.command,
        }  # fmt: skip


@dataclass(frozen=True)
class Benchmark:
    """Train every cell of a file, each as `orl train` would, in processes of one thread.

    A cell that is finished is not trained again, one that was stopped goes on, one that fails is named, and the rest
    goes on. Each cell has its run's folder; beside them, a table says what each was predicted to take and what it took.
    """

    cells: tyro.conf.Positional[Path]
    """TOML file: [defaults] and [[cells]], with the options of `orl train` as keys, hyperparameters below `config`."""
    out: Path | None = None
    """Folder of the cells' folders; by default runs/NAME for NAME.toml."""
    workers: int = 2
    """Cells at a time."""
    launcher: Literal["process", "serial", "ray"] = "process"
    """Where they train: processes of this machine, this process one after the other, or Ray."""
    prices: Path = Path("results/speed/prices.json")
    """What pieces of training cost on this machine, as `orl speed` writes it; without it nothing is predicted."""
    dry_run: bool = False
    """List the cells with their predictions, and train nothing."""

    @property
    def folder(self) -> Path:
        """Folder of the cells' folders."""
        return self.out or Path("runs") / self.cells.stem

    def run(self) -> None:
        """Check all cells, then train those that are not finished."""
        import orl.envs  # noqa: F401  registers the environments of ours

        check_least(self, 1, "workers")
        cells = read_cells(self.cells, self.folder, self.prices)
        for cell in cells:
            with _named(self.cells, cell.name):
                cell.check()
        if self.dry_run:
            show([cell.row(_state(cell)) for cell in cells])
            return
        rows = [cell.row("done before") for cell in cells if cell.is_finished]
        rows += self._train([cell for cell in cells if not cell.is_finished])
        rows.sort(key=lambda row: [cell.name for cell in cells].index(row["cell"]))
        show(rows)
        checkpoint.write_json(self.folder / f"{self.cells.stem}.json", {"rows": rows})
        checkpoint.write_text(self.folder / f"{self.cells.stem}.md", ledger(rows))
        print(f"table: {self.folder / self.cells.stem}.json, .md")
        failed = [f"{row['cell']}: {row['state']}" for row in rows if row["state"].startswith("failed")]
        if failed:
            others = ", the others are done" if len(failed) < len(cells) else ""
            raise JobError(f"{len(failed)} of {len(cells)} cells failed{others}: {'; '.join(failed)}")

    def _train(self, cells: Sequence[Cell]) -> Iterator[JsonObject]:
        if not cells:
            return
        with (
            Launcher(self.folder, self.launcher, workers=self._workers(cells), retries=0) as launcher,
            progress("cells", len(cells)) as advance,
        ):
            running = {
                launcher.submit(Job(functools.partial(_train_cell, cell.training), {}, name=cell.name)): cell
                for cell in cells
            }
            warned: set[str] = set()
            while running:
                ended, _ = wait(running, POLL, FIRST_COMPLETED)
                for cell in running.values():
                    if cell.is_over and cell.name not in warned:
                        warned.add(cell.name)
                        print(f"{cell.name}: {_over(cell)}")
                for future in ended:
                    yield _ended(running.pop(future), future)
                    advance(1)

    def _workers(self, cells: Sequence[Cell]) -> int | None:
        return min(self.workers, len(cells)) if self.launcher != "serial" else None


def _train_cell(training: Train[Any], folder: Path) -> None:
    dataclasses.replace(training, out=folder).results()


def _ended(cell: Cell, future: Future[Path]) -> JsonObject:
    """The row of a cell that was trained, or that failed; its folder gets it too."""
    error = future.exception()
    if error is not None:
        print(f"{cell.name} failed: {error}")
        return cell.row(f"failed: {error}")
    row = cell.row("done" + (f", {_over(cell)}" if cell.is_over else ""))
    checkpoint.write_json(cell.folder / "cell.json", row)
    print(f"{cell.name}: {row['state']}")
    return row


def _over(cell: Cell) -> str:
    assert cell.took is not None
    assert cell.predicted.core_hours
    return (
        f"{cell.took:.3g} core-hours, {cell.took / cell.predicted.core_hours:.1f} times its prediction of "
        f"{cell.predicted.core_hours:.3g}"
    )


def _state(cell: Cell) -> str:
    history = cell.history()
    if cell.is_finished:
        return "done"
    if not history:
        return "waits"
    whole, last = cell.training.num_steps, history[-1]["steps"]
    if not whole or not last:
        whole, last = cell.training.num_updates, history[-1]["updates"]
    return f"begun, {last / whole:.0%}"


# The file.


def read_cells(path: Path, folder: Path, prices: Path) -> list[Cell]:
    """The cells of a TOML file, with what they will cost.

    Args:
        path: the file.
        folder: of the cells' folders.
        prices: file of prices.

    Raises:
        ValueError: no such file, no cell, an unknown key or a value that does not suit, two cells of one name.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file; give a TOML file of cells, with [defaults] and [[cells]]")
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from error
    _refuse_unknown(content, ("defaults", "cells"), str(path))
    defaults, entries = content.get("defaults", {}), content.get("cells", [])
    are_tables = isinstance(entries, list) and all(isinstance(entry, dict) for entry in [defaults, *entries])
    if not are_tables or not entries:
        raise ValueError(f"{path}: write one [defaults] and at least one [[cells]]")
    costs, cells = read_prices(prices), []
    for number, entry in enumerate(entries, 1):
        with _named(path, str(entry.get("name", f"cell {number}"))):
            for keys in (defaults, entry):
                _refuse_unknown(keys, Cell.keys, "[defaults]" if keys is defaults else "[[cells]]")
            cells += [_cell(one, folder, costs) for one in _combinations(_merged(defaults, entry))]
    names = [cell.name for cell in cells]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: two cells are called {twice[0]!r}; give each a name of its own")
    for one, other in itertools.combinations(cells, 2):
        same = dataclasses.replace(other.training, out=one.training.out, first_seed=one.training.first_seed)
        both = sorted({*one.training.seed_numbers} & {*other.training.seed_numbers})
        if both and dataclasses.replace(same, seeds=one.training.seeds) == one.training:
            raise ValueError(
                f"{path}: {one.name} and {other.name} both train seed {both[0]}; give one another first_seed, or "
                "fewer seeds"
            )
    return cells


class _named:
    """Says of which cell of which file an error is."""

    def __init__(self, path: Path, name: str) -> None:
        self.where = f"{path}, {name}"

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """An error of ours gets its place in front."""
        if isinstance(error, ValueError):
            raise ValueError(f"{self.where}: {error}") from error


def _refuse_unknown(given: Mapping[str, object], names: Sequence[str], where: str) -> None:
    for name in given:
        if name not in names:
            raise ValueError(f"{where}: unknown key {name!r}; {did_you_mean(name, names)}")


def _merged(defaults: JsonObject, entry: JsonObject) -> JsonObject:
    """An entry with what it leaves open; tables of hyperparameters are merged key by key."""
    for keys, name in itertools.product((defaults, entry), TABLES):
        if not isinstance(keys.get(name, {}), dict):
            raise ValueError(f"{name} = {keys[name]!r}: give a table, such as {{ batch_size = 64 }}")
    tables = {name: defaults.get(name, {}) | entry.get(name, {}) for name in TABLES}
    return {**defaults, **entry, **{name: table for name, table in tables.items() if table}}


def _combinations(entry: JsonObject) -> list[JsonObject]:
    """One entry for each combination of what is a list."""
    lists = {name: entry[name] for name in LISTS if isinstance(entry.get(name), list)}
    if empty := [name for name, values in lists.items() if not values]:
        raise ValueError(f"{empty[0]} = []: give at least one")
    if lists and "name" in entry:
        raise ValueError(f"name {entry['name']!r} for several cells; leave it out, or give no lists")
    return [{**entry, **dict(zip(lists, values, strict=True))} for values in itertools.product(*lists.values())]


def _cell(entry: JsonObject, folder: Path, costs: Sequence[Any]) -> Cell:
    entry = dict(entry)
    name, agent = entry.pop("name", None), entry.pop("agent", None)
    hyperparameters, of_model = entry.pop("config", {}), entry.pop("reward_model", {})
    if agent not in presets():
        raise ValueError(f"no agent {agent!r}; {did_you_mean(str(agent), presets())}")
    for key in ("env", "dataset"):
        if not isinstance(entry.get(key, ""), str):
            raise ValueError(f"{key} = {entry[key]!r}: give a name in quotes")
    preset = _preset(agent, entry.get("preset", "paper"), entry.get("env"))
    given = options(agent, preset)
    training: Train[Any] = make_config(
        Train,
        dataclasses.replace(
            given,
            config=make_config(type(preset.config), preset.config, hyperparameters),
            reward_model=make_config(type(given.reward_model), given.reward_model, of_model),
        ),
        {"threads": 1, **entry},
    )
    if name is None:
        what = training.env or Path(str(training.dataset)).stem
        name = f"{what}-{agent}-{training.first_seed}".replace("/", "-")
    if not isinstance(name, str) or name in ("", "..") or Path(name).name != name:
        raise ValueError(f"name = {name!r}: give a name in quotes that a folder can have")
    training = dataclasses.replace(training, out=folder / name)
    env = training.env or str(training.dataset)
    return Cell(name, training, predict(training, env, costs, pick_device(training.device).type))


def _preset(agent: str, which: str, env: str | None) -> Preset:
    """An agent's preset, small where that was asked for."""
    return presets()[agent].small(env) if which == "small" else presets()[agent]


def _differences(before: JsonObject, now: JsonObject, defaults: JsonObject) -> Iterator[tuple[str, object, object]]:
    """What two configurations differ in; one from before a field was there has its default."""
    for key in {**before, **now}:
        was, will_be = before.get(key, defaults.get(key)), now.get(key, before.get(key))
        was, will_be = (list(value) if isinstance(value, tuple) else value for value in (was, will_be))
        if isinstance(was, dict) and isinstance(will_be, dict):
            yield from _differences(was, will_be, defaults.get(key) or {})
        elif was != will_be and key != "env":
            yield key, was, will_be


def _words(given: Any, defaults: Any, prefix: str) -> Iterator[str]:
    """The options of a dataclass that differ from another one's, as words of a command line."""
    for field in dataclasses.fields(given):
        value, default = getattr(given, field.name), getattr(defaults, field.name)
        if value == default or field.name in ("agent", "out", "launching"):
            continue
        if dataclasses.is_dataclass(value):
            yield from _words(value, default, "" if field.name == "config" else f"{prefix}reward-model.")
            continue
        name = prefix + field.name.replace("_", "-")
        if isinstance(value, bool):
            yield f"--{'' if value else 'no-'}{name}"
        else:
            yield f"--{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"


# What is shown.


def show(rows: Sequence[JsonObject]) -> None:
    """Print the table, and below it what the predictions rest on."""
    texts = [dict(zip(COLUMNS, _texts(row), strict=True)) for row in rows]
    same = {name: texts[0][name] for name in FACTS if len({text[name] for text in texts}) == 1}
    facts = (f"seeds {text}" if name == "seeds" else text for name, text in same.items())
    headers = [(name, name not in HOURS) for name in COLUMNS if name not in same]
    layout = Layout(
        ", ".join(["core-hours of training", *facts]), headers, [[text[name] for name, _ in headers] for text in texts]
    )
    console = Console()
    console.print(layout.table())
    for row in rows:
        if row["note"]:
            console.print(f"{row['cell']}: {row['note']}", highlight=False, soft_wrap=True)
    hours = [row["predicted_core_hours"] for row in rows if row["predicted_core_hours"] is not None]
    if hours:
        console.print(f"predicted: {sum(hours):.3g} core-hours for {len(hours)} of {len(rows)} cells", highlight=False)
    if len(hours) < len(rows):
        print("prices come from `orl speed --parts sizes --out FOLDER`: give --prices FOLDER/prices.json")


def _texts(row: JsonObject) -> tuple[str, ...]:
    length = [f"{row[key]:,} {key}" for key in ("updates", "steps") if row[key]]
    seeds = row["seeds"]
    return (
        row["cell"], row["agent"], row["dataset"] or row["env"], ", ".join(length),
        str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}",
        "no prediction" if row["predicted_core_hours"] is None else f"{row['predicted_core_hours']:.3g}",
        "" if row["core_hours"] is None else f"{row['core_hours']:.3g}", row["state"],
    )  # fmt: skip


def ledger(rows: Sequence[JsonObject]) -> str:
    """The table in Markdown, with the command that trains each cell alone."""
    cells = []
    for row in rows:
        name, _, _, _, seeds, predicted, took, state = _texts(row)
        cells.append([name, f"`{row['command']}`", seeds, predicted, took, state])
    columns = ("cell", "command", "seeds", *HOURS, "state")
    return Layout("", [(column, column not in HOURS) for column in columns], cells).markdown()
