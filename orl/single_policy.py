"""One observation of one learner on the CPU, in NumPy: torch's modules cost several times this arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from orl.networks import StackedMLP
from orl.normalize import Normalizer


class SinglePolicy:
    """tanh of a network's first A outputs, the mode of every actor that has a `StackedMLP`.

    It computes on the very memory of parameters and statistics: what changes them in place, as optimizers, checkpoints
    and normalizers do, changes the next action.

    Args:
        network: of one learner, on the CPU.
        normalizer: of its observations, on the CPU.
        action_size: A.
    """

    def __init__(self, network: StackedMLP, normalizer: Normalizer, action_size: int) -> None:
        self.mean, self.std = normalizer.mean.numpy()[0, 0], normalizer.std.numpy()[0, 0]
        layers: Any = network.layers
        self.layers = [(layer.weight.detach().numpy()[0], layer.bias.detach().numpy()[0, 0]) for layer in layers]
        self.action_size = action_size

    @classmethod
    def of(cls, actor: nn.Module | None, normalizer: Normalizer, action_size: int) -> SinglePolicy | None:
        """Of an actor; None for a population, on another device than the CPU, and for actors of other networks."""
        network = getattr(actor, "network", None)
        if not isinstance(network, StackedMLP) or len(normalizer.mean) > 1 or normalizer.mean.device.type != "cpu":
            return None
        return cls(network, normalizer, action_size)

    def __call__(self, observation: NDArray[Any]) -> NDArray[np.float32]:
        """The action (A,) in [-1, 1] of an observation (O,) as the environment gives it."""
        *hidden_layers, (weight, bias) = self.layers
        hidden = (observation.astype(weight.dtype) - self.mean) / self.std
        for hidden_weight, hidden_bias in hidden_layers:
            hidden = np.maximum(hidden @ hidden_weight + hidden_bias, 0.0)
        outputs = hidden @ weight + bias
        action: NDArray[np.float32] = np.tanh(outputs[: self.action_size]).astype(np.float32)
        return action
