"""HyperZero: `hyperzero.py` has the algorithm and its losses, `hypernetwork.py` the networks that write weights."""

from orl.agents.hyperzero.baselines import (
    CONCATENATION_PRESET,
    UVFA_PRESET,
    ContextualCloning,
    ContextualCloningConfig,
    few_shot,
)
from orl.agents.hyperzero.hyperzero import (
    HYPERZERO_PAPER_PRESET,
    HYPERZERO_PRESET,
    ContextualAgent,
    ContextualConfig,
    HyperZero,
    HyperZeroConfig,
)

__all__ = [
    "CONCATENATION_PRESET",
    "HYPERZERO_PAPER_PRESET",
    "HYPERZERO_PRESET",
    "UVFA_PRESET",
    "ContextualAgent",
    "ContextualCloning",
    "ContextualCloningConfig",
    "ContextualConfig",
    "HyperZero",
    "HyperZeroConfig",
    "few_shot",
]
