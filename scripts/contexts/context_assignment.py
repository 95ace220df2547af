"""Which learners of a run play in which contexts.

Shape key: P learners, d context variables.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orl import checkpoint
from orl.agent import Agent
from orl.agents.hyperzero.contextual import ContextualAgent
from orl.arrays import Float64Array
from orl.context import ContextSpace, read_context
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.sources import FACTS
from orl.scripts.running.run_directory import config_of


@dataclass(frozen=True, eq=False)
class InContext:
    """Learners, and the context of each; none where nothing was said of contexts."""

    agent: Agent
    contexts: Float64Array | None = None  # (P, d)
    texts: tuple[str, ...] = ()  # P of them: the contexts in words
    keywords: dict[str, Any] = field(default_factory=dict)  # for the environment, besides the context
    remark: str = ""  # which learners were chosen

    @classmethod
    def of(
        cls, agent: Agent, space: ContextSpace, contexts: Float64Array, remark: str = "", **options: Any
    ) -> InContext:
        """Learners in contexts (P, d), or all in one (1, d); the environment exposes the variables of `space`."""
        contexts = np.broadcast_to(contexts, (agent.population, contexts.shape[1]))
        texts = tuple(space.text(context) for context in contexts)
        return cls(agent, contexts, texts, {"contexts": space.ranges, **options}, remark)

    def one(self) -> dict[str, Any]:
        """Keywords of an environment in the context of learner 0."""
        return self.keywords if self.contexts is None else self.keywords | {"context": self.contexts[0].tolist()}

    def copies(self, number: int) -> dict[str, Any]:
        """Keywords of a vector environment with so many copies for each learner, in its context."""
        if self.contexts is None:
            return self.keywords
        return self.keywords | {"context": self.contexts.repeat(number, axis=0).tolist()}


def in_context(
    agent: Agent, env: str, run_folder: Path, text: str | None, *, allow_extrapolation: bool = False
) -> InContext:
    """The learners that can play in a context: with the context in sight, or the nearest specialist, or all.

    * Agents that have a policy for every context see it; without a context it is the default one.
    * Of specialists, the one whose context is nearest; without a context all, each in its own.
    * Any other learners all play in the context, which they do not see; variables that it does not name keep their
      defaults.

    Args:
        agent: what the run trained.
        env: Gymnasium id.
        run_folder: what `orl specialists` wrote has the contexts in its config.json, a source policy in source.json.
        text: such as mass=1.4,length=0.7; None: no context is asked for.
        allow_extrapolation: let it lie outside its ranges.

    Raises:
        ValueError: an environment without contexts, or a context that is refused.
    """
    given = None if text is None else read_context(text)
    options: dict[str, Any] = {"allow_extrapolation": True} if allow_extrapolation else {}
    if isinstance(agent, ContextualAgent):
        space = offered_contexts(env).select(agent.space.ranges, allow_extrapolation=allow_extrapolation)
        context = space.array(space.default if given is None else given, allow_extrapolation=allow_extrapolation)
        return InContext.of(agent, space, context[None], context_mode="concat", **options)
    grid = _grid(run_folder, env, agent.seeds)
    if grid is not None:
        space, contexts = grid
        if given is None:
            return InContext.of(agent, space, contexts)
        context = space.array(given, allow_extrapolation=allow_extrapolation)
        k = space.nearest(contexts, context)
        remark = f"nearest specialist: {space.text(contexts[k])} (seed {agent.seeds[k]})"
        return InContext.of(agent.learner(k), space, context[None], remark, **options)
    if given is None:
        return InContext(agent)
    space = offered_contexts(env).select(list(given))
    context = space.array(given, allow_extrapolation=allow_extrapolation)
    return InContext.of(agent, space, context[None], **options)


def _grid(run_folder: Path, env: str, seeds: list[int]) -> tuple[ContextSpace, Float64Array] | None:
    """What specialists were trained in, (P, d), of a whole run or of one in its own folder; None for other runs."""
    config, place = config_of(run_folder)
    if not isinstance(config.get("contexts"), str):
        return None
    space, contexts = offered_contexts(env).parse(config["contexts"])
    if (run_folder / FACTS).exists():
        contexts = np.array(checkpoint.read_json(run_folder / FACTS)["contexts"])
        return (space, contexts) if len(contexts) == len(seeds) else None  # None: one policy of all contexts
    if place != run_folder:
        contexts = contexts[[seed - config.get("first_seed", 0) for seed in seeds]]
    if len(contexts) != len(seeds):
        raise ValueError(
            f"{run_folder}: {len(seeds)} learners, {len(contexts)} contexts; give the folder of the whole run"
        )
    return space, contexts
