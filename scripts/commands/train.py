"""`orl train AGENT`: train one agent, over several seeds at once, on recorded data, in an environment, or in both."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from orl import datasets
from orl.agents import BC, RewardModel, RewardModelConfig
from orl.config import AgentConfig
from orl.dataset import Dataset
from orl.scripts.main import check_labels, check_least
from orl.scripts.running.registry import Preset, presets
from orl.scripts.running.reward_variants import Rewards, complete
from orl.scripts.running.run_directory import JsonObject, load_or_make_json
from orl.scripts.running.training_run import Training

C = TypeVar("C", bound=AgentConfig)
UPDATES, STEPS = 100_000, 300_000  # where neither is given
agents = presets  # what `orl train` can name


@dataclass(frozen=True)
class Train(Training[C], Generic[C]):
    """Train on recorded data (--dataset D --updates N), in an environment (--env E --steps N), or first on the data and
    then in the environment (all four).

    All seeds train side by side. With --labels, rewards are hidden first; --rewards chooses what stands in for them.
    Writes one folder: config.json, results.json, history.json, progress.csv, TensorBoard events, a figure, and a
    checkpoint per seed. The same command in the same folder resumes.
    """

    dataset: str | None = None
    """Minari id (`orl dataset list`), or a D4RL .hdf5 or an .npz file."""
    updates: int | None = None
    """Gradient updates on recorded data; by default 100,000."""
    labels: float | None = None
    """Share of the rewards to keep, in (0, 1]; all others are hidden."""
    label_mode: Literal["transition", "episode"] = "transition"
    """Keep single transitions or whole episodes."""
    label_seed: int = 0
    """Seed K keeps the labels drawn with label-seed + K."""
    rewards: Rewards | None = None
    """imputed (the default where rewards are hidden), the labelled transitions alone, hidden rewards filled with zero
    or the mean, or the true ones."""
    clip_actions: bool = False
    """Clip recorded actions that lie beyond their bounds instead of refusing them."""
    reward_model: RewardModelConfig = field(default_factory=RewardModelConfig)
    """Of the reward model that imputes."""

    def check(self) -> None:
        """Refuse what does not fit together, each time with what does."""
        super().check()
        check_least(self, 0 if self.steps else 1, "updates")
        check_least(self, 0, "label_seed")
        check_labels(self.labels)
        if self.dataset is None:
            self._check_acting()
        elif self.steps is not None:
            self._check_both()
        if self.save_replay and not self.num_steps:
            raise ValueError("--save-replay: no transitions come of training on data; leave it out")
        if self.is_cloning and (self.rewards is not None or self.labels is not None):
            raise ValueError("bc clones actions, whatever their rewards; leave --rewards and --labels out")

    def _check_acting(self) -> None:
        verb = f"orl train {self.agent}"
        if self.agent_preset.needs_data:
            what = f"{verb} learns from recorded data: give --dataset and --updates"
            ignored = "" if self.steps is None else f"; --steps {self.steps} would be environment steps"
            raise ValueError(what + ignored)
        if self.updates is not None:
            raise ValueError(
                f"{verb} acts: give --steps, environment steps; --updates {self.updates} would be gradient updates on "
                "recorded data, and there is no --dataset"
            )
        if self.env is None:
            raise ValueError(f"{verb} acts: give --env, a Gymnasium id, and --steps; or --dataset and --updates")
        for name in ("labels", "rewards"):
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} {getattr(self, name)}: of recorded data, and there is no --dataset")

    def _check_both(self) -> None:
        verb = f"orl train {self.agent}"
        if not self.agent_preset.can_train_online:
            right = "leave --steps out" if self.updates is not None else f"give --updates {self.steps}"
            raise ValueError(f"--steps {self.steps}: {verb} does no environment steps, it learns from data; {right}")
        if self.updates is None:
            raise ValueError(
                f"--steps {self.steps}: these are environment steps; give --updates, the gradient updates on "
                f"{self.dataset}, alone or with --steps to act afterwards (--updates 0: act at once)"
            )

    @property
    def num_updates(self) -> int:
        """Gradient updates on recorded data."""
        return 0 if self.dataset is None else UPDATES if self.updates is None else self.updates

    @property
    def num_steps(self) -> int:
        """Environment steps of each seed."""
        return STEPS if self.dataset is None and self.steps is None else self.steps or 0

    @property
    def is_cloning(self) -> bool:
        """Whether the agent never reads a reward."""
        return issubclass(self.agent_preset.agent_class, BC)

    def data(self) -> Dataset | None:
        """Recorded data as they were loaded."""
        return None if self.dataset is None else self._data

    @cached_property
    def _data(self) -> Dataset:
        assert self.dataset is not None
        return datasets.load(self.dataset, self.env, clip_actions=self.clip_actions)

    @cached_property
    def kind_of_rewards(self) -> Rewards | Literal["none"]:
        """What the agent is trained on.

        Raises:
            ValueError: rewards are to be filled in, and none is hidden.
        """
        if self.is_cloning:
            return "none"
        if self.dataset is None:
            return "true"
        hidden = self.labels is not None or not self._data.is_labelled.all()
        kind = self.rewards or ("imputed" if hidden else "true")
        if not hidden and kind in ("imputed", "zero", "mean"):
            name = self._data.name
            raise ValueError(f"--rewards {kind}: no reward of {name} is hidden; give --labels, as --labels 0.01")
        return kind

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        if self.dataset is None:
            name = f"{self.agent}-{(self.env or '').replace('/', '-')}"
        else:
            name = f"{self.agent}-{Path(self.dataset).stem}-{self.kind_of_rewards}"
        return self.out or Path("runs") / name

    def described(self, data: Dataset | None, env: str) -> JsonObject:
        """What decides the numbers, for `config.json`."""
        described = super().described(data, env) | {"steps": self.num_steps or None}
        if self.dataset is None:  # options of data decide nothing then
            return {name: value for name, value in described.items() if name not in Train.__annotations__}
        described |= {"dataset": self._dataset_name, "updates": self.num_updates, "rewards": self.kind_of_rewards}
        if self._file is not None and self._file.is_file():  # another file may have the same name
            with self._file.open("rb") as file:
                described["dataset_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        return described

    def labels_of_row(self) -> JsonObject:
        """Dataset and rewards of a row of the results."""
        return {"dataset": self._dataset_name, "rewards": self.kind_of_rewards}

    @property
    def _dataset_name(self) -> str | None:
        """The id, or the file's name without its folder."""
        return self.dataset if self._file is None else self._file.name

    @property
    def _file(self) -> Path | None:
        return Path(self.dataset) if self.dataset is not None and Path(self.dataset).exists() else None

    def job(self, first_seed: int, seeds: int) -> Train[C]:
        """With a file's whole path: a worker may be elsewhere."""
        dataset = self.dataset if self._file is None else str(self._file.resolve())
        return dataclasses.replace(super().job(first_seed, seeds), dataset=dataset)

    def variants(self, data: Dataset, folder: Path) -> list[Dataset]:
        """One dataset per learner, no reward hidden."""
        kind = self.kind_of_rewards
        if kind == "none":
            return [data.fill(0.0)] * self.seeds
        if kind == "true":
            return [data] * self.seeds
        sparse = [data] * self.seeds
        if self.labels is not None:
            seeds = [self.label_seed + seed for seed in self.seed_numbers]
            sparse = [data.with_labels(self.labels, mode=self.label_mode, seed=seed) for seed in seeds]
        return complete(kind, data, sparse, self._reward_model(data, sparse, folder) if kind == "imputed" else None)

    def _reward_model(self, data: Dataset, sparse: list[Dataset], folder: Path) -> RewardModel:
        def fit() -> list[JsonObject]:
            model = RewardModel(sparse, self.reward_model, seed=self.seed_numbers, device=self.device)
            model.fit(progress_bar=True).save(folder / "reward-model")
            return [dataclasses.asdict(one) for one in model.report(data if data.is_labelled.all() else None)]

        load_or_make_json(folder / "reward-model.json", fit)
        return RewardModel.load(folder / "reward-model", device=self.device)


def options(name: str, preset: Preset) -> Train[Any]:
    """The default options of an agent: an agent that acts is evaluated more often."""
    return Train(preset.config, agent=name, eval_every=10_000 if preset.needs_data else 5_000)
