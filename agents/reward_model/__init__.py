"""Reward-model imputation: `model.py` is the model (early stopping, imputation, report), `inputs.py` its inputs."""

from orl.agents.reward_model.model import RewardModel, RewardModelConfig, RewardModelReport

__all__ = ["RewardModel", "RewardModelConfig", "RewardModelReport"]
