"""`orl speed`: what an update, an environment step, a batch and a prediction cost on this machine, side by side."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
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

from orl.agent import Agent
from orl.agents import IQL, SAC, SPEQ, TD3BC
from orl.dataset import Dataset
from orl.device import pick_device
from orl.scripts.plain_stabilization import PlainStabilization
from orl.scripts.racing_datasets import register_environments
from orl.scripts.run_folder import RunFolder
from orl.seeding import RandomBlocks
from orl.spaces import Spaces

ENVIRONMENT = "Hopper-v5"
ROWS = 100_000  # transitions of the data that updates draw from
RACERS = 256

Work = Callable[[], Any]


@dataclass(frozen=True)
class Speed:
    """Time this package against Stable-Baselines3 (SB3) in one process.

    Updates are of 2 x 256 networks on batches of 256, sizes of Hopper. All contenders take turns, so that a noisy
    machine disturbs them alike: compare the ratios.
    """

    populations: tuple[int, ...] = (1, 4, 16)
    """Learners trained side by side."""
    repeats: int = 7
    """Turns of each contender; the table shows medians."""
    updates: int = 20
    """Updates in one turn."""
    threads: int = 1
    """CPU threads of torch."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""
    out: Path | None = None
    """Folder for results.json."""

    def run(self) -> None:
        """Measure and print."""
        if self.repeats < 1 or self.updates < 1 or not all(p >= 1 for p in self.populations):
            raise ValueError("--repeats, --updates and --populations: give numbers of 1 or more")
        settings = {name: value for name, value in asdict(self).items() if name != "out"}
        folder = RunFolder.open(self.out, settings) if self.out is not None else None
        results = folder.finished() if folder is not None else None
        if results is None:
            torch.set_num_threads(self.threads)
            rows = self._updates() + self._stabilization() + self._others()
            results = {"rows": rows, "machine": machine()}
            if folder is not None:
                results = folder.finish(rows, machine=machine())
        show(results["rows"], results["machine"])

    def _updates(self) -> list[dict[str, Any]]:
        peer = peer_sac(self.device)
        contenders: dict[str, Work] = {"SB3 SAC": lambda: peer.train(self.updates, batch_size=256)}
        learners = {"SB3 SAC": 1}
        data = random_data()
        for kind in (TD3BC, IQL, SAC):
            for population in self.populations:
                name = f"{kind.__name__}, {_learners(population)}"
                contenders[name] = _steps(kind(data, seed=list(range(population)), device=self.device), self.updates)
                learners[name] = population
        seconds = interleaved(contenders, self.repeats)
        base = seconds["SB3 SAC"]
        return [
            {
                "what": f"update: {name}",
                "milliseconds": 1e3 * spent / self.updates,
                "per_second": learners[name] * self.updates / spent,
                "ratio": base * learners[name] / spent,
                "against": "SB3 SAC, per learner",
            }
            for name, spent in seconds.items()
        ]

    def _stabilization(self) -> list[dict[str, Any]]:
        """Critic-only updates of SPEQ against the plain formulation."""
        data, rate = random_data(), 0.01
        plain = PlainStabilization(data, dropout_rate=rate, device=str(pick_device(self.device)))
        contenders: dict[str, Work] = {"plain": _repeat(plain.update, self.updates)}
        for population in self.populations:
            agent = SPEQ(data, seed=list(range(population)), dropout_rate=rate, device=self.device)
            contenders[_learners(population)] = _repeat(_critic_update(agent), self.updates)
        seconds = interleaved(contenders, self.repeats)
        counts = {"plain": 1} | {_learners(population): population for population in self.populations}
        return [
            {
                "what": f"stabilization: {name}",
                "milliseconds": 1e3 * spent / self.updates,
                "per_second": counts[name] * self.updates / spent,
                "ratio": seconds["plain"] * counts[name] / spent,
                "against": "plain modules, per learner",
            }
            for name, spent in seconds.items()
        ]

    def _others(self) -> list[dict[str, Any]]:
        peer, agent = peer_sac(self.device), IQL(random_data(), device=self.device)
        register_environments()
        cars: Any = gymnasium.make_vec("orl/Racing-v0", num_envs=RACERS)
        cars.reset(seed=0)
        moves = np.random.default_rng(0).uniform(-1, 1, (RACERS, 2)).astype(np.float32)
        observation = np.zeros(Spaces.of(ENVIRONMENT).observation_size, np.float32)
        uniform = torch.rand(1, 256, dtype=torch.float64, device=agent.device)
        assert agent.buffer is not None
        assert peer.replay_buffer is not None
        buffer, peer_buffer = agent.buffer, peer.replay_buffer
        seconds = interleaved(
            {
                "racing": _repeat(lambda: cars.step(moves), 20),
                "sample": _repeat(lambda: buffer.sample(uniform), 200),
                "peer sample": _repeat(lambda: peer_buffer.sample(256), 200),
                "predict": _repeat(lambda: agent.predict(observation, deterministic=True), 200),
                "peer predict": _repeat(lambda: peer.predict(observation, deterministic=True), 200),
            },
            self.repeats,
        )
        cars.close()
        return [
            row("step of orl/Racing-v0, 256 cars", seconds["racing"], 20 * RACERS),
            row("batch of 256: SB3", seconds["peer sample"], 200),
            row("batch of 256: orl", seconds["sample"], 200, seconds["peer sample"]),
            row("predict, one observation: SB3", seconds["peer predict"], 200),
            row("predict, one observation: orl", seconds["predict"], 200, seconds["peer predict"]),
        ]


def row(what: str, seconds: float, count: int, base: float | None = None) -> dict[str, Any]:
    """A measurement of `count` repetitions in `seconds`."""
    ratio = {} if base is None else {"ratio": base / seconds, "against": "SB3"}
    return {"what": what, "milliseconds": 1e3 * seconds / count, "per_second": count / seconds, **ratio}


def interleaved(contenders: dict[str, Work], repeats: int) -> dict[str, float]:
    """Median wall-clock seconds of a turn of each, taking turns; the first turn is not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


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


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "cuda": cuda}


def show(rows: list[dict[str, Any]], about: dict[str, Any]) -> None:
    """Print the measurements."""
    device = (
        about["cuda"]
        or f"{about['cores']} cores ({about['processor']}), {about['threads']} threads, CUDA not measured here"
    )
    table = Table(title=f"medians on {device}", title_justify="left")
    for column, justify in (
        ("", "left"),
        ("ms", "right"),
        ("per second", "right"),
        ("ratio", "right"),
        ("against", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for each in rows:
        ratio = f"{each['ratio']:.2f}" if "ratio" in each else ""
        rate = f"{each['per_second']:,.0f}"
        table.add_row(each["what"], f"{each['milliseconds']:.3f}", rate, ratio, each.get("against", ""))
    Console().print(table)


def _learners(population: int) -> str:
    return f"{population} learner{'s' if population > 1 else ''}"


def _critic_update(agent: SPEQ) -> Work:
    """One update of a stabilization phase: random numbers, batch, critics and targets."""
    random = RandomBlocks(agent.seeds, agent.soft.critic_draws(), agent.device, "phase")
    buffer = agent.buffer
    assert buffer is not None

    def update() -> None:
        numbers = random.next()
        agent.soft.update_critic(buffer.sample(numbers["indices"]), numbers)

    return update


def _steps(agent: Agent, updates: int) -> Work:
    return _repeat(agent.step, updates)


def _repeat(work: Work, times: int) -> Work:
    def turn() -> None:
        for _ in range(times):
            work()

    return turn
