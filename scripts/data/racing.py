"""The six racing data sets, made on this machine, with the sizes and ratios of OfflineMania.

The original's drivers were learned online; ours are scripted: pure pursuit with a curvature-limited speed profile,
noise and mistakes, at three skills. Every set has its own seed and is the same on every run. The two small sets are 100
pieces of 50 consecutive decisions, where the original holds shuffled rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium
import numpy as np
from numpy.typing import NDArray

from orl import datasets
from orl.datasets import Episode, Reference, minari

ENVIRONMENT = "orl/Racing-v0"
DECISIONS = 2_000  # of an episode
PIECE = 50  # decisions of a piece
SOURCES = 20  # at most this many episodes per skill are cut into pieces

Skill = Literal["basic", "medium", "expert"]
Progress = Callable[[int, int], None]  # transitions so far, of how many


@dataclass(frozen=True)
class Recipe:
    """What one data set is made of."""

    drivers: dict[Skill, float]  # share of each skill, by episodes or pieces
    count: int  # episodes, or pieces
    seed: int
    in_pieces: bool = False

    @property
    def transitions(self) -> int:
        """Size of the set."""
        return self.count * (PIECE if self.in_pieces else DECISIONS)

    @property
    def counts(self) -> dict[Skill, int]:
        """Episodes or pieces of each skill."""
        return dict(zip(self.drivers, datasets.shares(self.count, list(self.drivers.values())), strict=True))

    @property
    def rollouts(self) -> dict[Skill, int]:
        """Episodes of each skill to drive."""
        return {skill: min(n, SOURCES) if self.in_pieces else n for skill, n in self.counts.items()}

    @property
    def description(self) -> str:
        """For the data set's card."""
        size = f"{self.count} pieces of {PIECE} consecutive decisions" if self.in_pieces else f"{self.count} episodes"
        parts = ", ".join(f"{n} {skill}" for skill, n in self.counts.items())
        return (
            f"{ENVIRONMENT}: {size} ({parts}). The drivers are scripted: pure pursuit with a curvature-limited speed "
            "profile, with noise and mistakes that decide the skill; no learned policy chose these actions."
        )


MIX: dict[Skill, float] = {"basic": 0.90, "medium": 0.07, "expert": 0.03}

RECIPES: dict[str, Recipe] = {
    "orl/racing/basic-v0": Recipe({"basic": 1.0}, 50, seed=101),
    "orl/racing/medium-v0": Recipe({"medium": 1.0}, 50, seed=102),
    "orl/racing/expert-v0": Recipe({"expert": 1.0}, 50, seed=103),
    "orl/racing/mix-large-v0": Recipe(MIX, 100, seed=104),
    "orl/racing/mix-small-v0": Recipe(MIX, 100, seed=105, in_pieces=True),
    "orl/racing/basic-small-v0": Recipe({"basic": 1.0}, 100, seed=106, in_pieces=True),
}


def make(dataset_id: str, *, overwrite: bool = False, progress: Progress | None = None) -> None:
    """Drive, and write one of the six sets.

    Args:
        dataset_id: a key of `RECIPES`.
        overwrite: replace a set that is there.
        progress: called with the transitions driven so far and their final number.
    """
    register_environments()
    recipe = RECIPES[dataset_id]
    total = sum(recipe.rollouts.values()) * DECISIONS
    seeds = np.random.SeedSequence(recipe.seed).generate_state(2 * len(recipe.drivers) + 1)
    driven: list[list[Episode]] = []
    before = 0
    for i, (skill, count) in enumerate(recipe.rollouts.items()):

        def report(_: int, steps: int, before: int = before) -> None:
            if progress is not None:
                progress(before + steps, total)

        episodes = drive(skill, count, seed=int(seeds[2 * i]), progress=report)
        if recipe.in_pieces:
            driven.append(datasets.pieces(episodes, PIECE, recipe.counts[skill], seed=int(seeds[2 * i + 1])))
        else:
            driven.append(episodes)
        before += count * DECISIONS
    reference = datasets.REFERENCES.get(ENVIRONMENT)
    datasets.write(
        datasets.mix(driven, list(recipe.counts.values()), recipe.count, seed=int(seeds[-1])),
        dataset_id,
        environment_id=ENVIRONMENT,
        algorithm_name=f"scripted pure pursuit ({', '.join(recipe.drivers)})",
        description=recipe.description,
        ref_min_score=reference.random if reference else None,
        ref_max_score=reference.expert if reference else None,
        overwrite=overwrite,
    )


