"""Racing: one car, or many, on a walled circuit; the scripted drivers; the circuits."""

from orl.envs.racing.circuits import PROCEDURAL_SPLIT, TRACKS, make_track
from orl.envs.racing.drivers import SKILLS, PurePursuit
from orl.envs.racing.environment import MAX_EPISODE_STEPS, RacingEnv, RacingVectorEnv
from orl.envs.racing.track import Track

__all__ = [
    "MAX_EPISODE_STEPS",
    "PROCEDURAL_SPLIT",
    "SKILLS",
    "TRACKS",
    "PurePursuit",
    "RacingEnv",
    "RacingVectorEnv",
    "Track",
    "make_track",
]
