"""MuJoCo data sets of D4RL's levels, made on this machine from actors that come with the package.

A ladder is what one training of one environment left behind: the expert, the medium policy and rungs on the way to
the expert, in `datasets/ladders`, with the command, the configuration and the curve that produced them.
`python -m orl.scripts.data.ladder` builds one. Every part of a set has a seed of its own, made from its name,
and a set is the same on every run with the same versions. Uniform random actions need no ladder.

Source of the levels: Fu et al. 2020, D4RL, arXiv 2004.07219. The environments here are v5: another reward than D4RL's.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from orl import datasets
from orl.datasets import Episode
from orl.scripts.data.recording import Progress, load_behaviour, play, quiet_simulator

ENVIRONMENTS = {"hopper": "Hopper-v5", "halfcheetah": "HalfCheetah-v5", "walker2d": "Walker2d-v5", "ant": "Ant-v5"}
LEVELS = ("random", "medium", "expert", "medium-expert", "medium-replay", "full-replay")
STEPS = 200_000  # transitions of a set, of each half of medium-expert
LADDERS = Path(datasets.__file__).parent / "ladders"


@dataclass(frozen=True)
class Ladder:
    """The actors that one training of one environment left behind."""

    folder: Path
    about: dict[str, Any]  # ladder.json

    @classmethod
    def of(cls, body: str) -> Ladder | None:
        """The shipped ladder of a key of `ENVIRONMENTS`, if there is one."""
        file = LADDERS / body / "ladder.json"
        return cls(file.parent, json.loads(file.read_text())) if file.is_file() else None

    @property
    def policies(self) -> dict[str, dict[str, Any]]:
        """Facts of each policy by name: `expert`, `medium`, and the rungs in the order of training."""
        found: dict[str, dict[str, Any]] = self.about["policies"]
        return found

    def file(self, name: str) -> str:
        """Where a policy's actor is."""
        return str(self.folder / self.policies[name]["file"])

    def sampled_return(self, name: str) -> float:
        """Mean return of a policy's samples."""
        return float(self.policies[name]["sampled"]["return"])

    @property
    def rungs(self) -> list[str]:
        """Names of the policies on the way, in the order of training."""
        return [name for name in self.policies if name not in ("expert", "medium")]

    def climb(self, top: str) -> list[str]:
        """Random actions, the rungs whose return is below that of the policy `top`, and that policy."""
        below = [name for name in self.rungs if self.sampled_return(name) < self.sampled_return(top)]
        return ["random", *below, top]


@dataclass(frozen=True)
class Recipe:
    """One data set."""

    body: str
    level: str

    @property
    def environment_id(self) -> str:
        """Gymnasium id."""
        return ENVIRONMENTS[self.body]

    def require(self) -> None:
        """Refuse a level whose policies are not shipped."""
        if self.level == "random" or Ladder.of(self.body) is not None:
            return
        shipped = [env for body, env in ENVIRONMENTS.items() if Ladder.of(body) is not None]
        run = f"runs/{self.body}"
        raise ValueError(
            f"orl/{self.body}/{self.level}-v0: no policies of {self.environment_id} come with orl (only of: "
            f"{', '.join(shipped) or 'none'}); train one, orl train speq --env {self.environment_id} --out {run}, "
            f"and give it: orl dataset make --env {self.environment_id} "
            f"--policy {run}/seed-0/policies/step-300000.safetensors"
        )

    def parts(self, steps: int) -> dict[str, int]:
        """Policies, in their order in the set, and at least how many transitions each plays."""
        if self.level == "random":
            return {"random": steps}
        ladder = Ladder.of(self.body)
        assert ladder is not None
        if self.level in ("medium", "expert"):
            return {self.level: steps}
        if self.level == "medium-expert":
            return {"medium": steps, "expert": steps}
        mixed = ladder.climb("medium" if self.level == "medium-replay" else "expert")
        return dict(zip(mixed, datasets.shares(steps, [1.0] * len(mixed)), strict=True))

    def seed(self, policy: str) -> int:
        """Of one part; medium-expert is the medium set and then the expert set."""
        level = policy if self.level == "medium-expert" else self.level
        return zlib.crc32(f"{self.body}/{level}/{policy}".encode())


