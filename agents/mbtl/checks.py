"""What `TaskSelector` refuses, each with its remedy."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import ArrayLike

from orl.agents.mbtl.gap import FloatArray
from orl.agents.mbtl.strategies import Strategy

MOST_CONTEXTS, MOST_DIMENSIONS = 10_000, 7


def checked_contexts(contexts: ArrayLike) -> FloatArray:
    """A copy (N, d), every context finite and there once."""
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


def checked_matrix(matrix: ArrayLike | None, strategy: Strategy, count: int) -> FloatArray | None:
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


def check_settings(strategy: str, budget: int | None, bounds: tuple[float, float] | None, count: int) -> None:
    """Refuse a strategy, a budget or bounds that cannot be."""
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy={strategy!r}: choose one of {', '.join(get_args(Strategy))}")
    if budget is not None and not (budget == int(budget) and 1 <= budget <= count):
        raise ValueError(f"budget={budget}: give a whole number from 1 to {count}, the number of contexts")
    if strategy == "equidistant" and budget is None:
        raise ValueError("strategy='equidistant' is planned for a number of sources: give a budget")
    if bounds is not None and not (len(bounds) == 2 and np.isfinite(bounds).all() and bounds[0] < bounds[1]):
        raise ValueError(f"bounds={bounds}: give the lowest and the highest score that a policy can have")


def checked_row(scores: ArrayLike, bounds: tuple[float, float] | None, count: int) -> FloatArray:
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
