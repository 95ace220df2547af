"""`orl speed`: what an update, an environment step, a batch and a prediction cost on this machine, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from orl.agents import IQL, SAC, SPEQ, SPEQ_PRESET, TD3BC, HyperZero
from orl.agents.sac import DROQ_PRESET
from orl.device import Precision, pick_device, set_precision
from orl.environment import Spaces
from orl.execution import CapturedUpdate, Execution
from orl.scripts.benchmarks.baselines import Peers
from orl.scripts.benchmarks.cases import (
    CONTEXTS,
    ENVIRONMENT,
    ROWS,
    fitting,
    peer_sac,
    random_data,
    stabilization,
    steps,
)
from orl.scripts.benchmarks.matrix_products import MatrixProducts, MemoryTraffic
from orl.scripts.benchmarks.plain_droq import PlainDroQ
from orl.scripts.benchmarks.plain_offline import PlainIQL, PlainOffline, PlainTD3BC
from orl.scripts.benchmarks.timing import Contender, absent, machine, race
from orl.scripts.data.racing import register_environments
from orl.scripts.figures.runs import speed_figure
from orl.scripts.running.options import check_least
from orl.scripts.running.run_directory import RunDirectory

RACERS = 256
TOGETHER = 20  # learners, one for each context
DROPOUT_RATE = 0.01

Contenders = dict[str, Contender | None]  # None: it does not fit in memory


@dataclass(frozen=True)
class Speed:
    """Time this package against plain code, other packages and the matrix products alone.

    Updates are of 2 x 256 networks on batches of 256, sizes of Hopper. All contenders take turns, so that a noisy
    machine disturbs them alike: compare the ratios.
    """

    populations: tuple[int, ...] = (1, 4, 16)
    """Learners trained side by side; 64 take minutes on a CPU."""
    executions: tuple[Execution, ...] = ("eager", "compile", "graph")
    """How updates run, graphs on CUDA alone; compiling takes up to a minute for each agent and population, once."""
    repeats: int = 7
    """Turns of each contender; the table shows medians."""
    updates: int = 20
    """Updates in one turn."""
    threads: int = 1
    """CPU threads of torch."""
    precision: Precision = "highest"
    """Of matrix products, as in `orl train`."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    peers: Path | None = None
    """Folder of virtual environments, PEERS/sbx with sbx-rl and PEERS/d3rlpy with d3rlpy, that race too; on a CPU."""
    out: Path | None = None
    """Folder for results.json and the figure."""

    def run(self) -> None:
        """Measure and print."""
        check_least(self, 1, "repeats", "updates", "threads")
        if not self.populations or not self.executions or min(self.populations) < 1:
            raise ValueError("--populations, --executions: give one or more, populations of 1 or more")
        if self.peers is not None and not self.peers.is_dir():
            raise ValueError(f"--peers {self.peers}: no such folder")
        settings = asdict(self) | {"peers": self.peers is not None}
        del settings["out"]
        folder = RunDirectory.open(self.out, settings) if self.out is not None else None
        results = folder.finished() if folder is not None else None
        if results is None:
            torch.set_num_threads(self.threads)
            device = pick_device(self.device)
            if device.type == "cuda":
                torch.cuda.set_device(device)  # the one that clocks wait for
            set_precision(self.precision, device)
            rows = [
                *self._stabilization(),
                *self._droq(),
                *self._sac(),
                *self._offline(),
                *self._contexts(),
                *self._others(),
            ]
            results = {"rows": rows, "machine": machine(device)}
            if folder is not None:
                results = folder.finish(rows, machine=machine(device))
        if self.out is not None:
            speed_figure(results["rows"], self.out / "speed.png")
        show(results["rows"], results["machine"])

    def _race(
        self,
        what: str,
        contenders: Mapping[str, Contender | None],
        base: str | None,
        peers: Mapping[str, str] | None = None,
        repetitions: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows of contenders, of peers by the names of their work, and of what is not measured here."""
        spaces, on_cpu = Spaces.of(ENVIRONMENT), pick_device(self.device).type == "cpu"
        sizes = [spaces.observation_size, spaces.action_size, ROWS]
        processes = Peers(self.peers if on_cpu else None, sizes, self.threads)
        try:
            found = {name: processes.contender(work) for name, work in (peers or {}).items()}
            installed = {name: contender for name, contender in found.items() if contender is not None}
            racing = {name: contender for name, contender in contenders.items() if contender is not None} | installed
            rows = race(what, racing, base, self.updates if repetitions is None else repetitions, self.repeats)
        finally:
            processes.close()
        rows += [absent(what, name, "does not fit in memory") for name, each in contenders.items() if each is None]
        note = "not installed" if on_cpu else "raced on CPUs alone"
        rows += [absent(what, name, note) for name in found if name not in installed]
        if on_cpu:
            rows.append(absent(what, "orl, CUDA", "not measured here"))
        return rows

    def _ours(self, kind: Any, config: Any, work: Any, **overrides: Any) -> Contenders:
        """One contender for each execution and population."""
        found: Contenders = {}
        on_cuda = pick_device(self.device).type == "cuda"
        for execution in (each for each in self.executions if on_cuda or each != "graph"):
            for population in self.populations:
                name = f"orl, {execution}, {_learners(population)}"
                try:
                    task = work(self._agent(kind, config, population, execution, **overrides))
                except MemoryError:
                    found[name] = None
                    continue
                for _ in range(
                    2 * (CapturedUpdate.FIRST_CALLS + 1) if execution == "graph" else 0
                ):  # of two kinds at most
                    task()
                found[name] = Contender(task, population)
        return found

    def _agent(self, kind: Any, config: Any, population: int, execution: Execution = "eager", **overrides: Any) -> Any:
        seeds = list(range(population))
        return kind(random_data(), config, seed=seeds, device=self.device, execution=execution, **overrides)

    def _stabilization(self) -> list[dict[str, Any]]:
        data, device = random_data(), pick_device(self.device)
        plain = PlainDroQ(data, dropout_rate=DROPOUT_RATE, device=str(device))
        contenders: Contenders = {"plain modules": Contender(plain.update_critics)}
        contenders |= self._ours(SPEQ, dataclasses.replace(SPEQ_PRESET, dropout_rate=DROPOUT_RATE), stabilization)
        sizes = data.observation_size, data.action_size
        traffic = {}
        for population in self.populations:
            products, moved = (bound(*sizes, population, device) for bound in (MatrixProducts, MemoryTraffic))
            contenders[f"matrix products alone, {_learners(population)}"] = Contender(products, population)
            traffic[f"memory traffic alone, {_learners(population)}"] = Contender(moved, population)
        return [
            *self._race("stabilization update", contenders, "plain modules"),
            *race("stabilization update", traffic, None, self.updates, self.repeats),
        ]

    def _droq(self) -> list[dict[str, Any]]:
        utd_ratio = int(DROQ_PRESET.utd_ratio)
        plain = PlainDroQ(random_data(), dropout_rate=DROPOUT_RATE, device=str(pick_device(self.device)))
        contenders: Contenders = {"plain modules": Contender(lambda: plain.step(utd_ratio))}
        contenders |= self._ours(SAC, DROQ_PRESET, lambda agent: steps(agent, utd_ratio), dropout_rate=DROPOUT_RATE)
        return self._race(f"DroQ, {utd_ratio} updates a step", contenders, "plain modules", {"sbx": "sbx DroQ"}, 1)

    def _sac(self) -> list[dict[str, Any]]:
        peer = peer_sac(self.device)
        contenders: Contenders = {"SB3": Contender(lambda: peer.train(1, batch_size=256))}
        contenders |= self._ours(SAC, None, steps)
        return self._race("SAC update", contenders, "SB3", {"sbx": "sbx SAC"})

    def _offline(self) -> list[dict[str, Any]]:
        rows, even = [], self.updates + self.updates % 2  # every second update of TD3+BC has one of the actor
        plain: dict[Any, Callable[..., PlainOffline]] = {TD3BC: PlainTD3BC, IQL: PlainIQL}
        for kind, of_kind in plain.items():
            name = kind.__name__
            contenders: Contenders = {
                "plain modules": Contender(of_kind(random_data(), str(pick_device(self.device))).update)
            }
            contenders |= self._ours(kind, None, fitting)
            rows += self._race(f"{name} update", contenders, "plain modules", {"d3rlpy": f"d3rlpy {name}"}, even)
        return rows

    def _contexts(self) -> list[dict[str, Any]]:
        """Generated policies, and a learner for each context."""
        generated = self._ours(HyperZero, None, fitting, contexts=CONTEXTS)
        first = next((name for name, contender in generated.items() if contender), None)
        learners = {
            "one after another": Contender(steps(self._agent(SAC, None, 1))),
            "orl, together": Contender(steps(self._agent(SAC, None, TOGETHER)), TOGETHER),
        }
        fewer = -(-self.updates // 4)
        return [
            *self._race("HyperZero update", generated, first),
            *self._race(f"SAC update in {TOGETHER} contexts", learners, "one after another", None, fewer),
        ]

    def _others(self) -> list[dict[str, Any]]:
        peer, agent = peer_sac(self.device), IQL(random_data(), device=self.device)
        register_environments()
        cars: Any = gymnasium.make_vec("orl/Racing-v0", num_envs=RACERS)
        cars.reset(seed=0)
        moves = np.random.default_rng(0).uniform(-1, 1, (RACERS, 2)).astype(np.float32)
        observation = np.zeros(Spaces.of(ENVIRONMENT).observation_size, np.float32)
        buffer, peer_buffer = agent.replay_buffer, peer.replay_buffer
        assert buffer is not None
        assert peer_buffer is not None
        batches = {
            "SB3": Contender(lambda: peer_buffer.sample(256)),
            "orl": Contender(lambda: buffer.sample(torch.rand(1, 256, dtype=torch.float64, device=agent.device))),
        }
        predictions = {
            "SB3": Contender(lambda: peer.predict(observation, deterministic=True)),
            "orl": Contender(lambda: agent.predict(observation, deterministic=True)),
        }
        racers = {f"{RACERS} cars": Contender(lambda: cars.step(moves), RACERS)}
        rows = [
            *race("step of orl/Racing-v0", racers, None, self.updates, self.repeats),
            *self._race("batch of 256", batches, "SB3", None, 200),
            *self._race("predict, one observation", predictions, "SB3", None, 200),
        ]
        cars.close()
        return rows


def _learners(population: int) -> str:
    return f"{population} learner{'s' if population > 1 else ''}"


def show(rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Print the measurements."""
    device = (
        about["cuda"]
        or f"{about['cores']} cores ({about['processor']}), {about['threads']} threads, CUDA not measured here"
    )
    table = Table(title=f"medians on {device}", title_justify="left")
    table.add_column("what")
    table.add_column("contender")
    for column in ("ms", "per second", "ratio"):
        table.add_column(column, justify="right")
    last = None
    for row in rows:
        what, last = (row["what"] if row["what"] != last else ""), row["what"]
        if row["milliseconds"] is None:
            table.add_row(what, row["contender"], row["note"])
            continue
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        table.add_row(what, row["contender"], f"{row['milliseconds']:.3f}", f"{row['per_second']:,.0f}", ratio)
    Console().print(table)
