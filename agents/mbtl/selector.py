"""MBTL: which task to train next, when a policy that was trained on one task is used on all of them.

Papers: Cho et al. 2024, "Model-Based Transfer Learning for Contextual Reinforcement Learning", arXiv 2408.04498; Zhou,
Cho & Wu 2026 (SD-MBTL). Code: jhoon-cho/MBTL, mit-wu-lab/SD-MBTL.

Deviations from the papers:
* contexts are scaled to [0, 1]^d; distances and length scales are in that unit, not in steps of a grid;
* `gp`: slopes are fitted together with policy quality and task ease, and near pairs weigh more (`GeneralisationGap`);
  the Gaussian process learns policy quality from whole rows, not from single scores; residuals of the linear gap count
  for near sources too; the standard deviation is without a training's noise;
* `mountain`: every context is a candidate, and the fitted slopes weigh the dimensions;
* `auto`: the detection compares policy quality with the gap from the nearest source, not with whole rows
  (`is_mountain`);
* `gp-original`: in d > 1 dimensions a step of the grid is 1 / (N^(1/d) - 1);
* `greedy` and `equidistant` in d > 1 dimensions are ours; `equidistant` is planned for the budget.

Shape key: N contexts, d dimensions, k sources told so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args, overload

import numpy as np
from numpy.typing import ArrayLike

from orl import seeding
from orl.agents.mbtl.strategies import SelectionRule, Strategy
from orl.agents.mbtl.transfer_model import ObservedScores
from orl.arrays import Float64Array, IntArray

MOST_CONTEXTS, MOST_DIMENSIONS = 10_000, 7


class Prediction(NamedTuple):
    """What the selector expects of every context, in the unit of the scores."""

    mean: Float64Array  # (N,) training performance: the score of a policy in the context that it was trained in
    std: Float64Array  # (N,) of that mean
    acquisition: Float64Array  # (N,) what `ask` maximises over contexts that were not trained
    slopes_below: Float64Array  # (d,) score lost over the whole range of a dimension, for targets below the source
    slopes_above: Float64Array  # (d,) the same for targets above the source


class TaskSelector:
    """Ask for a context, train there, tell the scores of that policy on all contexts; repeat.

    Args:
        contexts: (N, d), 1 to 10,000 of them in 1 to 7 dimensions, in any unit, all different.
        strategy: `auto`, `gp`, `gp-original`, `mountain`, or a baseline; `docs/task-selection.md` says which when.
        budget: sources at most, 1 to N; None: N. `equidistant` needs it.
        bounds: (low, high) of the scores; None: those of the scores so far. Only `gp-original` depends on them.
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
        self.contexts = _check_contexts(contexts)
        count = len(self.contexts)
        _check_settings(strategy, budget, bounds, count)
        self.strategy, self.bounds, self.seed = strategy, bounds, seeding.check_seeds([seed])[0]
        self.budget = count if budget is None else int(budget)
        self._rule = SelectionRule(strategy, self.budget, bounds, self.seed, _check_matrix(matrix, strategy, count))
        self._observed = self._no_scores()

    @property
    def sources(self) -> IntArray:
        """Indices (k,) of the sources told so far, in order."""
        return self._observed.sources

    @property
    def scores(self) -> Float64Array:
        """Rows of the transfer matrix told so far, (k, N)."""
        return self._observed.scores

    @property
    def coverage(self) -> Float64Array:
        """The best score so far of each target (N,), NaN where it has none; `independent` counts own scores alone."""
        return ObservedScores(self.contexts, self.sources, self._counted_scores()).coverage

    @property
    def best_source(self) -> IntArray:
        """The index (N,) of the source with that score, the earliest of equals; -1 where there is none."""
        scores = self._counted_scores()
        if not len(scores):
            return np.full(len(self.contexts), -1)
        best = self.sources[np.where(np.isnan(scores), -np.inf, scores).argmax(0)]
        return np.where(np.isnan(self.coverage), -1, best)

    @overload
    def ask(self) -> int: ...
    @overload
    def ask(self, n: int) -> list[int]: ...
    def ask(self, n: int | None = None) -> int | list[int]:
        """The context to train next, or `n` different ones to train together (fewer where the budget ends).

        The answer stays the same until `tell`, so that an interrupted training is asked for again. A batch is filled by
        the believer: a pick counts as trained, with the scores that the model expects, when the next is chosen.

        Raises:
            ValueError: the budget is spent, or n is below 1.
        """
        left = self.budget - len(self.sources)
        if left < 1:
            raise ValueError(f"the budget of {self.budget} sources is spent: make a selector with a larger one")
        if n is not None and n < 1:
            raise ValueError(f"n={n}: ask for 1 or more contexts")
        picks = self._rule.pick(self._observed, min(n or 1, left))
        return picks[0] if n is None else picks

    def tell(self, index: int, scores: ArrayLike) -> None:
        """Add the scores of a trained source, asked for or not.

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
        row = _check_scores(scores, self.bounds, count)
        self._observed = self._observed.with_row(int(index), row)

    def prediction(self) -> Prediction:
        """What the model expects now; baselines are shown with the model of `gp`.

        Raises:
            ValueError: nothing was told.
        """
        if not len(self.sources):
            raise ValueError("nothing was told yet: there is nothing to predict from")
        model = self._rule.model(self._observed)
        acquisition = self._rule.acquisition(self._observed)
        return Prediction(model.mean, model.std, acquisition, model.gap.slopes_below, model.gap.slopes_above)

    def state_dict(self) -> dict[str, Any]:
        """Strings, numbers and arrays for `load_state_dict`."""
        return {
            "strategy": self.strategy,
            "seed": self.seed,
            "contexts": self.contexts.copy(),
            "sources": self.sources.copy(),
            "scores": self.scores.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with the sources and scores of a `state_dict`; arrays may have become lists.

        Raises:
            ValueError: a state of other contexts, another strategy or another seed.
        """
        for name in ("strategy", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(f"the state is of {name}={state[name]!r}, this selector's is {getattr(self, name)!r}")
        if not np.array_equal(np.asarray(state["contexts"]), self.contexts):
            raise ValueError("the state is of other contexts: make the selector with those")
        before, self._observed = self._observed, self._no_scores()
        try:
            for index, row in zip(state["sources"], state["scores"], strict=True):
                self.tell(index, row)
        except ValueError:
            self._observed = before
            raise

    def _no_scores(self) -> ObservedScores:
        span = np.ptp(self.contexts, axis=0)
        scaled = (self.contexts - self.contexts.min(0)) / np.where(span > 0, span, 1.0)
        return ObservedScores(scaled, np.empty(0, np.int64), np.empty((0, len(scaled))))

    def _counted_scores(self) -> Float64Array:
        if self.strategy != "independent":
            return self.scores
        is_own = self.sources[:, None] == np.arange(len(self.contexts))
        return np.where(is_own, self.scores, np.nan)


def _check_contexts(contexts: ArrayLike) -> Float64Array:
    """A copy (N, d), in which all contexts are finite and different."""
    checked = np.array(contexts, np.float64)
    if checked.ndim != 2 or not 1 <= len(checked) <= MOST_CONTEXTS or not 1 <= checked.shape[1] <= MOST_DIMENSIONS:
        raise ValueError(
            f"contexts have the shape {checked.shape}: give (N, d), N up to {MOST_CONTEXTS:,} and d up to "
            f"{MOST_DIMENSIONS}; one parameter is contexts[:, None]"
        )
    if not np.isfinite(checked).all():
        raise ValueError(f"contexts[{np.argwhere(~np.isfinite(checked))[0][0]}] is not finite")
    _, first, inverse = np.unique(checked, axis=0, return_index=True, return_inverse=True)
    earliest = first[inverse.ravel()]
    repeated = np.flatnonzero(earliest != np.arange(len(checked)))
    if len(repeated):
        raise ValueError(
            f"contexts[{repeated[0]}] repeats contexts[{earliest[repeated[0]]}], {checked[repeated[0]].tolist()}: "
            "give each one once (np.unique with axis=0)"
        )
    return checked


def _check_matrix(matrix: ArrayLike | None, strategy: Strategy, count: int) -> Float64Array | None:
    """A copy (N, N) for the oracle, None for the others."""
    if (matrix is not None) != (strategy == "sequential-oracle"):
        raise ValueError(
            f"strategy={strategy!r} with matrix={'(given)' if matrix is not None else None}: 'sequential-oracle' needs "
            "the full matrix of scores, and no other strategy may see it"
        )
    if matrix is None:
        return None
    checked = np.array(matrix, np.float64)
    if checked.shape != (count, count) or not np.isfinite(checked).all():
        raise ValueError(f"matrix has the shape {checked.shape}: give finite scores ({count}, {count}), rows sources")
    return checked


def _check_settings(strategy: str, budget: int | None, bounds: tuple[float, float] | None, count: int) -> None:
    """Refuse a strategy, a budget or bounds that cannot be."""
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy={strategy!r}: choose one of {', '.join(get_args(Strategy))}")
    if budget is not None and not (budget == int(budget) and 1 <= budget <= count):
        raise ValueError(f"budget={budget}: give a whole number from 1 to {count}, the number of contexts")
    if strategy == "equidistant" and budget is None:
        raise ValueError("strategy='equidistant' is planned for a number of sources: give a budget")
    if bounds is not None and not (len(bounds) == 2 and np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"bounds={bounds}: give the lowest and the highest score that a policy can have")


def _check_scores(scores: ArrayLike, bounds: tuple[float, float] | None, count: int) -> Float64Array:
    """A copy (N,) of a source's scores."""
    row = np.array(scores, np.float64)
    if row.shape != (count,):
        raise ValueError(f"scores have the shape {row.shape}: give one for each of the {count} contexts, ({count},)")
    if np.isinf(row).any():
        raise ValueError(f"scores[{np.flatnonzero(np.isinf(row))[0]}] is infinite: give finite scores, NaN for missing")
    if np.isnan(row).all():
        raise ValueError("scores are all NaN: a source that was evaluated nowhere is not told")
    low, high = bounds or (-np.inf, np.inf)
    if np.nanmin(row) < low or np.nanmax(row) > high:
        raise ValueError(
            f"scores from {np.nanmin(row)} to {np.nanmax(row)} are outside bounds={bounds}: clip them, or make the "
            "selector with wider bounds"
        )
    return row
