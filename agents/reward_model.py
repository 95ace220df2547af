"""Reward-model imputation: learn the reward from the labelled transitions and fill in the others.

Paper: Romeo & Bagdanov 2024, "Offline Reinforcement Learning with Imputed Rewards", arXiv 2407.10839: a two-layer MLP,
trained by regression on the labelled 1 %, imputes the rest; the completed data go to TD3+BC or IQL unchanged.

Reimplemented from the abstract; code and details of the paper were not available. Our choices, fields or named here:
* inputs (s, a, s') by default, as s, a, s' - s and log(|s'| + log_offset), which shows an MLP small changes and small
  distances, and the context of data that have contexts; normalised by the mean and std of all transitions, labelled or
  not;
* an ensemble of K members with different initialisations and batches, trained by a Huber loss (crashes are outliers)
  on rewards standardised by the labelled ones; early stopping per member, which restores its best parameters;
* true labels stay; hidden rewards become the ensemble's mean, or mean - pessimism * std, optionally clipped to the
  range of the labels.

Shape key: P population, K members, B batch, N transitions, O observation, A action, d context variables,
F input features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self, overload

import numpy as np
import torch
from torch import Tensor, nn

from orl import checkpoint, losses, seeding
from orl.arrays import Float64Array, IntArray
from orl.buffer import Batch, Metrics, ReplayBuffer, per_learner
from orl.checkpoint import flatten_state, restore_state
from orl.config import check_positive, make_config
from orl.dataset import Dataset, content_hashes
from orl.device import pick_device
from orl.execution import run_updates
from orl.networks import StackedMLP, mean_and_std
from orl.noise import Noise, NoiseBlocks, NoiseSpec
from orl.training import NO_PROGRESS, progress
from orl.updates import Adam, gradients

CHUNK = 4_096  # transitions predicted at a time
TINY = 1e-8  # in units of the reward; keeps ratios finite where the members agree exactly
ActionBounds = tuple[tuple[float, ...], tuple[float, ...]]  # lower (A,) and upper (A,), in the environment's unit


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
    # Early stopping
    check_period: int = 50  # updates between two checks of the validation loss
    patience: int = 10  # checks without improvement after which a member stops
    validation_fraction: float = 0.1  # of the labels: early stopping and calibration
    held_out_fraction: float = 0.1  # of the labels: the report only
    # Imputation
    pessimism: float = 0.0  # standard deviations of the ensemble subtracted from its mean
    clip_to_labels: bool = False  # clip imputed rewards to the range of the labels

    def __post_init__(self) -> None:
        check_positive(self, "num_members", "huber_threshold", "learning_rate", "batch_size")
        check_positive(self, "max_updates", "check_period", "patience", "log_offset")
        fractions = self.validation_fraction, self.held_out_fraction
        if not (min(fractions) > 0 and sum(fractions) < 1):
            raise ValueError("validation_fraction and held_out_fraction must be above 0 and leave labels to train on")


class RewardModel:
    """An ensemble per learner that predicts rewards.

    Args:
        data: transitions with some rewards labelled, all with contexts or none; one dataset, or one per seed.
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
        **overrides: object,
    ) -> None:
        seeds = seeding.check_seeds(seed)
        datasets = per_learner(data, len(seeds))
        config = make_config(RewardModelConfig, config, overrides)
        inputs = RewardInputs.from_datasets(datasets, config.use_next_observations, config.log_offset)
        self._build(inputs, config, seeds, pick_device(device))
        for learner, each in enumerate(datasets):
            self._add_dataset(learner, each)
        self.replay_buffer = ReplayBuffer.from_datasets(
            [append_contexts(d.pick(s.train)) for d, s in zip(self.datasets, self.splits, strict=True)], self.device
        )
        about = "RewardModel", asdict(config), inputs.sizes, inputs.bounds
        content = content_hashes(datasets)
        self.identities = [checkpoint.identity(*about, *own) for own in zip(seeds, content, strict=True)]

    def _build(self, inputs: RewardInputs, config: RewardModelConfig, seeds: list[int], device: torch.device) -> None:
        self.inputs, self.config, self.seeds, self.device = inputs, config, seeds, device
        self.datasets: list[Dataset] = []  # none after loading
        self.splits: list[LabelSplit] = []
        self.fitted = False
        population, members = len(seeds), config.num_members
        generators = [seeding.torch_generator(s, "initialisation") for s in seeds]
        self.network = StackedMLP(generators, (inputs.size, *config.hidden_sizes, 1), members=(members,)).to(device)
        self.buffers = {
            "input_mean": torch.zeros(population, 1, 1, inputs.size, device=device),
            "input_std": torch.ones(population, 1, 1, inputs.size, device=device),
            "target_mean": torch.zeros(population, 1, 1, device=device),
            "target_std": torch.ones(population, 1, 1, device=device),  # 0 where all labels are equal
            "label_range": torch.zeros(population, 2, device=device),
            "calibration": torch.ones(population, device=device),  # factor of the members' standard deviation
        }

    def _add_dataset(self, learner: int, data: Dataset) -> None:
        """Split a learner's labels; take the statistics of its inputs, labelled or not, and of its labels."""
        rows, c = np.flatnonzero(data.is_labelled), self.config
        if len(rows) < 3:
            raise ValueError(f"{data.name}: {len(rows)} labelled transitions; a reward model needs three or more")
        self.datasets.append(data)
        self.splits.append(LabelSplit.draw(rows, c.validation_fraction, c.held_out_fraction, self.seeds[learner]))
        input_mean, input_std = mean_and_std(self.inputs(*input_tensors(data)).numpy())
        self.buffers["input_mean"][learner], self.buffers["input_std"][learner] = input_mean, input_std
        labels = data.rewards[rows].astype(np.float64)
        std = labels.std() if np.ptp(labels) > 0 else 0.0
        self.buffers["target_mean"][learner], self.buffers["target_std"][learner] = labels.mean(), std
        self.buffers["label_range"][learner] = torch.tensor([labels.min(), labels.max()])

    # Training

    def fit(self, *, progress_bar: bool = False) -> Self:
        """Train until every member has stopped improving on the validation labels, then calibrate.

        Returns:
            This model.

        Raises:
            ValueError: the model was loaded and has no data.
        """
        self._require_data()
        c = self.config
        optimizer = Adam(self.network.parameters(), c.learning_rate)
        specs = {"indices": NoiseSpec("uniform", (c.num_members * c.batch_size,))}
        blocks = NoiseBlocks(self.seeds, specs, self.device)
        early_stopping = EarlyStopping(self.network, c.patience)
        run = run_updates("auto", self.device)

        def sample(noise: Noise) -> Batch:
            return self.replay_buffer.sample(noise["indices"])

        def update(batch: Batch, noise: Noise) -> Metrics:
            self.update(batch, optimizer)
            return {}

        with progress("reward model", c.max_updates) if progress_bar else NO_PROGRESS as advance:
            for first in range(0, c.max_updates, c.check_period):
                for batches, noise in blocks.with_batches(min(c.check_period, c.max_updates - first), sample):
                    run(update, batches, noise)
                    advance(len(batches.rewards))
                if early_stopping.step(self.validation_loss()):
                    break
        early_stopping.restore_best()
        self.calibrate()
        self.fitted = True
        return self

    def update(self, batch: Batch, optimizer: Adam) -> None:
        """One regression step on rows (P, K * B), B for each member.

        minimise sum_K mean_B huber(f(s, a, s') - r), both standardised by the labels
        """
        population, rows = batch.rewards.shape
        shape = (population, self.config.num_members, rows // self.config.num_members)
        inputs = self.inputs(batch.observations, batch.actions, batch.next_observations).view(*shape, -1)
        std = self.buffers["target_std"]
        targets = (batch.rewards.view(shape) - self.buffers["target_mean"]) / torch.where(std > 0, std, 1.0)
        loss = losses.over_batch(losses.huber(self.forward(inputs) - targets, self.config.huber_threshold))
        optimizer.step(gradients(loss, self.network))

    def forward(self, inputs: Tensor) -> Tensor:
        """Standardised rewards (P, K, B) of inputs (P, K or 1, B, F)."""
        normalised = (inputs - self.buffers["input_mean"]) / self.buffers["input_std"]
        return self.network(normalised.expand(-1, self.config.num_members, -1, -1)).squeeze(-1)

    def validation_loss(self) -> Tensor:
        """Mean loss of each member on its learner's validation labels, (P, K) float64."""
        means = []
        for learner, (data, split) in enumerate(zip(self.datasets, self.splits, strict=True)):
            std = float(self.buffers["target_std"][learner]) or 1.0
            predictions = self.member_predictions(learner, data.pick(split.validation))
            errors = torch.from_numpy((predictions - data.rewards[split.validation]) / std)
            means.append(losses.huber(errors, self.config.huber_threshold).mean(-1))
        return torch.stack(means).to(self.device)

    def calibrate(self) -> None:
        """Scale the standard deviation so that 95 % of the validation labels lie within two of it."""
        for learner, (data, split) in enumerate(zip(self.datasets, self.splits, strict=True)):
            predictions = self.member_predictions(learner, data.pick(split.validation))
            errors = np.abs(predictions.mean(axis=0) - data.rewards[split.validation])
            ratios = errors / (2 * predictions.std(axis=0) + TINY)
            self.buffers["calibration"][learner] = float(np.quantile(ratios, 0.95))

    # Prediction and imputation

    def member_predictions(self, learner: int, data: Dataset) -> Float64Array:
        """Predictions of every reward by every member, (K, N)."""
        statistics = ("input_mean", "input_std", "target_mean", "target_std")
        mean, std, target_mean, target_std = (self.buffers[name][learner] for name in statistics)
        predictions = np.empty((self.config.num_members, len(data)))
        with torch.no_grad():
            for start in range(0, len(data), CHUNK):
                rows = slice(start, start + CHUNK)
                inputs = (self.inputs(*(tensor[rows].to(mean) for tensor in input_tensors(data))) - mean) / std
                for k in range(self.config.num_members):  # one by one: on a CPU faster than a batched product
                    parameters = {name: p[learner, k][None] for name, p in self.network.named_parameters()}
                    outputs = torch.func.functional_call(self.network, parameters, (inputs,)).squeeze(-1)
                    predictions[k, rows] = (outputs * target_std + target_mean)[0].cpu().numpy()
        return predictions

    def predict(self, learner: int, data: Dataset) -> tuple[Float64Array, Float64Array]:
        """Ensemble mean (N,) and calibrated standard deviation (N,) of every reward, labelled or not.

        Raises:
            ValueError: the model is not fitted, or data of other sizes, action bounds or contexts.
        """
        self._require_fit()
        self.inputs.check(data)
        predictions = self.member_predictions(learner, data)
        return predictions.mean(axis=0), predictions.std(axis=0) * float(self.buffers["calibration"][learner])

    @overload
    def impute(self, data: Sequence[Dataset]) -> list[Dataset]: ...
    @overload
    def impute(self, data: Dataset) -> Dataset | list[Dataset]: ...
    def impute(self, data: Dataset | Sequence[Dataset]) -> Dataset | list[Dataset]:
        """Fill in hidden rewards; labelled ones stay as they are.

        Args:
            data: one dataset, or one per learner.

        Returns:
            The same transitions without hidden rewards: a dataset for one, a list for a population.

        Raises:
            ValueError: the model is not fitted, or data of other sizes, action bounds or contexts.
        """
        if isinstance(data, Dataset) and len(self.seeds) == 1:
            return self._impute(0, data)
        return [self._impute(learner, each) for learner, each in enumerate(per_learner(data, len(self.seeds)))]

    def _impute(self, learner: int, data: Dataset) -> Dataset:
        self.inputs.check(data)
        if data.is_labelled.all():
            return data
        self._require_fit()
        predictions = self.member_predictions(learner, data)
        imputed = predictions.mean(axis=0) - self.config.pessimism * predictions.std(axis=0)
        if self.config.clip_to_labels:
            imputed = imputed.clip(*self.buffers["label_range"][learner].tolist())
        return data.with_rewards(np.where(data.is_labelled, data.rewards, imputed))

    def report(self, truth: Dataset | None = None) -> list[RewardModelReport]:
        """Diagnostics of each learner on its held-out labels, after `fit`.

        Args:
            truth: the same transitions with every reward labelled, for the correlation of episode returns.

        Raises:
            ValueError: the model was loaded and has no data, or is not fitted.
        """
        self._require_data()
        self._require_fit()
        return [self._report(learner, truth) for learner in range(len(self.seeds))]

    def _report(self, learner: int, truth: Dataset | None) -> RewardModelReport:
        data, rows = self.datasets[learner], self.splits[learner].held_out
        mean, std = self.predict(learner, data.pick(rows))
        labels = data.rewards[rows].astype(np.float64)
        errors = np.abs(labels - mean)
        spread = float(np.square(labels - labels.mean()).sum())
        return RewardModelReport(
            labels=int(data.is_labelled.sum()),
            r2=1.0 - float(np.square(errors).sum()) / spread if spread > 0 else None,
            mae=float(errors.mean()),
            coverage=float((errors <= 2 * std + TINY).mean()),
            return_correlation=None if truth is None else return_correlation(self._impute(learner, data), truth),
        )

    def _require_fit(self) -> None:
        if not self.fitted:
            raise ValueError("this reward model is not fitted; call fit() first")

    def _require_data(self) -> None:
        if not self.datasets:
            raise ValueError("a loaded reward model has no data to fit or report on; make one with RewardModel(data)")

    # Storage

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
            "identities": self.identities,
            "sizes": self.inputs.sizes,
            "bounds": self.inputs.bounds,
        }
        checkpoint.save(Path(path), 0, flatten_state({"network": self.network}, {}, self.buffers), manifest)

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
        model._build(inputs, config, manifest["seeds"], pick_device(device))
        restore_state({"network": model.network}, {}, model.buffers, tensors)
        model.fitted, model.identities = True, manifest["identities"]
        return model