RECIPES = {f"orl/{body}/{level}-v0": Recipe(body, level) for body, level in product(ENVIRONMENTS, LEVELS)}


def shipped() -> list[str]:
    """Ids of the sets that can be made: those of a ladder, and all random ones."""
    return [identifier for identifier, recipe in RECIPES.items() if recipe.level == "random" or Ladder.of(recipe.body)]


def make(dataset_id: str, *, steps: int = STEPS, overwrite: bool = False, progress: Progress | None = None) -> None:
    """Play, and write one of the sets.

    Args:
        dataset_id: a key of `RECIPES`.
        steps: transitions of the set, or of each half of medium-expert; the last episode is played to its end.
        overwrite: replace a set that is there.
        progress: called with the transitions played so far and their final number, about.

    Raises:
        ValueError: the policies of this set are not shipped.
    """
    recipe = RECIPES[dataset_id]
    recipe.require()
    ladder, parts = Ladder.of(recipe.body), recipe.parts(steps)
    total, episodes = sum(parts.values()), list[Episode]()
    for policy, count in parts.items():
        before = sum(map(len, episodes))

        def report(_: int, played: int, before: int = before) -> None:
            if progress is not None:
                progress(min(before + played, total), total)

        source = "random" if policy == "random" or ladder is None else ladder.file(policy)
        behaviour = load_behaviour(source, recipe.environment_id, seed=recipe.seed(policy))
        seed = recipe.seed(policy)
        episodes += play(behaviour, recipe.environment_id, steps=count, seed=seed, progress=report)
    reference = datasets.reference(recipe.environment_id)
    with quiet_simulator():
        datasets.write(
            episodes,
            dataset_id,
            environment_id=recipe.environment_id,
            algorithm_name=_algorithm(recipe),
            description=_description(recipe, parts, sum(map(len, episodes))),
            ref_min_score=reference.random,
            ref_max_score=reference.expert,
            packages=() if recipe.level == "random" else ("torch",),
            overwrite=overwrite,
        )


def _algorithm(recipe: Recipe) -> str:
    if recipe.level == "random":
        return "uniform random actions"
    ladder = Ladder.of(recipe.body)
    assert ladder is not None
    return f"samples of {ladder.about['agent']} policies that come with orl"


D4RL = {"medium-expert": "2 million", "medium-replay": "200,000 to 400,000"}  # transitions; of other levels 1 million


def _description(recipe: Recipe, parts: dict[str, int], transitions: int) -> str:
    """For the data set's card."""
    size = f"{recipe.environment_id}, level {recipe.level}: {transitions:,} transitions in whole episodes"
    original = f"D4RL's set of this level has {D4RL.get(recipe.level, '1 million')}, of the v2 environment."
    if recipe.level == "random":
        return f"{size}, uniform random actions. {original}"
    ladder = Ladder.of(recipe.body)
    assert ladder is not None
    steps = max(each["steps"] for each in ladder.about["curve"])
    lines = ["random" if policy == "random" else _policy(policy, ladder.policies[policy]) for policy in parts]
    origin = (
        f"The policies were trained by {ladder.about['agent']} for up to {steps:,} steps; the expert is the best of "
        "that training, not an expert in D4RL's sense."
    )
    if not recipe.level.endswith("replay"):
        return f"{size}, sampled actions of {' and '.join(lines)}. {origin} {original}"
    return (
        f"{size}, sampled actions of {len(lines)} policies with equal shares of the transitions, in the order of "
        f"training: {'; '.join(lines)}. A mixture, not a true replay: orl train with --save-replay writes one. "
        f"{origin} {original}"
    )


def _policy(name: str, facts: dict[str, Any]) -> str:
    """One policy in words."""
    sampled = facts["sampled"]
    return (
        f"{name} (seed {facts['seed']}, step {facts['steps']:,}: return {sampled['return']:.0f}, "
        f"score {sampled['normalized_score']:.1f})"
    )
