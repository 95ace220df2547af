"""The six racing datasets, made on this machine, with the sizes and ratios of OfflineMania.

The original's drivers were learned online; ours are scripted: pure pursuit with a curvature-limited speed profile,
noise and mistakes, at three skills. Every dataset has its own seed and is the same on every run. The two small ones are
100 pieces of 50 consecutive decisions, where the original holds shuffled rows.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import gymnasium
import numpy as np

from orl import datasets
from orl.arrays import Float64Array
from orl.datasets import Episode, Reference, minari
from orl.envs.racing import PurePursuit, Track, make_track
from orl.scripts.data.recording import Progress, no_progress, write

ENVIRONMENT = "orl/Racing-v0"
DECISIONS = 2_000  # of an episode
PIECE = 50  # decisions of a piece
CUT_EPISODES = 20  # of each skill, at most, that are cut into pieces

Skill = Literal["basic", "medium", "expert"]


@dataclass(frozen=True)
class RacingDataset:
    """What one dataset is made of."""

    drivers: dict[Skill, float]  # share of each skill, by episodes or pieces
    count: int  # episodes, or pieces
    seed: int
    in_pieces: bool = False

    @property
    def sizes(self) -> tuple[int | None, int]:
        """Episodes or pieces, and transitions."""
        return self.count, self.count * (PIECE if self.in_pieces else DECISIONS)

    def check(self, dataset_id: str, steps: int | None) -> None:
        """Refuse another size.

        Raises:
            ValueError: a number of steps.
        """
        if steps is not None:
            raise ValueError(f"--steps {steps}: {dataset_id} has a size of its own; leave --steps out")

    @property
    def counts(self) -> dict[Skill, int]:
        """Episodes or pieces of each skill."""
        return dict(zip(self.drivers, datasets.shares(self.count, list(self.drivers.values())), strict=True))

    @property
    def rollouts(self) -> dict[Skill, int]:
        """Episodes of each skill to drive."""
        return {skill: min(n, CUT_EPISODES) if self.in_pieces else n for skill, n in self.counts.items()}

    @property
    def description(self) -> str:
        """For the dataset's card."""
        size = f"{self.count} pieces of {PIECE} consecutive decisions" if self.in_pieces else f"{self.count} episodes"
        parts = ", ".join(f"{n} {skill}" for skill, n in self.counts.items())
        return (
            f"{ENVIRONMENT}: {size} ({parts}). The drivers are scripted: pure pursuit with a curvature-limited speed "
            "profile, with noise and mistakes that decide the skill; no learned policy chose these actions."
        )


MIX: dict[Skill, float] = {"basic": 0.90, "medium": 0.07, "expert": 0.03}

DATASETS: dict[str, RacingDataset] = {
    "orl/racing/basic-v0": RacingDataset({"basic": 1.0}, 50, seed=101),
    "orl/racing/medium-v0": RacingDataset({"medium": 1.0}, 50, seed=102),
    "orl/racing/expert-v0": RacingDataset({"expert": 1.0}, 50, seed=103),
    "orl/racing/mix-large-v0": RacingDataset(MIX, 100, seed=104),
    "orl/racing/mix-small-v0": RacingDataset(MIX, 100, seed=105, in_pieces=True),
    "orl/racing/basic-small-v0": RacingDataset({"basic": 1.0}, 100, seed=106, in_pieces=True),
}


