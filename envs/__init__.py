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
CONTEXT_IDS = {  # after how many steps an episode is truncated
    "orl/ContextPendulum-v0": 200,
    "orl/ContextCartPole-v0": 500,
    "orl/ContextCartPoleDiscrete-v0": 500,
    "orl/ContextHopper-v0": 1_000,
    "orl/ContextHalfCheetah-v0": 1_000,
    "orl/ContextWalker2d-v0": 1_000,
    "orl/ContextAnt-v0": 1_000,
    "orl/ContextRacing-v0": 2_000,
}


def register_environments() -> None:
    """Register every id of ours that gymnasium does not have yet."""
    for environment_id, track in RACING_IDS.items():
        _register(environment_id, "orl.envs.racing:RacingEnv", "orl.envs.racing:RacingVectorEnv", 2_000, track=track)
    for environment_id, max_episode_steps in CONTEXT_IDS.items():
        class_name = "orl.envs.contextual:" + environment_id.removeprefix("orl/").removesuffix("-v0")
        _register(environment_id, class_name, f"{class_name}VectorEnv", max_episode_steps)


def _register(environment_id: str, single: str, vector: str, max_episode_steps: int, **kwargs: str) -> None:
    if environment_id not in registry:
        register(environment_id, single, vector_entry_point=vector, max_episode_steps=max_episode_steps, kwargs=kwargs)


register_environments()
