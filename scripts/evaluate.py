"""`orl evaluate RUN`: play episodes with what a run trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from orl.agent import Agent
from orl.evaluation import evaluate
from orl.scripts import tables
from orl.scripts.racing_datasets import register_environments
from orl.scripts.registry import load_agent
from orl.scripts.run_folder import RunFolder, score_row
from orl.spaces import Spaces, make


@dataclass(frozen=True)
class Evaluate:
    """Play whole episodes with the agents of a run, or of one checkpoint folder, and print their scores."""

    run_folder: tyro.conf.Positional[Path]
    """Folder that `orl train` or `agent.save` wrote."""
    env: str | None = None
    """Gymnasium id; by default the one that the agent was trained for."""
    episodes: int = 100
    """Episodes per seed."""
    seed: int = 1
    """Of the episodes' starts; evaluations during training use 0."""
    sample: bool = False
    """Sample actions instead of taking the policy's mode."""
    video: Path | None = None
    """Film one episode of the first seed: a .gif file."""
    video_steps: int = 600
    """Decisions to film at most."""
    out: Path | None = None
    """Folder for results.json."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:1."""

    def run(self) -> None:
        """Load, play and print."""
        register_environments()
        if self.video is not None and self.video.suffix != ".gif":
            raise ValueError(f"--video {self.video}: give a file that ends in .gif")
        agent = load_agent(self.run_folder, self.device)
        env = self.env or agent.spaces.environment_id
        if env is None:
            raise ValueError(f"{self.run_folder} does not name its environment; give --env")
        agent.spaces.check(Spaces.of(env), env)
        settings = {"run": self.run_folder.name, "env": env, "episodes": self.episodes, "seed": self.seed}
        folder = RunFolder.open(self.out, {**settings, "sample": self.sample}) if self.out is not None else None
        played = evaluate(agent, env, episodes=self.episodes, seed=self.seed, deterministic=not self.sample)
        laps = {"laps": float(played.infos["lap"].mean())} if "lap" in played.infos else {}
        name = type(agent).__name__.lower()
        row = score_row(played.returns, agent.seeds, dataset=None, env=env, agent=name, rewards="", **laps)
        if folder is not None:
            folder.finish([row])
        tables.show([row])
        if self.video is not None:
            film(agent.learner(0), env, self.video, self.seed, self.video_steps)
            print(f"wrote {self.video}")


def film(agent: Agent, env: str, path: Path, seed: int, steps: int) -> None:
    """Write one episode, at most `steps` decisions, as an animated GIF.

    Raises:
        ValueError: the environment renders no images.
    """
    environment: Any = make(env, render_mode="rgb_array")
    observation, _ = environment.reset(seed=seed)
    frames: list[Image.Image] = []
    ended = False
    while not ended and len(frames) < steps:
        frames.append(Image.fromarray(np.asarray(environment.render())).quantize(64))
        action, _ = agent.predict(observation, deterministic=True)
        observation, _, terminated, truncated, _ = environment.step(action)
        ended = terminated or truncated
    rate = environment.metadata.get("render_fps", 30)
    environment.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=max(20, round(1000 / rate)), loop=0)
