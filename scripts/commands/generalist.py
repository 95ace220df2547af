"""`orl generalist`: a policy for every context of a grid, learned from policies in the few that are worth training in.

The composition: MBTL chooses the contexts, SAC or SPEQ trains in them, a reward model fills in hidden rewards, and
HyperZero learns from the episodes of the trained policies.

Shape key: N contexts, E episodes, k sources, S sets of sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from orl import statistics
from orl.agents import HyperZero, TaskSelector
from orl.agents.mbtl.strategies import Strategy
from orl.arrays import Float64Array
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.scripts.commands.select import Baseline, Select, planned
from orl.scripts.contexts.sources import SourceConfig, Sources
from orl.scripts.contexts.specialist_data import specialist_episodes, transitions
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.transfer_matrix import transfer_returns
from orl.scripts.contexts.zero_shot import METHODS
from orl.scripts.figures.contexts import generalist_figure
from orl.scripts.main import check_labels, check_least
from orl.scripts.running.registry import load_agent
from orl.scripts.running.reward_variants import imputed
from orl.scripts.running.run_directory import JsonObject, RunDirectory


@dataclass(frozen=True)
class Generalist(Select):
    """Choose contexts of a grid, train a policy in each, and learn from them one policy that is given the context.

    It is compared with what as many equidistant contexts, and as many random ones, lead to, and with the best of the
    trained policies in each context, which does not need to know the context but has to be tried there. Writes one
    folder: policies in source-K, hyperzero/SET, results.json, returns.npz and a figure. The same command resumes.
    """

    trainer: str = "sac"
    """A preset that acts, such as sac or speq, small as in `orl select`."""
    updates: int = 10_000
    """Gradient updates of HyperZero."""
    data_episodes: int = 10
    """Episodes of each policy that it learns from."""
    labels: float | None = None
    """Keep this share of their rewards, in (0, 1]; a reward model that sees the context fills in the others."""
    baselines: tyro.conf.Suppress[tuple[Baseline, ...]] = ()
    full_matrix: tyro.conf.Suppress[bool] = False

    def run(self) -> None:
        """Check what else there is, then as `orl select`."""
        check_least(self, 1, "updates", "data_episodes")
        check_labels(self.labels)
        if self.trainer.startswith("sb3:"):
            raise ValueError(f"--trainer {self.trainer}: critics of ours are needed; choose sac or speq")
        super().run()

    def _select(self, folder: RunDirectory, selector: TaskSelector, sources: Sources) -> JsonObject:
        config = sources.config
        self.choose(selector, sources)
        chosen: dict[str, list[int]] = {self.strategy: selector.sources.tolist()}
        baselines: tuple[Strategy, ...] = ("equidistant", "random")
        chosen |= {baseline: planned(selector, baseline) for baseline in baselines}
        best = {name: sources.rows(indices).max(0) for name, indices in chosen.items()}  # (N,) each
        datasets = [self._data(folder.path, config, indices) for indices in chosen.values()]
        if self.labels is not None:
            datasets = imputed(datasets, self.labels, self.seed, self.device)
        agent = self._generalists(config, datasets)
        for k, name in enumerate(chosen):
            agent.learner(k).save(folder.path / "hyperzero" / name)
        env, space, contexts = config.trainer.env, config.trainer.space, config.contexts
        options: JsonObject = {"episodes": config.episodes, "seed": config.seed, "context_mode": "concat"}
        returns = transfer_returns(agent, env, space, contexts, **options)
        generated = dict(zip(chosen, returns.mean(-1), strict=True))
        np.savez(folder.path / "returns.npz", **{f"hyperzero/{name}": row for name, row in generated.items()})
        path = folder.path / "generalist.png"
        generalist_figure(space, contexts, chosen, generated, best[self.strategy], env, path)
        return folder.finish(self._rows(chosen, generated, best), training_seconds=sources.seconds())

    def _data(self, folder: Path, config: SourceConfig, sources: Sequence[int]) -> Dataset:
        """Episodes of the policies of these contexts, in their own."""
        episodes = []
        for index in sources:
            agent: Any = load_agent(folder / f"source-{index}", self.device)
            grid, seed = (self.env, config.trainer.space, config.contexts[[index]]), config.seed_of(index)
            episodes += specialist_episodes(agent, *grid, episodes=self.data_episodes, seed=seed)
        return transitions(episodes, Spaces.of(self.env))

    def _generalists(self, config: SourceConfig, datasets: list[Dataset]) -> HyperZero:
        """One learner for each dataset."""
        assert isinstance(config.trainer, PopulationTrainer)
        discount = config.trainer.config(config.steps).discount
        options: JsonObject = {"contexts": config.trainer.space, "discount": discount, "device": self.device}
        agent = HyperZero(datasets, METHODS["hyperzero"], seed=[self.seed] * len(datasets), **options)
        return agent.fit(self.updates, progress_bar=True)

    def _rows(
        self, chosen: Mapping[str, list[int]], generated: Mapping[str, Float64Array], best: Mapping[str, Float64Array]
    ) -> list[JsonObject]:
        """Two for each set of sources: what HyperZero made of it, and the best of its policies in each context."""
        shared = {"dataset": None, "env": self.env, "rewards": "true" if self.labels is None else "imputed"}
        return [
            {
                **shared,
                "agent": agent,
                "strategy": name,
                "sources": len(indices),
                "return": float(returns[name].mean()),
                "return_interval": list(statistics.interval(returns[name], np.mean)),
                "worst_return": float(returns[name].min()),
                "seeds": [self.seed],
                "chosen": indices,
            }
            for agent, returns in (("hyperzero", generated), ("best source", best))
            for name, indices in chosen.items()
        ]
