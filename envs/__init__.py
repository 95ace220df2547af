"""Gymnasium environments; importing this room registers those of ours under `orl/` (again and again does no harm).

| id                        | track      |
|---------------------------|------------|
| `orl/Racing-v0`           | mania      |
| `orl/RacingOval-v0`       | oval       |
| `orl/RacingHairpins-v0`   | hairpins   |
| `orl/RacingChicane-v0`    | chicane    |
| `orl/RacingSpeedway-v0`   | speedway   |
| `orl/RacingProcedural-v0` | procedural |

| id with a context               | without it                 |
|---------------------------------|----------------------------|
| `orl/ContextPendulum-v0`        | `Pendulum-v1`              |
| `orl/ContextCartPole-v0`        | none (a continuous action) |
| `orl/ContextCartPoleDiscrete-v0`| `CartPole-v1`              |
| `orl/ContextHopper-v0`          | `Hopper-v5`                |
| `orl/ContextHalfCheetah-v0`     | `HalfCheetah-v5`           |
| `orl/ContextWalker2d-v0`        | `Walker2d-v5`              |
| `orl/ContextAnt-v0`             | `Ant-v5`                   |
| `orl/ContextRacing-v0`          | `orl/RacingProcedural-v0`, `track_seed=0` |
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

CONTEXT_IDS = {  # class of one, form of many copies, and after how many steps an episode is truncated
    "orl/ContextPendulum-v0": (
        "contextual.pendulum:ContextPendulum",
        "contextual.pendulum:ContextPendulumVectorEnv",
        200,
    ),
    "orl/ContextCartPole-v0": (
        "contextual.cart_pole:ContextCartPole",
        "contextual.cart_pole:ContextCartPoleVectorEnv",
        500,
    ),
    "orl/ContextCartPoleDiscrete-v0": (
        "contextual.cart_pole:ContextCartPoleDiscrete",
        "contextual.cart_pole:ContextCartPoleDiscreteVectorEnv",
        500,
    ),
    "orl/ContextHopper-v0": ("contextual.mujoco:ContextHopper", "contextual.copies:hopper", 1_000),
    "orl/ContextHalfCheetah-v0": ("contextual.mujoco:ContextHalfCheetah", "contextual.copies:half_cheetah", 1_000),
    "orl/ContextWalker2d-v0": ("contextual.mujoco:ContextWalker2d", "contextual.copies:walker2d", 1_000),
    "orl/ContextAnt-v0": ("contextual.mujoco:ContextAnt", "contextual.copies:ant", 1_000),
    "orl/ContextRacing-v0": ("contextual.racing:ContextRacing", "contextual.copies:racing", MAX_EPISODE_STEPS),
}


def register_environments() -> None:
    """Register every id of ours that gymnasium does not know yet."""
    for environment_id, track in RACING_IDS.items():
        if environment_id not in registry:
            register(
                environment_id,
                entry_point="orl.envs.racing.environment:RacingEnv",
                vector_entry_point="orl.envs.racing.vector:RacingVectorEnv",
                max_episode_steps=MAX_EPISODE_STEPS,
                kwargs={"track": track},
            )
    for environment_id, (one, many, steps) in CONTEXT_IDS.items():
        if environment_id not in registry:
            register(
                environment_id,
                entry_point=f"orl.envs.{one}",
                vector_entry_point=f"orl.envs.{many}",
                max_episode_steps=steps,
            )


register_environments()
