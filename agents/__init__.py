"""One algorithm a file; the classes are re-exported here."""

from orl.agents.bc import BC, BCConfig
from orl.agents.flash_sac.agent import FLASH_SAC_PRESET, FLASH_SPEQ_PRESET, FlashSAC, FlashSACConfig
from orl.agents.hyperzero.cloning import ContextualCloning, ContextualCloningConfig
from orl.agents.hyperzero.hyperzero import HyperZero, HyperZeroConfig
from orl.agents.iql import IQL, IQLConfig
from orl.agents.mbtl import TaskSelector
from orl.agents.reward_model import RewardModel, RewardModelConfig
from orl.agents.sac import DROQ_PRESET, REDQ_PRESET, SAC, SAC_PRESET, SACConfig
from orl.agents.speq import SOPE_PRESET, SPEQ, SPEQ_AUTO_PRESET, SPEQ_PRESET, SPEQConfig
from orl.agents.td3bc import TD3BC, TD3BCConfig

__all__ = [
    "BC",
    "DROQ_PRESET",
    "FLASH_SAC_PRESET",
    "FLASH_SPEQ_PRESET",
    "IQL",
    "REDQ_PRESET",
    "SAC",
    "SAC_PRESET",
    "SOPE_PRESET",
    "SPEQ",
    "SPEQ_AUTO_PRESET",
    "SPEQ_PRESET",
    "TD3BC",
    "BCConfig",
    "ContextualCloning",
    "ContextualCloningConfig",
    "FlashSAC",
    "FlashSACConfig",
    "HyperZero",
    "HyperZeroConfig",
    "IQLConfig",
    "RewardModel",
    "RewardModelConfig",
    "SACConfig",
    "SPEQConfig",
    "TD3BCConfig",
    "TaskSelector",
]
