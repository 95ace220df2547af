"""Hyperparameters that were published by environment family, such as `Hopper`."""

from __future__ import annotations

import re
import warnings

from orl.environment import Spaces

# MBPO's (Janner et al. 2019, arXiv 1906.08253, table 1), as REDQ and DroQ use them.
TARGET_ENTROPY = {"Hopper": -1.0, "HalfCheetah": -3.0, "Walker2d": -3.0, "Ant": -4.0, "Humanoid": -2.0}

# DroQ's and SPEQ's (their released scripts); where it has no entry, OTHER_DROPOUT.
DROPOUT = {"Hopper": 1e-4, "HalfCheetah": 5e-3, "Walker2d": 5e-3, "Ant": 1e-2, "Humanoid": 1e-1}
OTHER_DROPOUT = 0.01  # DroQ's second code has this rate for all environments


def family(spaces: Spaces) -> str:
    """The environment's name without its version, v2 to v5: `Hopper` of `Hopper-v5`, and of `orl/ContextHopper-v0`."""
    return re.sub(r"^orl/Context(\w+)-v0$|-v[2-5]$", r"\1", spaces.environment_id or "")


def target_entropy(spaces: Spaces) -> float:
    """The published target entropy of an environment's family; of an unknown one, -A, with a warning."""
    if family(spaces) in TARGET_ENTROPY:
        return TARGET_ENTROPY[family(spaces)]
    warnings.warn(
        f"no published target entropy for {spaces.environment_id}: using -{spaces.action_size}, minus the number of "
        "action dimensions; target_entropy sets another",
        stacklevel=2,
    )
    return -float(spaces.action_size)


def dropout_rate(spaces: Spaces) -> float:
    """The rate of an environment's family."""
    return DROPOUT.get(family(spaces), OTHER_DROPOUT)
