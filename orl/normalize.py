"""Observation statistics that travel with the policy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from orl.buffer import Batch
from orl.dataset import Dataset

EPSILON = 1e-3  # added to the standard deviation, as TD3+BC does (Fujimoto & Gu 2021, section 5)


class Normalizer:
    """(x - mean) / std with one mean and one std per learner, frozen once fitted."""

    def __init__(self, population: int, size: int, device: torch.device) -> None:
        self.mean = torch.zeros(population, 1, size, device=device)
        self.std = torch.ones(population, 1, size, device=device)

    def fit(self, datasets: Sequence[Dataset]) -> None:
        """Take the statistics of each learner's observations."""
        known: dict[int, tuple[Tensor, Tensor]] = {}
        for learner, data in enumerate(datasets):
            key = id(data.observations)
            if key not in known:
                known[key] = mean_and_std(data.observations)
            mean, std = known[key]
            self.mean[learner, 0], self.std[learner, 0] = mean, std

    def __call__(self, observations: Tensor) -> Tensor:
        """(..., P, B, O) to (..., P, B, O)."""
        return (observations - self.mean) / self.std

    def batch(self, batch: Batch) -> Batch:
        """With the observations that networks take."""
        return batch._replace(observations=self(batch.observations), next_observations=self(batch.next_observations))

    def tensors(self) -> dict[str, Tensor]:
        """The statistics, to be saved and loaded in place."""
        return {"mean": self.mean, "std": self.std}


def mean_and_std(features: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> tuple[Tensor, Tensor]:
    """Mean and std + 1e-3 of each column of (N, F), accumulated in float64."""
    mean = features.mean(axis=0, dtype=np.float64)
    std = features.std(axis=0, dtype=np.float64) + EPSILON
    dtype = torch.get_default_dtype()
    return torch.from_numpy(mean).to(dtype), torch.from_numpy(std).to(dtype)
