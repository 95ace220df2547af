"""One seed of `orl zero-shot`: specialists, their data, what learns from them, and all returns; each is computed once.

Ways to a policy for a context that nobody trained on differ in what they are given: specialists, their data, or steps.

Shape key: S splits, P policies, N contexts, E episodes, V evaluations of a training, K held-out contexts, B batch, O
observation, A action.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from orl import seeding
from orl.agents import (
    BC,
    CONCATENATION_SMALL_PRESET,
    HYPERZERO_PAPER_PRESET,
    HYPERZERO_SMALL_PRESET,
    SAC,
    UVFA_SMALL_PRESET,
    ContextualCloning,
    HyperZero,
)
from orl.agents.hyperzero.baselines import few_shot
from orl.agents.hyperzero.hyperzero import ContextualAgent, ContextualConfig
from orl.arrays import Float32Array, Float64Array, IntArray
from orl.context import ContextSpace
from orl.dataset import Dataset
from orl.environment import Spaces
from orl.evaluation import evaluate
from orl.rollout import Policy
from orl.scripts.commands.specialists import Specialists
from orl.scripts.contexts.specialist_data import specialist_episodes, transitions
from orl.scripts.contexts.trainers import PopulationTrainer
from orl.scripts.contexts.transfer_matrix import transfer_returns
from orl.scripts.data.behaviour_policies import RandomPolicy
from orl.scripts.running.registry import load_agent
from orl.scripts.running.reward_variants import imputed
from orl.scripts.running.run_directory import load_or_make
from orl.training import progress

METHODS: dict[str, ContextualConfig] = {
    "hyperzero": HYPERZERO_SMALL_PRESET,
    "hyperzero-paper": HYPERZERO_PAPER_PRESET,  # with its own sizes
    "concatenation": CONCATENATION_SMALL_PRESET,
    "uvfa": UVFA_SMALL_PRESET,
}
EVALUATIONS = 5  # of a method, in all contexts, evenly over training; those in validation contexts choose a checkpoint
VALIDATION_SHARE = 0.15  # of the contexts that are not held out
INNER = 0.7  # normalised: beyond it lie the outer 15 % of the range, at each end
HELD_OUT = {"interpolation-15": 0.15, "interpolation-80": 0.80, "extrapolation": None}  # None: the outer ones
LEAST = 8  # contexts
LEAST_TRAINED = 3  # contexts of a split; one with fewer is left out


@dataclass(frozen=True, eq=False)
class Split:
    """Indices of contexts: those trained on, those that choose a checkpoint, and those that are never seen."""

    name: str
    train: IntArray
    validation: IntArray
    test: IntArray


def splits(space: ContextSpace, contexts: Float64Array, seed: int) -> list[Split]:
    """The splits named in `HELD_OUT` that leave three contexts or more to train on.

    Source: the random split of Rezaei-Shoshtari et al. 2023 (HyperZero, arXiv 2211.15457) with 15 % held out, that with
    80 % of HyPoGen (ICLR 2025), and one whose held-out contexts lie beyond the others.

    Args:
        space: d variables; its ends are the range's.
        contexts: (N, d), at least 8.
        seed: of what is random in them.

    Raises:
        ValueError: too few contexts, or none inside the outer 15 % of the range.
    """
    count = len(contexts)
    if count < LEAST:
        raise ValueError(f"{count} contexts: give at least {LEAST}, so that some can be held out")
    farthest = np.abs(space.normalize(contexts)).max(axis=1)
    outer, inner = (np.flatnonzero(chosen) for chosen in (farthest > INNER, farthest <= INNER))
    if len(inner) < 2:
        raise ValueError(
            "contexts: fewer than two lie inside the outer 15 % of the range; give more values per variable"
        )
    generator = seeding.numpy_generator(seed, "split")
    every = []
    for name, share in HELD_OUT.items():
        if share is None:
            test, others = outer, generator.permutation(inner)
        else:
            test, others = np.split(generator.permutation(count), [round(share * count)])
        validation, train = np.split(others, [max(1, round(VALIDATION_SHARE * len(others)))])
        if len(train) >= LEAST_TRAINED:
            every.append(Split(name, np.sort(train), np.sort(validation), np.sort(test)))
    return every


@dataclass(frozen=True, eq=False)
class Task:
    """An environment with a grid of contexts, and how policies are compared in it."""

    env: str
    space: ContextSpace
    contexts: Float64Array  # (N, d)
    episodes: int  # E, of each evaluation
    device: str

    def returns(self, policy: Policy, context_mode: Literal["hidden", "concat"] = "hidden") -> Float64Array:
        """(P, N, E) of P policies in all contexts."""
        grid = self.env, self.space, self.contexts
        return transfer_returns(policy, *grid, episodes=self.episodes, context_mode=context_mode)

    def own_returns(self, policy: Policy, contexts: Float64Array) -> Float64Array:
        """(P, E) of P policies, each in its own of as many contexts."""
        rows = contexts.repeat(self.episodes, axis=0).tolist()
        return evaluate(policy, self.env, episodes=self.episodes, contexts=self.space.ranges, context=rows).returns


class Scale:
    """From returns to the zero-shot score: 0 is random actions, 1 the specialist of the same context.

    Args:
        random: (N, E), returns of random actions.
        specialist: (N, E), returns of each context's own specialist.

    Raises:
        ValueError: no specialist is better than random actions.
    """

    def __init__(self, random: Float64Array, specialist: Float64Array) -> None:
        self.low = random.mean(-1)
        span = specialist.mean(-1) - self.low
        if (span <= 0).all():
            raise ValueError("no specialist is better than random actions: train longer (--steps)")
        self.span = np.where(span > 0, span, np.nan)

    def __call__(self, returns: Float64Array, contexts: IntArray | slice = slice(None)) -> Float64Array:
        """(..., n, E) of n of the contexts to scores (..., n); NaN where the specialist is no better than random."""
        return np.asarray((returns.mean(-1) - self.low[contexts]) / self.span[contexts])

    def validation(self, returns: Float64Array, split: Split) -> float:
        """Mean score in the validation contexts, of returns (N, E)."""
        return float(np.nan_to_num(self(returns[split.validation], split.validation)).mean())


class AveragePolicy:
    """The mean of the actions of P learners, as one policy."""

    population = 1

    def __init__(self, agent: SAC, learners: IntArray) -> None:
        self.agent = agent.select(learners.tolist())

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        """(1, B, O) to (1, B, A)."""
        repeated = observations.repeat(self.agent.population, axis=0)
        return np.asarray(self.agent.act(repeated, deterministic=deterministic).mean(0, keepdims=True))


class Trial:
    """Everything of one seed.

    Args:
        task: environment and contexts.
        trainer: of specialists, and of the policy that is trained in all contexts.
        seed: of the splits and of what learns from the data; specialists have N seeds of their own, from N times it.
        folder: of the seed.
    """

    def __init__(self, task: Task, trainer: PopulationTrainer, seed: int, folder: Path) -> None:
        self.task, self.trainer, self.seed, self.folder = task, trainer, seed, folder
        self.splits = splits(task.space, task.contexts, seed)
        self.learned: dict[str, Float64Array] = {}  # by method: (S, N, E)
        self.held_out = {split.name: dict[str, Float64Array]() for split in self.splits}  # by method: (K, E)

    def specialists(self, grid: str, steps: int) -> SAC:
        """One for each context, trained together."""
        Specialists(
            self.trainer.config(steps),
            env=self.task.env,
            agent=self.trainer.name,
            contexts=grid,
            steps=steps,
            first_seed=self.seed * len(self.task.contexts),
            eval_every=max(1, steps // 5),
            eval_episodes=self.task.episodes,
            bias_episodes=0,
            device=self.task.device,
            out=self.folder / "specialists",
        ).results()
        agent: Any = load_agent(self.folder / "specialists", self.task.device)
        return agent  # type: ignore[no-any-return]

    def measure(self, agent: SAC) -> None:
        """Every specialist in every context, random actions, and the average of the training specialists."""
        task = self.task
        self.transfer = self._load_or_make("transfer", lambda: task.returns(agent))  # (N, N, E)
        random_policy = RandomPolicy(Spaces.of(task.env), self.seed)
        random = self._load_or_make("random", lambda: task.returns(random_policy)[0])
        diagonal = np.arange(len(task.contexts))
        self.own: Float64Array = self.transfer[diagonal, diagonal]  # (N, E)
        self.scale = Scale(random, self.own)
        averages = [AveragePolicy(agent, split.train) for split in self.splits]
        self.averages = self._load_or_make("average", lambda: np.stack([task.returns(each)[0] for each in averages]))

    def _load_or_make(self, name: str, make: Callable[[], Float64Array]) -> Float64Array:
        """Returns by name, which are not computed twice; they are in a file of the folder `returns`."""
        return load_or_make(self.folder / "returns" / f"{name}.npz", lambda: {"returns": make()})["returns"]

    def data(self, agent: SAC, episodes: int) -> Dataset:
        """Episodes of the specialists, in their own contexts."""
        task = self.task
        played = specialist_episodes(agent, task.env, task.space, task.contexts, episodes=episodes, seed=self.seed)
        return transitions(played, agent.spaces)

    def learn(
        self, methods: Mapping[str, ContextualConfig], data: Callable[[], Dataset], labels: float | None, updates: int
    ) -> None:
        """Train what learns from data, one learner per split; hidden rewards are imputed for each split.

        Args:
            methods: configurations by name.
            data: gives the specialists' data, where they are needed.
            labels: share of the rewards that are not hidden; None: all.
            updates: gradient updates of each method.
        """

        @functools.cache
        def of_splits() -> list[Dataset]:
            """The data of each split's training contexts."""
            picked = [pick_contexts(data(), self.task.contexts[split.train]) for split in self.splits]
            return picked if labels is None else imputed(picked, labels, self.seed, self.task.device)

        for name, config in methods.items():
            evaluations = self._load_or_make(name, lambda: self._train(name, config, of_splits(), updates))  # noqa: B023
            self.learned[name] = choose_checkpoints(evaluations, self.splits, self.scale)

    def _train(self, name: str, config: ContextualConfig, datasets: Sequence[Dataset], updates: int) -> Float64Array:
        """Train one learner per split and return all evaluations, (V, S, N, E); each split's best one is saved."""
        task, seeds = self.task, [self.seed] * len(self.splits)
        agent_class: type[ContextualAgent] = HyperZero if isinstance(config, HyperZero.Config) else ContextualCloning
        agent = agent_class(datasets, config, seed=seeds, device=task.device, contexts=task.space)
        best, learners = np.full(len(self.splits), -np.inf), [agent] * len(self.splits)
        evaluations = []
        with progress(name, updates) as advance:
            for number in range(1, EVALUATIONS + 1):
                count = updates * number // EVALUATIONS - agent.updates
                agent.fit(count)
                advance(count)
                evaluations.append(task.returns(agent, "concat"))
                for k, split in enumerate(self.splits):
                    score = self.scale.validation(evaluations[-1][k], split)
                    if score > best[k]:
                        best[k], learners[k] = score, agent.learner(k)
        for split, learner in zip(self.splits, learners, strict=True):  # also where this was interrupted before
            learner.save(self.folder / name / split.name)
        return np.stack(evaluations)

    def fine_tune(self, data: Callable[[], Dataset], shots: Sequence[int], updates: int) -> None:
        """Clone a few episodes of each held-out context's specialist, from its generated policy and from scratch."""
        for split in self.splits if shots else ():
            agent = HyperZero.load(self.folder / "hyperzero" / split.name, device=self.task.device)
            for number in shots:
                returns = self._load_or_make(
                    f"shots/{split.name}/{number}",
                    lambda: self._few_shots(agent, data(), self.task.contexts[split.test], number, updates),  # noqa: B023
                )
                names = f"hyperzero, {number} shots", f"{number} shots"
                self.held_out[split.name] |= dict(zip(names, returns, strict=True))

    def _few_shots(
        self, agent: ContextualAgent, data: Dataset, contexts: Float64Array, shots: int, updates: int
    ) -> Float64Array:
        """(2, K, E) in K contexts, of cloning from the generated policy and from scratch."""
        episodes = []
        for context in contexts:
            own = pick_contexts(data, context[None])
            rows = np.arange(own.episode_slices[shots - 1].stop)
            episodes.append(replace(own.pick(rows), contexts=None, values=None))
        seeds = [self.seed] * len(contexts)
        tuned = few_shot(agent, contexts, episodes, seed=seeds, learning_rate=1e-3)
        scratch = BC(episodes, tuned.config, seed=seeds, device=self.task.device)
        return np.stack([self.task.own_returns(cloner.fit(updates), contexts) for cloner in (tuned, scratch)])

    def randomize(self, steps: int) -> None:
        """One policy in all training contexts of each split at once, for all the steps of their specialists."""
        for split in self.splits:
            name = f"randomized/{split.name}"

            def returns(train: IntArray = split.train, folder: Path = self.folder / name) -> Float64Array:
                contexts = self.task.contexts[train]
                agent = self.trainer.train(contexts[None], [self.seed], steps * len(train), steps, folder)
                return np.asarray(self.task.returns(agent)[0])

            self.held_out[split.name]["randomized"] = self._load_or_make(name, returns)[split.test]

    def returns(self, k: int) -> dict[str, Float64Array]:
        """(K, E) in the held-out contexts of split k, by what gave the policies."""
        split, task = self.splits[k], self.task
        everywhere = {
            "specialist": self.own,
            **{name: returns[k] for name, returns in self.learned.items()},
            "nearest": nearest_specialists(self.transfer, split, task.space, task.contexts),
            "default": self.transfer[task.space.nearest(task.contexts, task.space.default)],
            "average": self.averages[k],
        }
        return {name: returns[split.test] for name, returns in everywhere.items()} | self.held_out[split.name]

    def scores(self, k: int) -> dict[str, Float64Array]:
        """Zero-shot scores in the held-out contexts of split k that have one, by what gave the policies."""
        scores = {name: self.scale(returns, self.splits[k].test) for name, returns in self.returns(k).items()}
        return {name: values[~np.isnan(values)] for name, values in scores.items()}


def choose_checkpoints(evaluations: Float64Array, splits: Sequence[Split], scale: Scale) -> Float64Array:
    """(V, S, N, E) to (S, N, E): for each split the first evaluation that is best on its validation contexts."""
    scores = [[scale.validation(returns[k], split) for returns in evaluations] for k, split in enumerate(splits)]
    return np.asarray(evaluations[np.argmax(scores, axis=1), np.arange(len(splits))])


def nearest_specialists(
    transfer: Float64Array, split: Split, space: ContextSpace, contexts: Float64Array
) -> Float64Array:
    """(N, E): in each context the training specialist of the nearest one, of the matrix (N, N, E)."""
    sources = [split.train[space.nearest(contexts[split.train], context)] for context in contexts]
    return np.asarray(transfer[sources, np.arange(len(contexts))])


def pick_contexts(data: Dataset, contexts: Float64Array) -> Dataset:
    """The transitions of some contexts (n, d), in their order."""
    assert data.contexts is not None
    rows = (data.contexts[:, None] == contexts.astype(data.contexts.dtype)).all(-1).any(1)
    return replace(data.pick(rows), whole_episodes=True)