@dataclass(frozen=True)
class RewardInputs:
    """The features (s, a, c, s' - s, log(|s'| + log_offset)); without contexts in the data there is no c.

    Contexts are appended to the actions: neither changes within a step.
    """

    sizes: tuple[int, int, int]  # O, A, d
    bounds: ActionBounds  # the network gets actions in [-1, 1]
    use_next_observations: bool  # False: no s' - s, and the logarithm is of s
    log_offset: float | None  # None: no logarithm

    @classmethod
    def from_datasets(cls, datasets: Sequence[Dataset], use_next_observations: bool, log_offset: float | None) -> Self:
        """The inputs that all datasets of a population have.

        Raises:
            ValueError: the datasets differ in sizes or action bounds.
        """
        sizes, bounds = {feature_sizes(data) for data in datasets}, {action_bounds(data) for data in datasets}
        if len(sizes) > 1:
            raise ValueError(
                f"datasets of one population differ in (observation, action, context) size: {sorted(sizes)}"
            )
        if len(bounds) > 1:
            raise ValueError(f"datasets of one population differ in (lower, upper) action bounds: {sorted(bounds)}")
        return cls(sizes.pop(), bounds.pop(), use_next_observations, log_offset)

    @property
    def size(self) -> int:
        """F, the number of input features."""
        return sum(self.sizes) + self.sizes[0] * (self.use_next_observations + (self.log_offset is not None))

    def __call__(self, observations: Tensor, actions: Tensor, next_observations: Tensor) -> Tensor:
        """(..., O), (..., A + d) and (..., O) to (..., F)."""
        features = [observations, actions]
        if self.use_next_observations:
            features.append(next_observations - observations)
        if self.log_offset is not None:
            last = next_observations if self.use_next_observations else observations
            features.append((last.abs() + self.log_offset).log())
        return torch.cat(features, dim=-1)

    def check(self, data: Dataset) -> None:
        """Refuse data of other sizes or action bounds.

        Raises:
            ValueError: another number of observation features, actions or context variables, or none where there were;
                other bounds of actions.
        """
        sizes, bounds = feature_sizes(data), action_bounds(data)
        if sizes != self.sizes:
            raise ValueError(
                f"{data.name}: (observation, action, context) sizes are {sizes}, the model has {self.sizes}; "
                "give data like those that it was made with, with contexts if they had some and without if not"
            )
        if not np.allclose(bounds, self.bounds):
            raise ValueError(
                f"{data.name}: actions lie in [{list(bounds[0])}, {list(bounds[1])}], "
                f"the model's in [{list(self.bounds[0])}, {list(self.bounds[1])}]"
            )


