"""Behaviour policies by name or file: random actions, policies and agents of ours, Stable-Baselines3's archives.

An archive of Stable-Baselines3 is a zip of JSON, in which some entries are pickled, and of weights. Nothing in it is
unpickled here: the network is built from what the JSON says in plain text, and the weights go through torch's
restricted reader. That covers flat observations with the extractor that Stable-Baselines3 takes by default. Statistics
of `VecNormalize` are in another file, and a policy that needs them does not act well without.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.spaces import Box

from orl import seeding
from orl.arrays import Float32Array, Float64Array
from orl.checkpoint import learner_names
from orl.environment import Spaces
from orl.rollout import ActionFunction
from orl.scripts.running.registry import load_agent
from orl.scripts.running.run_directory import JsonObject
from orl.scripts.running.saved_policies import SavedPolicy

if TYPE_CHECKING:
    from stable_baselines3.common.policies import BasePolicy

NETWORK = ("net_arch", "n_critics", "share_features_extractor", "ortho_init", "log_std_init", "clip_mean", "full_std")
IRRELEVANT = ("optimizer_class", "optimizer_kwargs", "use_sde", "normalize_images", "use_expln")  # to acting


@dataclass(frozen=True)
class BehaviourPolicy:
    """What chooses the actions of a dataset."""

    name: str  # for the dataset's metadata
    act: ActionFunction  # observations (n, O) to actions (n, A), in the environment's unit
    packages: tuple[str, ...] = ("torch",)  # whose versions the actions depend on


def load_policy(source: str, spaces: Spaces, *, deterministic: bool = False, seed: int = 0) -> BehaviourPolicy:
    """A policy for an environment.

    Args:
        source: `random`; a .zip of Stable-Baselines3; a .safetensors policy of ours; a folder that an agent of ours was
            saved to, with one learner.
        spaces: of the environment.
        deterministic: modes instead of samples.
        seed: of the samples.

    Raises:
        ValueError: nothing of that name, or a policy that cannot be read or does not fit the environment.
    """
    if source == "random":
        return BehaviourPolicy("uniform random actions", RandomPolicy(spaces, seed), ())
    path = Path(source)
    if not path.exists():
        raise ValueError(f"--policy {source}: no such file or folder; give random, a .zip, a .safetensors or a folder")
    how = "modes" if deterministic else "samples"
    if path.is_dir():
        agent = load_agent(path, "cpu")
        agent.spaces.check(spaces, str(spaces.environment_id))
        if agent.population > 1:
            first = path / learner_names(agent.seeds)[0]
            raise ValueError(f"{path}: holds {agent.population} learners; give the folder of one, such as {first}")
        agent.action_generators = [seeding.torch_generator(seed, "actions")]
        name = f"{type(agent).__name__} of orl after {agent.steps:,} steps and {agent.updates:,} updates, {how}"
        return BehaviourPolicy(name, lambda observations: agent.predict(observations, deterministic=deterministic)[0])
    if path.suffix == ".safetensors":
        policy = SavedPolicy(path, deterministic=deterministic, seed=seed)
        policy.spaces.check(spaces, str(spaces.environment_id))
        facts = policy.facts
        steps = f" after {facts['steps']:,} steps" if "steps" in facts else ""
        return BehaviourPolicy(f"{facts['agent']} of orl, seed {facts['seed']}{steps}, {how}", policy)
    if path.suffix == ".zip":
        archive = SB3Policy(path, spaces, deterministic=deterministic, seed=seed)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        return BehaviourPolicy(f"{archive.name} (sha256 {digest}), {how}", archive, ("torch", "stable-baselines3"))
    raise ValueError(f"--policy {source}: give random, a .zip, a .safetensors or a folder")


class RandomPolicy:
    """Uniform actions inside the bounds of an environment.

    Args:
        spaces: of the environment.
        seed: of the actions.
    """

    population = 1

    def __init__(self, spaces: Spaces, seed: int = 0) -> None:
        self.low, self.high = spaces.action_low, spaces.action_high
        self.generator = np.random.default_rng(seed)

    def __call__(self, observations: Float32Array) -> Float32Array:
        """Actions (..., A) of observations (..., O)."""
        shape = (*observations.shape[:-1], len(self.low))
        return self.generator.uniform(self.low, self.high, shape).astype(np.float32)

    def act(self, observations: Float32Array, *, deterministic: bool = True) -> Float32Array:
        """As a policy for `orl.evaluation.evaluate`: (1, n, O) to (1, n, A)."""
        return self(observations)


class SB3Policy:
    """The policy in a .zip of Stable-Baselines3's SAC, TD3, DDPG, PPO or A2C.

    Args:
        path: what `save` of Stable-Baselines3 wrote.
        spaces: of the environment to act in.
        deterministic: modes instead of samples.
        seed: of the samples.

    Raises:
        ValueError: another file, another algorithm, a network of other parts, or other sizes or bounds of actions.
    """

    def __init__(self, path: Path, spaces: Spaces, *, deterministic: bool = False, seed: int = 0) -> None:
        from stable_baselines3.common.save_util import load_from_zip_file

        about = _read_json(path)
        policy_class, algorithm = _policy_class(about, path)
        sizes = tuple(_size(about, key, path) for key in ("observation_space", "action_space"))
        if sizes != (own := (spaces.observation_size, spaces.action_size)):
            raise ValueError(f"{path}: (observation, action) sizes are {sizes}, {spaces.environment_id} has {own}")
        for key, bound in (("low", spaces.action_low), ("high", spaces.action_high)):
            printed = _numbers(about["action_space"].get(key))
            if printed is not None and not np.allclose(printed, bound):
                raise ValueError(
                    f"{path}: its actions have {key} = {printed.tolist()}, {spaces.environment_id}'s {bound.tolist()}"
                )
        if about.get("use_sde") and not deterministic:
            raise ValueError(f"{path}: samples of state-dependent exploration are not supported; give --deterministic")
        observations = Box(-np.inf, np.inf, (spaces.observation_size,), np.float32)
        actions = Box(spaces.action_low, spaces.action_high, dtype=np.float32)
        keywords = _network(about, path) | ({"use_sde": True} if about.get("use_sde") else {})
        try:
            with torch.random.fork_rng(devices=[]):  # the first weights, replaced at once, take no numbers away
                self.policy = policy_class(observations, actions, lambda _: 0.0, **keywords)
            weights = load_from_zip_file(path, load_data=False, device="cpu")[1]
            self.policy.load_state_dict(weights["policy"])  # type: ignore[arg-type]
        except Exception as error:  # torch's and zip's errors have no common class
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path}: the policy cannot be read: {reason}") from error
        self.name = f"{algorithm} of Stable-Baselines3, {path.name}"
        self.deterministic = deterministic
        self.state = torch.Generator().manual_seed(seed).get_state()

    def __call__(self, observations: Float32Array) -> Float32Array:
        """Actions (n, A) of observations (n, O); torch's own random numbers stay as they were."""
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.state)
            actions: Float32Array = self.policy.predict(observations, deterministic=self.deterministic)[0]
            self.state = torch.get_rng_state()
        return actions


