"""Observation statistics."""

from __future__ import annotations

import numpy as np
import torch

from orl.buffer import Batch
from orl.dataset import Dataset
from orl.networks import EPSILON, Normalizer, mean_and_std


def test_moments_by_hand() -> None:
    mean, std = mean_and_std(np.array([[0.0, 5.0], [2.0, 5.0]], np.float32))
    assert mean.tolist() == [1.0, 5.0]
    torch.testing.assert_close(std, torch.tensor([1.0 + EPSILON, EPSILON]))


def test_moments_are_accumulated_in_double_precision() -> None:
    features = np.full((10_000, 2), 1e4, np.float32)  # two columns: of one, NumPy adds up pairs of pairs
    features[::2] += 1
    mean, std = mean_and_std(features)
    torch.testing.assert_close(mean, torch.full((2,), 1e4 + 0.5))
    torch.testing.assert_close(std, torch.full((2,), 0.5 + EPSILON))


def test_an_unfitted_normalizer_changes_nothing() -> None:
    observations = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Normalizer(2, 3, torch.device("cpu"))(observations), observations)


def test_every_learner_has_the_statistics_of_its_own_data(data: Dataset) -> None:
    other = Dataset.from_arrays(
        *(10 * data.observations + 3, data.actions, data.rewards, data.next_observations),
        *(data.terminated, data.truncated),
    )
    normalizer = Normalizer(3, 2, torch.device("cpu"))
    normalizer.fit([data, other, data.with_rewards(-data.rewards)])
    for k, each in enumerate((data, other, data)):
        observations = torch.from_numpy(each.observations)
        expected = (observations - observations.mean(0)) / (observations.std(0, correction=0) + EPSILON)
        torch.testing.assert_close(normalizer(observations.expand(3, -1, -1))[k], expected, rtol=1e-5, atol=1e-5)


def test_both_observations_of_a_batch_are_normalised_once() -> None:
    normalizer = Normalizer(1, 1, torch.device("cpu"))
    normalizer.mean.fill_(3.0)
    normalizer.std.fill_(2.0)
    column = torch.tensor([[[5.0], [9.0]]])
    batch = normalizer.batch(Batch(column, column, column[..., 0], column + 4, column[..., 0]))
    assert batch.observations.tolist() == [[[1.0], [3.0]]]
    assert batch.next_observations.tolist() == [[[3.0], [5.0]]]
    assert batch.actions is column


def test_statistics_are_taken_and_put_back_by_name() -> None:
    normalizer = Normalizer(1, 2, torch.device("cpu"))
    normalizer.tensors()["mean"].fill_(3.0)
    normalizer.tensors()["std"].fill_(2.0)
    assert normalizer(torch.tensor([[[5.0, 1.0]]])).tolist() == [[[1.0, -1.0]]]
