"""Rows of recorded data by their context, so that a batch is drawn context by context.

Shape key: P population, K contexts, R rows of each, N rows of a dataset, d context variables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from orl.buffer import gather_per_learner
from orl.context import ContextSpace
from orl.dataset import Dataset


class ContextGroups:
    """Where each learner's rows of each context are, and their values.

    Args:
        datasets: one per learner, with contexts; arrays that they share are stored once.
        device: where batches are needed.
    """

    def __init__(self, datasets: Sequence[Dataset], device: torch.device) -> None:
        known: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
        orders, values, row = [], [], 0
        for data in datasets:
            if _key(data) in known:
                continue
            assert data.contexts is not None
            _, groups, counts = np.unique(data.contexts, axis=0, return_inverse=True, return_counts=True)
            order = torch.from_numpy(groups.ravel().argsort(kind="stable"))
            orders.append(order)
            values.append(torch.zeros(len(data)) if data.values is None else torch.from_numpy(data.values)[order])
            sizes = torch.from_numpy(counts)
            known[_key(data)] = sizes.cumsum(0) - sizes + row, sizes
            row += len(data)
        self.order = torch.cat(orders).to(device)
        self.values = torch.cat(values).to(device, torch.get_default_dtype())
        mine = [known[_key(data)] for data in datasets]
        self.counts = torch.tensor([[len(sizes)] for _, sizes in mine], device=device)  # (P, 1)
        self.starts, self.sizes = (  # each (P, most contexts)
            torch.nn.utils.rnn.pad_sequence(list(columns), batch_first=True).to(device)
            for columns in zip(*mine, strict=True)
        )

    def draw(self, contexts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Which rows uniform numbers in [0, 1) point at, and their values.

        Contexts are stratified: the k-th of K is drawn from the k-th of K equal parts of their list, so that every
        context is as likely as any other and a batch has them as evenly as it can.

        Args:
            contexts: (..., P, K) float64.
            rows: (..., P, K, R) float64; within a context rows are drawn with replacement.

        Returns:
            Indices into each learner's dataset and values, each (..., P, K * R), context by context.
        """
        number = contexts.shape[-1]
        shares = (torch.arange(number, device=contexts.device) + contexts) / number
        groups = (shares * self.counts).long().minimum(self.counts - 1)  # (..., P, K); rounding may reach the count
        sizes, starts = (gather_per_learner(each, groups).unsqueeze(-1) for each in (self.sizes, self.starts))
        places = (starts + (rows * sizes).long()).flatten(-2)
        return self.order.take(places), self.values.take(places)


def concatenated(datasets: Sequence[Dataset], space: ContextSpace) -> list[Dataset]:
    """Observations (N, O + d) with the normalised context behind them, as in environments of `context_mode="concat"`.

    Learners that share observations and contexts share them afterwards.

    Raises:
        ValueError: data without contexts, or contexts that the space refuses.
    """
    known: dict[tuple[int, ...], dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {}
    for data in datasets:
        if data.contexts is None:
            raise ValueError(f"{data.name}: no contexts; give Dataset.from_arrays one for each transition, contexts=")
        if _table(data) not in known:
            normalized = space.normalize(space.rows(data.contexts)).astype(np.float32)
            known[_table(data)] = {
                "observations": np.concatenate([data.observations, normalized], axis=1),
                "next_observations": np.concatenate([data.next_observations, normalized], axis=1),
            }
    return [replace(data, **known[_table(data)]) for data in datasets]  # type: ignore[arg-type]


def _key(data: Dataset) -> tuple[int, int]:
    return id(data.contexts), id(data.values)


def _table(data: Dataset) -> tuple[int, ...]:
    return tuple(map(id, (data.observations, data.next_observations, data.contexts)))
