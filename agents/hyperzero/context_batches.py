"""Data by context: observations with their context, and batches drawn context by context.

Shape key: P population, K contexts, R rows per context, N rows of a dataset, O observation, d context variables.
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


class ContextSampler:
    """The rows of each context in the dataset of each learner, and their values.

    Args:
        datasets: one per learner, with contexts; arrays that they share are stored once.
        device: where batches are needed.
    """

    def __init__(self, datasets: Sequence[Dataset], device: torch.device) -> None:
        keys = [(id(data.contexts), id(data.values)) for data in datasets]
        rows, values, start, spans = [], [], 0, {}
        for key, data in dict(zip(keys, datasets, strict=True)).items():
            assert data.contexts is not None
            _, groups, counts = np.unique(data.contexts, axis=0, return_inverse=True, return_counts=True)
            order = torch.from_numpy(groups.ravel().argsort(kind="stable"))
            rows.append(order)
            values.append(torch.zeros(len(data)) if data.values is None else torch.from_numpy(data.values)[order])
            sizes = torch.from_numpy(counts)
            spans[key] = sizes.cumsum(0) - sizes + start, sizes
            start += len(data)
        self.rows = torch.cat(rows).to(device)
        self.values = torch.cat(values).to(device, torch.get_default_dtype())
        self.num_contexts = torch.tensor([[len(spans[key][1])] for key in keys], device=device)  # (P, 1)
        self.starts, self.sizes = (  # (P, most contexts) each
            torch.nn.utils.rnn.pad_sequence(list(columns), batch_first=True).to(device)
            for columns in zip(*(spans[key] for key in keys), strict=True)
        )

    def sample(self, contexts: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that uniform numbers in [0, 1) point at, and their values.

        Contexts are stratified: the k-th of K is drawn from the k-th of K equal parts of their list. Every context is
        as likely as any other, and a batch has them as evenly as it can.

        Args:
            contexts: (..., P, K) float64.
            rows: (..., P, K, R) float64; within a context rows are drawn with replacement.

        Returns:
            Indices into each learner's dataset, and values; both (..., P, K * R), context by context.
        """
        number = contexts.shape[-1]
        fractions = (torch.arange(number, device=contexts.device) + contexts) / number
        groups = (fractions * self.num_contexts).long().minimum(self.num_contexts - 1)  # rounding may reach the count
        sizes, starts = (gather_per_learner(table, groups).unsqueeze(-1) for table in (self.sizes, self.starts))
        positions = (starts + (rows * sizes).long()).flatten(-2)
        return self.rows.take(positions), self.values.take(positions)


def concatenate_contexts(datasets: Sequence[Dataset], space: ContextSpace) -> list[Dataset]:
    """Observations (N, O + d): the normalised context comes last, as in environments of `context_mode="concat"`.

    Learners that share observations and contexts share the results.

    Raises:
        ValueError: data without contexts, or contexts that the space refuses.
    """
    concatenated: dict[tuple[int, ...], dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]] = {}
    results = []
    for data in datasets:
        if data.contexts is None:
            raise ValueError(f"{data.name}: no contexts; give Dataset.from_arrays one for each transition, contexts=")
        key = id(data.observations), id(data.next_observations), id(data.contexts)
        if key not in concatenated:
            normalized = space.normalize(space.rows(data.contexts)).astype(np.float32)
            concatenated[key] = {
                "observations": np.concatenate([data.observations, normalized], axis=1),
                "next_observations": np.concatenate([data.next_observations, normalized], axis=1),
            }
        results.append(replace(data, **concatenated[key]))  # type: ignore[arg-type]
    return results