def feature_sizes(data: Dataset) -> tuple[int, int, int]:
    """O, A and d; without contexts d is 0."""
    return data.observation_size, data.action_size, 0 if data.contexts is None else data.contexts.shape[1]


def action_bounds(data: Dataset) -> ActionBounds:
    """Lower and upper bounds of the actions."""
    return tuple(data.action_low.tolist()), tuple(data.action_high.tolist())


def append_contexts(data: Dataset) -> Dataset:
    """The data with actions (N, A + d): their contexts appended."""
    if data.contexts is None:
        return data
    return replace(data, actions=np.concatenate([data.actions, data.contexts], axis=1))


def input_tensors(data: Dataset) -> tuple[Tensor, Tensor, Tensor]:
    """The arguments of `RewardInputs`; without contexts nothing is copied."""
    actions = append_contexts(data).actions
    return torch.from_numpy(data.observations), torch.from_numpy(actions), torch.from_numpy(data.next_observations)


class EarlyStopping:
    """Early stopping of each member by itself, with the parameters of its lowest validation loss.

    Args:
        network: parameters (P, K, in, out).
        patience: checks without improvement after which a member stops.
    """

    def __init__(self, network: nn.Module, patience: int) -> None:
        self.parameters, self.patience = list(network.parameters()), patience
        self.best_parameters = [p.detach().clone() for p in self.parameters]
        self.best_loss = torch.full(self.parameters[0].shape[:2], torch.inf, device=self.parameters[0].device)
        self.num_bad_checks = torch.zeros_like(self.best_loss)  # since the lowest loss

    def step(self, loss: Tensor) -> bool:
        """Take the validation loss (P, K) of the present parameters; return whether every member has stopped."""
        improved = (loss < self.best_loss) & (self.num_bad_checks < self.patience)  # a stopped member stays stopped
        self.best_loss = torch.where(improved, loss, self.best_loss)
        self.num_bad_checks = torch.where(improved, 0, self.num_bad_checks + 1)
        for best, parameter in zip(self.best_parameters, self.parameters, strict=True):
            best.copy_(torch.where(improved[..., None, None], parameter.detach(), best))
        return bool((self.num_bad_checks >= self.patience).all())

    @torch.no_grad()
    def restore_best(self) -> None:
        """Put every member back to its lowest validation loss."""
        for parameter, best in zip(self.parameters, self.best_parameters, strict=True):
            parameter.copy_(best)


