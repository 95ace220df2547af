"""The bound of a stabilization update: its matrix products alone."""

from __future__ import annotations

import torch

HIDDEN = 256


class MatrixProducts:
    """Those of two critics, their targets and an actor with two hidden layers of 256 units, on batches of 256.

    Nothing is added, normalised or drawn; results go to memory that is there already.

    Args:
        observation_size: O.
        action_size: A.
        population: learners.
        device: where they are computed.
    """

    def __init__(self, observation_size: int, action_size: int, population: int, device: torch.device) -> None:
        critics, inputs, batch = 2 * population, observation_size + action_size, HIDDEN

        def new(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device)

        forward = [(new(critics, batch, inputs), new(critics, inputs, HIDDEN)), (new(critics, batch, HIDDEN),) * 2]
        hidden, gradient = forward[1][0], new(critics, batch, HIDDEN)
        backward = [
            (hidden.mT, gradient),  # to the second layer's weights
            (gradient, hidden.mT),  # to the first layer's outputs
            (forward[0][0].mT, gradient),  # to the first layer's weights
        ]
        actor = [
            (new(population, batch, observation_size), new(population, observation_size, HIDDEN)),
            (new(population, batch, HIDDEN),) * 2,
        ]
        self.products = [*forward, *forward, *backward, *actor]
        self.results = [torch.bmm(*pair) for pair in self.products]

    def __call__(self) -> None:
        """Compute them all once."""
        for (left, right), result in zip(self.products, self.results, strict=True):
            torch.bmm(left, right, out=result)
