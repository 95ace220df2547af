"""Every agent compiled learns what it learns eagerly; for minutes, most of them the compiler's."""

from __future__ import annotations

from typing import Any

import pytest
import torch


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "error:.*run eagerly")
def test_compiled_learners_are_the_eager_ones(agent_case: Any, float64: None) -> None:
    data = agent_case.make_data(rows=60, seed=1)
    eager, compiled = (
        agent_case(data, seed=[0, 1], execution=execution, device="cpu").fit(20) for execution in ("eager", "compile")
    )
    assert compiled.run.graphs
    for name, network in eager.networks.items():
        for mine, other in zip(network.parameters(), compiled.networks[name].parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-8, atol=1e-9)
