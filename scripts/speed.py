"""`orl speed`: what an update, an environment step, a batch and a prediction cost on this machine, side by side."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import SAC as PeerSAC
from stable_baselines3.common.buffers import ReplayBuffer as PeerBuffer
from stable_baselines3.common.logger import configure

from orl.agents import IQL, SAC, SPEQ, TD3BC
from orl.agents.sac import DROQ_PRESET
from orl.agents.stabilization import Phase
from orl.dataset import Dataset
from orl.device import pick_device
from orl.execution import Execution
from orl.scripts.figures import speed_figure
from orl.scripts.matrix_products import MatrixProducts
from orl.scripts.plain_droq import PlainDroQ
from orl.scripts.racing_datasets import register_environments
from orl.scripts.run_folder import RunFolder
from orl.scripts.timing import Contender, Work, machine, race
from orl.spaces import Spaces

ENVIRONMENT = "Hopper-v5"
ROWS = 100_000  # transitions of the data that updates draw from
RACERS = 256
DROPOUT_RATE = 0.01


@dataclass(frozen=True)
class Speed:
    """Time this package against plain code, Stable-Baselines3 (SB3) and the matrix products alone, in one process.

    Updates are of 2 x 256 networks on batches of 256, sizes of Hopper. All contenders take turns, so that a noisy
    machine disturbs them alike: compare the ratios.
    """

    populations: tuple[int, ...] = (1, 4, 16)
    """Learners trained side by side."""
    executions: tuple[Execution, ...] = ("eager", "compile")
    """How updates run; compiling takes up to a minute for each agent and population, once."""
    repeats: int = 7
    """Turns of each contender; the table shows medians."""
    updates: int = 20
    """Updates in one turn."""
    threads: int = 1
    """CPU threads of torch."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    out: Path | None = None
    """Folder for results.json and the figure."""

    def run(self) -> None:
        """Measure and print."""
        if self.repeats < 1 or self.updates < 1 or not all(p >= 1 for p in self.populations):
            raise ValueError("--repeats, --updates and --populations: give numbers of 1 or more")
        settings = {name: value for name, value in asdict(self).items() if name != "out"}
        folder = RunFolder.open(self.out, settings) if self.out is not None else None
        results = folder.finished() if folder is not None else None
        if results is None:
            torch.set_num_threads(self.threads)
            rows = [*self._stabilization(), *self._droq(), *self._sac(), *self._offline(), *self._others()]
            results = {"rows": rows, "machine": machine()}
            if folder is not None:
                results = folder.finish(rows, machine=machine())
        if self.out is not None:
            speed_figure(results["rows"], self.out / "speed.png")
        show(results["rows"], results["machine"])

    def _race(self, what: str, contenders: Mapping[str, Contender], base: str | None) -> list[dict[str, Any]]:
        return race(what, contenders, base, self.updates, self.repeats)

    def _ours(self, kind: Any, config: Any, work: Any) -> dict[str, Contender]:
        """One contender for each execution and population."""
        found = {}
        for execution in self.executions:
            for population in self.populations:
                agent = kind(
                    random_data(), config, seed=list(range(population)), device=self.device, execution=execution
                )
                found[f"orl, {execution}, {_learners(population)}"] = Contender(work(agent), population)
        return found

    def _stabilization(self) -> list[dict[str, Any]]:
        data, device = random_data(), pick_device(self.device)
        plain = PlainDroQ(data, dropout_rate=DROPOUT_RATE, device=str(device))
        contenders = {"plain modules": Contender(plain.update_critics)}
        contenders |= self._ours(SPEQ, SPEQ.Config(dropout_rate=DROPOUT_RATE), stabilization)
        sizes = data.observation_size, data.action_size
        for population in self.populations:
            products = MatrixProducts(*sizes, population, device)
            contenders[f"matrix products alone, {_learners(population)}"] = Contender(products, population)
        return self._race("stabilization update", contenders, "plain modules")

    def _droq(self) -> list[dict[str, Any]]:
        utd_ratio = int(DROQ_PRESET.utd_ratio)
        plain = PlainDroQ(random_data(), dropout_rate=DROPOUT_RATE, device=str(pick_device(self.device)))

        def work(agent: SAC) -> Work:
            return lambda: [agent.step() for _ in range(utd_ratio)]

        contenders = {"plain modules": Contender(lambda: plain.step(utd_ratio))}
        contenders |= self._ours(SAC, DROQ_PRESET, work)
        return race(f"DroQ, {utd_ratio} updates a step", contenders, "plain modules", 1, self.repeats)

    def _sac(self) -> list[dict[str, Any]]:
        peer = peer_sac(self.device)
        contenders = {"SB3": Contender(lambda: peer.train(1, batch_size=256))}
        contenders |= self._ours(SAC, None, lambda agent: agent.step)
        return self._race("SAC update", contenders, "SB3")

    def _offline(self) -> list[dict[str, Any]]:
        rows = []
        for kind in (TD3BC, IQL):
            contenders = self._ours(kind, None, lambda agent: agent.step)
            rows += self._race(f"{kind.__name__} update", contenders, next(iter(contenders)))
        return rows

    def _others(self) -> list[dict[str, Any]]:
        peer, agent = peer_sac(self.device), IQL(random_data(), device=self.device)
        register_environments()
        cars: Any = gymnasium.make_vec("orl/Racing-v0", num_envs=RACERS)
        cars.reset(seed=0)
        moves = np.random.default_rng(0).uniform(-1, 1, (RACERS, 2)).astype(np.float32)
        observation = np.zeros(Spaces.of(ENVIRONMENT).observation_size, np.float32)
        uniform = torch.rand(1, 256, dtype=torch.float64, device=agent.device)
        buffer, peer_buffer = agent.buffer, peer.replay_buffer
        assert buffer is not None
        assert peer_buffer is not None
        batches = {
            "SB3": Contender(lambda: peer_buffer.sample(256)),
            "orl": Contender(lambda: buffer.sample(uniform)),
        }
        predictions = {
            "SB3": Contender(lambda: peer.predict(observation, deterministic=True)),
            "orl": Contender(lambda: agent.predict(observation, deterministic=True)),
        }
        rows = [
            *self._race("step of orl/Racing-v0", {f"{RACERS} cars": Contender(lambda: cars.step(moves), RACERS)}, None),
            *race("batch of 256", batches, "SB3", 200, self.repeats),
            *race("predict, one observation", predictions, "SB3", 200, self.repeats),
        ]
        cars.close()
        return rows


