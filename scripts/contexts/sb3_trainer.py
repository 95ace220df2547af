"""Algorithms of Stable-Baselines3 that train in given contexts.

Shape key: P policies, E episodes, O observation, A action.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orl.context import Floats
from orl.environment import make
from orl.rollout import Policy
from orl.scripts.contexts.trainers import Trainer

SB3 = "sb3:"  # what their names begin with at the command line


class SB3Trainer(Trainer):
    """An algorithm of Stable-Baselines3; policies are trained one after another, and a stopped one begins again."""

    def check(self, steps: int) -> None:
        """See the base class; the algorithm itself says what it refuses."""
        import stable_baselines3
        from stable_baselines3.common.base_class import BaseAlgorithm

        kind = getattr(stable_baselines3, self._algorithm, None)
        if not (isinstance(kind, type) and issubclass(kind, BaseAlgorithm)):
            raise ValueError(f"--trainer {self.name}: Stable-Baselines3 has no such algorithm; give sb3:PPO or sb3:DQN")
        environment = make(self.env)
        try:
            self._make(environment, 0, steps)
        except (AssertionError, TypeError, ValueError) as error:
            raise ValueError(f"--trainer {self.name} in {self.env}: {error}") from error
        finally:
            environment.close()

    def train(self, contexts: Floats, seeds: Sequence[int], steps: int, every: int, folder: Path) -> Policy:
        """See the base class; checkpoints are those of whole policies."""
        from stable_baselines3.common.vec_env import DummyVecEnv

        models = []
        for rows, seed in zip(contexts.tolist(), seeds, strict=True):
            kept = folder / f"seed-{seed}.zip"
            copies = [partial(make, self.env, contexts=self.space.ranges, context=row) for row in rows]
            if kept.exists():
                models.append(self._kind.load(kept, device=self.device))
                continue
            environment = DummyVecEnv([*copies])
            models.append(self._make(environment, seed, steps).learn(steps, progress_bar=False))
            environment.close()
            models[-1].save(folder / ".part.zip")
            (folder / ".part.zip").replace(kept)
        return _Predicting(models)

    def save(self, policy: Policy, k: int, folder: Path) -> None:
        """Stable-Baselines3's own archive."""
        assert isinstance(policy, _Predicting)
        folder.mkdir(parents=True, exist_ok=True)
        policy.models[k].save(folder / "policy.zip")

    @property
    def _algorithm(self) -> str:
        return self.name.removeprefix(SB3)

    @property
    def _kind(self) -> Any:
        import stable_baselines3

        return getattr(stable_baselines3, self._algorithm)

    def _make(self, environment: Any, seed: int, steps: int) -> Any:
        from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

        keywords = {"policy": "MlpPolicy", "device": self.device, **self.settings}
        if issubclass(self._kind, OnPolicyAlgorithm) and "n_steps" not in self.settings:
            rollout = inspect.signature(self._kind).parameters["n_steps"].default  # always collected as a whole
            keywords["n_steps"] = max(2, min(rollout, steps // getattr(environment, "num_envs", 1)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice on batch sizes and devices
            return self._kind(env=environment, seed=seed, **keywords)


class _Predicting:
    """Models of Stable-Baselines3 as policies for `orl.evaluation`."""

    def __init__(self, models: Sequence[Any]) -> None:
        self.models, self.population = models, len(models)

    def act(self, observations: NDArray[Any], *, deterministic: bool = True) -> NDArray[Any]:
        """(P, E, O) to (P, E, A); discrete actions are (P, E)."""
        pairs = zip(self.models, observations, strict=True)
        return np.stack([model.predict(each, deterministic=deterministic)[0] for model, each in pairs])
