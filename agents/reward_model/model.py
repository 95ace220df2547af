"""Reward-model imputation: learn the reward from the labelled transitions and fill in the others.

Paper: Romeo & Bagdanov 2024, "Offline Reinforcement Learning with Imputed Rewards", arXiv 2407.10839: a two-layer MLP,
trained by regression on the labelled 1 %, imputes the rest; the completed data go to TD3+BC or IQL unchanged.

Reimplemented from the abstract; code and details of the paper were not available. Our choices, fields or named here:
* inputs (s, a, s') by default, as s, a, s' - s and log(|s'| + log_offset), which shows an MLP small changes and small
  distances, and the context of data that have contexts; normalised by the mean and std of all transitions, labelled or
  not;
* an ensemble of K members, each with its own initialisation and batches, trained by a Huber loss (crashes are outliers)
  on rewards standardised by the labelled ones; each member stops early on validation labels and keeps its best;
* true labels are kept; the others become the ensemble's mean, or mean - pessimism * std, optionally clipped to the
  range of the labels.

Shape key: P population, K members, B batch, N transitions, F input features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orl import checkpoint, losses, seeding
from orl.agents.reward_model.ensemble import RewardEnsemble
from orl.agents.reward_model.inputs import RewardInputs, with_contexts
from orl.agents.reward_model.labels import TINY, Report, Split
from orl.buffer import Batch, ReplayBuffer, per_learner
from orl.config import check_positive, make_config
from orl.dataset import Dataset
from orl.device import pick_device
from orl.noise import NoiseBlocks, NoiseSpec
from orl.state import flatten_state, restore_state
from orl.training import progress
from orl.updates import Adam, gradients


@dataclass(frozen=True)
class RewardModelConfig:
    """Hyperparameters of the reward model; all but the number of layers are our choice."""

    # Model
    hidden_sizes: tuple[int, ...] = (256, 256)  # units of each hidden layer; the paper has two layers
    num_members: int = 5  # K, ensemble members
    use_next_observations: bool = True  # inputs (s, a, s') instead of (s, a)
    log_offset: float | None = 0.01  # inputs log(|s'| + this) too, in units of the observations; None: without
    # Training
    huber_threshold: float = 1.0  # error beyond which the loss is linear, in standard deviations of the labels
    learning_rate: float = 1e-3  # of Adam
    batch_size: int = 256  # labelled transitions per update and member
    max_updates: int = 1_500  # gradient updates at most
    check_period: int = 50  # updates between looks at the validation labels
    patience: int = 10  # looks without improvement after which a member stops
    validation_share: float = 0.1  # of the labels: early stopping and calibration
    held_out_share: float = 0.1  # of the labels: diagnostics only
    # Imputation
    pessimism: float = 0.0  # standard deviations of the ensemble subtracted from its mean
    clip_to_labels: bool = False  # keep imputed rewards inside the range of the labelled ones

    def __post_init__(self) -> None:
        check_positive(self, "num_members", "huber_threshold", "learning_rate", "batch_size")
        check_positive(self, "max_updates", "check_period", "patience", "log_offset")
        if not (
            self.validation_share > 0 and self.held_out_share > 0 and self.validation_share + self.held_out_share < 1
        ):
            raise ValueError("validation_share and held_out_share must be above 0 and leave labels to train on")


class RewardModel:
    """An ensemble per learner that predicts rewards.

    Args:
        data: transitions of which some rewards are known, all with contexts or none; one dataset, or one per seed.
        config: hyperparameters.
        seed: one integer >= 0 per learner.
        device: "auto", "cpu", "cuda", "cuda:1".
        overrides: fields of the configuration, by name.

    Raises:
        ValueError: fewer than three labels, or as many datasets as seeds are not given.
    """

    def __init__(
        self,
        data: Dataset | Sequence[Dataset],
        config: RewardModelConfig | None = None,
        *,
        seed: int | Sequence[int] = 0,
        device: str = "auto",
        **overrides: Any,
    ) -> None:
        seeds = seeding.check_seeds(seed)
        datasets = per_learner(data, len(seeds))
        config = make_config(RewardModelConfig, config, overrides)
        inputs = RewardInputs.of(datasets, config.use_next_observations, config.log_offset)
        self._create(inputs, config, seeds, pick_device(device))
        for learner, each in enumerate(datasets):
            self._prepare(learner, each)
        self.training = ReplayBuffer.from_datasets(
            [with_contexts(d.pick(s.train)) for d, s in zip(datasets, self.splits, strict=True)], self.device
        )
        self.datasets = datasets

    def _create(self, inputs: RewardInputs, config: RewardModelConfig, seeds: list[int], device: torch.device) -> None:
        self.config, self.seeds, self.device = config, seeds, device
        self.ensemble = RewardEnsemble(inputs, config.hidden_sizes, config.num_members, seeds, device)
        self.splits: list[Split] = []
        self.datasets = []  # none after loading
        self.fitted = False

    def _prepare(self, learner: int, data: Dataset) -> None:
        """Statistics and the split of one learner's labels."""
        known = np.flatnonzero(data.is_labelled)
        if len(known) < 3:
            raise ValueError(f"{data.name}: {len(known)} labelled transitions; a reward model needs three or more")
        c = self.config
        self.splits.append(Split.of(known, c.validation_share, c.held_out_share, self.seeds[learner]))
        self.ensemble.take_statistics(learner, data)

    def fit(self, *, progress_bar: bool = False) -> Self:
        """Train until every member has stopped improving on the validation labels, then calibrate.

        Returns:
            This model.

        Raises:
            ValueError: the model was loaded and has no data.
        """
        self._require_data()
        c, population = self.config, len(self.seeds)
        optimizer = Adam(self.ensemble.network.parameters(), c.learning_rate)
        random = NoiseBlocks(
            self.seeds, {"indices": NoiseSpec("uniform", (c.num_members * c.batch_size,))}, self.device
        )
        best = [p.detach().clone() for p in self.ensemble.network.parameters()]
        best_error = torch.full((population, c.num_members), torch.inf, device=self.device)
        waited = torch.zeros_like(best_error)
        with progress("reward model", c.max_updates, visible=progress_bar) as advance:
            for update in range(1, c.max_updates + 1):
                self._update(self.training.sample(random.next()["indices"]), optimizer)
                advance(1)
                if update % c.check_period and update != c.max_updates:
                    continue
                error = self._validation_error()
                improved = (error < best_error) & (waited < c.patience)  # a member that has stopped stays stopped
                best_error = torch.where(improved, error, best_error)
                waited = torch.where(improved, 0, waited + 1)
                for kept, current in zip(best, self.ensemble.network.parameters(), strict=True):
                    kept.copy_(torch.where(improved[..., None, None], current.detach(), kept))
                if bool((waited >= c.patience).all()):
                    break
        with torch.no_grad():
            for parameter, kept in zip(self.ensemble.network.parameters(), best, strict=True):
                parameter.copy_(kept)
        self._calibrate()
        self.fitted = True
        return self

    def _require_fit(self) -> None:
        if not self.fitted:
            raise ValueError("this reward model is not fitted; call fit() first")

    def _require_data(self) -> None:
        if not self.datasets:
            raise ValueError("a loaded reward model has no data to fit or report on; make one with RewardModel(data)")

    def _update(self, batch: Batch, optimizer: Adam) -> None:
        """One regression step: sum over members of mean_B huber(f(s, a, s') - standardised r)."""
        loss = losses.over_batch(losses.huber(self.ensemble.errors(batch), self.config.huber_threshold))
        optimizer.step(gradients(loss, self.ensemble.network))

    def _validation_error(self) -> Tensor:
        """(P, K): mean loss of each member on its learner's validation labels."""
        errors = []
        for learner, (data, split) in enumerate(zip(self.datasets, self.splits, strict=True)):
            std = float(self.ensemble.buffers["target_std"][learner]) or 1.0
            error = (self.ensemble.members(learner, data.pick(split.validation)) - data.rewards[split.validation]) / std
            errors.append(losses.huber(torch.from_numpy(error), self.config.huber_threshold).mean(-1))
        return torch.stack(errors).to(self.device)

    def _calibrate(self) -> None:
        """Scale the standard deviation so that 95 % of the validation labels lie within two of it."""
        for learner, (data, split) in enumerate(zip(self.datasets, self.splits, strict=True)):
            mean, std = self.ensemble.predict(learner, data.pick(split.validation))
            error = np.abs(mean - data.rewards[split.validation])
            self.ensemble.buffers["calibration"][learner] = float(np.quantile(error / (2 * std + TINY), 0.95))

    def impute(self, data: Dataset | Sequence[Dataset]) -> Any:
        """Fill in hidden rewards and keep the known ones.

        Args:
            data: one dataset, or one per learner.

        Returns:
            The same transitions without hidden rewards: a dataset for one, a list for a population.
        """
        if isinstance(data, Dataset) and len(self.seeds) == 1:
            return self._impute(0, data)
        return [self._impute(learner, each) for learner, each in enumerate(per_learner(data, len(self.seeds)))]

    def _impute(self, learner: int, data: Dataset) -> Dataset:
        self.ensemble.inputs.check(data)
        known = data.is_labelled
        if known.all():
            return data
        self._require_fit()
        members = self.ensemble.members(learner, data)
        imputed = members.mean(axis=0) - self.config.pessimism * members.std(axis=0)
        if self.config.clip_to_labels:
            imputed = imputed.clip(*self.ensemble.buffers["label_range"][learner].tolist())
        return data.with_rewards(np.where(known, data.rewards, imputed))

    def predict(self, learner: int, data: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ensemble mean and calibrated standard deviation of every reward, known or not, (N,) each.

        Raises:
            ValueError: the model is not fitted, or data of other sizes, action bounds or contexts.
        """
        self._require_fit()
        self.ensemble.inputs.check(data)
        return self.ensemble.predict(learner, data)

    def report(self, truth: Dataset | None = None) -> list[Report]:
        """Diagnostics of each learner on its held-out labels, after `fit`.

        Args:
            truth: the same transitions with every reward known, for the correlation of episode returns.

        Raises:
            ValueError: the model was loaded and has no data, or is not fitted.
        """
        self._require_data()
        self._require_fit()
        return [self._report(learner, truth) for learner in range(len(self.seeds))]

    def _report(self, learner: int, truth: Dataset | None) -> Report:
        data, rows = self.datasets[learner], self.splits[learner].held_out
        pair = (self._impute(learner, data), truth) if truth is not None else None
        return Report.of(data, rows, *self.ensemble.predict(learner, data.pick(rows)), pair)

    def save(self, path: str | Path) -> None:
        """Write networks, statistics and calibration to a folder; the data are not saved.

        Raises:
            ValueError: the model is not fitted, or the folder holds something else.
        """
        self._require_fit()
        manifest = {
            "agent": "RewardModel",
            "config": asdict(self.config),
            "seeds": self.seeds,
            "sizes": self.ensemble.inputs.sizes,
            "bounds": self.ensemble.inputs.bounds,
        }
        checkpoint.refuse_others(Path(path), "RewardModel", [""])
        checkpoint.save(
            Path(path), 0, flatten_state({"network": self.ensemble.network}, {}, self.ensemble.buffers), manifest
        )

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model, which can impute.

        Raises:
            CheckpointError: nothing readable, or a checkpoint of something else.
        """
        tensors, manifest = checkpoint.load(Path(path))
        if manifest["agent"] != "RewardModel":
            raise checkpoint.CheckpointError(f"{path}: a checkpoint of {manifest['agent']}, not of a RewardModel")
        model = cls.__new__(cls)
        config = make_config(RewardModelConfig, None, manifest["config"])
        low, high = map(tuple, manifest["bounds"])
        inputs = RewardInputs(tuple(manifest["sizes"]), (low, high), config.use_next_observations, config.log_offset)
        model._create(inputs, config, manifest["seeds"], pick_device(device))
        restore_state({"network": model.ensemble.network}, {}, model.ensemble.buffers, tensors)
        model.fitted = True
        return model
