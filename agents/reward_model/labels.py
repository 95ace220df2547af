"""The labels of a reward model: which it trains on, and how well it fits those that it does not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from orl import seeding
from orl.dataset import Dataset

Numbers = NDArray[np.float64]
Pair = tuple[Dataset, Dataset]
TINY = 1e-8  # keeps ratios finite where the ensemble agrees exactly


@dataclass(frozen=True)
class Split:
    """Row numbers of one learner's labels."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    held_out: NDArray[np.int64]

    @classmethod
    def of(cls, known: NDArray[np.int64], validation_share: float, held_out_share: float, seed: int) -> Self:
        """A random split with at least one row in each part, of three rows or more."""
        order = seeding.numpy_generator(seed, "split").permutation(known)
        count = len(known)
        held_out = max(1, min(round(held_out_share * count), count - 2))
        validation = max(1, min(round(validation_share * count), count - held_out - 1))
        return cls(order[held_out + validation :], order[held_out : held_out + validation], order[:held_out])


@dataclass(frozen=True)
class Report:
    """How well a reward model fits labels that it did not see; None where a number is undefined.

    Held-out labels are drawn one by one: where whole episodes are labelled, neighbours of each are trained on, and the
    hidden rewards, of other episodes, are fitted worse than the report says.
    """

    labels: int  # known rewards in the data
    r2: float | None  # share of the held-out labels' variance that is explained
    mae: float  # mean absolute error, in reward units
    coverage: float  # share of held-out labels within two calibrated standard deviations
    return_correlation: float | None  # Pearson, imputed against true episode returns

    @classmethod
    def of(
        cls,
        data: Dataset,
        held_out: NDArray[np.int64],
        mean: Numbers,
        std: Numbers,
        pair: Pair | None,
    ) -> Self:
        """From the rewards that were predicted for the held-out rows of some data.

        Args:
            data: what the model was made with.
            held_out: rows.
            mean: prediction of their rewards.
            std: and its calibrated standard deviation.
            pair: the data with imputed and with true rewards, if these are known.
        """
        labels = data.rewards[held_out].astype(np.float64)
        errors = np.abs(labels - mean)
        spread = float(np.square(labels - labels.mean()).sum())
        return cls(
            labels=int(data.is_labelled.sum()),
            r2=1.0 - float(np.square(errors).sum()) / spread if spread > 0 else None,
            mae=float(errors.mean()),
            coverage=float((errors <= 2 * std + TINY).mean()),
            return_correlation=_return_correlation(*pair) if pair is not None else None,
        )


def _return_correlation(imputed: Dataset, truth: Dataset) -> float | None:
    if not truth.whole_episodes or len(truth.episode_slices) < 2:
        return None
    pair = imputed.episode_returns(), truth.episode_returns()
    return float(np.corrcoef(*pair)[0, 1]) if all(np.ptp(returns) > 0 for returns in pair) else None
