"""Policies alone, without what training needs: one small safetensors file each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from orl import checkpoint, seeding
from orl.agents import SAC, FlashSAC
from orl.arrays import Array, Float32Array
from orl.environment import Spaces
from orl.networks import SquashedGaussianActor
from orl.scripts.running.run_directory import JsonObject


def write_policy(agent: SAC | FlashSAC, learner: int, path: Path, **facts: object) -> None:
    """Write a learner's actor.

    Args:
        agent: a population.
        learner: which one.
        path: .safetensors file.
        facts: JSON-able, written with it, such as steps and return.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    actor = {name: tensor[learner].detach().cpu().clone() for name, tensor in agent.actor.state_dict().items()}
    about = {"spaces": agent.spaces.to_json(), "agent": type(agent).__name__, "seed": agent.seeds[learner], **facts}
    checkpoint.write_tensors(path, actor, {"orl": json.dumps(about)})


class SavedPolicy:
    """A squashed-Gaussian actor from a file: observations to actions in the environment's unit.

    Args:
        path: what `write_policy` wrote.
        deterministic: the mode instead of samples.
        seed: of the samples.

    Raises:
        ValueError: another file.
    """

    def __init__(self, path: Path, *, deterministic: bool = True, seed: int = 0) -> None:
        try:
            with safe_open(str(path), "pt") as file:
                self.facts: JsonObject = json.loads((file.metadata() or {})["orl"])
                tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.spaces = Spaces.from_json(self.facts["spaces"])
            widths = [tensors[f"network.layers.{i}.weight"].shape[1] for i in range(len(tensors) // 2 - 1)]
            sizes = self.spaces.observation_size, self.spaces.action_size
            self.actor = SquashedGaussianActor([torch.Generator()], *sizes, widths)
            self.actor.load_state_dict({name: tensor.unsqueeze(0) for name, tensor in tensors.items()})
        except (KeyError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path}: not a policy that orl wrote") from error
        self.deterministic, self.generator = deterministic, seeding.torch_generator(seed, "actions")

    def __call__(self, observations: Array) -> Float32Array:
        """Actions (n, A) of observations (n, O)."""
        inputs = torch.as_tensor(np.asarray(observations), dtype=torch.get_default_dtype()).unsqueeze(0)
        with torch.no_grad():
            if self.deterministic:
                actions = self.actor.mode(inputs)
            else:
                noise = torch.randn(inputs.shape[1], self.spaces.action_size, generator=self.generator)
                actions = self.actor.sample(inputs, noise.unsqueeze(0))[0]
        return self.spaces.to_environment(actions[0].numpy().astype(np.float32))
