"""`orl specialists AGENT`: one policy for each context, all trained together as one population."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import tyro
from rich.console import Console

from orl import datasets
from orl.agent import Agent
from orl.arrays import Float64Array
from orl.config import AgentConfig
from orl.context import ContextSpace
from orl.dataset import Dataset
from orl.datasets import minari
from orl.environment import VectorEnvironment, make_vector
from orl.envs.contextual import offered_contexts
from orl.scripts.commands.dataset import summary
from orl.scripts.contexts.specialist_data import specialist_episodes
from orl.scripts.figures.contexts import context_figure
from orl.scripts.main import check_least
from orl.scripts.running.launching import Launching
from orl.scripts.running.registry import Preset, load_agent, online_presets
from orl.scripts.running.run_directory import JsonObject, RunDirectory
from orl.scripts.running.training_run import Training

C = TypeVar("C", bound=AgentConfig)
agents = online_presets  # what `orl specialists` can name


@dataclass(frozen=True)
class Specialists(Training[C], Generic[C]):
    """Train one policy for each context of a grid, side by side; no policy sees its context.

    Writes a folder as `orl train` does. Learner k, in seed-K, has the k-th context of the grid, whose last variable
    changes fastest; results.json has a row for each context. The same command in the same folder resumes.
    """

    contexts: str = ""
    """Grid: low, high and number of values of each variable, as in mass=0.5:2:5,length=0.5:2:4."""
    dataset: str | None = None
    """Id of a Minari set to make of the specialists when they are finished, such as
    orl/context-pendulum/specialists-v0: deterministic episodes of each in its context, with its critics' values. A run
    that is finished makes it from its checkpoints."""
    dataset_episodes: int = 10
    """Episodes of each specialist in it."""
    seeds: tyro.conf.Suppress[int] = 0
    launching: tyro.conf.Suppress[Launching] = field(default_factory=Launching)

    not_described: ClassVar[tuple[str, ...]] = (*Training.not_described, "dataset", "dataset_episodes")

    @cached_property
    def grid(self) -> tuple[ContextSpace, Float64Array]:
        """The variables with their ranges, and the contexts (N, d).

        Raises:
            ValueError: no environment with contexts, or a grid that is refused.
        """
        return offered_contexts(self._env).parse(self.contexts)

    @property
    def _env(self) -> str:
        if self.env is None:
            raise ValueError("give --env, the Gymnasium id of an environment with contexts")
        return self.env

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.out or Path("runs") / f"{self.agent}-{self._env.replace('/', '-')}"

    def results(self) -> JsonObject:
        """Check everything, then train and evaluate; what `results.json` holds."""
        count = len(self.grid[1])
        if self.seeds != count:
            return dataclasses.replace(self, seeds=count).results()
        if self.dataset is not None:
            self._check_dataset(self.dataset)
        results = super().results()
        if self.dataset is not None:
            self._make_dataset(self.dataset)
        return results

    def environment(self, env: str) -> VectorEnvironment:
        """A copy of the environment in each learner's context."""
        return make_vector(env, self.seeds, **self.keywords(1))

    def keywords(self, copies: int) -> dict[str, Any]:
        """Contexts for so many copies of each learner's environment."""
        space, contexts = self.grid
        return {"contexts": space.ranges, "context": contexts.repeat(copies, axis=0).tolist()}

    def replay(self, agent: Agent, learner: int) -> Dataset:
        """A learner's transitions, with its context."""
        data = super().replay(agent, learner)
        return dataclasses.replace(data, contexts=np.tile(self.grid[1][learner].astype(np.float32), (len(data), 1)))

    def _check_dataset(self, dataset_id: str) -> None:
        """Before anything long."""
        check_least(self, 1, "dataset_episodes")
        minari.check_id(dataset_id)
        minari.check_location(dataset_id)
        if minari.exists(dataset_id) and not RunDirectory(self.folder, {}).finished():
            raise ValueError(f"--dataset {dataset_id} exists already; give another id")

    def _make_dataset(self, dataset_id: str) -> None:
        if minari.exists(dataset_id):
            Console().print(f"{dataset_id} exists already and is left as it is", soft_wrap=True)
            return
        agent: Any = load_agent(self.folder, self.device)
        space, contexts = self.grid
        datasets.write(
            specialist_episodes(agent, self._env, space, contexts, episodes=self.dataset_episodes),
            dataset_id,
            environment_id=self._env,
            contexts=space,
            algorithm_name=f"{self.agent}, one policy for each context",
            description=f"{self.dataset_episodes} deterministic episodes of each of {len(contexts)} policies, in the "
            f"context that it was trained in for {self.num_steps:,} steps; critic_values are the smallest Q(s, a).",
        )
        Console().print(f"made {dataset_id}: {summary(datasets.load(dataset_id))}", soft_wrap=True)

    def rows(self, rows: list[JsonObject], returns: Float64Array, folder: Path) -> list[JsonObject]:
        """One for each context; draws the returns over them."""
        space, contexts = self.grid
        means = returns.mean(axis=1)
        context_figure(space, contexts, means, self._env, folder / "contexts.png")
        shared = {name: rows[0][name] for name in ("dataset", "env", "agent", "rewards", "steps", "critic_updates")}
        return [
            {**shared, "context": space.text(context), "seeds": [seed], "return": float(mean)}
            for seed, mean, context in zip(self.seed_numbers, means, contexts, strict=True)
        ]


def options(name: str, preset: Preset) -> Specialists[Any]:
    """The default options of an agent."""
    return Specialists(preset.config, agent=name, steps=300_000, eval_every=5_000)
