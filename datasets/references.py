"""Reference returns of each environment version, and the normalized score made from them.

The score is 0 for the random policy and 100 for a fixed constant; Minari's own is in [0, 1].
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from orl.arrays import Float64Array


class Reference(NamedTuple):
    """Undiscounted returns of whole episodes."""

    random: float  # uniform random actions: score 0
    expert: float  # score 100


# MuJoCo v5. random: uniform actions, 5 seeds of 100 episodes; expert: mean return of Minari's `mujoco/*/expert-v0`.
# Source: normalizing_boundaries.json of ASPEQ. D4RL's numbers are of the v2 environments, another reward: do not mix.
REFERENCES: dict[str, Reference] = {
    "Hopper-v5": Reference(16.85648238301579, 3857.803603002423),
    "HalfCheetah-v5": Reference(-294.6651721267606, 16242.92451511629),
    "Walker2d-v5": Reference(1.4820404720443654, 6847.792741361276),
    "Ant-v5": Reference(-64.54757022972753, 6672.696062438072),
    "Swimmer-v5": Reference(1.7389516227736976, 355.4446349147557),
    "Humanoid-v5": Reference(115.37319716795376, 8602.850237666968),
    "InvertedPendulum-v5": Reference(5.196, 1000.0),
    "InvertedDoublePendulum-v5": Reference(45.85813353751216, 9353.377057523227),
    "Pusher-v5": Reference(-152.19379080439757, -24.835465097933103),
    "Reacher-v5": Reference(-43.38096210332422, -4.3438852096245055),
    # Racing. random: uniform actions; expert: the pure-pursuit driver of skill "reference"; 100 episodes each, seed 0.
    # Printed by `python -m orl.scripts.data.racing`; another version of an environment needs lines of its own.
    "orl/Racing-v0": Reference(-92.03002094812305, 1440.956398089061),
    "orl/RacingChicane-v0": Reference(-90.36000773489903, 1488.501586448009),
    "orl/RacingHairpins-v0": Reference(-92.56454419203041, 1349.6602222431286),
    "orl/RacingOval-v0": Reference(-90.40762011171792, 1508.8617876380883),
    "orl/RacingProcedural-v0": Reference(-93.44017541592397, 1501.1577947925407),
    "orl/RacingSpeedway-v0": Reference(-55.78339912181821, 1547.1865231663478),
}


def reference(environment_id: str) -> Reference:
    """References of one environment version.

    Raises:
        ValueError: there are none; the message lists the environments that have some.
    """
    if environment_id not in REFERENCES:
        raise ValueError(f"no reference returns for {environment_id!r}; known: {', '.join(REFERENCES)}")
    return REFERENCES[environment_id]


def normalized_score(environment_id: str, returns: ArrayLike) -> Float64Array:
    """Score of undiscounted returns: 0 is the random policy, 100 the environment version's constant.

    Args:
        environment_id: with its version, such as `Hopper-v5`.
        returns: of any shape.

    Returns:
        Scores of the same shape, float64.

    Raises:
        ValueError: no references for the environment.

    Source: Fu et al., D4RL, 2020, appendix.
    """
    low, high = reference(environment_id)
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
