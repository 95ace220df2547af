"""Contexts as inputs of the reward model: rewards that only they explain, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orl.agents import RewardModel
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (16, 16), "num_members": 2, "batch_size": 32, "max_updates": 60}


@pytest.fixture
def make_tasks(make_data: MakeData) -> MakeData:
    """Episodes with a target each, c = (target, noise of another size); the reward is minus the distance from it."""

    def make(rows: int = 200, seed: int = 0) -> Dataset:
        data = make_data(rows=rows, seed=seed)
        episodes = np.random.default_rng(seed + 1).uniform((-1, 90), (1, 110), (rows // 10, 2))
        contexts = episodes.repeat(10, axis=0).astype(np.float32)
        return replace(data, contexts=contexts).with_rewards(-np.abs(data.observations[:, 0] - contexts[:, 0]))

    return make


def test_rewards_of_many_tasks_need_the_context(make_tasks: MakeData) -> None:
    truth = make_tasks(rows=3_000)
    sparse = truth.with_labels(0.2)
    hidden = ~sparse.is_labelled
    explained = {}
    for name, data in (("with", sparse), ("without", replace(sparse, contexts=None))):
        model = RewardModel(data, hidden_sizes=(64, 64), num_members=2, batch_size=128, max_updates=400).fit()
        error = np.square(model.impute(data).rewards - truth.rewards)[hidden].mean()
        explained[name] = 1 - error / truth.rewards[hidden].var()
    assert explained["with"] > 0.9
    assert explained["without"] < 0.75


def test_contexts_are_normalised_like_the_other_inputs_and_change_no_other(make_tasks: MakeData) -> None:
    data = make_tasks()
    assert data.contexts is not None
    buffers, bare = (RewardModel(each, **SMALL).buffers for each in (data, replace(data, contexts=None)))
    mean, std = buffers["input_mean"].flatten(), buffers["input_std"].flatten()
    contexts = slice(5, 7)  # behind 3 observation features and 2 actions
    np.testing.assert_allclose(mean[contexts], data.contexts.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(std[contexts], data.contexts.std(0, dtype=np.float64) + 1e-3, rtol=1e-5)
    others = np.delete(np.arange(len(mean)), contexts)
    assert torch.equal(mean[others], bare["input_mean"].flatten())
    assert torch.equal(std[others], bare["input_std"].flatten())


def test_the_population_law_with_contexts(make_tasks: MakeData, float64: None) -> None:
    datasets = [make_tasks().with_labels(0.5), make_tasks(rows=100, seed=9).with_labels(0.3)]
    together = RewardModel(datasets, seed=[3, 4], **SMALL).fit()
    for k, data in enumerate(datasets):
        alone = RewardModel(data, seed=3 + k, **SMALL).fit()
        np.testing.assert_allclose(together.impute(datasets)[k].rewards, alone.impute(data).rewards, rtol=1e-6)
        np.testing.assert_allclose(together.member_predictions(k, data), alone.member_predictions(0, data), rtol=1e-9)


def test_only_data_of_the_same_form_are_imputed(make_tasks: MakeData, tmp_path: Path) -> None:
    sparse = replace(make_tasks().with_labels(0.5), name="tasks")
    assert sparse.contexts is not None
    bare, one = replace(sparse, contexts=None), replace(sparse, contexts=sparse.contexts[:, :1])
    model = RewardModel(sparse, **SMALL).fit()
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    imputed = loaded.impute(sparse)
    assert np.array_equal(imputed.rewards, model.impute(sparse).rewards)
    assert imputed.contexts is sparse.contexts
    assert imputed.actions is sparse.actions
    for fitted, data, sizes in (
        (loaded, bare, r"\(3, 2, 0\), the model has \(3, 2, 2\)"),
        (loaded, one, r"\(3, 2, 1\), the model has \(3, 2, 2\)"),
        (RewardModel(bare, **SMALL).fit(), sparse, r"\(3, 2, 2\), the model has \(3, 2, 0\)"),
    ):
        with pytest.raises(ValueError, match=f"tasks: .* sizes are {sizes}; .* with contexts if"):
            fitted.impute(data)
    with pytest.raises(ValueError, match=r"differ in .* context\) size"):
        RewardModel([sparse, bare], seed=[0, 1], **SMALL)
