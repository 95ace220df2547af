"""Every agent compiled learns what it learns eagerly; for minutes, most of them the compiler's."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

NOT_COMPILED = ("ContextualCloning",)  # by the compiler of torch 2.13, which raises a KeyError


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error:.*run eagerly")
def test_compiled_learners_are_the_eager_ones(agent_case: Any, float64: None) -> None:
    data = agent_case.make_data(rows=60, seed=1)
    eager = agent_case(data, seed=[0, 1], execution="eager", device="cpu").fit(20)
    compiled = agent_case(data, seed=[0, 1], execution="compile", device="cpu")
    fails = agent_case.kind.__name__ in NOT_COMPILED
    with pytest.warns(UserWarning, match="updates run eagerly, execution='compile'") if fails else nullcontext():
        compiled.fit(20)
    assert bool(compiled.run.graphs) != fails
    for name, network in eager.networks.items():
        for mine, other in zip(network.parameters(), compiled.networks[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
