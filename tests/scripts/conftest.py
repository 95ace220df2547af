"""What the programs' tests share: a store of their own, a small file of D4RL's format, and the command line."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from orl.agents import SAC
from orl.buffer import Batch
from orl.noise import Noise
from orl.scripts.main import main

Command = Callable[..., subprocess.CompletedProcess[str]]
ROWS = 600


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Minari store of the test's own, and tables that are not folded."""
    root = tmp_path / "store"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return root


@pytest.fixture
def d4rl_arrays() -> dict[str, np.ndarray]:
    """Hopper-sized arrays as D4RL names them; six episodes of 100 steps, every second one terminated."""
    generator = np.random.default_rng(0)
    observations = generator.standard_normal((ROWS + 1, 11)).astype(np.float32)
    actions = generator.uniform(-1, 1, (ROWS, 3)).astype(np.float32)
    ends = np.arange(ROWS) % 100 == 99
    terminals = ends & (np.arange(ROWS) // 100 % 2 == 0)
    return {
        "observations": observations[:-1],
        "actions": actions,
        "rewards": (observations[1:, 0] - 0.1 * np.square(actions).sum(1)).astype(np.float32),
        "next_observations": observations[1:],
        "terminals": terminals,
        "timeouts": ends & ~terminals,
    }


@pytest.fixture
def hopper_file(tmp_path: Path, d4rl_arrays: dict[str, np.ndarray]) -> Path:
    """The arrays in a file written with plain h5py."""
    path = tmp_path / "hopper.hdf5"
    write_hdf5(path, d4rl_arrays)
    return path


def write_hdf5(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """One HDF5 data set per array."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


@pytest.fixture
def orl(tmp_path: Path) -> Command:
    """Run `orl WORDS` in a process of its own, in the test's folder."""

    def run(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", "from orl.scripts.main import main; main()", *map(str, words)]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ), check=False)
        if check:
            assert ended.returncode == 0, ended.stderr
        return ended

    return run


@pytest.fixture
def kill(tmp_path: Path) -> Callable[..., str]:
    """Start `orl WORDS` anew some times, and kill it at a random moment after each new checkpoint of its first seed."""

    def newest(folder: Path) -> int:
        found = [int(path.name.split("-")[-1]) for path in (folder / "seed-0").glob("checkpoint-*")]
        return max(found, default=0)

    def run(folder: Path, times: int, *words: object) -> str:
        script, out = "from orl.scripts.main import main; main()", ("--out", str(folder))
        command = [sys.executable, "-P", "-c", script, *map(str, words), *out]
        kills, seed = 0, random.SystemRandom().randrange(10_000)
        waits = random.Random(seed)
        for _ in range(times):
            process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline, known = time.monotonic() + 90, newest(folder)
            while newest(folder) <= known and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(waits.uniform(0.0, 0.4))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
            process.wait()
        assert kills, "the run was over before it could be killed"
        return f"waits of seed {seed}"

    return run


@pytest.fixture
def said(here: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `orl WORDS` in this process, and return what it writes to stdout; seconds less than in one of its own."""

    def run(*words: object) -> str:
        capsys.readouterr()
        try:
            here(*words)
        except SystemExit as stop:  # tyro's, after --help
            if stop.code:
                raise
        return capsys.readouterr().out

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run `orl WORDS` in this process, on one thread, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> None:
        torch.set_num_threads(1)
        main([str(word) for word in words])

    return run


@pytest.fixture
def interrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Interrupt SAC in its n-th update from now on; returns a list that grows by one with every update."""

    def at(update: int) -> list[int]:
        steps, begun = SAC.gradient_steps, []

        def stops(agent: SAC, batches: Batch, noise: Noise) -> Any:
            before = len(begun)
            begun.extend(range(before, before + len(batches.rewards)))
            if before < update <= len(begun):
                raise KeyboardInterrupt
            return steps(agent, batches, noise)

        monkeypatch.setattr(SAC, "gradient_steps", stops)
        return begun

    return at


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `orl WORDS` here; it must fail with status 2 and one line, which is returned."""

    def run(*words: object) -> str:
        said = failed(tmp_path, monkeypatch, capsys, *words)
        assert said.startswith("orl: error: ")
        assert said.count("\n") == 1
        return said

    return run


@pytest.fixture
def misread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `orl WORDS` here, which are no options; tyro must say so with status 2, in its frame, which is returned."""

    def run(*words: object) -> str:
        said = failed(tmp_path, monkeypatch, capsys, *words)
        assert "orl: error" not in said
        assert "Traceback" not in said
        assert "--help" in said
        return said

    return run


def failed(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What `orl WORDS` writes to stderr when it fails with status 2."""
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err
