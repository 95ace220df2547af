"""Names of the command line: each is an agent class with a preset of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orl import agents, checkpoint
from orl.agent import Agent

PRESETS: dict[str, tuple[type[Agent], Any]] = {
    "bc": (agents.BC, agents.BCConfig()),
    "td3bc": (agents.TD3BC, agents.TD3BCConfig()),
    "iql": (agents.IQL, agents.IQLConfig()),
    "sac": (agents.SAC, agents.SAC_PRESET),
    "redq": (agents.REDQ, agents.REDQ_PRESET),
    "droq": (agents.DroQ, agents.DROQ_PRESET),
    "speq": (agents.SPEQ, agents.SPEQ_PRESET),
    "speq-auto": (agents.SPEQ, agents.SPEQ_AUTO_PRESET),
    "sope": (agents.SPEQ, agents.SOPE_PRESET),
    "flash-sac": (agents.FlashSAC, agents.FLASH_SAC_PRESET),
    "flash-speq": (agents.FlashSAC, agents.FLASH_SPEQ_PRESET),
}

CONTEXTUAL = (agents.HyperZero, agents.ContextualCloning)  # have a policy for every context
ACTING = (
    agents.SAC,
    agents.REDQ,
    agents.DroQ,
    agents.SPEQ,
    agents.FlashSAC,
)  # train in an environment at the command line


def load_agent(path: Path, device: str) -> Agent:
    """The agent, whichever it is, in a checkpoint folder or a run folder.

    Raises:
        CheckpointError: nothing readable is there.
    """
    _, manifest = checkpoint.load_population(path)
    every: list[type[Agent]] = [*(kind for kind, _ in PRESETS.values()), *CONTEXTUAL]
    kinds = {kind.algorithm(): kind for kind in reversed(every)}
    if manifest["agent"] not in kinds:
        known = ", ".join(kinds)
        raise checkpoint.CheckpointError(f"{path}: a checkpoint of {manifest['agent']}, which is none of {known}")
    return kinds[manifest["agent"]].load(path, device=device)
