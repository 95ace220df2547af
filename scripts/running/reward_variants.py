"""The kinds of rewards that a policy can be trained on, made from data with few labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from orl.agents import RewardModel
from orl.dataset import Dataset

Rewards = Literal["labelled", "zero", "mean", "imputed", "true"]
KINDS: tuple[Rewards, ...] = get_args(Rewards)


def imputed(datasets: Sequence[Dataset], labels: float, seed: int, device: str) -> list[Dataset]:
    """Each dataset with this share of its labels, the other rewards those of a reward model of its own."""
    sparse = [data.with_labels(labels, seed=seed) for data in datasets]
    model = RewardModel(sparse, seed=[seed] * len(sparse), device=device).fit()
    return complete("imputed", datasets[0], sparse, model)


def complete(
    kind: Rewards, truth: Dataset, sparse: Sequence[Dataset], model: RewardModel | None = None
) -> list[Dataset]:
    """One dataset per learner without hidden rewards.

    Args:
        kind: `labelled`: the labelled transitions alone; `zero`, `mean`: one value for all hidden rewards;
            `imputed`: the model's; `true`: what the data came with.
        truth: the data as loaded.
        sparse: one per learner, rewards hidden.
        model: fitted on `sparse`; needed for `imputed`.
    """
    if kind == "true":
        return [truth] * len(sparse)
    if kind == "labelled":
        return [data.labelled() for data in sparse]
    if kind == "imputed":
        if model is None:
            raise ValueError("imputed rewards need a fitted reward model")
        imputed = model.impute(list(sparse))
        return imputed if isinstance(imputed, list) else [imputed]
    return [data.fill(0.0 if kind == "zero" else "mean") for data in sparse]
