"""`orl compare RUN...`: what runs show, with intervals and tests over seeds and tasks.

Shape key: E evaluations, S seeds.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from orl import checkpoint, datasets, statistics
from orl.arrays import Float64Array
from orl.scripts.figures.comparison import profile_figure
from orl.scripts.figures.training import learning_curves, training_figure
from orl.scripts.running import tables
from orl.scripts.running.launching import merge_histories
from orl.scripts.running.run_directory import JsonObject, config_of
from orl.spelling import did_you_mean
from orl.statistics import FEWEST_SEEDS, MEASURES, Estimate, Measure

TITLES: dict[Measure, str] = {
    "last": "mean of the last {last} evaluations",
    "auc": "mean return from {begin:,} {clock} on",
    "final": "last evaluation",
    "best": "best evaluation",
}
ALL_TASKS = "all tasks"
POOLED_TASKS = 3  # of an interquartile mean over tasks
ASIDE = (  # what does not make two runs two agents
    "env", "steps", "updates", "seeds", "first_seed", "device", "threads", "precision", "eval_every", "eval_episodes",
    "bias_episodes", "log_every", "checkpoint_every", "save_replay", "execution", "reward_model", "label_seed",
    "dataset", "dataset_sha256",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """Evaluations of some seeds of one agent in one task."""

    folder: Path
    agent: str  # its label
    task: str  # environment, or the data that it was trained on
    env: str  # that it was evaluated in
    config: JsonObject
    clock: str  # "steps" or "updates"
    seeds: tuple[int, ...]
    history: list[JsonObject]

    @property
    def evaluations(self) -> list[JsonObject]:
        """Without those right after a phase, which come on top."""
        return [row for row in self.history if not row.get("after_phase")]

    @property
    def x(self) -> list[int]:
        """(E,) on the clock."""
        return [row[self.clock] for row in self.evaluations]

    def returns(self, at: Sequence[int]) -> Float64Array:
        """(E, S) mean returns of the evaluations at these counts."""
        rows = {row[self.clock]: row for row in self.evaluations}
        return np.array([np.mean(rows[count]["returns"], axis=1) for count in at])


@dataclass(frozen=True)
class Compare:
    """Compare agents by the seeds of their runs.

    Over the seeds of one environment: the mean with Student's t interval from five seeds on, below five the seeds
    themselves. Two agents: difference and ratio of the means with 95 % intervals, and an unpaired permutation test,
    adjusted by Holm for all tests of the table. Three and more environments: the interquartile mean of the scores with
    a stratified bootstrap. Writes tables (CSV, Markdown, LaTeX) and figures.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Folders that `orl train` wrote, or one that `orl benchmark` did; NAME=FOLDER names the agent. Blocks of seeds of
    one agent are put together."""
    measure: Measure = "last"
    """What is tested: mean of the last evaluations, area under the curve (mean return from a step on), the final or the
    best evaluation."""
    last: int = statistics.LAST
    """Evaluations that `last` averages."""
    auc_from: int = 10_000
    """Step, or update on data, at which the area begins."""
    until: int | None = None
    """Leave out what comes after this step, or update on data."""
    against: str | None = None
    """The agent that the others are compared with; by default that of the first folder."""
    margin: float | None = None
    """Also test whether an agent loses at most this share of the other's mean, such as 0.1."""
    out: Path = Path("comparison")
    """Folder for tables and figures."""

    def run(self) -> None:
        """Read, compare, print and write."""
        if not self.runs:
            raise ValueError("name at least one run folder")
        if self.margin is not None and not 0 <= self.margin < 1:
            raise ValueError(f"--margin {self.margin}: the share that may be lost lies in [0, 1), such as 0.1")
        for name, least in (("last", 1), ("auc_from", 0), ("until", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"--{name.replace('_', '-')} {value}: give {least} or more")
        named = [run for word in self.runs for run in _folders(word)]
        without = [folder for _, folder in named if not (folder / "history.json").exists()]
        cells = self._cells(_labelled([_read(*run) for run in named if run[1] not in without]))
        against = self._reference(cells)
        notes = [f"{folder}: no evaluation, so it is left out" for folder in without]
        notes += dict.fromkeys(note for cell in cells for note in cell.notes)
        comparison = Comparison(self, cells, against)
        layouts = [tables.lay_out(comparison.summary, "mean over seeds")]
        if comparison.pooled:
            layouts.append(tables.lay_out(comparison.pooled, "score, interquartile mean over seeds and tasks"))
        if comparison.tests:
            tests = len([row for row in comparison.tests if row["p_value"] is not None])
            what = self.title(self.measure, cells[0].clock)
            family = f"Holm over {tests} test{'' if tests == 1 else 's'}"
            layouts.append(tables.lay_out(comparison.tests, f"{what}, against {against}; {family}"))
        console = Console()
        for layout in layouts:
            console.print(layout.table())
        for note in (*notes, *comparison.notes):
            console.print(f"note: {note}", highlight=False, soft_wrap=True)
        self._write(cells, comparison, layouts)

    def title(self, measure: Measure, clock: str) -> str:
        """A measure in words."""
        return TITLES[measure].format(last=self.last, begin=self.auc_from, clock=clock)

    def _cells(self, runs: Sequence[Run]) -> list[Cell]:
        """Runs of one agent in one environment put together, at evaluations that all of that environment have."""
        cells = []
        for task in dict.fromkeys(run.task for run in runs):
            there = [self._cut(run) for run in runs if run.task == task]
            ends = {run.folder: run.x[-1] for run in there}
            common = sorted(set.intersection(*(set(run.x) for run in there)))
            if len(set(ends.values())) > 1:
                listed = ", ".join(f"{folder} {end:,}" for folder, end in ends.items())
                remedy = f"give --until {common[-1]}" if common else "no evaluation is one of all: leave some out"
                raise ValueError(f"runs in {task} end at different counts: {listed}; {remedy}")
            if len({run.clock for run in there}) > 1:
                raise ValueError(f"runs in {task} count steps and updates; compare runs that act, or runs on data")
            most = max(len(run.x) for run in there)
            note = f"{task}: {len(common)} evaluations that all runs have, of {most}" if len(common) < most else None
            for agent in dict.fromkeys(run.agent for run in there):
                cells.append(_put_together([run for run in there if run.agent == agent], common, note))
        return cells

    def _cut(self, run: Run) -> Run:
        """Without what comes after `until`."""
        if self.until is None:
            return run
        history = [row for row in run.history if row[run.clock] <= self.until]
        if not history or history[-1][run.clock] < self.until:
            raise ValueError(f"--until {self.until}: {run.folder} has no evaluation there; it has {_listed(run.x)}")
        return dataclasses.replace(run, history=history)

    def _reference(self, cells: Sequence[Cell]) -> str:
        agents = list(dict.fromkeys(cell.agent for cell in cells))
        if self.against is not None and self.against not in agents:
            raise ValueError(f"--against {self.against}: no such agent; {did_you_mean(self.against, agents)}")
        return self.against or agents[0]

    def _write(self, cells: Sequence[Cell], comparison: Comparison, layouts: Sequence[tables.Layout]) -> None:
        written = ["summary.csv", "tables.md", "tables.tex"]
        self.out.mkdir(parents=True, exist_ok=True)
        _write_csv(self.out / "summary.csv", comparison.summary)
        for name, rows in (("comparisons.csv", comparison.tests), ("pooled.csv", comparison.pooled)):
            if rows:
                _write_csv(self.out / name, rows)
                written.append(name)
        checkpoint.write_text(self.out / "tables.md", "\n".join(layout.markdown() for layout in layouts))
        checkpoint.write_text(self.out / "tables.tex", "\n".join(layout.latex() for layout in layouts))
        for task in dict.fromkeys(cell.task for cell in cells):
            there = [cell for cell in cells if cell.task == task]
            draw = training_figure if there[0].clock == "steps" else learning_curves
            name = f"curves-{task.replace('/', '-')}.png"
            draw({cell.agent: cell.history for cell in there}, there[0].env, self.out / name)
            written.append(name)
        profile_figure(comparison.in_common_tasks, comparison.unit, self.out / "profiles.png")
        written.append("profiles.png")
        print(f"wrote {', '.join(str(self.out / name) for name in written)}")


@dataclass(frozen=True)
class Cell:
    """All seeds of one agent in one task."""

    agent: str
    task: str
    env: str
    clock: str
    seeds: tuple[int, ...]
    x: list[int]  # (E,)
    returns: Float64Array  # (E, S)
    history: list[JsonObject]  # for figures
    notes: list[str]

    def measure(self, name: Measure, options: Compare) -> Float64Array:
        """(S,) of this measure."""
        try:
            return statistics.measure(name, self.x, self.returns, last=options.last, begin=options.auc_from)
        except ValueError as error:
            option = {"last": f"--last {len(self.x)}", "auc": "a smaller --auc-from"}.get(name, "other runs")
            raise ValueError(f"{self.agent} in {self.task}: {error} (give {option}, or another --measure)") from error


@dataclass
class Comparison:
    """The rows of all tables."""

    options: Compare
    cells: Sequence[Cell]
    against: str
    notes: list[str] = field(default_factory=list)
    few: list[str] = field(default_factory=list)  # pairs that have no interval

    def __post_init__(self) -> None:
        """Compute them."""
        options, cells = self.options, self.cells
        values = {(cell.agent, cell.task): cell.measure(options.measure, options) for cell in cells}
        self.environments = {cell.task: cell.env for cell in cells}
        tasks, agents = list(self.environments), list(dict.fromkeys(cell.agent for cell in cells))
        without = [env for env in dict.fromkeys(self.environments.values()) if env not in datasets.REFERENCES]
        self.has_scores = not without
        self.unit = f"{'score' if self.has_scores else 'return'}, {options.title(options.measure, cells[0].clock)}"
        if len(tasks) > 1 and without:
            self.notes.append(f"{', '.join(without)}: no reference returns, so no score; tasks are not pooled")
        self.summary = list(self._summary())
        # By agent and task: scores where every task has them, else returns.
        self.by_agent = {
            agent: {task: self._score(task, values[agent, task]) for task in tasks if (agent, task) in values}
            for agent in agents
        }
        self.pooled = self._pooled(tasks)
        self.tests = self._tests(values, tasks)

    @property
    def in_common_tasks(self) -> dict[str, dict[str, Float64Array]]:
        """By agent and task, of the tasks in which all ran; of all tasks where there is none."""
        tasks = set.intersection(*(set(scores) for scores in self.by_agent.values())) or set(self.environments)
        return {
            agent: {task: values for task, values in scores.items() if task in tasks}
            for agent, scores in self.by_agent.items()
        }

    def _summary(self) -> Iterator[JsonObject]:
        for cell in self.cells:
            for name in MEASURES:
                try:
                    values = cell.measure(name, self.options)
                except ValueError:
                    if name == self.options.measure:
                        raise
                    continue  # too few evaluations for a measure that nobody asked for
                row: JsonObject = {"env": cell.task, "agent": cell.agent}
                row |= {"measure": self.options.title(name, cell.clock), **_estimated("mean", statistics.mean(values))}
                yield {**row, "seed_returns": values.tolist(), "seeds": list(cell.seeds)}

    def _score(self, task: str, values: Float64Array) -> Float64Array:
        return datasets.normalized_score(self.environments[task], values) if self.has_scores else values

    def _pooled(self, tasks: Sequence[str]) -> list[JsonObject]:
        """Interquartile means of agents that ran in all tasks."""
        if len(tasks) < POOLED_TASKS or not self.has_scores:
            return []
        rows = []
        for agent, scores in self.by_agent.items():
            if missing := [task for task in tasks if task not in scores]:
                self.notes.append(f"{agent} did not run in {', '.join(missing)}: it is not in the table over tasks")
            elif min(map(len, scores.values())) > 1:
                middle = statistics.interquartile_mean(np.concatenate(list(scores.values())))
                interval = list(statistics.interval(scores))
                rows.append({"agent": agent, "mean": float(middle), "mean_interval": interval, "tasks": len(tasks)})
        return rows

    def _tests(self, values: Mapping[tuple[str, str], Float64Array], tasks: Sequence[str]) -> list[JsonObject]:
        """Every agent against the reference, in each environment and over all in which both ran."""
        rows = []
        for agent in (agent for agent in self.by_agent if agent != self.against):
            both = [task for task in tasks if (agent, task) in values and (self.against, task) in values]
            if not both:
                where = [", ".join(self.by_agent[name]) for name in (agent, self.against)]
                raise ValueError(
                    f"no task in which both ran: {agent} in {where[0]}, {self.against} in {where[1]}; "
                    "name runs of the two in one environment"
                )
            for task in both:
                rows.append(self._test(task, agent, {task: values[agent, task]}, {task: values[self.against, task]}))
            if len(both) > 1 and self.has_scores:
                pair = ({task: self.by_agent[name][task] for task in both} for name in (agent, self.against))
                rows.append(self._test(f"{ALL_TASKS} (score)", agent, *pair))
        if self.few:
            self.notes.append(f"fewer than {FEWEST_SEEDS} seeds, so no interval and no margin: {'; '.join(self.few)}")
        self._adjust(rows, "p_value", "p_holm")
        self._adjust(rows, "p_margin", "p_margin_holm")
        for row in rows:
            if (p := row.pop("p_margin_holm")) is not None:
                row["not_inferior"] = f"{'yes' if p < 0.025 else 'not shown'} (p {p:.3f})"
        return rows

    def _test(
        self, task: str, agent: str, first: Mapping[str, Float64Array], second: Mapping[str, Float64Array]
    ) -> JsonObject:
        fewest = min(len(runs) for side in (first, second) for runs in side.values())
        where = f"{agent} against {self.against}, {task}"
        row: JsonObject = {"env": task, "agent": agent, "against": self.against}
        row |= _estimated("difference", statistics.difference(first, second))
        row |= _estimated("ratio", statistics.ratio(first, second))
        row |= {"better": None, "p_value": None, "p_margin": None}
        if fewest == 1:
            self.notes.append(f"{where}: one seed, so no interval and no test; train more (--first-seed, --seeds)")
            return row
        if fewest < FEWEST_SEEDS:
            self.few.append(where)
        row["better"] = statistics.probability_of_improvement(first, second)[0]
        row["p_value"] = statistics.permutation_test(first, second)
        if self.options.margin is not None and fewest >= FEWEST_SEEDS:
            try:
                row["p_margin"] = statistics.non_inferiority(first, second, self.options.margin)
            except ValueError as error:
                self.notes.append(f"{where}: {error}")
        return row

    @staticmethod
    def _adjust(rows: Sequence[JsonObject], name: str, adjusted: str) -> None:
        tested = [row for row in rows if row[name] is not None]
        for row in rows:
            row[adjusted] = None
        for row, p in zip(tested, statistics.holm([row[name] for row in tested]), strict=True):
            row[adjusted] = p


def _estimated(name: str, estimate: Estimate) -> JsonObject:
    value = estimate.value if np.isfinite(estimate.value) else None
    return {name: value, f"{name}_interval": _ends(estimate.interval)}


def _ends(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)


# Runs.


def _folders(word: str) -> list[tuple[str, Path]]:
    """A name, which may be empty, and a run's folder; of a folder that holds runs all of them.

    Raises:
        ValueError: no run is there.
    """
    label, _, path = word.rpartition("=") if not Path(word).exists() else ("", "", word)
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{folder}: a file; name the folder of its run, such as {folder.parent}")
    if not folder.is_dir():
        beside = [str(other) for other in folder.parent.glob("*") if other.is_dir()] if folder.parent.is_dir() else []
        raise ValueError(f"{folder}: no such folder; {did_you_mean(str(folder), beside, 'name folders of runs')}")
    inside = [folder] if (folder / "history.json").exists() else sorted(p.parent for p in folder.glob("*/config.json"))
    if not any((run / "history.json").exists() for run in inside):
        raise ValueError(f"{folder}: no history.json; give a folder that `orl train` or `orl benchmark` wrote")
    return [(label, run) for run in inside]


def _read(label: str, folder: Path) -> Run:
    """A run's evaluations; of one that trained on data and then acted, those while acting.

    Raises:
        ValueError: there is none yet, or what is there is no run's.
    """
    rows, (config, _) = checkpoint.read_json(folder / "history.json"), config_of(folder)
    if not rows:
        raise ValueError(f"{folder}: no evaluation yet; wait for the first")
    if "env" not in config or not isinstance(rows, list):
        raise ValueError(f"{folder}: its config.json and history.json are no run's; copy the whole folder of a run")
    part, dataset = rows[-1].get("part"), config.get("dataset")
    rows = [row for row in rows if row.get("part") == part]
    first = config.get("first_seed", 0)
    return Run(
        folder, label, dataset or config["env"], config["env"], config, "steps" if rows[-1].get("steps") else "updates",
        tuple(range(first, first + len(rows[-1]["returns"]))), rows,
    )  # fmt: skip


def _labelled(runs: Sequence[Run]) -> list[Run]:
    """Runs with a name for their agent: what was given, else the agent's name with what tells it from its namesakes."""
    described = [{key: value for key, value in _flat(run.config) if key not in ASIDE} for run in runs]
    named = []
    for run, settings in zip(runs, described, strict=True):
        agent = settings.get("agent")
        namesakes = [other for other in described if other.get("agent") == agent]
        differing = [
            key for key in settings
            if all(key in other for other in namesakes) and any(other[key] != settings[key] for other in namesakes)
        ]  # fmt: skip
        about = ", ".join(f"{key}={settings[key]}" for key in differing)
        named.append(dataclasses.replace(run, agent=run.agent or (f"{agent} ({about})" if about else str(agent))))
    return named


def _flat(config: JsonObject) -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value) if key not in ASIDE else ()
        else:
            yield key, value


