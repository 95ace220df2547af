"""Small settings: their numbers, which results of the verbs stand for, and the tasks that they are for."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from orl import agents
from orl.agents.small import is_small_task, small_preset
from orl.environment import Spaces

ONLINE = {"hidden_sizes": (64, 64), "batch_size": 64, "learning_rate": 1e-3, "learning_starts": 500}
FAST = {"hidden_sizes": (64, 64), "batch_size": 64, "critic_learning_rate": 1e-3, "actor_learning_rate": 1e-3}
CONTEXTS = {"embedding_sizes": (64, 64), "embedding_blocks": 1, "rows_per_context": 16}


@pytest.mark.parametrize(
    ("small", "preset", "changes"),
    [
        (agents.SAC_SMALL_PRESET, agents.SAC_PRESET, ONLINE),
        (agents.REDQ_SMALL_PRESET, agents.REDQ_PRESET, ONLINE),
        (agents.DROQ_SMALL_PRESET, agents.DROQ_PRESET, ONLINE),
        (agents.SPEQ_SMALL_PRESET, agents.SPEQ_PRESET, ONLINE),
        (agents.IQL_SMALL_PRESET, agents.IQLConfig(), FAST),
        (agents.TD3BC_SMALL_PRESET, agents.TD3BCConfig(), FAST),
        (
            agents.BC_SMALL_PRESET,
            agents.BCConfig(),
            {"hidden_sizes": (64, 64), "batch_size": 64, "learning_rate": 1e-3},
        ),
        (
            agents.REWARD_MODEL_SMALL_PRESET,
            agents.RewardModelConfig(),
            {"hidden_sizes": (64, 64), "batch_size": 64},
        ),
        (agents.HYPERZERO_SMALL_PRESET, agents.HYPERZERO_PRESET, CONTEXTS | {"hidden_sizes": (128,)}),
        (agents.CONCATENATION_SMALL_PRESET, agents.CONCATENATION_PRESET, CONTEXTS | {"hidden_sizes": (128, 128)}),
        (agents.UVFA_SMALL_PRESET, agents.UVFA_PRESET, CONTEXTS | {"hidden_sizes": (128, 128)}),
    ],
)
def test_small_presets(small: Any, preset: Any, changes: dict[str, Any]) -> None:
    assert dataclasses.asdict(small) == dataclasses.asdict(preset) | changes


def test_a_task_of_a_known_family_has_its_own() -> None:
    body = ONLINE | {"hidden_sizes": (128, 128), "batch_size": 128, "learning_starts": 1_000}
    for name in ("orl/ContextHopper-v0", "Hopper-v5", "Walker2d-v5", "orl/ContextAnt-v0", "HalfCheetah-v4"):
        assert small_preset(agents.SAC_PRESET, name) == dataclasses.replace(agents.SAC_PRESET, **body)
    pole = ONLINE | {"batch_size": 128, "tau": 0.05}
    assert small_preset(agents.SPEQ_PRESET, "orl/ContextCartPole-v0") == dataclasses.replace(agents.SPEQ_PRESET, **pole)
    assert small_preset(agents.SAC_PRESET, "Pendulum-v1") == agents.SAC_SMALL_PRESET
    assert small_preset(agents.IQLConfig(), "Hopper-v5") == agents.IQL_SMALL_PRESET


def test_an_agent_without_small_settings_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no small settings for AWACConfig, only for SACConfig"):
        small_preset(agents.AWACConfig())


@pytest.mark.parametrize(
    ("env", "is_small"), [("Pendulum-v1", True), ("Walker2d-v5", True), ("Ant-v5", False), ("Humanoid-v5", False)]
)
def test_tasks_of_few_observations_and_actions_are_small(env: str, is_small: bool) -> None:
    assert is_small_task(Spaces.of(env)) == is_small