def _read_json(path: Path) -> JsonObject:
    """The archive's JSON, with pickled entries as the text that they are."""
    try:
        with zipfile.ZipFile(path) as archive:
            about: JsonObject = json.loads(archive.read("data"))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no policy of Stable-Baselines3, or cut short") from error
    return about


def _policy_class(about: JsonObject, path: Path) -> tuple[type[BasePolicy], str]:
    """Stable-Baselines3's class and the name of the algorithm."""
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.sac.policies import SACPolicy
    from stable_baselines3.td3.policies import TD3Policy

    entry = about.get("policy_class")
    module = entry.get("__module__", "") if isinstance(entry, dict) else ""
    classes: dict[str, tuple[type[BasePolicy], str]] = {
        "stable_baselines3.sac.policies": (SACPolicy, "SAC"),
        "stable_baselines3.td3.policies": (TD3Policy, "TD3 or DDPG"),
        "stable_baselines3.common.policies": (ActorCriticPolicy, "PPO" if "clip_range" in about else "A2C"),
    }
    if module not in classes:
        raise ValueError(
            f"{path}: its policy is of {module or 'an unknown class'}; give one of SAC, TD3, DDPG, PPO, A2C"
        )
    return classes[module]


def _size(about: JsonObject, key: str, path: Path) -> int:
    """Features of a flat space, as the archive's text has them."""
    space = about.get(key)
    shape = space.get("shape", space.get("_shape")) if isinstance(space, dict) else None
    if not (isinstance(shape, list) and len(shape) == 1 and isinstance(shape[0], int)):
        raise ValueError(f"{path}: its {key.replace('_', ' ')} is no flat vector of numbers")
    return shape[0]


def _numbers(text: object) -> Float64Array | None:
    """A vector that the archive's JSON has as NumPy prints it; None where it has none."""
    try:
        return np.array(str(text).strip("[]").split(), np.float64)
    except ValueError:
        return None


def _network(about: JsonObject, path: Path) -> JsonObject:
    """Keywords of the network: all but the activation function are plain JSON."""
    saved: JsonObject = about.get("policy_kwargs") or {}
    keywords = {key: value for key, value in saved.items() if key in NETWORK}
    for key, value in saved.items():
        if key == "activation_fn":
            name = str(value).removesuffix("'>").rpartition(".")[2]
            keywords[key] = getattr(torch.nn, name, None)
            if "torch.nn.modules.activation." not in str(value) or keywords[key] is None:
                raise ValueError(f"{path}: its activation function {value} is none of torch's")
        elif key not in (*NETWORK, *IRRELEVANT, ":type:", ":serialized:"):
            raise ValueError(f"{path}: its network has {key} = {value}, which cannot be read without unpickling")
    return keywords
