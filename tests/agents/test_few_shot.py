"""Cloning that starts from generated policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from orl.agents import ContextualCloning, HyperZero
from orl.agents.hyperzero.baselines import few_shot
from orl.agents.hyperzero.hyperzero import ContextualAgent
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset

SPACE = ContextSpace((ContextVariable("mass", "kg", 0.5, 2.0, 1.0, "log"),))
MASSES = np.array([[0.6], [1.0], [1.7]])


def recorded(mass: float, rows: int = 60) -> Dataset:
    """Actions that depend on the mass."""
    generator = np.random.default_rng(round(10 * mass))
    observations = generator.normal(2.0, 3.0, (rows, 2))
    actions = 2.0 * np.tanh(observations[:, :1] * (mass - 1.0))
    ends = np.arange(rows) == rows - 1
    return Dataset.from_arrays(
        observations, actions, np.zeros(rows), observations, np.zeros(rows), ends,
        action_low=-2.0, action_high=2.0, contexts=np.full((rows, 1), mass), values=np.zeros(rows),
    )  # fmt: skip


@pytest.mark.parametrize("kind", [HyperZero, ContextualCloning])
def test_it_starts_with_the_generated_policies_and_learns_each_context(kind: type[ContextualAgent]) -> None:
    agent = kind(
        recorded(1.0), contexts=SPACE, embedding_sizes=(4,), embedding_blocks=1, hidden_sizes=(8, 5), device="cpu"
    ).fit(3)
    episodes = [replace(recorded(mass), contexts=None, values=None) for mass in MASSES[:, 0]]
    cloner = few_shot(agent, MASSES, episodes, seed=[0, 1, 2], learning_rate=1e-2, batch_size=32)
    observations = np.stack([data.observations for data in episodes])
    before = cloner.act(observations)
    for k, mass in enumerate(MASSES[:, 0]):
        expected = agent.policy({"mass": mass})(agent.normalizer.mean.new_tensor(observations[k])).detach()
        np.testing.assert_allclose(before[k], expected, rtol=1e-4, atol=1e-5)
    wanted = np.stack([2.0 * data.actions for data in episodes])
    after = cloner.fit(200).act(observations)
    assert (((after - wanted) ** 2).mean((1, 2)) < 0.5 * ((before - wanted) ** 2).mean((1, 2)) + 0.01).all()
    unchanged = agent.policy({"mass": 1.7})(agent.normalizer.mean.new_tensor(observations[2])).detach()
    np.testing.assert_allclose(before[2], unchanged, rtol=1e-4, atol=1e-5)


def test_a_population_is_refused() -> None:
    agent = HyperZero([recorded(1.0)] * 2, seed=[0, 1], contexts=SPACE, hidden_sizes=(4,), embedding_sizes=(4,))
    with pytest.raises(ValueError, match="population of 2"):
        few_shot(agent, MASSES, [recorded(1.0)] * 3, seed=[0, 1, 2])


def test_data_that_do_not_match_the_contexts_are_refused() -> None:
    settings: dict[str, Any] = {"embedding_sizes": (4,), "embedding_blocks": 1, "hidden_sizes": (8,), "device": "cpu"}
    agent = HyperZero(recorded(1.0), contexts=SPACE, **settings).fit(1)
    plain = replace(recorded(1.0), contexts=None, values=None)
    for contexts, data, words in (
        (MASSES, [plain], "3 contexts and 1 datasets"),
        (MASSES[:1], [plain] * 3, "1 contexts and 3 datasets"),
        (MASSES[:1], plain, "give a list with one dataset per context"),
        (MASSES[:1], [replace(plain, action_low=-plain.action_high * 2)], "actions lie in"),
        (MASSES[:1], [replace(plain, observations=plain.observations.repeat(2, 1))], "sizes are"),
    ):
        with pytest.raises(ValueError, match=words):
            few_shot(agent, contexts, data, seed=list(range(len(contexts))))  # type: ignore[arg-type]
