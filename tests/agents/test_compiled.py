"""Every agent compiled learns what it learns eagerly; for minutes, most of them the compiler's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from orl.agent import Agent
from orl.agents import BC, IQL, SAC, SPEQ, TD3BC, FlashSAC
from orl.dataset import Dataset

SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 8}
SOFT = SMALL | {"target_entropy": -2.0}
FLASH: dict[str, Any] = {"critic_width": 8, "actor_width": 8, "critic_blocks": 1, "actor_blocks": 1, "batch_size": 8}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error:.*runs eagerly")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (BC, SMALL),
        (TD3BC, SMALL),
        (IQL, SMALL),
        (SAC, SOFT | {"num_critics": 3, "actor_q": "mean", "policy_delay": 2}),
        (SPEQ, SOFT | {"dropout_rate": 0.1}),
        (FlashSAC, FLASH),
    ],
)
def test_compiled_learners_are_the_eager_ones(
    kind: type[Agent], settings: dict[str, Any], make_data: Callable[..., Dataset], float64: None
) -> None:
    data = make_data()
    eager, compiled = (
        kind(data, seed=[0, 1], execution=execution, **settings).fit(20) for execution in ("eager", "compile")
    )
    for name, network in eager.networks.items():
        for mine, other in zip(network.parameters(), compiled.networks[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
