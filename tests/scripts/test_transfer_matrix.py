"""Returns of policies in contexts that they were not trained for."""

from __future__ import annotations

import numpy as np
import pytest

from orl.environment import Spaces
from orl.envs.contextual import offered_contexts
from orl.evaluation import evaluate
from orl.scripts.contexts import transfer_matrix
from orl.scripts.contexts.transfer_matrix import transfer_returns
from orl.scripts.data.behaviour_policies import RandomPolicy

ENV = "orl/ContextPendulum-v0"


class TwoTorques:
    """Always the least, always the greatest torque."""

    population = 2

    def act(self, observations: np.ndarray, *, deterministic: bool = True) -> np.ndarray:
        torques = np.array([-2.0, 2.0], np.float32)[:, None, None]
        return np.broadcast_to(torques, (*observations.shape[:-1], 1))


def test_a_row_is_what_the_policy_gets_alone_in_each_context(monkeypatch: pytest.MonkeyPatch) -> None:
    space, contexts = offered_contexts(ENV).parse("mass=0.5:2:3")
    monkeypatch.setattr(transfer_matrix, "NUM_ENVS", 8)  # two contexts at a time
    returns = transfer_returns(TwoTorques(), ENV, space, contexts, episodes=2, seed=3)
    assert returns.shape == (2, 3, 2)
    for j, context in enumerate(contexts.tolist()):
        alone = evaluate(TwoTorques(), ENV, episodes=2, seed=3, contexts=space.ranges, context=context)
        np.testing.assert_array_equal(returns[:, j], alone.returns)


def test_random_actions_fill_the_bounds() -> None:
    actions = RandomPolicy(Spaces.of(ENV)).act(np.zeros((1, 1000, 3), np.float32))
    assert actions.shape == (1, 1000, 1)
    assert -2.0 <= actions.min() < -1.9
    assert 1.9 < actions.max() <= 2.0
