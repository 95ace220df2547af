"""Flat names for the state of networks and optimizers; every tensor has the population as its first axis."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from orl.updates import Adam


def flatten_state(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam], others: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Copies of parameters, Adam moments and steps, and other tensors, by name."""
    tensors = {
        f"{name}/{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for i, parameter in enumerate(optimizer.parameters):
            tensors[f"optimizer/{name}/{i}/exp_avg"] = optimizer.exp_avg[i]
            tensors[f"optimizer/{name}/{i}/exp_avg_sq"] = optimizer.exp_avg_sq[i]
            tensors[f"optimizer/{name}/{i}/step"] = optimizer.steps.expand(len(parameter))
    tensors.update(others)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore_state(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Adam],
    others: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Copy `flatten_state`'s tensors into networks and optimizers of the same shapes."""
    for name, network in networks.items():
        network.load_state_dict(strip_prefix(tensors, f"{name}/"))
    for name, optimizer in optimizers.items():
        optimizer.steps.copy_(tensors[f"optimizer/{name}/0/step"][0])
        for i in range(len(optimizer.parameters)):
            optimizer.exp_avg[i].copy_(tensors[f"optimizer/{name}/{i}/exp_avg"])
            optimizer.exp_avg_sq[i].copy_(tensors[f"optimizer/{name}/{i}/exp_avg_sq"])
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(tensors[name])
