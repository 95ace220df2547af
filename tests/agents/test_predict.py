"""The action of one observation is that of the same row in a batch, whatever changed the learner since the last one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from orl.agent import Agent
from orl.agents import BC, IQL, SAC, SPEQ, TD3BC, FlashSAC
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 8}
SOFT = SMALL | {"target_entropy": -2.0}
FLASH: dict[str, Any] = {"critic_width": 8, "actor_width": 8, "critic_blocks": 1, "actor_blocks": 1, "batch_size": 8}
KINDS: dict[type[Agent], dict[str, Any]] = {
    BC: SMALL, TD3BC: SMALL, IQL: SMALL, SAC: SOFT, SPEQ: SOFT, FlashSAC: FLASH
}  # fmt: skip
pytestmark = pytest.mark.parametrize("kind", KINDS)


def check(agent: Agent, before: np.ndarray | None = None) -> np.ndarray:
    """Single predictions against those of a batch, which go through torch's modules; returns them."""
    batch = 3 * np.random.default_rng(0).normal(size=(4, agent.spaces.observation_size)).astype(np.float32)
    alone = np.stack([agent.predict(row, deterministic=True)[0] for row in batch])
    np.testing.assert_allclose(alone, agent.predict(batch, deterministic=True)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(alone[:1], agent.predict(batch[:1], deterministic=True)[0])
    assert alone.dtype == np.float32
    assert before is None or not np.allclose(alone, before, rtol=0, atol=1e-5)
    return alone


def test_no_prediction_is_of_an_earlier_state(kind: type[Agent], make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(action_low=[-2.0, -1.0], action_high=[1.0, 3.0], clip_actions=True)
    agent = kind(data, **KINDS[kind])
    seen = check(agent.fit(20))
    agent.save(tmp_path)
    seen = check(agent.fit(20), seen)
    with torch.no_grad():
        for parameter in agent.networks["actor"].parameters():
            parameter.mul_(1.5 if parameter.ndim > 1 else 1.0)
    if kind is not FlashSAC:  # whose normalisation undoes it
        seen = check(agent, seen)
    agent.normalizer.mean.add_(0.5)
    check(agent, seen)
    check(kind.load(tmp_path))


def test_learners_of_a_population(kind: type[Agent], make_data: MakeData) -> None:
    agent = kind(make_data(), seed=[0, 1], **KINDS[kind]).fit(2)
    check(agent.learner(1), check(agent.learner(0)))


def test_in_double_precision(kind: type[Agent], make_data: MakeData, float64: None) -> None:
    check(kind(make_data(), **KINDS[kind]).fit(2))