def _put_together(runs: Sequence[Run], x: list[int], note: str | None) -> Cell:
    """Blocks of seeds of one agent in one environment.

    Raises:
        ValueError: a seed is in two of them.
    """
    first, notes = runs[0], [note] if note else []
    seeds = [seed for run in runs for seed in run.seeds]
    for seed in seeds:
        if seeds.count(seed) > 1:
            both = " and ".join(str(run.folder) for run in runs if seed in run.seeds)
            which = f"seed {seed} of {first.agent} in {first.task} is in {both}"
            raise ValueError(f"{which}; leave one out, or name them apart (NAME=FOLDER)")
    returns = np.concatenate([run.returns(x) for run in runs], axis=1)
    whole = np.isfinite(returns).all(axis=0)
    for seed in np.array(seeds)[~whole]:
        notes.append(f"seed {seed} of {first.agent} in {first.task} has returns that are not finite: it is left out")
    if not whole.any():
        raise ValueError(f"{first.agent} in {first.task}: no seed has finite returns; leave it out")
    history = first.history
    if len(runs) > 1:
        keys = set.intersection(*(set(row) for run in runs for row in run.history))
        history = merge_histories([[{key: row[key] for key in keys} for row in run.history] for run in runs])
    seeds = [seed for seed, is_whole in zip(seeds, whole, strict=True) if is_whole]
    return Cell(first.agent, first.task, first.env, first.clock, tuple(seeds), x, returns[:, whole], history, notes)


def _listed(counts: Sequence[int]) -> str:
    return ", ".join(map(str, counts[:3])) + (f", ..., {counts[-1]}" if len(counts) > 3 else "")


def _write_csv(path: Path, rows: Sequence[JsonObject]) -> None:
    """All of the rows, numbers whole; of an interval both ends, of seeds all in one entry."""
    text = io.StringIO()
    flat = [{name: value for key in row for name, value in _columns(key, row[key])} for row in rows]
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in flat for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    checkpoint.write_text(path, text.getvalue())


def _columns(key: str, value: Any) -> Iterator[tuple[str, object]]:
    if key.endswith("_interval"):
        low, high = value or ("", "")
        yield from ((key.replace("_interval", "_low"), low), (key.replace("_interval", "_high"), high))
    else:
        yield key, " ".join(map(str, value)) if isinstance(value, list) else value