def _learners(population: int) -> str:
    return f"{population} learner{'s' if population > 1 else ''}"


def stabilization(agent: SPEQ) -> Work:
    """One update of a stabilization phase: random numbers, batch, critics and targets."""
    phase = Phase.begin(agent, torch.ones(agent.population, dtype=torch.bool, device=agent.device))
    return lambda: phase.update(agent)


@functools.cache
def random_data() -> Dataset:
    """Noise of Hopper's sizes: timing does not depend on the values."""
    generator, spaces = np.random.default_rng(0), Spaces.of(ENVIRONMENT)
    observations = generator.standard_normal((ROWS + 1, spaces.observation_size))
    return Dataset.from_arrays(
        observations[:-1],
        generator.uniform(-1, 1, (ROWS, spaces.action_size)),
        generator.standard_normal(ROWS),
        observations[1:],
        np.zeros(ROWS),
        np.arange(ROWS) % 1000 == 999,
        environment_id=ENVIRONMENT,
    )


def peer_sac(device: str) -> PeerSAC:
    """Stable-Baselines3's SAC with a buffer of the same noise, ready to train."""
    data = random_data()
    agent = PeerSAC("MlpPolicy", ENVIRONMENT, seed=0, device=device, buffer_size=ROWS)
    agent.set_logger(configure(None, []))
    buffer = agent.replay_buffer
    assert isinstance(buffer, PeerBuffer)
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data.observations, data.next_observations
    buffer.actions[:, 0], buffer.rewards[:, 0] = data.actions, data.rewards
    buffer.full = True
    return agent


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
        ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
        what, last = (row["what"] if row["what"] != last else ""), row["what"]
        table.add_row(what, row["contender"], f"{row['milliseconds']:.3f}", f"{row['per_second']:,.0f}", ratio)
    Console().print(table)