def drive(
    skill: str, episodes: int, *, seed: int, environment_id: str = ENVIRONMENT, progress: Progress | None = None
) -> list[Episode]:
    """Episodes of the scripted driver, one per copy of the environment, all driven at once."""
    from orl.envs.racing import PurePursuit

    environment = gymnasium.make_vec(environment_id, num_envs=episodes)
    try:
        driver = PurePursuit(environment, skill=skill, seed=seed)
        return datasets.record(driver, environment, episodes=episodes, seed=seed, progress=progress)
    finally:
        environment.close()


def measure(environment_id: str = ENVIRONMENT, *, episodes: int = 100, seed: int = 0) -> Reference:
    """Measure the references of a racing environment: mean return of uniform actions, and of the reference driver.

    `python -m orl.scripts.data.racing` prints the racing rows of `orl.datasets.references`.
    """
    register_environments()
    environment = gymnasium.make_vec(environment_id, num_envs=episodes)
    policy = datasets.RandomPolicy(environment, seed)
    random = datasets.record(policy, environment, episodes=episodes, seed=seed)
    environment.close()
    reference = drive("reference", episodes, seed=seed, environment_id=environment_id)
    return Reference(_mean_return(random), _mean_return(reference))


def replay(dataset_id: str) -> dict[str, NDArray[Any]] | None:
    """Drive the episodes of a set again, from their seeds and actions, for what observations do not tell.

    Returns:
        `x` and `y` in m, `speed` in m/s, each (decisions, episodes); None for pieces, whose starts are not stored, and
        for sets that another version of the environment made.
    """
    if dataset_id not in RECIPES or RECIPES[dataset_id].in_pieces:
        return None
    register_environments()
    storage = minari.open_dataset(dataset_id).storage
    stored = list(storage.get_episodes(range(storage.total_episodes)))
    seeds = [about["seed"] for about in storage.get_episode_metadata(range(len(stored)))]
    environment: Any = gymnasium.make_vec(ENVIRONMENT, num_envs=len(stored))
    observations = environment.reset(seed=seeds)[0]
    traces = []
    for step in range(DECISIONS):
        if not np.allclose(observations, [episode["observations"][step] for episode in stored], atol=1e-4):
            return None
        observations, _, _, _, infos = environment.step(np.stack([episode["actions"][step] for episode in stored]))
        traces.append([infos[key] for key in ("x", "y", "speed")])
    environment.close()
    x, y, speed = np.moveaxis(np.array(traces), 1, 0)
    return {"x": x, "y": y, "speed": speed}


def draw_visits(dataset_id: str, path: Path) -> Path | None:
    """Where the cars of a set were, and how fast, on the map of the track; None where `replay` gives nothing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    trace = replay(dataset_id)
    if trace is None:
        return None
    environment: Any = gymnasium.make_vec(ENVIRONMENT, num_envs=1)
    environment.reset(seed=0)
    track = environment.unwrapped.tracks[0]
    environment.close()
    places = trace["x"].ravel(), trace["y"].ravel()
    figure = Figure(figsize=(11.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, options, label in (
        (figure.add_subplot(1, 2, 1), {"bins": "log", "cmap": "viridis"}, "rows (log scale)"),
        (figure.add_subplot(1, 2, 2), {"C": trace["speed"].ravel(), "cmap": "plasma"}, "mean speed (m/s)"),
    ):
        for wall in (track.left, track.right):
            axis.plot(*np.concatenate([wall, wall[:1]]).T, color="0.3", linewidth=1.0)
        drawn = axis.hexbin(*places, gridsize=110, mincnt=1, linewidths=0.0, **options)
        figure.colorbar(drawn, ax=axis, label=label, location="bottom", shrink=0.8, aspect=40)
        axis.set_aspect("equal")
        axis.set_xlabel("x (m)")
        axis.set_ylabel("y (m)")
    figure.savefig(path, dpi=130)
    return path


def register_environments() -> None:
    """Let Gymnasium know the environments of ours; only when one is needed, so that `orl --help` stays quick."""
    import orl.envs  # noqa: F401


def _mean_return(episodes: list[Episode]) -> float:
    return float(np.mean([episode.rewards.sum(dtype=np.float64) for episode in episodes]))


def racing_ids() -> list[str]:
    """Registered racing environments of ours."""
    register_environments()
    registry: dict[str, Any] = gymnasium.registry
    return sorted(identifier for identifier in registry if identifier.startswith("orl/Racing"))


if __name__ == "__main__":
    for identifier in racing_ids():
        print(f'    "{identifier}": Reference({", ".join(map(repr, measure(identifier)))}),')
