"""One seed of `orl zero-shot`: specialists, their data, and what learns from them, each stage done once.

Shape key: S splits, N contexts, E episodes, L looks, K held-out contexts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl.agents import SAC, HyperZero
from orl.agents.hyperzero.contextual import ContextualConfig
from orl.dataset import Dataset
from orl.scripts.commands.specialists import Specialists
from orl.scripts.contexts.specialist_data import specialist_episodes, transitions
from orl.scripts.contexts.splits import splits
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.transfer import RandomActions
from orl.scripts.contexts.zero_shot_methods import (
    Average,
    Task,
    chosen,
    cloned,
    few_shots,
    nearest,
    pick_contexts,
    randomized,
)
from orl.scripts.contexts.zero_shot_returns import ArrayCache, Returns, Scale
from orl.scripts.running.registry import load_agent
from orl.scripts.running.reward_variants import imputed


class Trial:
    """Everything of one seed.

    Args:
        task: environment and contexts.
        seed: of the splits and of what learns from the data; specialists have N seeds of their own, from N times it.
        folder: of the seed.
    """

    def __init__(self, task: Task, seed: int, folder: Path) -> None:
        self.task, self.seed, self.folder = task, seed, folder
        self.splits = splits(task.space, task.contexts, seed)
        self.stages = ArrayCache(folder / "returns.npz")
        self.learned: dict[str, Returns] = {}  # (S, N, E) each
        self.others: dict[str, dict[str, Returns]] = {split.name: {} for split in self.splits}  # (K, E) each

    def specialists(self, trainer: PopulationTrainer, grid: str, steps: int) -> SAC:
        """One for each context, trained together."""
        count = len(self.task.contexts)
        training = Specialists(
            self.task.env,
            trainer.config(steps),
            agent=trainer.name,
            contexts=grid,
            steps=steps,
            first_seed=self.seed * count,
            eval_every=max(1, steps // 5),
            eval_episodes=self.task.episodes,
            bias_episodes=0,
            device=self.task.device,
            out=self.folder / "specialists",
        )
        training.results()
        agent: Any = load_agent(self.folder / "specialists", self.task.device)
        return agent  # type: ignore[no-any-return]

    def measure(self, agent: SAC) -> None:
        """Every specialist in every context, random actions, and the average of the training specialists."""
        task = self.task
        self.transfer: Returns = self.stages("transfer", lambda: task.play(agent))
        random = self.stages("random", lambda: task.play(RandomActions(task.env, self.seed))[0])
        own = np.arange(len(task.contexts))
        self.own: Returns = self.transfer[own, own]
        self.scale = Scale(random, self.own)
        self.averages: Returns = self.stages(
            "average", lambda: np.stack([task.play(Average(agent, split.train))[0] for split in self.splits])
        )

    def data(self, agent: SAC, episodes: int) -> Dataset:
        """What the specialists did."""
        task = self.task
        played = specialist_episodes(agent, task.env, task.space, task.contexts, episodes=episodes, seed=self.seed)
        return transitions(played, agent.spaces)

    def learn(
        self,
        methods: Mapping[str, ContextualConfig],
        data: Callable[[], Dataset],
        labels: float | None,
        updates: int,
    ) -> None:
        """Train what learns from data, one learner per split; rewards that are not kept are imputed for each split."""

        @functools.cache
        def own() -> list[Dataset]:
            """The data of each split's training contexts."""
            picked = [pick_contexts(data(), self.task.contexts[split.train]) for split in self.splits]
            return picked if labels is None else imputed(picked, labels, self.seed, self.task.device)

        for name, config in methods.items():
            folder = self.folder / name
            looks = self.stages(
                name,
                lambda: cloned(self.task, config, own(), self.splits, self.scale, updates, self.seed, folder),  # noqa: B023
            )
            self.learned[name] = chosen(looks, self.splits, self.scale)

    def fine_tune(self, data: Callable[[], Dataset], shots: Sequence[int], updates: int) -> None:
        """From generated policies and from scratch, on a few episodes of held-out contexts."""
        for split in self.splits if shots else ():
            agent = HyperZero.load(self.folder / "hyperzero" / split.name, device=self.task.device)
            contexts = self.task.contexts[split.test]
            for number in shots:
                made = self.stages(
                    f"shots/{split.name}/{number}",
                    lambda: np.stack(few_shots(self.task, agent, data(), contexts, number, updates, self.seed)),  # noqa: B023
                )
                for name, returns in zip((f"hyperzero, {number} shots", f"{number} shots"), made, strict=True):
                    self.others[split.name][name] = returns

    def randomize(self, trainer: PopulationTrainer, steps: int) -> None:
        """One policy for all training contexts of each split, trained online."""
        for split in self.splits:
            name = f"randomized/{split.name}"
            made = self.stages(
                name,
                lambda: randomized(self.task, trainer, split, steps, self.seed, self.folder / name),  # noqa: B023
            )
            self.others[split.name]["randomized"] = made[split.test]

    def returns(self, k: int) -> dict[str, Returns]:
        """(K, E) in the held-out contexts of split k, by what gave the policies."""
        split, task = self.splits[k], self.task
        default = task.space.nearest(task.contexts, task.space.default)
        everywhere = {
            "specialist": self.own,
            **{name: returns[k] for name, returns in self.learned.items()},
            "nearest": nearest(self.transfer, split, task.space, task.contexts),
            "default": self.transfer[default],
            "average": self.averages[k],
        }
        return {name: returns[split.test] for name, returns in everywhere.items()} | self.others[split.name]

    def scores(self, k: int) -> dict[str, NDArray[np.float64]]:
        """Zero-shot scores in the held-out contexts of split k that have one, by what gave the policies."""
        scored = {name: self.scale(returns, self.splits[k].test) for name, returns in self.returns(k).items()}
        return {name: scores[~np.isnan(scores)] for name, scores in scored.items()}
