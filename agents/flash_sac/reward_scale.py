"""The scale of rewards: large enough that discounted returns stay in the range of a categorical value.

Source: SimbaV2 (Lee et al. 2025) and FlashSAC's code.

Shape key: P population, n copies of the environment per learner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orl.dataset import Dataset

RETURNS = "reward_scale/returns"


class RewardScale:
    """D = max(std of G, max |G| / bound), with G the discounted sum of an episode's rewards so far, over all steps.

    Args:
        population: P; every learner has a scale of its own.
        discount: gamma.
        bound: what |G| / D never exceeds.
        device: of the scale.
    """

    def __init__(self, population: int, discount: float, bound: float, device: torch.device) -> None:
        self.discount, self.bound = discount, bound
        names = ("count", "mean", "squares", "largest")
        self.statistics = {
            f"return_{name}": torch.zeros(population, dtype=torch.float64, device=device) for name in names
        }
        self.returns: NDArray[np.float64] | None = None  # (P, n), of the running episodes

    @property
    def value(self) -> Tensor:
        """D, (P, 1); 1 before anything was seen."""
        count, squares, largest = (self.statistics[f"return_{name}"] for name in ("count", "squares", "largest"))
        std = (squares / count.clamp(min=1.0) + 1e-8).sqrt()
        scale = torch.where(count > 0, torch.maximum(std, largest / self.bound), 1.0)
        return scale.to(torch.get_default_dtype()).unsqueeze(-1)

    def fit(self, datasets: Sequence[Dataset]) -> None:
        """Take the statistics from recorded episodes, one dataset per learner."""
        for learner, data in enumerate(datasets):
            returns = returns_so_far(data, self.discount)
            described = len(returns), returns.mean(), returns.var() * len(returns), np.abs(returns).max()
            for statistic, value in zip(self.statistics.values(), described, strict=True):
                statistic[learner] = float(value)

    def observe(self, rewards: NDArray[np.float64], ended: NDArray[np.bool_]) -> None:
        """Add the rewards (P, n) of one step; where an episode ended (P, n), the next one begins at 0."""
        returns = np.zeros_like(rewards) if self.returns is None else self.returns
        self.returns = self.discount * returns + rewards
        count, mean, squares, largest = self.statistics.values()
        for values in torch.from_numpy(self.returns).to(count.device).unbind(1):  # Welford's update, copy by copy
            count += 1.0
            difference = values - mean
            mean += difference / count
            squares += difference * (values - mean)
            largest.copy_(torch.maximum(largest, values.abs()))
        self.returns[ended] = 0.0

    def go_on(self, lengths: NDArray[np.int64]) -> None:
        """Keep the returns of episodes that go on, in environments (P, n) where each has lasted so many steps."""
        before = self.returns if self.returns is not None and self.returns.shape == lengths.shape else 0.0
        self.returns = np.where(lengths > 0, before, 0.0)

    def running_state(self) -> dict[str, Tensor]:
        """The discounted returns of the running episodes."""
        return {} if self.returns is None else {RETURNS: torch.from_numpy(self.returns.copy())}

    def load_running(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `running_state`."""
        if RETURNS in tensors:
            self.returns = tensors[RETURNS].cpu().numpy().copy()


def returns_so_far(data: Dataset, discount: float) -> NDArray[np.float64]:
    """G of every row: G' = gamma G + r, from 0 at the start of its episode.

    Raises:
        ValueError: rows that form no episodes.
    """
    starts, stops = np.array([(each.start, each.stop) for each in data.episode_slices]).T
    returns = data.rewards.astype(np.float64)
    for step in range(1, int((stops - starts).max())):
        rows = starts[stops - starts > step] + step
        returns[rows] += discount * returns[rows - 1]
    return returns
