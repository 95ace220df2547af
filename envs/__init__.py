"""Gymnasium environments; importing this room registers those of ours under `orl/` (again and again does no harm).

| id                        | track      |
|---------------------------|------------|
| `orl/Racing-v0`           | mania      |
| `orl/RacingOval-v0`       | oval       |
| `orl/RacingHairpins-v0`   | hairpins   |
| `orl/RacingChicane-v0`    | chicane    |
| `orl/RacingSpeedway-v0`   | speedway   |
| `orl/RacingProcedural-v0` | procedural |
"""

from gymnasium.envs.registration import register, registry

RACING_IDS = {
    "orl/Racing-v0": "mania",
    "orl/RacingOval-v0": "oval",
    "orl/RacingHairpins-v0": "hairpins",
    "orl/RacingChicane-v0": "chicane",
    "orl/RacingSpeedway-v0": "speedway",
    "orl/RacingProcedural-v0": "procedural",
}
MAX_EPISODE_STEPS = 2_000


def register_environments() -> None:
    """Register every id of ours that gymnasium does not know yet."""
    for environment_id, track in RACING_IDS.items():
        if environment_id not in registry:
            register(
                environment_id,
                entry_point="orl.envs.racing:RacingEnv",
                vector_entry_point="orl.envs.racing_vector:RacingVectorEnv",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"track": track},
            )


register_environments()
