"""Flat names for the state of networks and optimizers; every tensor has the population as its first axis."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Adam

MOMENTS = ("exp_avg", "exp_avg_sq")


def flatten_state(
    networks: Mapping[str, nn.Module], optimizers: Mapping[str, Adam], others: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Copies of parameters, Adam moments and steps, and other tensors, by name."""
    tensors = {
        f"{name}/{key}": value for name, network in networks.items() for key, value in network.state_dict().items()
    }
    for name, optimizer in optimizers.items():
        for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
            state = optimizer.state.get(parameter)
            if state:
                for moment in MOMENTS:
                    tensors[f"optimizer/{name}/{i}/{moment}"] = state[moment]
                tensors[f"optimizer/{name}/{i}/step"] = state["step"].expand(len(parameter))
    tensors.update(others)
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def own(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def restore_state(
    networks: Mapping[str, nn.Module],
    optimizers: Mapping[str, Adam],
    others: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
) -> None:
    """Put `flatten_state`'s tensors back into freshly built networks and optimizers."""
    for name, network in networks.items():
        network.load_state_dict(own(tensors, f"{name}/"))
    for name, optimizer in optimizers.items():
        for i, parameter in enumerate(optimizer.param_groups[0]["params"]):
            key = f"optimizer/{name}/{i}/step"
            if key not in tensors:
                continue
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state.update({m: torch.zeros_like(parameter, requires_grad=False) for m in MOMENTS})
            state["step"].copy_(tensors[key][0])  # all in place, where a captured update looks for it
            for m in MOMENTS:
                state[m].copy_(tensors[f"optimizer/{name}/{i}/{m}"])
    with torch.no_grad():
        for name, tensor in others.items():
            tensor.copy_(tensors[name])