@dataclass(frozen=True)
class LabelSplit:
    """Which rows of a learner's labelled transitions are trained on, validated on, and held out."""

    train: IntArray
    validation: IntArray
    held_out: IntArray

    @classmethod
    def draw(cls, rows: IntArray, validation_fraction: float, held_out_fraction: float, seed: int) -> Self:
        """A random split of three rows or more, with at least one in each part."""
        order = seeding.numpy_generator(seed, "split").permutation(rows)
        held_out = max(1, min(round(held_out_fraction * len(rows)), len(rows) - 2))
        validation = max(1, min(round(validation_fraction * len(rows)), len(rows) - held_out - 1))
        return cls(order[held_out + validation :], order[held_out : held_out + validation], order[:held_out])


@dataclass(frozen=True)
class RewardModelReport:
    """How well a reward model fits labels that it did not see; None where a number is undefined.

    Held-out labels are drawn one by one. Where whole episodes are labelled, the model is trained on their neighbours,
    so hidden rewards, which are of other episodes, are fitted worse than the report says.
    """

    labels: int  # labelled rewards in the data
    r2: float | None  # share of the held-out labels' variance that is explained
    mae: float  # mean absolute error, in reward units
    coverage: float  # share of held-out labels within two calibrated standard deviations
    return_correlation: float | None  # Pearson, imputed against true episode returns


def return_correlation(imputed: Dataset, truth: Dataset) -> float | None:
    """Pearson correlation of episode returns; None where one is undefined."""
    if not truth.whole_episodes or len(truth.episode_slices) < 2:
        return None
    returns = imputed.episode_returns(), truth.episode_returns()
    return float(np.corrcoef(*returns)[0, 1]) if all(np.ptp(each) > 0 for each in returns) else None
