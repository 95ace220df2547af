"""`orl specialists AGENT`: one policy for each context, all trained together as one population."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Generic, TypeVar, Union

import numpy as np
import tyro
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from orl.context import ContextSpace, Floats
from orl.envs.contextual_copies import offered_contexts
from orl.evaluation import make_vector
from orl.scripts.context_figures import context_figure
from orl.scripts.launching import Launching
from orl.scripts.registry import ACTING, PRESETS
from orl.scripts.run_folder import RunFolder
from orl.scripts.train_online import TrainOnline

C = TypeVar("C")


@dataclass(frozen=True)
class Specialists(TrainOnline[C], Generic[C]):
    """Train one policy for each context of a grid, side by side; no policy sees its context.

    Writes a folder as `orl train` does. Learner k, in seed-K, has the k-th context of the grid, whose last variable
    changes fastest; results.json has a row for each context. The same command in the same folder resumes.
    """

    contexts: str = ""
    """Grid: low, high and number of values of each variable, as in mass=0.5:2:5,length=0.5:2:4."""
    seeds: tyro.conf.Suppress[int] = 0
    launching: tyro.conf.Suppress[Launching] = field(default_factory=Launching)

    @cached_property
    def grid(self) -> tuple[ContextSpace, Floats]:
        """The variables with their ranges, and the contexts (N, d).

        Raises:
            ValueError: no environment with contexts, or a grid that is refused.
        """
        return offered_contexts(self.env).parse(self.contexts)

    def run(self) -> None:
        """Check everything, then train, evaluate and report."""
        count = len(self.grid[1])
        if self.seeds != count:
            dataclasses.replace(self, seeds=count).run()
        else:
            super().run()

    def environment(self) -> VectorEnv[Any, Any, Any]:
        """A copy of the environment in each learner's context."""
        return make_vector(self.env, self.seeds, **self.keywords(1))

    def keywords(self, copies: int) -> dict[str, Any]:
        """Contexts for so many copies of each learner's environment."""
        space, contexts = self.grid
        return {"contexts": space.ranges, "context": contexts.repeat(copies, axis=0).tolist()}

    def rows(self, row: dict[str, Any], returns: NDArray[np.float64], folder: RunFolder) -> list[dict[str, Any]]:
        """One for each context; draws the returns over them."""
        space, contexts = self.grid
        means = returns.mean(axis=1)
        context_figure(space, contexts, means, self.env, folder.path / "contexts.png")
        shared = {name: row[name] for name in ("dataset", "env", "agent", "rewards", "steps", "critic_updates")}
        return [
            {**shared, "context": space.text(context), "seeds": [seed], "return": float(mean)}
            for seed, mean, context in zip(self.seed_numbers, means, contexts, strict=True)
        ]


def _verbs() -> Any:
    """One subcommand per preset of an agent that acts, for tyro."""
    kinds = []
    for name, (kind, preset) in PRESETS.items():
        if kind in ACTING:
            default: Any = Specialists(tyro.MISSING, preset, agent=name)
            about = tyro.conf.subcommand(name, default=default, description=Specialists.__doc__)
            kinds.append(Annotated[Specialists[type(preset)], about])  # type: ignore[misc]
    return Union[tuple(kinds)]  # noqa: UP007  built at run time


SpecialistVerbs = _verbs()
