"""MBTL: which task to train next, when a policy that was trained on one task is used on all of them.

Papers: Cho et al. 2024, "Model-Based Transfer Learning for Contextual Reinforcement Learning", arXiv 2408.04498; Zhou,
Cho & Wu 2026 (SD-MBTL). Code: jhoon-cho/MBTL, mit-wu-lab/SD-MBTL.

Deviations from the papers:
* contexts are scaled to [0, 1]^d; distances and length scales are in that unit, not in steps of a grid;
* `gp`: slopes are fitted together with how good each source and how easy each target is, and near pairs weigh more
  (`generalisation_gap`); the Gaussian process learns how good sources are from whole rows, not from single scores; what
  the straight gap leaves of a row counts for near sources too; the standard deviation is without a training's noise;
* `mountain`: every context is a candidate, and the fitted slopes weigh the dimensions;
* `auto`: the detection compares sources with what their reach costs, not with whole rows (`is_mountain`);
* `gp-original`: in d > 1 dimensions a step of the grid is 1 / (N^(1/d) - 1);
* `greedy` and `equidistant` in d > 1 dimensions are ours; `equidistant` is planned for the budget.

Shape key: N contexts, d dimensions, k sources told so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from orl import seeding
from orl.agents.mbtl.checks import check_settings, checked_contexts, checked_matrix, checked_row
from orl.agents.mbtl.gap import FloatArray, IntArray
from orl.agents.mbtl.models import Observed
from orl.agents.mbtl.strategies import Rule, Strategy


class Prediction(NamedTuple):
    """What the selector expects of every context, in the unit of the scores."""

    mean: FloatArray  # (N,) of the own score of a policy trained there
    sd: FloatArray  # (N,)
    acquisition: FloatArray  # (N,) what `ask` maximises over contexts that were not trained
    left: FloatArray  # (d,) score lost over the whole range of a dimension, for targets below the source
    right: FloatArray  # (d,) for targets above it


class TaskSelector:
    """Ask for a context, train there, tell the scores of that policy on all contexts; repeat.

    Args:
        contexts: (N, d), 1 to 10,000 of them in 1 to 7 dimensions, in any unit, each once.
        strategy: `auto`, `gp`, `gp-original`, `mountain`, or a baseline; `docs/task-selection.md` says which when.
        budget: sources at most, 1 to N; None: N. `equidistant` needs it.
        bounds: (low, high) of the scores; None: those seen so far. Only `gp-original` depends on them.
        seed: of `random`, of the plan of `equidistant` and of restarts in `gp-original`.
        matrix: (N, N) true scores, rows sources; `sequential-oracle` needs it.

    Raises:
        ValueError: contexts of another shape, not finite, or repeated; a budget outside 1 to N; bounds that are not
            two increasing numbers; an unknown strategy; a matrix missing or not needed.
    """

    def __init__(
        self,
        contexts: ArrayLike,
        strategy: Strategy = "auto",
        budget: int | None = None,
        bounds: tuple[float, float] | None = None,
        seed: int = 0,
        *,
        matrix: ArrayLike | None = None,
    ) -> None:
        self.contexts = checked_contexts(contexts)
        count = len(self.contexts)
        check_settings(strategy, budget, bounds, count)
        full = checked_matrix(matrix, strategy, count)
        self.strategy, self.bounds, self.seed = strategy, bounds, seeding.check_seeds([seed])[0]
        self.budget = count if budget is None else int(budget)
        self._rule = Rule(strategy, self.budget, bounds, self.seed, full)
        self._observed = self._nothing()

    @property
    def sources(self) -> IntArray:
        """Indices (k,) told so far, in order."""
        return self._observed.sources

    @property
    def scores(self) -> FloatArray:
        """Rows of the transfer matrix told so far, (k, N)."""
        return self._observed.scores

    @property
    def coverage(self) -> FloatArray:
        """The best score so far per target (N,), NaN where there is none; `independent` counts own scores alone."""
        return Observed(self.contexts, self.sources, self._usable()).coverage

    @property
    def best_source(self) -> IntArray:
        """The index (N,) of the source with that score, the earliest of equals; -1 where there is none."""
        usable = self._usable()
        if not len(usable):
            return np.full(len(self.contexts), -1)
        best = self.sources[np.where(np.isnan(usable), -np.inf, usable).argmax(0)]
        return np.where(np.isnan(self.coverage), -1, best)

    @overload
    def ask(self) -> int: ...
    @overload
    def ask(self, n: int) -> list[int]: ...
    def ask(self, n: int | None = None) -> int | list[int]:
        """The context to train next, or `n` different ones to train together (fewer where the budget ends).

        The same answer until something is told, so that an interrupted training is asked for again. A batch is filled
        by the believer: a pick counts as trained, with the scores that the model expects, when the next is chosen.

        Raises:
            ValueError: the budget is spent, or n is below 1.
        """
        left = self.budget - len(self.sources)
        if left < 1:
            raise ValueError(f"the budget of {self.budget} sources is spent: make a selector with a larger one")
        if n is not None and n < 1:
            raise ValueError(f"n={n}: ask for 1 or more contexts")
        picks = self._rule.batch(self._observed, min(n or 1, left))
        return picks[0] if n is None else picks

    def tell(self, index: int, scores: ArrayLike) -> None:
        """Add a trained source, asked for or not.

        Args:
            index: of its context.
            scores: (N,) of its policy on every context, higher is better; NaN where not evaluated.

        Raises:
            ValueError: an index that is no context or was told before; scores of another length, infinite, all NaN or
                outside `bounds`. Nothing changes then.
        """
        count = len(self.contexts)
        if not 0 <= index < count or index != int(index):
            raise ValueError(f"index={index}: the contexts are 0 to {count - 1}")
        if index in self.sources:
            raise ValueError(f"index={index} was told before: a source has one row of scores")
        row = checked_row(scores, self.bounds, count)
        self._observed = self._observed.with_row(int(index), row)

    def prediction(self) -> Prediction:
        """What the Gaussian process and the gap say now; baselines are shown with the model of `gp`.

        Raises:
            ValueError: nothing was told.
        """
        if not len(self.sources):
            raise ValueError("nothing was told yet: there is nothing to predict from")
        model = self._rule.model(self._observed)
        return Prediction(model.mean, model.sd, self._rule.values(self._observed), model.gap.left, model.gap.right)

    def state_dict(self) -> dict[str, Any]:
        """Strings, numbers and arrays, from which `load_state_dict` goes on with the same answers."""
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "contexts": self.contexts.copy(),
            "sources": self.sources.copy(),
            "scores": self.scores.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace what was told; arrays may have become lists.

        Raises:
            ValueError: a state of other contexts, another strategy or another seed.
        """
        for name in ("strategy", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(f"the state is of {name}={state[name]!r}, this selector's is {getattr(self, name)!r}")
        if not np.array_equal(np.asarray(state["contexts"]), self.contexts):
            raise ValueError("the state is of other contexts: make the selector with those")
        before, self._observed = self._observed, self._nothing()
        try:
            for index, row in zip(state["sources"], state["scores"], strict=True):
                self.tell(index, row)
        except ValueError:
            self._observed = before
            raise

    def _nothing(self) -> Observed:
        span = np.ptp(self.contexts, axis=0)
        scaled = (self.contexts - self.contexts.min(0)) / np.where(span > 0, span, 1.0)
        return Observed(scaled, np.empty(0, np.int64), np.empty((0, len(scaled))))

    def _usable(self) -> FloatArray:
        if self.strategy != "independent":
            return self.scores
        own = self.sources[:, None] == np.arange(len(self.contexts))
        return np.where(own, self.scores, np.nan)
