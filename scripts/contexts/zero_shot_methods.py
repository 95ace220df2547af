"""Ways to a policy for a context that nobody trained on, by what they are given: specialists, their data, or steps.

Shape key: S splits, P policies, N contexts, E episodes, L looks at the contexts, O observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl.agents import BC, SAC, ContextualCloning, HyperZero
from orl.agents.hyperzero.cloning import CONCATENATION_PRESET, UVFA_PRESET
from orl.agents.hyperzero.contextual import ContextualAgent, ContextualConfig
from orl.agents.hyperzero.few_shot import few_shot
from orl.agents.hyperzero.hyperzero import HYPERZERO_PAPER_PRESET, HYPERZERO_PRESET
from orl.context import ContextSpace, Floats
from orl.dataset import Dataset
from orl.evaluation import evaluate
from orl.scripts.contexts.splits import Indices, Split
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.transfer import transfer_returns
from orl.scripts.contexts.zero_shot_returns import Returns, Scale
from orl.training import progress

SMALL: dict[str, Any] = {"embedding_sizes": (64, 64), "embedding_blocks": 1, "rows_per_context": 16}
METHODS: dict[str, ContextualConfig] = {  # with about as many parameters each; the paper's has its own sizes
    "hyperzero": replace(HYPERZERO_PRESET, hidden_sizes=(128,), **SMALL),
    "hyperzero-paper": HYPERZERO_PAPER_PRESET,
    "concatenation": replace(CONCATENATION_PRESET, hidden_sizes=(128, 128), **SMALL),
    "uvfa": replace(UVFA_PRESET, hidden_sizes=(128, 128), **SMALL),
}
LOOKS = 5  # at the validation contexts, evenly over training


@dataclass(frozen=True, eq=False)
class Task:
    """An environment with a grid of contexts, and how policies are compared in it."""

    env: str
    space: ContextSpace
    contexts: Floats  # (N, d)
    episodes: int  # E, of each evaluation
    device: str

    def play(self, policy: Any, **keywords: Any) -> Returns:
        """(P, N, E) of P policies in all contexts."""
        return transfer_returns(policy, self.env, self.space, self.contexts, episodes=self.episodes, **keywords)

    def play_own(self, policy: Any, contexts: Floats) -> Returns:
        """(P, E) of P policies, each in its own of as many contexts."""
        rows = contexts.repeat(self.episodes, axis=0).tolist()
        played = evaluate(policy, self.env, episodes=self.episodes, contexts=self.space.ranges, context=rows)
        return played.returns


def cloned(
    task: Task,
    config: ContextualConfig,
    datasets: Sequence[Dataset],
    splits: Sequence[Split],
    scale: Scale,
    updates: int,
    seed: int,
    folder: Path,
) -> Returns:
    """Train one learner per split on the data of its training contexts; the best on validation contexts is saved.

    Args:
        task: where to play.
        config: of `HyperZero` or `ContextualCloning`.
        datasets: S, of each split's training contexts.
        splits: S.
        scale: of returns.
        updates: gradient updates.
        seed: of all learners.
        folder: gets a checkpoint folder per split.

    Returns:
        (L, S, N, E), at every look.
    """
    kind: type[ContextualAgent] = HyperZero if isinstance(config, HyperZero.Config) else ContextualCloning
    agent = kind(datasets, config, seed=[seed] * len(splits), device=task.device, contexts=task.space)
    best, learners = np.full(len(splits), -np.inf), [agent] * len(splits)
    looks = []
    with progress(folder.name, updates) as advance:
        for look in range(LOOKS):
            count = updates * (look + 1) // LOOKS - agent.updates
            agent.fit(count)
            advance(count)
            looks.append(task.play(agent, context_mode="concat"))
            for k, split in enumerate(splits):
                score = validated(looks[-1][k], split, scale)
                if score > best[k]:
                    best[k], learners[k] = score, agent.learner(k)
    for split, learner in zip(splits, learners, strict=True):  # the same ones where this was interrupted before
        learner.save(folder / split.name)
    return np.stack(looks)


def validated(returns: Returns, split: Split, scale: Scale) -> float:
    """Mean score in the validation contexts, of returns (N, E)."""
    return float(np.nan_to_num(scale(returns[split.validation], split.validation)).mean())


def chosen(looks: Returns, splits: Sequence[Split], scale: Scale) -> Returns:
    """(L, S, N, E) to (S, N, E): for each split the first look that is best on its validation contexts."""
    scores = [[validated(look[k], split, scale) for look in looks] for k, split in enumerate(splits)]
    best: Returns = looks[np.argmax(scores, axis=1), np.arange(len(splits))]
    return best


def nearest(transfer: Returns, split: Split, space: ContextSpace, contexts: Floats) -> Returns:
    """(N, E): in each context the training specialist of the nearest one, of the matrix (N, N, E)."""
    sources = [split.train[space.nearest(contexts[split.train], context)] for context in contexts]
    found: Returns = transfer[sources, np.arange(len(contexts))]
    return found


class Average:
    """The mean of the actions of P learners, as one policy."""

    population = 1

    def __init__(self, agent: SAC, learners: Indices) -> None:
        self.agent = agent.select(learners.tolist())

    def act(self, observations: NDArray[Any], *, deterministic: bool = True) -> NDArray[Any]:
        """(1, B, O) to (1, B, A)."""
        everyone = observations.repeat(self.agent.population, axis=0)
        return np.asarray(self.agent.act(everyone, deterministic=deterministic).mean(0, keepdims=True))


def randomized(task: Task, trainer: PopulationTrainer, split: Split, steps: int, seed: int, folder: Path) -> Returns:
    """(N, E) of one policy trained in all training contexts at once, for all the steps of their specialists."""
    train = task.contexts[split.train]
    agent = trainer.train(train[None], [seed], steps * len(train), steps, folder)
    played: Returns = task.play(agent)[0]
    return played


def few_shots(
    task: Task, agent: ContextualAgent, data: Dataset, contexts: Floats, shots: int, updates: int, seed: int
) -> tuple[Returns, Returns]:
    """Clone the first `shots` episodes of each context's specialist, from its generated policy and from scratch.

    Returns:
        (K, E) of each, in K contexts.
    """
    episodes = [_first(pick_contexts(data, context[None]), shots) for context in contexts]
    seeds = [seed] * len(contexts)
    started = few_shot(agent, contexts, episodes, seed=seeds, learning_rate=1e-3)
    scratch = BC(episodes, started.config, seed=seeds, device=task.device)
    first, second = (task.play_own(cloner.fit(updates), contexts) for cloner in (started, scratch))
    return first, second


def pick_contexts(data: Dataset, contexts: Floats) -> Dataset:
    """The transitions of some contexts (n, d), in their order."""
    assert data.contexts is not None
    wanted = (data.contexts[:, None] == contexts.astype(data.contexts.dtype)).all(-1).any(1)
    return replace(data.pick(wanted), whole_episodes=True)


def _first(data: Dataset, episodes: int) -> Dataset:
    stop = data.episode_slices[episodes - 1].stop
    return replace(data.pick(np.arange(stop)), contexts=None, values=None)
