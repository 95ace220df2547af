"""`orl evaluate RUN`: play episodes with what a run trained."""

from __future__ import annotations

import functools
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from gymnasium.vector import SyncVectorEnv
from PIL import Image

from orl.agent import Agent
from orl.arrays import Array
from orl.environment import make
from orl.evaluation import Evaluation, evaluate
from orl.rollout import play
from orl.scripts.contexts.context_assignment import ContextAssignment, assign_contexts
from orl.scripts.main import check_least
from orl.scripts.running import tables
from orl.scripts.running.registry import load_agent
from orl.scripts.running.run_directory import RunDirectory, config_of, score_row


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
    context: str | None = None
    """Play in this context, as mass=1.4,length=0.7: HyperZero writes a policy for it, of specialists the nearest one
    plays, others do not see it. Without it HyperZero plays in the default context, each specialist in its own."""
    allow_extrapolation: bool = False
    """Let the context lie outside its ranges."""
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
        check_least(self, 1, "episodes", "video_steps")
        check_least(self, 0, "seed")
        if self.video is not None and self.video.suffix != ".gif":
            raise ValueError(f"--video {self.video}: give a file that ends in .gif")
        agent = load_agent(self.run_folder, self.device)
        config, _ = config_of(self.run_folder)  # names the preset, and the module that registers an environment
        env = self.env or config.get("env") or agent.spaces.environment_id
        if env is None:
            raise ValueError(f"{self.run_folder} does not name its environment; give --env")
        task = assign_contexts(agent, env, self.run_folder, self.context, allow_extrapolation=self.allow_extrapolation)
        with closing(make(env, **task.single_keywords())) as environment:
            task.agent.spaces.check(task.agent.spaces_of(environment, task.agent.config), env)
        run = os.path.relpath(self.run_folder, self.out or ".")  # its name alone may be another run's, as seed-0 is
        settings = {"run": run, "env": env, "episodes": self.episodes, "seed": self.seed}
        settings |= {"sample": self.sample, "context": self.context}
        folder = RunDirectory.open(self.out, settings) if self.out is not None else None
        if self.video is not None:
            film(task.agent.learner(0), env, self.video, self.seed, self.video_steps, **task.single_keywords())
            print(f"wrote {self.video}")
        play = functools.partial(evaluate, task.agent, env, episodes=self.episodes, seed=self.seed)
        name = config.get("agent", type(agent).__name__.lower())
        rows = _rows(task, env, name, play(deterministic=not self.sample, **task.vector_keywords(self.episodes)))
        if folder is not None:
            folder.finish(rows)
        if task.remark:
            print(task.remark)
        tables.show(rows)


def _rows(task: ContextAssignment, env: str, name: str, played: Evaluation) -> list[dict[str, Any]]:
    """One of all learners; one of each where their contexts differ."""
    agent, groups = task.agent, [list(range(task.agent.population))]
    if task.contexts is not None and (task.contexts != task.contexts[0]).any():
        groups = [[k] for k in groups[0]]
    rows = []
    for learners in groups:
        row: dict[str, Any] = {"dataset": None, "env": env, "agent": name, "rewards": ""}
        if "lap" in played.infos:
            row["laps"] = float(played.infos["lap"][learners].mean())
        if task.texts:
            row["context"] = task.texts[learners[0]]
        rows.append(score_row(played.returns[learners], [agent.seeds[k] for k in learners], **row))
    return rows


def film(agent: Agent, env: str, path: Path, seed: int, steps: int, **keywords: Any) -> None:
    """Write one episode, at most `steps` decisions, as an animated GIF.

    Raises:
        ValueError: the environment renders no images, or needs what is not there.
    """
    frames: list[Image.Image] = []
    with closing(SyncVectorEnv([lambda: make(env, render_mode="rgb_array", **keywords)])) as environment:

        def act(observations: Array) -> Array:
            try:
                image: Any = environment.envs[0].render()
            except Exception as error:  # graphics libraries raise what they like, MuJoCo a FatalError of its own
                remedy = "; without a display, MUJOCO_GL=egl can help" if "OpenGL" in str(error) else ""
                raise ValueError(f"--video: {env} cannot be filmed: {error}{remedy}") from error
            if image is None:
                raise ValueError(f"--video: {env} cannot be filmed: it renders no images")
            frames.append(Image.fromarray(np.asarray(image)).quantize(64))
            return agent.predict(observations[0], deterministic=True)[0][None]

        for _ in play(environment, act, [seed]):
            if len(frames) == steps:
                break
        rate = environment.metadata.get("render_fps", 30)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=max(20, round(1000 / rate)), loop=0)
