"""One algorithm a file; the classes are re-exported here."""

from orl.agents.bc import BC, BCConfig
from orl.agents.flash_sac.agent import FlashSAC, FlashSACConfig
from orl.agents.hyperzero.cloning import ContextualCloning, ContextualCloningConfig
from orl.agents.hyperzero.hyperzero import HyperZero, HyperZeroConfig
from orl.agents.iql import IQL, IQLConfig
from orl.agents.mbtl import TaskSelector
from orl.agents.reward_model import RewardModel, RewardModelConfig
from orl.agents.sac import SAC, SACConfig
from orl.agents.speq import SPEQ, SPEQConfig
from orl.agents.td3bc import TD3BC, TD3BCConfig

__all__ = [
    "BC",
    "IQL",
    "SAC",
    "SPEQ",
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
