"""Small settings: networks of 64 or 128 units and batches to match, which learn small tasks on a CPU in minutes.

They are ours, of no paper, and the defaults of `orl demo`, `select`, `generalist` and `zero-shot`; `orl train` takes
them with `--preset small`. The pages of those verbs say what they reach.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from orl.agents.bc import BCConfig
from orl.agents.hyperzero.baselines import CONCATENATION_PRESET, UVFA_PRESET, ContextualCloningConfig
from orl.agents.hyperzero.hyperzero import HYPERZERO_PRESET, HyperZeroConfig
from orl.agents.iql import IQLConfig
from orl.agents.reward_model import RewardModelConfig
from orl.agents.sac import DROQ_PRESET, REDQ_PRESET, SAC_PRESET, SPEQ_PRESET, SACConfig, family
from orl.agents.td3bc import TD3BCConfig
from orl.environment import Spaces

C = TypeVar("C")

NETWORKS: dict[str, Any] = {"hidden_sizes": (64, 64), "batch_size": 64}
FAST: dict[str, Any] = {"critic_learning_rate": 1e-3, "actor_learning_rate": 1e-3}  # for few updates
EMBEDDING: dict[str, Any] = {"embedding_sizes": (64, 64), "embedding_blocks": 1, "rows_per_context": 16}
SMALL: dict[type, dict[str, Any]] = {  # by configuration: what differs from a preset that has it
    SACConfig: NETWORKS | {"learning_rate": 1e-3, "learning_starts": 500},
    IQLConfig: NETWORKS | FAST,
    TD3BCConfig: NETWORKS | FAST,
    BCConfig: NETWORKS | {"learning_rate": 1e-3},
    RewardModelConfig: NETWORKS,
    HyperZeroConfig: EMBEDDING | {"hidden_sizes": (128,)},  # with about as many parameters
    ContextualCloningConfig: EMBEDDING | {"hidden_sizes": (128, 128)},  # as this one
}
BODY: dict[str, Any] = {"hidden_sizes": (128, 128), "batch_size": 128, "learning_starts": 1_000}
OF_TASK: dict[str, dict[str, Any]] = {  # by family of environments, of agents with a SACConfig, on top of that
    # A reward of 1 per step: values climb to 1 / (1 - discount) as fast as the targets follow.
    "CartPole": {"batch_size": 128, "tau": 0.05},
    **dict.fromkeys(("Hopper", "HalfCheetah", "Walker2d", "Ant"), BODY),
}
OBSERVATIONS, ACTIONS = 40, 8  # of a small task, at most: orl/Racing-v0 has 33 and 2, Walker2d-v5 17 and 6


def small_preset(config: C, environment_id: str | None = None) -> C:
    """A preset with small networks, as they suit an environment.

    Args:
        config: the preset, such as `DROQ_PRESET` or `IQLConfig()`.
        environment_id: of the task; None: what suits most of them.

    Raises:
        ValueError: there are no small settings for an agent with this configuration.
    """
    if not has_small_preset(config):
        offered = ", ".join(kind.__name__ for kind in SMALL)
        raise ValueError(f"there are no small settings for {type(config).__name__}, only for {offered}")
    of_task = OF_TASK.get(family(environment_id), {}) if isinstance(config, SACConfig) else {}
    return replace(config, **SMALL[type(config)] | of_task)  # type: ignore[type-var]


def has_small_preset(config: object) -> bool:
    """Whether there are small settings for agents with this configuration."""
    return type(config) in SMALL


def is_small_task(spaces: Spaces) -> bool:
    """Whether a task has as few observations and actions as those that small settings were tried on."""
    return spaces.observation_size <= OBSERVATIONS and spaces.action_size <= ACTIONS


SAC_SMALL_PRESET = small_preset(SAC_PRESET)
REDQ_SMALL_PRESET = small_preset(REDQ_PRESET)
DROQ_SMALL_PRESET = small_preset(DROQ_PRESET)
SPEQ_SMALL_PRESET = small_preset(SPEQ_PRESET)
IQL_SMALL_PRESET = small_preset(IQLConfig())
TD3BC_SMALL_PRESET = small_preset(TD3BCConfig())
BC_SMALL_PRESET = small_preset(BCConfig())
REWARD_MODEL_SMALL_PRESET = small_preset(RewardModelConfig())
HYPERZERO_SMALL_PRESET = small_preset(HYPERZERO_PRESET)
CONCATENATION_SMALL_PRESET = small_preset(CONCATENATION_PRESET)
UVFA_SMALL_PRESET = small_preset(UVFA_PRESET)
