"""What an update costs at least on this machine: its matrix products alone, and its memory traffic alone."""

from __future__ import annotations

import torch

from orl.execution import CudaGraph

HIDDEN = 256


class MatrixProducts:
    """Those of two critics, their targets and an actor with two hidden layers.

    Nothing is added, normalised or drawn; results go to memory that is there already.

    Args:
        observation_size: O.
        action_size: A.
        population: learners.
        device: where they are computed.
        units: of each hidden layer.
        batch_size: of each learner.
    """

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        population: int,
        device: torch.device,
        *,
        units: int = HIDDEN,
        batch_size: int = HIDDEN,
    ) -> None:
        critics, inputs = 2 * population, observation_size + action_size

        def new(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, device=device)

        hidden, gradient = (new(critics, batch_size, units) for _ in range(2))
        forward = [
            (new(critics, batch_size, inputs), new(critics, inputs, units)),
            (hidden, new(critics, units, units)),
        ]
        backward = [
            (hidden.mT, gradient),  # to the second layer's weights
            (gradient, new(critics, units, units).mT),  # to the first layer's outputs
            (forward[0][0].mT, gradient),  # to the first layer's weights
        ]
        actor = [
            (new(population, batch_size, observation_size), new(population, observation_size, units)),
            (new(population, batch_size, units), new(population, units, units)),
        ]
        self.products = [*forward, *forward, *backward, *actor]
        self.results = [torch.bmm(*pair) for pair in self.products]
        self.graph = CudaGraph(device) if device.type == "cuda" else None  # starting them one by one takes longer
        if self.graph is not None:
            self.graph.warm_up(self._multiply)
            self.graph.capture(self._multiply)

    def __call__(self) -> None:
        """Compute them all once."""
        if self.graph is None:
            self._multiply()
        else:
            self.graph.replay()

    def _multiply(self) -> None:
        for (left, right), result in zip(self.products, self.results, strict=True):
            torch.bmm(left, right, out=result)


class MemoryTraffic:
    """A copy of as many bytes as the same update moves at least, where nothing stays in a cache.

    Parameters, gradients, both moments and targets are read and written once, parameters read twice more (forwards and
    backwards); what the two hidden layers give is written once and read once, that of the critics once more backwards.

    Args:
        observation_size, action_size, population, device: as for `MatrixProducts`.
    """

    def __init__(self, observation_size: int, action_size: int, population: int, device: torch.device) -> None:
        critics = 2 * population
        parameters = critics * ((observation_size + action_size + 1) * HIDDEN + (HIDDEN + 1) * HIDDEN + HIDDEN + 1)
        activations = critics * HIDDEN * HIDDEN  # of one layer
        moved = 12 * parameters + 2 * (3 + 2) * activations
        self.source, self.copied = (torch.ones(moved // 2, device=device) for _ in range(2))

    def __call__(self) -> None:
        """Move them once."""
        self.copied.copy_(self.source)
