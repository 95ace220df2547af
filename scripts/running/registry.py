"""Names of the command line: each is an agent class with a preset of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orl import agents, checkpoint
from orl.agent import Agent
from orl.agents import flash_sac, sac, speq

PRESETS: dict[str, tuple[type[Agent], Any]] = {
    "bc": (agents.BC, agents.BCConfig()),
    "td3bc": (agents.TD3BC, agents.TD3BCConfig()),
    "iql": (agents.IQL, agents.IQLConfig()),
    "sac": (agents.SAC, sac.SAC_PRESET),
    "redq": (agents.SAC, sac.REDQ_PRESET),
    "droq": (agents.SAC, sac.DROQ_PRESET),
    "speq": (agents.SPEQ, speq.SPEQ_PRESET),
    "speq-auto": (agents.SPEQ, speq.SPEQ_AUTO_PRESET),
    "sope": (agents.SPEQ, speq.SOPE_PRESET),
    "flash-sac": (agents.FlashSAC, flash_sac.FLASH_SAC_PRESET),
    "flash-speq": (agents.FlashSAC, flash_sac.FLASH_SPEQ_PRESET),
}

CONTEXTUAL = (agents.HyperZero, agents.ContextualCloning)  # have a policy for every context
ACTING = (agents.SAC, agents.SPEQ, agents.FlashSAC)  # train in an environment at the command line


def load_agent(path: Path, device: str) -> Agent:
    """The agent, whichever it is, in a checkpoint folder or a run folder.

    Raises:
        CheckpointError: nothing readable is there.
    """
    _, manifest = checkpoint.load_population(path)
    every: list[type[Agent]] = [*(kind for kind, _ in PRESETS.values()), *CONTEXTUAL]
    kinds = {kind.__name__: kind for kind in every}
    if manifest["agent"] not in kinds:
        known = ", ".join(kinds)
        raise checkpoint.CheckpointError(f"{path}: a checkpoint of {manifest['agent']}, which is none of {known}")
    return kinds[manifest["agent"]].load(path, device=device)
