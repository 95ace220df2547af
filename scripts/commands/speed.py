"""`orl speed`: what an update, an environment step, a batch and a prediction cost on this machine, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from rich.console import Console

from orl import checkpoint
from orl.agent import Agent
from orl.agents import IQL, SAC, SPEQ, SPEQ_PRESET, TD3BC, HyperZero
from orl.agents.sac import DROQ_PRESET
from orl.device import Precision, pick_device, set_precision
from orl.environment import Spaces
from orl.execution import Execution, GraphRunner
from orl.scripts.benchmarks import benchmark_cases
from orl.scripts.benchmarks.baselines import Baselines
from orl.scripts.benchmarks.benchmark_cases import ENVIRONMENT, random_data, sb3_sac, updates
from orl.scripts.benchmarks.hardware_bounds import MatrixProducts, MemoryTraffic
from orl.scripts.benchmarks.learning_steps import time_parts, time_steps
from orl.scripts.benchmarks.pendulum import Contender, contenders, time_to_solve
from orl.scripts.benchmarks.plain_agents import PlainDroQ, PlainIQL, PlainOffline, PlainTD3BC
from orl.scripts.benchmarks.prices import write_prices
from orl.scripts.benchmarks.sizes import PRICED, prices_of, read_sizes, time_collecting, time_updates
from orl.scripts.benchmarks.timing import BenchmarkCase, Work, machine, not_timed, time_interleaved
from orl.scripts.figures.speed import speed_figure
from orl.scripts.main import check_least
from orl.scripts.running import tables
from orl.scripts.running.run_directory import JsonObject, RunDirectory

CARS = 256
COMPILED = range(2)  # of `PRICED`, by `--compiled`
TOGETHER = 20  # learners, one for each context
DROPOUT_RATE = 0.01

Part = Literal["packages", "sizes", "learn", "pendulum"]
Cases = dict[str, BenchmarkCase | None]  # by name; None: it does not fit in memory


@dataclass(frozen=True)
class Speed:
    """Time this package against plain code, other packages and the matrix products alone.

    All cases take turns, so that a noisy machine disturbs them alike: compare the ratios. On a CPU those of the parts
    sizes and learn are of processor time. What sizes has is also the table of prices that predicts what a training
    takes, prices.json.
    """

    parts: tuple[Part, ...] = ("packages", "sizes", "learn")
    """packages: updates of 2 x 256 networks on batches of 256 beside other code. sizes: updates of small networks.
    learn: steps of SAC on Pendulum-v1. pendulum: the same until it is solved, which takes minutes."""
    populations: tuple[int, ...] = (1, 4, 10)
    """Learners trained side by side; 64 take minutes on a CPU."""
    executions: tuple[Execution, ...] = ("eager", "graph")
    """How updates run; compiling takes up to a minute for each agent, size and population, once."""
    sizes: tuple[str, ...] = ("64/64", "128/128", "256/256")
    """Of the part sizes: UNITS/BATCH for each population, or UNITS/BATCH/LEARNERS."""
    compiled: tuple[str, ...] = ()
    """Those that are also compiled, UNITS/BATCH/LEARNERS; only updates of SAC and of a phase."""
    repeats: int = 7
    """Turns of each case; the table shows medians."""
    updates: int = 20
    """Updates in one turn of the part packages."""
    threads: int = 1
    """CPU threads of torch."""
    precision: Precision = "highest"
    """Of matrix products, as in `orl train`."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    baselines: Path | None = None
    """Folder of virtual environments to time too, on a CPU: BASELINES/sbx with sbx-rl, BASELINES/d3rlpy,
    BASELINES/rltools with rltools and gymnasium, BASELINES/rltools-mkl with mkl and mkl-include as well."""
    other_version: Path | None = None
    """Python of a virtual environment with another version of this package, for learn and pendulum."""
    seeds: int = 5
    """Of the part pendulum."""
    jobs: int = 1
    """Trainings of the part pendulum at a time, each with threads of its own."""
    out: Path | None = None
    """Folder for results.json, prices.json, tables.md and the figure."""

    def run(self) -> None:
        """Measure and print."""
        check_least(self, 1, "repeats", "updates", "threads", "seeds", "jobs")
        if not self.populations or not self.executions or min(self.populations) < 1:
            raise ValueError("--populations, --executions: give one or more, populations of 1 or more")
        if self.baselines is not None and not self.baselines.is_dir():
            raise ValueError(f"--baselines {self.baselines}: no such folder")
        if self.other_version is not None and not self.other_version.is_file():
            raise ValueError(f"--other-version {self.other_version}: no such file; give a bin/python")
        read_sizes([*self.sizes, *self.compiled], self.populations)
        places = {name: getattr(self, name) is not None for name in ("baselines", "other_version")}
        settings = asdict(self) | places
        del settings["out"]
        folder = RunDirectory.open(self.out, settings) if self.out is not None else None
        results = folder.finished() if folder is not None else None
        if results is None:
            torch.set_num_threads(self.threads)
            device = pick_device(self.device)
            if device.type == "cuda":
                torch.cuda.set_device(device)  # the one that clocks wait for
            set_precision(self.precision, device)
            results = self._measure(device)
            if folder is not None:
                results = folder.finish(**results)
        laid_out = lay_out(results)
        if self.out is not None:
            speed_figure(results["rows"], self.out / "speed.png")
            checkpoint.write_text(self.out / "tables.md", "\n".join(each.markdown() for each in laid_out))
        for each in laid_out:
            Console().print(each.table())

    def _measure(self, device: torch.device) -> JsonObject:
        results: JsonObject = {"rows": [], "machine": machine(device)}
        if "packages" in self.parts:
            parts = self._stabilization, self._droq, self._sac, self._offline, self._contexts, self._others
            results["rows"] += [row for part in parts for row in part()]
        if "sizes" in self.parts:
            results["rows"] += self._sizes(device)
            if self.out is not None and device.type == "cpu":
                executions = [*self.executions, *(["compile"] if self.compiled else [])]
                write_prices(self.out / "prices.json", prices_of(results["rows"], executions), results["machine"])
        if "learn" in self.parts:
            results["rows"] += self._learn()
        if "pendulum" in self.parts:
            results["pendulum"] = time_to_solve(self._contenders(), self.seeds, self.threads, self.jobs)
        return results

    def _sizes(self, device: torch.device) -> list[JsonObject]:
        compiled = read_sizes(self.compiled, self.populations)
        rows = []
        for size in dict.fromkeys([*read_sizes(self.sizes, self.populations), *compiled]):
            for k, each in enumerate(PRICED):
                also: list[Execution] = ["compile"] if size in compiled and k in COMPILED else []
                rows += time_updates(each, size, [*self.executions, *also], device, self.repeats)
        return rows + (time_collecting(self.populations, self.repeats) if device.type == "cpu" else [])

    def _learn(self) -> list[JsonObject]:
        who = self._contenders()
        base = "orl, other version" if self.other_version is not None else next(iter(who))
        rows = time_steps(who, base, self.threads, self.repeats)
        return rows + [row for execution in self.executions for row in time_parts(execution, self.repeats)]

    def _contenders(self) -> dict[str, Contender]:
        return contenders([each for each in self.executions if each != "compile"], self.baselines, self.other_version)

    def _time(
        self,
        what: str,
        cases: Mapping[str, BenchmarkCase | None],
        base: str | None,
        baselines: Mapping[str, str] | None = None,
        repetitions: int | None = None,
    ) -> list[JsonObject]:
        """Rows of cases, of baselines by the names of their work, and of what is not measured here."""
        spaces, on_cpu = Spaces.of(ENVIRONMENT), pick_device(self.device).type == "cpu"
        sizes = [spaces.observation_size, spaces.action_size, benchmark_cases.ROWS]
        processes = Baselines(self.baselines if on_cpu else None, sizes, self.threads)
        try:
            others = {name: processes.case(work) for name, work in (baselines or {}).items()}
            timed = {name: case for name, case in {**cases, **others}.items() if case is not None}
            rows = time_interleaved(what, timed, base, repetitions or self.updates, self.repeats)
        finally:
            processes.close()
        rows += [not_timed(what, name, "does not fit in memory") for name, case in cases.items() if case is None]
        note = "not installed" if on_cpu else "timed on CPUs alone"
        rows += [not_timed(what, name, note) for name, case in others.items() if case is None]
        if on_cpu:
            rows.append(not_timed(what, "orl, CUDA", "not measured here"))
        return rows

    def _ours(
        self, agent_class: type[Agent], config: object, make_work: Callable[..., Work], **overrides: Any
    ) -> Cases:
        """One case for each execution and population."""
        cases: Cases = {}
        for execution in self.executions:
            for population in self.populations:
                name = f"orl, {execution}, {_learners(population)}"
                try:
                    agent = self._agent(agent_class, config, population, execution, **overrides)
                    work = make_work(agent)
                except MemoryError:
                    cases[name] = None
                    continue
                # Graphs are recorded before the clock starts; there are two kinds of updates at most.
                for _ in range(0 if execution == "eager" else 2 * (GraphRunner.FIRST_UPDATES + 1)):
                    work()
                cases[name] = BenchmarkCase(work, population)
        return cases

    def _agent(
        self, agent_class: Any, config: object, population: int, execution: Execution = "eager", **overrides: Any
    ) -> Any:
        seeds = list(range(population))
        return agent_class(random_data(), config, seed=seeds, device=self.device, execution=execution, **overrides)

    def _plain_droq(self) -> PlainDroQ:
        return PlainDroQ(random_data(), dropout_rate=DROPOUT_RATE, device=str(pick_device(self.device)))

    def _stabilization(self) -> list[JsonObject]:
        device, spaces, traffic = pick_device(self.device), Spaces.of(ENVIRONMENT), {}
        cases: Cases = {"plain modules": BenchmarkCase(self._plain_droq().update_critics)}
        cases |= self._ours(SPEQ, replace(SPEQ_PRESET, dropout_rate=DROPOUT_RATE), benchmark_cases.phase_updates)
        for population in self.populations:
            sizes = spaces.observation_size, spaces.action_size, population, device
            cases[f"matrix products alone, {_learners(population)}"] = BenchmarkCase(MatrixProducts(*sizes), population)
            moved = BenchmarkCase(MemoryTraffic(*sizes), population)
            traffic[f"memory traffic alone, {_learners(population)}"] = moved
        return [
            *self._time("stabilization update", cases, "plain modules"),
            *time_interleaved("stabilization update", traffic, None, self.updates, self.repeats),
        ]

    def _droq(self) -> list[JsonObject]:
        utd_ratio, plain = int(DROQ_PRESET.utd_ratio), self._plain_droq()
        cases: Cases = {"plain modules": BenchmarkCase(lambda: plain.step(utd_ratio))}
        cases |= self._ours(SAC, DROQ_PRESET, lambda agent: updates(agent, utd_ratio), dropout_rate=DROPOUT_RATE)
        return self._time(f"DroQ, {utd_ratio} updates a step", cases, "plain modules", {"sbx": "sbx DroQ"}, 1)

    def _sac(self) -> list[JsonObject]:
        sb3 = sb3_sac(self.device)
        cases: Cases = {"SB3": BenchmarkCase(lambda: sb3.train(1, batch_size=256))}
        cases |= self._ours(SAC, None, updates)
        return self._time("SAC update", cases, "SB3", {"sbx": "sbx SAC"})

    def _offline(self) -> list[JsonObject]:
        rows, even = [], self.updates + self.updates % 2  # every second update of TD3+BC has one of the actor
        plain_agents: dict[type[Agent], type[PlainOffline]] = {TD3BC: PlainTD3BC, IQL: PlainIQL}
        for agent_class, plain in plain_agents.items():
            name, baseline = agent_class.__name__, plain(random_data(), str(pick_device(self.device)))
            cases: Cases = {"plain modules": BenchmarkCase(baseline.update)}
            cases |= self._ours(agent_class, None, benchmark_cases.offline_updates)
            rows += self._time(f"{name} update", cases, "plain modules", {"d3rlpy": f"d3rlpy {name}"}, even)
        return rows

    def _contexts(self) -> list[JsonObject]:
        """Generated policies, and a learner for each context."""
        generated = self._ours(HyperZero, None, benchmark_cases.offline_updates, contexts=benchmark_cases.CONTEXTS)
        first = next((name for name, case in generated.items() if case), None)
        learners = {
            "one after another": BenchmarkCase(updates(self._agent(SAC, None, 1))),
            "orl, together": BenchmarkCase(updates(self._agent(SAC, None, TOGETHER)), TOGETHER),
        }
        fewer = -(-self.updates // 4)
        return [
            *self._time("HyperZero update", generated, first),
            *self._time(f"SAC update in {TOGETHER} contexts", learners, "one after another", None, fewer),
        ]

    def _others(self) -> list[JsonObject]:
        sb3, agent = sb3_sac(self.device), IQL(random_data(), device=self.device)
        cars = gymnasium.make_vec("orl/Racing-v0", num_envs=CARS)
        cars.reset(seed=0)
        actions = np.random.default_rng(0).uniform(-1, 1, (CARS, 2)).astype(np.float32)
        observation = np.zeros(Spaces.of(ENVIRONMENT).observation_size, np.float32)
        buffer, sb3_buffer = agent.replay_buffer, sb3.replay_buffer
        assert buffer is not None
        assert sb3_buffer is not None
        batches = {
            "SB3": BenchmarkCase(lambda: sb3_buffer.sample(256)),
            "orl": BenchmarkCase(lambda: buffer.sample(torch.rand(1, 256, dtype=torch.float64, device=agent.device))),
        }
        predictions = {
            "SB3": BenchmarkCase(lambda: sb3.predict(observation, deterministic=True)),
            "orl": BenchmarkCase(lambda: agent.predict(observation, deterministic=True)),
        }
        steps = {f"{CARS} cars": BenchmarkCase(lambda: cars.step(actions), CARS)}
        rows = [
            *time_interleaved("step of orl/Racing-v0", steps, None, self.updates, self.repeats),
            *self._time("batch of 256", batches, "SB3", None, 200),
            *self._time("predict, one observation", predictions, "SB3", None, 200),
        ]
        cars.close()
        return rows


def _learners(population: int) -> str:
    return f"{population} learner{'s' if population > 1 else ''}"


def lay_out(results: JsonObject) -> list[tables.Layout]:
    """The measurements as tables: whatever was timed, updates by their size, and what a task took."""
    rows, about = results["rows"], results["machine"]
    of_sizes = {row["what"] for row in rows if "execution" in row}
    sizes, others = ([row for row in rows if (row["what"] in of_sizes) == among] for among in (True, False))
    on_cpu = f"{about['cores']} cores ({about['processor']}), {about['threads']} threads, CUDA not measured here"
    laid_out = [_lay_out_cases(others, f"medians on {about['cuda'] or on_cpu}")] if others else []
    laid_out += [_lay_out_sizes(sizes)] if sizes else []
    return laid_out + ([_lay_out_pendulum(results["pendulum"])] if "pendulum" in results else [])


def _lay_out_cases(rows: list[JsonObject], title: str) -> tables.Layout:
    cells, last = [], None
    for row in rows:
        what, last = (row["what"] if row["what"] != last else ""), row["what"]
        numbers = [row["note"], "", "", ""] if row["milliseconds"] is None else [
            f"{row['milliseconds']:.3f}",
            f"{row['processor_milliseconds']:.3f}" if "processor_milliseconds" in row else "",
            f"{row['per_second']:,.0f}",
            f"{row['ratio']:.2f}" if "ratio" in row else "",
        ]  # fmt: skip
        cells.append([what, row["case"], *numbers])
    columns = [(name, False) for name in ("ms", "processor ms", "per second", "ratio")]
    return tables.Layout(title, [("what", True), ("case", True), *columns], cells)


def _lay_out_sizes(rows: list[JsonObject]) -> tables.Layout:
    """A row for each update and size, all executions side by side."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    groups: dict[str, dict[str, JsonObject]] = {}
    for row in rows:
        groups.setdefault(row["what"], {})[row["case"]] = row
    cells = []
    for what, group in groups.items():
        update, size, learners = what.split(", ")
        texts = [update, size, learners.split()[0]]
        for case in cases:
            row = group.get(case, {})
            milliseconds = row.get("processor_milliseconds", row.get("milliseconds"))
            texts += [
                "" if milliseconds is None else f"{milliseconds:.2f}",
                f"{row['ratio']:.2f}" if "ratio" in row else "",
            ]
        cells.append(texts)
    columns = [(text, False) for case in cases for text in (f"{case.removeprefix('orl, ')}, ms", "ratio")]
    title = "updates of all learners: milliseconds of processor time, and speed against the first execution"
    return tables.Layout(title, [("update", True), ("units/batch", True), ("learners", False), *columns], cells)


def _lay_out_pendulum(rows: list[JsonObject]) -> tables.Layout:
    cells = []
    for row in rows:
        numbers = [row.get("note", ""), "", "", "", ""] if row["seconds"] is None else [
            f"{row['seconds']:.1f}",
            f"{row['compiler_seconds']:.1f}",
            f"{row['steps']:,.0f}",
            f"{row['milliseconds_per_step']:.2f}",
            f"{row['solved']} of {len(row['seeds'])}",
        ]  # fmt: skip
        cells.append([row["case"], *numbers])
    names = "processor seconds", "of them a compiler's", "steps", "ms a step", "solved"
    title = "SAC on Pendulum-v1 until an evaluation reaches -200, medians over seeds"
    return tables.Layout(title, [("case", True), *((name, False) for name in names)], cells)
