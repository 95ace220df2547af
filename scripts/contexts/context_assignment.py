"""Which learners of a run play in which contexts.

Shape key: P learners, d context variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from orl import checkpoint
from orl.agent import Agent
from orl.agents.hyperzero.hyperzero import ContextualAgent
from orl.arrays import Float64Array
from orl.context import ContextSpace, read_context
from orl.envs.contextual import offered_contexts
from orl.scripts.contexts.sources import FACTS
from orl.scripts.running.run_directory import config_of


@dataclass(frozen=True, eq=False)
class ContextAssignment:
    """Learners, and the context of each; without contexts, learners in an environment that has none or its default."""

    agent: Agent
    contexts: Float64Array | None = None  # (P, d)
    texts: tuple[str, ...] = ()  # P of them: the contexts in words
    options: Mapping[str, object] = field(default_factory=dict)  # keywords of the environment, besides the context
    remark: str = ""  # which learners were chosen

    @classmethod
    def of(
        cls, agent: Agent, space: ContextSpace, contexts: Float64Array, options: Mapping[str, object], remark: str = ""
    ) -> ContextAssignment:
        """Learners in contexts (P, d), or all in one (1, d); the environment exposes the variables of `space`."""
        contexts = np.broadcast_to(contexts, (agent.population, contexts.shape[1]))
        texts = tuple(space.text(context) for context in contexts)
        return cls(agent, contexts, texts, {"contexts": space.ranges, **options}, remark)

    def single_keywords(self) -> dict[str, Any]:
        """Keywords of an environment in the context of learner 0."""
        return {**self.options} if self.contexts is None else {**self.options, "context": self.contexts[0].tolist()}

    def vector_keywords(self, num_envs: int) -> dict[str, Any]:
        """Keywords of a vector environment with so many copies for each learner, in its context."""
        if self.contexts is None:
            return {**self.options}
        return {**self.options, "context": self.contexts.repeat(num_envs, axis=0).tolist()}


def assign_contexts(
    agent: Agent, env: str, run_folder: Path, text: str | None, *, allow_extrapolation: bool = False
) -> ContextAssignment:
    """The learners that can play in a context, and in which.

    * Agents that have a policy for every context are given it; by default it is the default one.
    * Of specialists, the one whose context is nearest plays; without a context all play, each in its own.
    * All other learners play in the context without seeing it; variables that it does not name have their defaults.

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
    options: dict[str, object] = {"allow_extrapolation": True} if allow_extrapolation else {}
    if isinstance(agent, ContextualAgent):
        space = offered_contexts(env).select(agent.space.ranges, allow_extrapolation=allow_extrapolation)
        context = space.array(space.default if given is None else given, allow_extrapolation=allow_extrapolation)
        return ContextAssignment.of(agent, space, context[None], {"context_mode": "concat", **options})
    trained = _training_contexts(run_folder, env, agent.seeds)
    if trained is not None:
        space, contexts = trained
        if given is None:
            return ContextAssignment.of(agent, space, contexts, {})
        context = space.array(given, allow_extrapolation=allow_extrapolation)
        k = space.nearest(contexts, context)
        remark = f"nearest specialist: {space.text(contexts[k])} (seed {agent.seeds[k]})"
        return ContextAssignment.of(agent.learner(k), space, context[None], options, remark)
    if given is None:
        return ContextAssignment(agent)
    space = offered_contexts(env).select(list(given))
    context = space.array(given, allow_extrapolation=allow_extrapolation)
    return ContextAssignment.of(agent, space, context[None], options)


def _training_contexts(run_folder: Path, env: str, seeds: list[int]) -> tuple[ContextSpace, Float64Array] | None:
    """Contexts (P, d) that specialists, or one of them, were trained in; None for other runs."""
    config, run = config_of(run_folder)
    if not isinstance(config.get("contexts"), str):
        return None
    space, contexts = offered_contexts(env).parse(config["contexts"])
    if (run_folder / FACTS).exists():
        contexts = np.array(checkpoint.read_json(run_folder / FACTS)["contexts"])
        return (space, contexts) if len(contexts) == len(seeds) else None  # None: one policy of all contexts
    if run != run_folder:
        contexts = contexts[[seed - config.get("first_seed", 0) for seed in seeds]]
    if len(contexts) != len(seeds):
        raise ValueError(
            f"{run_folder}: {len(seeds)} learners, {len(contexts)} contexts; give the folder of the whole run"
        )
    return space, contexts
