"""`orl generalist`: a policy for every context of a grid, learned from policies in the few that are worth training in.

The composition: MBTL chooses the contexts, SAC or SPEQ trains in them, a reward model fills in rewards that were not
kept, and HyperZero learns from what came out.

Shape key: N contexts, E episodes, k sources, S sets of sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from matplotlib import pyplot as plt
from numpy.typing import NDArray

from orl import statistics
from orl.agents import HyperZero, TaskSelector
from orl.agents.mbtl import Strategy
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.scripts.commands.select import Baseline, Select, planned
from orl.scripts.contexts.sources import Recipe, Sources
from orl.scripts.contexts.specialist_data import specialist_episodes, transitions
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.transfer import transfer_returns
from orl.scripts.contexts.zero_shot_methods import METHODS
from orl.scripts.figures.contexts import label_axis
from orl.scripts.figures.runs import save
from orl.scripts.figures.selection import BLUE, STYLES
from orl.scripts.running.options import check_labels, check_least
from orl.scripts.running.registry import load_agent
from orl.scripts.running.reward_variants import imputed
from orl.scripts.running.run_directory import RunDirectory

COLOURS = (BLUE, STYLES["equidistant"]["color"], STYLES["random"]["color"])


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

    def _select(self, folder: RunDirectory, selector: TaskSelector, sources: Sources) -> dict[str, Any]:
        recipe = sources.recipe
        self.choose(selector, sources)
        plans: dict[str, list[int]] = {self.strategy: selector.sources.tolist()}
        baselines: tuple[Strategy, ...] = ("equidistant", "random")
        for baseline in baselines:
            plans[baseline] = planned(selector, baseline)
        transferred = {name: sources.rows(plan).max(0) for name, plan in plans.items()}  # (N,) each
        datasets = [self._data(folder.path, recipe, plan) for plan in plans.values()]
        if self.labels is not None:
            datasets = imputed(datasets, self.labels, self.seed, self.device)
        agent = self._generalists(recipe, datasets)
        for k, name in enumerate(plans):
            agent.learner(k).save(folder.path / "hyperzero" / name)
        returns = transfer_returns(
            agent,
            recipe.env,
            recipe.space,
            recipe.contexts,
            episodes=recipe.episodes,
            seed=recipe.seed,
            context_mode="concat",
        ).mean(-1)
        generated = dict(zip(plans, returns, strict=True))
        np.savez(folder.path / "returns.npz", **{f"hyperzero/{name}": row for name, row in generated.items()})
        _figure(recipe, plans, generated, transferred, folder.path / "generalist.png")
        return folder.finish(self._rows(plans, generated, transferred), training_seconds=sources.seconds())

    def _data(self, folder: Path, recipe: Recipe, sources: Sequence[int]) -> Dataset:
        """What the policies of these contexts did there."""
        episodes = []
        for index in sources:
            agent: Any = load_agent(folder / f"source-{index}", self.device)
            own = recipe.contexts[[index]]
            episodes += specialist_episodes(
                agent, recipe.env, recipe.space, own, episodes=self.data_episodes, seed=recipe.seed_of(index)
            )
        return transitions(episodes, Spaces.of(recipe.env))

    def _generalists(self, recipe: Recipe, datasets: list[Dataset]) -> HyperZero:
        """One learner for each dataset."""
        assert isinstance(recipe.trainer, PopulationTrainer)
        discount = recipe.trainer.config(recipe.steps).discount
        agent = HyperZero(
            datasets,
            METHODS["hyperzero"],
            seed=[self.seed] * len(datasets),
            device=self.device,
            contexts=recipe.space,
            discount=discount,
        )
        return agent.fit(self.updates, progress_bar=True)

    def _rows(
        self,
        plans: Mapping[str, list[int]],
        generated: Mapping[str, NDArray[np.float64]],
        transferred: Mapping[str, NDArray[np.float64]],
    ) -> list[dict[str, Any]]:
        """Two for each set of sources: what HyperZero made of it, and the best of its policies in each context."""
        shared = {"dataset": None, "env": self.env, "rewards": "true" if self.labels is None else "imputed"}
        return [
            {
                **shared,
                "agent": agent,
                "strategy": name,
                "sources": len(plans[name]),
                "return": float(returns[name].mean()),
                "return_interval": list(statistics.interval(returns[name], np.mean)),
                "worst_return": float(returns[name].min()),
                "seeds": [self.seed],
                "chosen": plans[name],
            }
            for agent, returns in (("hyperzero", generated), ("best source", transferred))
            for name in plans
        ]


def _figure(
    recipe: Recipe,
    plans: Mapping[str, Sequence[int]],
    generated: Mapping[str, NDArray[np.float64]],
    transferred: Mapping[str, NDArray[np.float64]],
    path: Path,
) -> None:
    """Returns of all contexts: in the order of the grid for one variable, else from the worst to the best."""
    first = next(iter(plans))
    is_line = len(recipe.space.names) == 1
    order = np.arange(len(recipe.contexts)) if is_line else transferred[first].argsort(kind="stable")
    figure, axes = plt.subplots(figsize=(7.0, 4.0), layout="constrained")
    axes.plot(transferred[first][order], color="black", linestyle="--", label=f"best source, {first}")
    for name, colour in zip(plans, COLOURS, strict=False):
        axes.plot(generated[name][order], color=colour, label=f"hyperzero, {name}")
        trained = np.flatnonzero(np.isin(order, plans[name]))
        axes.plot(trained, generated[name][order][trained], "o", color=colour, markersize=5)
    if is_line:
        label_axis(axes, "x", recipe.space, recipe.contexts[:, 0])
    else:
        axes.set_xlabel("contexts, from the worst to the best return of the best source")
    axes.set_ylabel("return; dots: contexts trained in")
    axes.set_title(recipe.env, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save(figure, path)
