"""FlashSAC: agent.py has the algorithm, networks.py its normalised networks, reward_scale.py the scale of rewards."""

from orl.agents.flash_sac.agent import FLASH_SAC_PRESET, FLASH_SPEQ_PRESET, FlashSAC, FlashSACConfig

__all__ = ["FLASH_SAC_PRESET", "FLASH_SPEQ_PRESET", "FlashSAC", "FlashSACConfig"]
