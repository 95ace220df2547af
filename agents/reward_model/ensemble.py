"""Networks that predict rewards, with the statistics of what goes in and comes out.

Shape key: P population, K members, B batch, N transitions, F input features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from orl import seeding
from orl.agents.reward_model.inputs import RewardInputs, columns
from orl.buffer import Batch
from orl.dataset import Dataset
from orl.networks import StackedMLP, mean_and_std

CHUNK = 4_096  # transitions predicted at a time
STATISTICS = ("input_mean", "input_std", "target_mean", "target_std")


class RewardEnsemble:
    """K networks per learner.

    Args:
        inputs: what the networks see of a transition.
        hidden_sizes: units of each hidden layer.
        num_members: K.
        seeds: one integer >= 0 per learner.
        device: of networks and statistics.

    Attributes:
        buffers: statistics of inputs and labels, and the calibration, by name; the population is their first axis.
    """

    def __init__(
        self,
        inputs: RewardInputs,
        hidden_sizes: Sequence[int],
        num_members: int,
        seeds: Sequence[int],
        device: torch.device,
    ) -> None:
        self.inputs, self.num_members = inputs, num_members
        population, features = len(seeds), inputs.size
        generators = [seeding.torch_generator(s, "initialisation") for s in seeds]
        network = StackedMLP(generators, (features, *hidden_sizes, 1), members=(num_members,))
        self.network = network.to(device)
        self.buffers = {
            "input_mean": torch.zeros(population, 1, 1, features, device=device),
            "input_std": torch.ones(population, 1, 1, features, device=device),
            "target_mean": torch.zeros(population, 1, 1, device=device),
            "target_std": torch.ones(population, 1, 1, device=device),  # 0 where all labels are equal
            "label_range": torch.zeros(population, 2, device=device),
            "calibration": torch.ones(population, device=device),  # factor of the members' standard deviation
        }

    def take_statistics(self, learner: int, data: Dataset) -> None:
        """Take those of a learner's transitions, labelled or not, and of its labels."""
        input_mean, input_std = mean_and_std(self.inputs(*columns(data)).numpy())
        self.buffers["input_mean"][learner], self.buffers["input_std"][learner] = input_mean, input_std
        labels = data.rewards[data.is_labelled].astype(np.float64)
        std = labels.std() if np.ptp(labels) > 0 else 0.0
        self.buffers["target_mean"][learner], self.buffers["target_std"][learner] = labels.mean(), std
        self.buffers["label_range"][learner] = torch.tensor([labels.min(), labels.max()])

    def errors(self, batch: Batch) -> Tensor:
        """f(s, a, s') - r, both standardised, (P, K, B), of rows (P, K * B): each member has its own."""
        population, rows = batch.rewards.shape
        shape = (population, self.num_members, rows // self.num_members)
        inputs = self.inputs(batch.observations, batch.actions, batch.next_observations).view(*shape, -1)
        std = self.buffers["target_std"]
        targets = (batch.rewards.view(shape) - self.buffers["target_mean"]) / torch.where(std > 0, std, 1.0)
        return self.standardised(inputs) - targets

    def standardised(self, inputs: Tensor) -> Tensor:
        """(P, K or 1, B, F) to standardised rewards (P, K, B)."""
        normalised = (inputs - self.buffers["input_mean"]) / self.buffers["input_std"]
        outputs: Tensor = self.network(normalised.expand(-1, self.num_members, -1, -1))
        return outputs.squeeze(-1)

    def members(self, learner: int, data: Dataset) -> NDArray[np.float64]:
        """Each member's prediction of every reward, (K, N)."""
        mean, std, target_mean, target_std = (self.buffers[name][learner] for name in STATISTICS)
        predictions = np.empty((self.num_members, len(data)))
        with torch.no_grad():
            for start in range(0, len(data), CHUNK):
                rows = slice(start, start + CHUNK)
                chunk = (column[rows].to(mean) for column in columns(data))
                inputs = (self.inputs(*chunk) - mean) / std
                for k in range(self.num_members):  # one by one: on a CPU faster than a batched product
                    own = {name: p[learner, k][None] for name, p in self.network.named_parameters()}
                    outputs = torch.func.functional_call(self.network, own, (inputs,)).squeeze(-1)
                    predictions[k, rows] = (outputs * target_std + target_mean)[0].cpu().numpy()
        return predictions

    def predict(self, learner: int, data: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ensemble mean and calibrated standard deviation of every reward, (N,) each."""
        members = self.members(learner, data)
        return members.mean(axis=0), members.std(axis=0) * float(self.buffers["calibration"][learner])
