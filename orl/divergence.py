"""What training made, looked at: a learner whose numbers are not finite is named, never stored, played or scored.

Shape key: P population, B batch, A action.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from orl.arrays import Float32Array


class Trained(Protocol):
    """What is looked at: P learners."""

    config: Any
    seeds: list[int]
    updates: int
    networks: dict[str, nn.Module]


def check_finite(agent: Trained) -> None:
    """Refuse learners with a parameter that is NaN or infinite.

    Raises:
        ValueError: names their seeds, their networks and the update.
    """
    finite = {name: _is_finite(network, len(agent.seeds)) for name, network in agent.networks.items()}
    if not torch.stack([*finite.values()]).all():
        wrong = [name for name, of_learners in finite.items() if not of_learners.all()]
        diverged = ~torch.stack([*finite.values()]).all(0)
        raise _diverged(agent, diverged.nonzero()[:, 0].tolist(), f"parameters of {', '.join(wrong)}")


def _is_finite(network: nn.Module, population: int) -> torch.Tensor:
    """(P,) bool: whether every parameter of a learner is finite."""
    parts = [torch.isfinite(parameter.detach()).reshape(population, -1).all(1) for parameter in network.parameters()]
    return torch.stack(parts).all(0) if parts else torch.ones(population, dtype=torch.bool)


def check_actions(agent: Trained, actions: Float32Array) -> None:
    """Refuse actions (P, B, A) that are not finite: of finite observations, a policy that diverged makes them."""
    if not np.isfinite(actions).all():
        finite = np.isfinite(actions).reshape(len(actions), -1).all(1)
        raise _diverged(agent, np.flatnonzero(~finite).tolist(), "actions")


def _diverged(agent: Trained, learners: Sequence[int], what: str) -> ValueError:
    seeds = ", ".join(str(agent.seeds[k]) for k in learners)
    config: Mapping[str, Any] = dataclasses.asdict(agent.config)
    rates = [f"{name} ({value:g})" for name, value in config.items() if name.endswith("learning_rate")]
    return ValueError(
        f"seed {seeds}: training diverged by update {agent.updates:,}, {what} are NaN or infinite; lower "
        f"{' or '.join(rates) or 'the learning rate'}, or make the rewards smaller"
    )