def make(
    dataset_id: str, *, steps: int | None = None, overwrite: bool = False, progress: Progress = no_progress
) -> None:
    """Drive, and write one of the six datasets.

    Args:
        dataset_id: a key of `DATASETS`.
        steps: must be None, since the sizes are fixed.
        overwrite: replace an existing dataset.
        progress: called with the transitions driven so far and their final number.
    """
    made = DATASETS[dataset_id]
    made.check(dataset_id, steps)
    total = sum(made.rollouts.values()) * DECISIONS
    seeds = np.random.SeedSequence(made.seed).generate_state(2 * len(made.drivers) + 1).tolist()
    driven, before = list[list[Episode]](), 0
    for i, (skill, count) in enumerate(made.rollouts.items()):

        def report(_: int, steps: int, before: int = before) -> None:
            progress(before + steps, total)

        episodes = drive(skill, count, seed=seeds[2 * i], progress=report)
        if made.in_pieces:
            episodes = datasets.pieces(episodes, PIECE, made.counts[skill], seed=seeds[2 * i + 1])
        driven.append(episodes)
        before += count * DECISIONS
    write(
        datasets.mix(driven, list(made.counts.values()), made.count, seed=seeds[-1]),
        dataset_id,
        ENVIRONMENT,
        algorithm=f"scripted pure pursuit ({', '.join(made.drivers)})",
        description=made.description,
        overwrite=overwrite,
    )


def drive(
    skill: str, episodes: int, *, seed: int, environment_id: str = ENVIRONMENT, progress: Progress = no_progress
) -> list[Episode]:
    """Episodes of the scripted driver, one per copy of the environment, all driven at once."""
    with closing(gymnasium.make_vec(environment_id, num_envs=episodes)) as environment:
        driver = PurePursuit(environment, skill=skill, seed=seed)
        return datasets.record(driver, environment, episodes=episodes, seed=seed, progress=progress)


def measure(environment_id: str = ENVIRONMENT, *, episodes: int = 100, seed: int = 0) -> Reference:
    """Measure the references of a racing environment: mean return of uniform actions, and of the reference driver.

    `python -m orl.scripts.data.racing` prints the racing rows of `orl.datasets.references`.
    """
    with closing(gymnasium.make_vec(environment_id, num_envs=episodes)) as environment:
        policy = datasets.RandomPolicy(environment, seed)
        random = datasets.record(policy, environment, episodes=episodes, seed=seed)
    reference = drive("reference", episodes, seed=seed, environment_id=environment_id)
    returns = [[episode.rewards.sum(dtype=np.float64) for episode in played] for played in (random, reference)]
    return Reference(*np.mean(returns, axis=1).tolist())


def replay(dataset_id: str) -> dict[str, Float64Array] | None:
    """Drive the episodes of a dataset again, from their seeds and actions, for what observations do not tell.

    Returns:
        `x` and `y` in m, `speed` in m/s, (decisions, episodes) each; None for pieces, whose starts are not stored, and
        for datasets that another version of the environment made.
    """
    if dataset_id not in DATASETS or DATASETS[dataset_id].in_pieces:
        return None
    storage = minari.open_dataset(dataset_id).storage
    stored = list(storage.get_episodes(range(storage.total_episodes)))
    seeds = [about["seed"] for about in storage.get_episode_metadata(range(len(stored)))]
    traces: dict[str, list[Float64Array]] = {"x": [], "y": [], "speed": []}
    with closing(gymnasium.make_vec(ENVIRONMENT, num_envs=len(stored))) as environment:
        observations = environment.reset(seed=seeds)[0]  # type: ignore[arg-type]
        for step in range(DECISIONS):
            if not np.allclose(observations, [episode["observations"][step] for episode in stored], atol=1e-4):
                return None
            observations, _, _, _, infos = environment.step(np.stack([episode["actions"][step] for episode in stored]))
            for key, trace in traces.items():
                trace.append(infos[key])
    return {key: np.array(trace) for key, trace in traces.items()}


def track() -> Track:
    """The track that the datasets are driven on."""
    return make_track(gymnasium.spec(ENVIRONMENT).kwargs["track"])


def racing_ids() -> list[str]:
    """Registered racing environments of ours."""
    return sorted(identifier for identifier in gymnasium.registry if identifier.startswith("orl/Racing"))


if __name__ == "__main__":
    for identifier in racing_ids():
        print(f'    "{identifier}": Reference({", ".join(map(repr, measure(identifier)))}),')
