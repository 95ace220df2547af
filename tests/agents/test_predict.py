"""The action of one observation is that of the same row in a batch, whatever changed the learner since the last one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from orl.agent import Agent
from orl.agents import FlashSAC


def check(agent: Agent, before: np.ndarray | None = None) -> np.ndarray:
    """Single predictions against those of a batch, which go through torch's modules; returns them."""
    batch = 3 * np.random.default_rng(0).normal(size=(4, agent.spaces.observation_size)).astype(np.float32)
    alone = np.stack([agent.predict(row, deterministic=True)[0] for row in batch])
    np.testing.assert_allclose(alone, agent.predict(batch, deterministic=True)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(alone[:1], agent.predict(batch[:1], deterministic=True)[0])
    assert alone.dtype == np.float32
    assert before is None or not np.allclose(alone, before, rtol=0, atol=1e-5)
    return alone


def test_no_prediction_is_of_an_earlier_state(plain_case: Any, tmp_path: Path) -> None:
    data = plain_case.make_data(action_low=[-2.0, -1.0], action_high=[1.0, 3.0], clip_actions=True)
    agent = plain_case(data)
    seen = check(agent.fit(20))
    agent.save(tmp_path)
    seen = check(agent.fit(20), seen)
    with torch.no_grad():
        for parameter in agent.networks["actor"].parameters():
            parameter.mul_(1.5 if parameter.ndim > 1 else 1.0)
    if plain_case.kind is not FlashSAC:  # whose normalisation undoes it
        seen = check(agent, seen)
    agent.normalizer.mean.add_(0.5)
    check(agent, seen)
    check(plain_case.kind.load(tmp_path))


def test_learners_of_a_population(plain_case: Any) -> None:
    agent = plain_case(plain_case.make_data(), seed=[0, 1]).fit(2)
    check(agent.learner(1), check(agent.learner(0)))


def test_in_double_precision(plain_case: Any, float64: None) -> None:
    check(plain_case(plain_case.make_data()).fit(2))
