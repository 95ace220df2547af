"""Build the ladder of an environment from a finished training: `python -m orl.scripts.data.ladder RUN --env Hopper-v5`.

For maintainers. The expert is the best policy of the run. The medium policy is the one whose samples score nearest to a
third of the expert's. The rungs are policies of the expert's seed at even distances in time. Ten episodes, as training
has them, are few: the best candidates play again, and the chosen ones play fresh episodes, which give the numbers of
`ladder.json`. Actors are stored in half precision, and the numbers are those of the rounded ones.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Column, Table
from safetensors import safe_open

from orl import checkpoint, datasets
from orl.arrays import Array
from orl.datasets import minari
from orl.scripts.data.mujoco import ENVIRONMENTS, LADDERS
from orl.scripts.data.recording import load_policy, record
from orl.scripts.running.run_directory import JsonObject

SELECTION_SEED, REPORT_SEED = 1_000, 2_000  # of the episodes that choose, and of the fresh ones


@dataclass(frozen=True)
class Build:
    """Choose policies of a run, play them again, and write actors and ladder.json."""

    run_folder: tyro.conf.Positional[Path]
    """What `orl train` wrote, with seed-K/policies."""
    env: str = "Hopper-v5"
    """Environment of the run."""
    rungs: int = 6
    """Policies on the way to the expert."""
    candidates: int = 5
    """Policies that play again before the expert is chosen, and before the medium policy is."""
    selection_episodes: int = 20
    """Episodes of each candidate."""
    episodes: int = 100
    """Fresh episodes of each chosen policy, of modes and of samples each."""
    out: Path | None = None
    """Folder of the ladder; by default the package's own."""

    def run(self) -> None:
        """Choose, play, write and print."""
        bodies = {env: body for body, env in ENVIRONMENTS.items()}
        if self.env not in bodies:
            raise ValueError(f"--env {self.env}: ladders are of {', '.join(bodies)}")
        out = self.out or LADDERS / bodies[self.env]
        files = {name: self.run_folder / f"{name}.json" for name in ("config", "history", "results")}
        run = {name: checkpoint.read_json(file) for name, file in files.items() if file.is_file()}
        if not {"config", "history"} <= set(run) or run["config"]["env"] != self.env:
            raise ValueError(f"{self.run_folder}: no run of {self.env}")
        config, of_results = run["config"], run.get("results", {})  # none where the run had not ended
        if out.exists() and any(out.iterdir()) and not (out / "ladder.json").exists():
            raise ValueError(f"--out {out}: holds files of something else; give a new folder")
        chosen = self._choose(self._policies())
        with tempfile.TemporaryDirectory() as folder:
            entries = {name: self._entry(name, path, Path(folder)) for name, path in chosen.items()}
            about = {
                "environment": self.env,
                "agent": config["agent"],
                "command": of_results.get("command"),
                "config": config,
                "versions": of_results.get("versions"),
                "evaluation": {
                    "episodes": self.episodes,
                    "seed": REPORT_SEED,
                    "versions": checkpoint.versions(),
                    "requirements": minari.requirements(self.env),
                },
                "policies": entries,
                "curve": [
                    {"steps": each["steps"], "returns": [round(float(np.mean(row)), 1) for row in each["returns"]]}
                    for each in run["history"]
                    if not each["after_phase"]
                ],
            }
            checkpoint.write_json(Path(folder) / "ladder.json", about)
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            for file in Path(folder).iterdir():
                shutil.copy(file, out)
        _show(entries, out)

    def _policies(self) -> dict[Path, JsonObject]:
        """Facts of every policy of the run."""
        policies = {}
        for path in sorted(self.run_folder.glob("seed-*/policies/step-*.safetensors")):
            with safe_open(str(path), "pt") as file:
                policies[path] = json.loads(file.metadata()["orl"])
        if not policies:
            raise ValueError(f"{self.run_folder}: holds no seed-K/policies")
        return policies

    def _choose(self, policies: dict[Path, JsonObject]) -> dict[str, Path]:
        """The expert, by its modes as in every evaluation; the medium policy, by samples; and the rungs."""
        best = sorted(policies, key=lambda path: -policies[path]["return"])[: self.candidates]
        expert = max(best, key=lambda path: self._mean_return(path, deterministic=True))
        low = datasets.reference(self.env).random
        third = low + (self._mean_return(expert, deterministic=False) - low) / 3.0
        others = (path for path in policies if path != expert)
        nearest = sorted(others, key=lambda path: abs(policies[path]["return"] - third))[: self.candidates]
        medium = min(nearest, key=lambda path: abs(self._mean_return(path, deterministic=False) - third))
        seed, steps = policies[expert]["seed"], policies[expert]["steps"]
        before = [path for path in policies if policies[path]["seed"] == seed and policies[path]["steps"] < steps]
        before.sort(key=lambda path: policies[path]["steps"])
        rungs = np.unique(np.linspace(0, len(before) - 1, min(self.rungs, len(before))).round().astype(int))
        return {"expert": expert, "medium": medium, **{before[i].stem: before[i] for i in rungs}}

    def _mean_return(self, path: Path, *, deterministic: bool) -> float:
        """Over the episodes that choose."""
        return float(np.mean(self._play(path, self.selection_episodes, SELECTION_SEED, deterministic)[0]))

    def _play(self, path: Path, episodes: int, seed: int, deterministic: bool) -> tuple[Array, Array]:
        """Returns and lengths of episodes."""
        policy = load_policy(str(path), self.env, deterministic=deterministic, seed=seed)
        played = record(policy, self.env, episodes=episodes, seed=seed)
        return np.array([episode.rewards.sum() for episode in played]), np.array([len(episode) for episode in played])

    def _entry(self, name: str, path: Path, folder: Path) -> JsonObject:
        """Write an actor in half precision, play it, and say how it did."""
        file = folder / f"{name}.safetensors"
        with safe_open(str(path), "pt") as whole:
            metadata, tensors = whole.metadata(), {key: whole.get_tensor(key).half() for key in whole.keys()}  # noqa: SIM118
        checkpoint.write_tensors(file, tensors, metadata)
        file.chmod(0o644)
        facts = json.loads(metadata["orl"])
        return {
            "file": file.name,
            "seed": facts["seed"],
            "steps": facts["steps"],
            "training_return": facts["return"],
            "deterministic": self._measure(file, deterministic=True),
            "sampled": self._measure(file, deterministic=False),
        }

    def _measure(self, file: Path, *, deterministic: bool) -> dict[str, float]:
        returns, lengths = self._play(file, self.episodes, REPORT_SEED, deterministic)
        numbers = {
            "return": returns.mean(),
            "standard_deviation": returns.std(),
            "length": lengths.mean(),
            "normalized_score": datasets.normalized_score(self.env, returns.mean()),
        }
        return {name: round(float(number), 2) for name, number in numbers.items()}


def _show(entries: dict[str, JsonObject], out: Path) -> None:
    numbers = ("seed", "steps", "modes", "samples", "score of samples", "length")
    columns = (Column(name, justify="right") for name in numbers)
    table = Table("policy", *columns, title=str(out), title_justify="left")
    for name, entry in entries.items():
        modes, samples = entry["deterministic"], entry["sampled"]
        means = (modes["return"], samples["return"], samples["normalized_score"], samples["length"])
        table.add_row(name, str(entry["seed"]), f"{entry['steps']:,}", *(f"{mean:.1f}" for mean in means))
    Console().print(table)


if __name__ == "__main__":
    try:
        tyro.cli(Build).run()
    except ValueError as error:
        raise SystemExit(f"orl: error: {error}") from error
