"""The algorithms: one a file, or a folder where one file is not enough; classes and presets are re-exported here."""

from typing import TYPE_CHECKING

from orl.agents.awac import AWAC, AWACConfig
from orl.agents.bc import BC, BCConfig
from orl.agents.flash_sac.agent import FLASH_SAC_PRESET, FLASH_SPEQ_PRESET, FlashSAC, FlashSACConfig
from orl.agents.hyperzero.baselines import CONCATENATION_PRESET, UVFA_PRESET, ContextualCloning, ContextualCloningConfig
from orl.agents.hyperzero.hyperzero import HYPERZERO_PAPER_PRESET, HYPERZERO_PRESET, HyperZero, HyperZeroConfig
from orl.agents.iql import IQL, IQLConfig
from orl.agents.mbtl.selector import TaskSelector
from orl.agents.reward_model import RewardModel, RewardModelConfig
from orl.agents.sac import (
    DROQ_PRESET,
    REDQ,
    REDQ_PRESET,
    SAC,
    SAC_PRESET,
    SOPE_PRESET,
    SPEQ,
    SPEQ_AUTO_PRESET,
    SPEQ_PRESET,
    DroQ,
    SACConfig,
)
from orl.agents.small import (
    BC_SMALL_PRESET,
    CONCATENATION_SMALL_PRESET,
    DROQ_SMALL_PRESET,
    HYPERZERO_SMALL_PRESET,
    IQL_SMALL_PRESET,
    REDQ_SMALL_PRESET,
    REWARD_MODEL_SMALL_PRESET,
    SAC_SMALL_PRESET,
    SPEQ_SMALL_PRESET,
    TD3BC_SMALL_PRESET,
    UVFA_SMALL_PRESET,
    small_preset,
)
from orl.agents.td3bc import TD3BC, TD3BCConfig

__all__ = [
    "AWAC",
    "BC",
    "BC_SMALL_PRESET",
    "CONCATENATION_PRESET",
    "CONCATENATION_SMALL_PRESET",
    "DROQ_PRESET",
    "DROQ_SMALL_PRESET",
    "FLASH_SAC_PRESET",
    "FLASH_SPEQ_PRESET",
    "HYPERZERO_PAPER_PRESET",
    "HYPERZERO_PRESET",
    "HYPERZERO_SMALL_PRESET",
    "IQL",
    "IQL_SMALL_PRESET",
    "REDQ",
    "REDQ_PRESET",
    "REDQ_SMALL_PRESET",
    "REWARD_MODEL_SMALL_PRESET",
    "SAC",
    "SAC_PRESET",
    "SAC_SMALL_PRESET",
    "SOPE_PRESET",
    "SPEQ",
    "SPEQ_AUTO_PRESET",
    "SPEQ_PRESET",
    "SPEQ_SMALL_PRESET",
    "TD3BC",
    "TD3BC_SMALL_PRESET",
    "UVFA_PRESET",
    "UVFA_SMALL_PRESET",
    "AWACConfig",
    "BCConfig",
    "ContextualCloning",
    "ContextualCloningConfig",
    "DroQ",
    "FlashSAC",
    "FlashSACConfig",
    "HyperZero",
    "HyperZeroConfig",
    "IQLConfig",
    "RewardModel",
    "RewardModelConfig",
    "SACConfig",
    "TD3BCConfig",
    "TaskSelector",
    "small_preset",
]

GONE = {  # what earlier versions had: what to write now
    "SPEQConfig": "give its fields to SPEQ as keywords, or take dataclasses.replace(SPEQ_PRESET, ...), a SACConfig; "
    "SACConfig() has no phases",
}


if not TYPE_CHECKING:  # where every name is as good as there

    def __getattr__(name: str) -> object:
        if name in GONE:
            raise ImportError(f"orl.agents.{name} is gone: {GONE[name]}")
        raise AttributeError(f"module 'orl.agents' has no attribute {name!r}")
