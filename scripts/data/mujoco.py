"""MuJoCo datasets of D4RL's levels, made on this machine from actors that come with the package.

A ladder holds the actors of one training of one environment: the expert, the medium policy and rungs on the way to the
expert. Ladders are in `datasets/ladders`, with the command, the configuration and the learning curve.
`python -m orl.scripts.data.ladder` builds one. Every part of a dataset has a seed of its own, made from its name, and a
dataset is the same on every run with the same versions. Uniform random actions need no ladder.

Source of the levels: Fu et al. 2020, D4RL, arXiv 2004.07219. The environments here are v5: another reward than D4RL's.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from orl import datasets
from orl.datasets import Episode
from orl.scripts.data.recording import Progress, load_policy, no_progress, record, write
from orl.scripts.running.run_directory import JsonObject

ENVIRONMENTS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
LEVELS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")
STEPS = 200_000  # transitions of a dataset, or of each half of medium-expert
LADDERS = Path(datasets.__file__).parent / "ladders"


@dataclass(frozen=True)
class Ladder:
    """The actors of one training of one environment."""

    folder: Path
    about: JsonObject  # ladder.json

    @classmethod
    def of(cls, body: str) -> Ladder | None:
        """The shipped ladder of a key of `ENVIRONMENTS`, if there is one."""
        file = LADDERS / body / "ladder.json"
        return cls(file.parent, json.loads(file.read_text())) if file.is_file() else None

    @property
    def policies(self) -> dict[str, JsonObject]:
        """Facts of each policy by name: `expert`, `medium`, and the rungs in the order of training."""
        return dict(self.about["policies"])

    def file(self, name: str) -> str:
        """Path of a policy's actor."""
        return str(self.folder / self.policies[name]["file"])

    def sampled_return(self, name: str) -> float:
        """Mean return of a policy's samples."""
        return float(self.policies[name]["sampled"]["return"])

    def climb(self, top: str) -> list[str]:
        """Random actions, the rungs whose return is below that of the policy `top`, and that policy."""
        rungs = [name for name in self.policies if name not in ("expert", "medium")]
        return ["random", *(name for name in rungs if self.sampled_return(name) < self.sampled_return(top)), top]


@dataclass(frozen=True)
class MujocoDataset:
    """What one dataset is made of."""

    body: str
    level: str

    @property
    def environment_id(self) -> str:
        """Gymnasium id."""
        return ENVIRONMENTS[self.body]

    @property
    def sizes(self) -> tuple[int | None, int]:
        """Episodes, whose number is not fixed, and transitions."""
        return None, sum(self.parts(STEPS).values())

    def check(self, dataset_id: str, steps: int | None) -> None:
        """Refuse a level whose policies are not shipped; any number of steps can be played.

        Raises:
            ValueError: there are none.
        """
        if self.level == "random" or Ladder.of(self.body) is not None:
            return
        env, run = self.environment_id, f"runs/{self.body}"
        others = ", ".join(env for body, env in ENVIRONMENTS.items() if Ladder.of(body) is not None) or "none"
        raise ValueError(
            f"{dataset_id}: no policies of {env} come with orl (only of: {others}); train one, orl train speq "
            f"--env {env} --out {run}, and give it: orl dataset make --env {env} "
            f"--policy {run}/seed-0/policies/step-300000.safetensors"
        )

    @property
    def ladder(self) -> Ladder:
        """The shipped ladder, which `check` has asked for."""
        ladder = Ladder.of(self.body)
        assert ladder is not None
        return ladder

    def parts(self, steps: int) -> dict[str, int]:
        """Policies, in their order in the dataset, and at least how many transitions each plays."""
        if not self.level.endswith("replay"):
            return dict.fromkeys(self.level.split("-"), steps)
        mixed = self.ladder.climb("medium" if self.level == "medium-replay" else "expert")
        return dict(zip(mixed, datasets.shares(steps, [1.0] * len(mixed)), strict=True))

    @property
    def algorithm(self) -> str:
        """What chooses the actions, for the dataset's card."""
        if self.level == "random":
            return "uniform random actions"
        return f"samples of {self.ladder.about['agent']} policies that come with orl"

    def seed(self, policy: str) -> int:
        """Of one part; medium-expert is the medium set and then the expert set."""
        level = policy if self.level == "medium-expert" else self.level
        return zlib.crc32(f"{self.body}/{level}/{policy}".encode())


DATASETS = {f"orl/{body}/{level}-v0": MujocoDataset(body, level) for body, level in product(ENVIRONMENTS, LEVELS)}


def shipped() -> list[str]:
    """Ids of the datasets that can be made: those of a ladder, and all random ones."""
    return [name for name, made in DATASETS.items() if made.level == "random" or Ladder.of(made.body)]


def make(
    dataset_id: str, *, steps: int | None = None, overwrite: bool = False, progress: Progress = no_progress
) -> None:
    """Play, and write one of the datasets.

    Args:
        dataset_id: a key of `DATASETS`.
        steps: transitions of the dataset, or of each half of medium-expert, at least; by default `STEPS`.
        overwrite: replace an existing dataset.
        progress: called with the transitions played so far and their final number, about.

    Raises:
        ValueError: the policies of this dataset are not shipped.
    """
    made = DATASETS[dataset_id]
    made.check(dataset_id, steps)
    parts, env = made.parts(steps or STEPS), made.environment_id
    total, episodes = sum(parts.values()), list[Episode]()
    for name, count in parts.items():
        before, seed = sum(map(len, episodes)), made.seed(name)

        def report(played: int, _: int, before: int = before) -> None:
            progress(min(before + played, total), total)

        policy = load_policy("random" if name == "random" else made.ladder.file(name), env, seed=seed)
        episodes += record(policy, env, steps=count, seed=seed, progress=report)
    write(
        episodes,
        dataset_id,
        env,
        algorithm=made.algorithm,
        description=_description(made, parts, sum(map(len, episodes))),
        packages=() if made.level == "random" else ("torch",),
        overwrite=overwrite,
    )


D4RL = {"medium-expert": "2 million", "medium-replay": "200,000 to 400,000"}  # transitions; of other levels 1 million


def _description(made: MujocoDataset, parts: dict[str, int], transitions: int) -> str:
    """For the dataset's card."""
    size = f"{made.environment_id}, level {made.level}: {transitions:,} transitions in whole episodes"
    original = f"D4RL's set of this level has {D4RL.get(made.level, '1 million')}, of the v2 environment."
    if made.level == "random":
        return f"{size}, uniform random actions. {original}"
    ladder = made.ladder
    steps = max(each["steps"] for each in ladder.about["curve"])
    lines = ["random" if policy == "random" else _policy(policy, ladder.policies[policy]) for policy in parts]
    origin = (
        f"The policies were trained by {ladder.about['agent']} for up to {steps:,} steps; the expert is the best of "
        "that training, not an expert in D4RL's sense."
    )
    if not made.level.endswith("replay"):
        return f"{size}, sampled actions of {' and '.join(lines)}. {origin} {original}"
    return (
        f"{size}, sampled actions of {len(lines)} policies with equal shares of the transitions, in the order of "
        f"training: {'; '.join(lines)}. A mixture, not a true replay: orl train with --save-replay writes one. "
        f"{origin} {original}"
    )


def _policy(name: str, facts: JsonObject) -> str:
    """One policy in words."""
    sampled = facts["sampled"]
    return (
        f"{name} (seed {facts['seed']}, step {facts['steps']:,}: return {sampled['return']:.0f}, "
        f"score {sampled['normalized_score']:.1f})"
    )
