"""HyperZero: a hypernetwork that writes the weights of a policy, and of a value network, for a context.

Paper: Rezaei-Shoshtari et al. 2023, "Hypernetworks for Zero-Shot Transfer in Reinforcement Learning", arXiv 2211.15457.
Official code: github.com/SAIC-MONTREAL/hyperzero.

`ContextualAgent` has the data, the losses L_pi, L_Q and L_TD, and the policies for contexts that nobody trained on, all
of which the baselines share (`baselines.py`); HyperZero gives it a hypernetwork (`hypernetwork.py`).

Deviations, all but the first three undone by HYPERZERO_PAPER_PRESET:
* L_TD has the specialists' discount and masks terminations; the official code has neither;
* a batch is drawn context by context, so that weights are generated once for each, and contexts are equally likely
  however many transitions they have; the official code generates them for every transition;
* embeddings, generated biases and generated weights of one layer come from one linear map;
* the context is encoded with constant norm instead of raw (Ortiz et al. 2024, Magnitude Invariant Parametrizations);
* Bias-HyperInit (Beck et al. 2022, arXiv 2210.11348): at first every context has the same ordinary network;
* embeddings and observations are normalised, values standardised and then weighed 0.1 instead of 0.01, gradients
  clipped, and the learning rate is 3e-4 instead of 1e-4.

Shape key: P population, K contexts, R rows per context, B = K R batch, d context variables, Z embedding, O observation,
A action. A learner's observation is (O + d): the normalised context comes last.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from orl import losses, torch_private
from orl.agent import Agent
from orl.agents.hyperzero.context_batches import ContextSampler, concatenate_contexts
from orl.agents.hyperzero.hypernetwork import (
    ContextEmbedding,
    ContextEncoding,
    Encoding,
    Hypernetwork,
    Initialisation,
    Layer,
    run_layers,
)
from orl.arrays import Float32Array, Float64Array
from orl.buffer import Batch, Metrics, per_learner
from orl.config import AgentConfig, check_fraction, check_positive
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset
from orl.environment import Environment, Source, Spaces, is_recorded
from orl.networks import mean_and_std
from orl.noise import Noise, NoiseSpec
from orl.updates import Adam, Gradients, clipped, gradients


@dataclass(frozen=True)
class ContextualConfig(AgentConfig):
    """Hyperparameters of agents that clone the specialists of many contexts."""

    # Contexts
    contexts: tuple[ContextVariable, ...] = ()  # the variables, in the data's order; a ContextSpace is taken as well
    encoding: Encoding = "constant_norm"  # of the context, before the embedding
    # Embedding
    embedding_sizes: tuple[int, ...] = (64, 128, 256)  # after each linear layer; the last one is Z
    embedding_blocks: int = 2  # residual blocks after every linear layer
    embedding_scale: float = 1.0  # of its initial weights, against uniform in +-1/sqrt(in)
    normalize_embedding: bool = True  # to mean 0 and variance 1
    # Policy and value
    hidden_sizes: tuple[int, ...] = (256,)  # units of each hidden layer of a context's policy, and of its value
    value_weight: float = 0.1  # of L_Q against L_pi, our choice
    td_weight: float = 0.1  # of L_TD against L_pi, our choice
    standardize_values: bool = True  # by the mean and std of the data's values
    discount: float = 0.99  # gamma, that of the specialists
    # Optimisation
    learning_rate: float = 3e-4  # of Adam, our choice
    gradient_clip: float | None = 1.0  # largest norm of a learner's gradient; None: no limit
    # Data
    contexts_per_batch: int = 16  # K
    rows_per_context: int = 32  # R
    normalize_observations: bool = True  # by the data's mean and std; contexts have their own scale

    def __post_init__(self) -> None:
        given = getattr(self.contexts, "variables", self.contexts)  # of a ContextSpace
        variables = tuple(v if isinstance(v, ContextVariable) else ContextVariable(**v) for v in given)  # from JSON
        object.__setattr__(self, "contexts", variables)
        check_positive(self, "learning_rate", "gradient_clip", "contexts_per_batch", "rows_per_context")
        check_positive(self, "embedding_scale", "embedding_blocks")
        check_fraction(self, "discount")
        kind = type(self).__name__
        if len(self.embedding_sizes) == 0 or len(self.hidden_sizes) == 0:
            raise ValueError(f"{kind}: embedding_sizes and hidden_sizes have at least one number each")
        if self.value_weight < 0 or self.td_weight < 0:
            raise ValueError(f"{kind}: value_weight={self.value_weight}, td_weight={self.td_weight}; give 0 or more")

    @property
    def learns_values(self) -> bool:
        """Whether there is a value network."""
        return self.value_weight > 0 or self.td_weight > 0


class ContextualAgent(Agent):
    """What HyperZero and its baselines share: a policy, and maybe a value, for every context of a space."""

    config: ContextualConfig

    @abstractmethod
    def layers(self, generators: list[torch.Generator], inputs: int, outputs: int) -> nn.Module:
        """A module from embeddings (P, K, Z) to the layers of a network for each of K contexts."""

    @classmethod
    def spaces_of(cls, source: Source, config: ContextualConfig) -> Spaces:
        """Observations with the context appended; in recorded data the two are apart."""
        if not config.contexts:
            raise ValueError(f"{cls.Config.__name__}.contexts is empty; give contexts=space (orl.context.ContextSpace)")
        spaces = Spaces.of(source)
        if is_recorded(source):
            return replace(spaces, observation_size=spaces.observation_size + len(config.contexts))
        _check_environment(source, ContextSpace(config.contexts))
        return spaces

    def build(self, generators: list[torch.Generator]) -> None:
        """The embedding, the networks that make policies and values of it, and one optimizer for all."""
        c = self.config
        self.space = ContextSpace(c.contexts)
        self.encoding = ContextEncoding(self.space, c.encoding, self.device)
        self.plain_size = self.spaces.observation_size - len(c.contexts)  # O
        parts: dict[str, nn.Module] = {
            "embedding": ContextEmbedding(
                generators,
                self.encoding.size,
                c.embedding_sizes,
                c.embedding_blocks,
                c.embedding_scale,
                c.normalize_embedding,
            ),
            "policy": self.layers(generators, self.plain_size, self.spaces.action_size),
        }
        if c.learns_values:
            parts["value"] = self.layers(generators, self.plain_size + self.spaces.action_size, 1)
        self.model = nn.ModuleDict(parts).to(self.device)
        self.optimizers = {"model": Adam(self.model.parameters(), c.learning_rate)}
        self.buffers = {
            "value_mean": torch.zeros(self.population, 1, device=self.device),
            "value_std": torch.ones(self.population, 1, device=self.device),
        }
        self.acting_layers: tuple[tuple[int, int], Tensor, list[Layer]] | None = None  # version of weights, contexts

    def attach(self, data: Dataset | Sequence[Dataset]) -> None:
        """Give recorded data with contexts, and with values where there is a value network."""
        datasets = per_learner(data, self.population)
        for each in datasets:
            if self.config.learns_values and each.values is None:
                raise ValueError(
                    f"{each.name}: no values; give Dataset.from_arrays what a critic says of each action, values=, "
                    "or set value_weight=0 and td_weight=0"
                )
        datasets = concatenate_contexts(datasets, self.space)
        super().attach(datasets)
        self.context_sampler = ContextSampler(datasets, self.device)

    def prepare(self, datasets: Sequence[Dataset]) -> None:
        """Leave contexts in [-1, 1]; take the statistics of the values."""
        self.normalizer.mean[..., self.plain_size :] = 0.0
        self.normalizer.std[..., self.plain_size :] = 1.0
        for learner, data in enumerate(datasets):
            if self.config.standardize_values and data.values is not None:
                mean, std = mean_and_std(data.values[:, None])
                self.buffers["value_mean"][learner], self.buffers["value_std"][learner] = mean, std

    def noise_specs(self) -> dict[str, NoiseSpec]:
        """Numbers that choose K contexts, and R transitions of each of them."""
        shape = (self.config.contexts_per_batch, self.config.rows_per_context)
        return {"contexts": NoiseSpec("uniform", shape[:1]), "rows": NoiseSpec("uniform", shape)}

    def sample(self, noise: Noise) -> Batch:
        """R transitions of each of K contexts, context by context, and their values."""
        assert self.replay_buffer is not None
        indices, values = self.context_sampler.sample(noise["contexts"], noise["rows"])
        return self.normalizer.batch(self.replay_buffer.gather(indices))._replace(values=values)

    def update(self, batch: Batch, noise: Noise, is_actor_update: bool) -> Metrics:
        """One step of all networks on the sum of the losses."""
        step, metrics = self.model_gradients(batch)
        self.optimizers["model"].step(step)
        return metrics

    def model_gradients(self, batch: Batch) -> tuple[Gradients, Metrics]:
        """minimise L_pi + value_weight L_Q + td_weight L_TD; rows of the batch lie context by context."""
        c = self.config
        embedded = self.embed(batch.observations[:, :: c.rows_per_context, self.plain_size :])
        policy = self.model["policy"](embedded)
        actions = self.policy_actions(policy, batch.observations)
        cloning = (actions - batch.actions).square().mean(-1)  # L_pi = (pi_c(s) - a*)^2
        loss, metrics = losses.over_batch(cloning), {"actor_loss": cloning}
        if c.learns_values:
            value = self.model["value"](embedded)
            errors = self.value_errors(batch, policy, value)
            loss = loss + losses.over_batch(c.value_weight * errors["value_loss"] + c.td_weight * errors["td_loss"])
            metrics |= errors
        step = gradients(loss, self.model)
        if c.gradient_clip is not None:
            step = clipped(step, c.gradient_clip)
        return step, {name: error.detach().mean(-1) for name, error in metrics.items()}

    def value_errors(self, batch: Batch, policy: Sequence[Layer], value: Sequence[Layer]) -> dict[str, Tensor]:
        """Squared errors (P, B) of L_Q and L_TD, in units of the values' standard deviation.

        Both regress the value network on the data's values q*; the policy gets no gradient from either.
        """
        assert batch.values is not None
        mean, std = self.buffers["value_mean"], self.buffers["value_std"]
        predicted = self.action_values(value, batch.observations, batch.actions)
        with torch.no_grad():
            next_actions = self.policy_actions(policy, batch.next_observations)  # a' = stop_grad(pi_c(s'))
        next_values = mean + std * self.action_values(value, batch.next_observations, next_actions)
        targets = losses.td_target(batch.rewards, batch.terminated, next_values, self.config.discount)
        return {
            "value_loss": (predicted - (batch.values - mean) / std).square(),  # L_Q = (Q_c(s, a*) - q*)^2
            "td_loss": ((batch.values - targets) / std).square(),  # L_TD = (q* - r - gamma (1 - d) Q_c(s', a'))^2
        }

    def embed(self, contexts: Tensor) -> Tensor:
        """Normalised contexts (P, K, d) to embeddings (P, K, Z)."""
        embedded: Tensor = self.model["embedding"](self.encoding(contexts))
        return embedded

    def policy_actions(self, layers: Sequence[Layer], observations: Tensor) -> Tensor:
        """Actions (P, B, A) of a batch (P, B, O + d) whose rows lie context by context, by K contexts' layers."""
        return torch.tanh(run_layers(layers, observations[..., : self.plain_size]))

    def action_values(self, layers: Sequence[Layer], observations: Tensor, actions: Tensor) -> Tensor:
        """Standardised Q_c(s, a), (P, B); arguments as for `policy_actions`, and actions (P, B, A)."""
        return run_layers(layers, torch.cat([observations[..., : self.plain_size], actions], -1)).squeeze(-1)

    @torch.no_grad()
    def actions(self, observations: Tensor, noise: Tensor | None) -> Tensor:
        """Actions of the policies of the rows' contexts, which are made anew only where contexts or weights change."""
        contexts = observations[..., self.plain_size :]
        if (contexts == contexts[:, :1]).all():
            contexts = contexts[:, :1]
        weights = self.updates, sum(map(torch_private.times_written, self.model.parameters()))  # written so often
        acting = self.acting_layers
        if acting is None or acting[0] != weights or not torch.equal(acting[1], contexts):
            self.acting_layers = acting = weights, contexts.clone(), self.model["policy"](self.embed(contexts))
        return self.policy_actions(acting[2], observations)

    @torch.no_grad()
    def policy(self, context: Mapping[str, float] | ArrayLike, *, allow_extrapolation: bool = False) -> ContextPolicy:
        """The policy of one context, a small network that no longer needs this agent.

        Args:
            context: a number for every variable by name, or an array (d,) in their units.
            allow_extrapolation: take contexts outside their range.

        Returns:
            A module that maps observations (..., O) to actions (..., A), both in the environment's units; it can be
            given to `torch.export`, and with the extra `export` to `torch.onnx.export(..., dynamo=True)`.

        Raises:
            ValueError: the agent is a population, or a context that the space refuses.
        """
        values = self.space.array(context, allow_extrapolation=allow_extrapolation)
        return ContextPolicy(
            [(weight[0, 0], bias[0, 0, 0]) for weight, bias in self.policies(values[None])],
            self.normalizer.mean[0, 0, : self.plain_size],
            self.normalizer.std[0, 0, : self.plain_size],
            self.spaces.action_low,
            self.spaces.action_high,
        )

    @torch.no_grad()
    def policies(self, contexts: Float64Array) -> list[Layer]:
        """Layers of the policies for contexts (K, d), in the variables' units; they are not checked.

        Raises:
            ValueError: the agent is a population.
        """
        if self.population > 1:
            raise ValueError(f"this agent is a population of {self.population}; make policies with agent.learner(k)")
        normalized = torch.as_tensor(self.space.normalize(contexts)).to(self.normalizer.mean)
        layers: list[Layer] = self.model["policy"](self.embed(normalized[None]))
        return layers

    @classmethod
    def load(cls, path: str | Path, *, env: Environment | None = None, device: str = "auto") -> Self:
        """As for every agent; an environment with another context space is refused."""
        agent = super().load(path, env=env, device=device)
        _check_environment(env, agent.space)
        return agent


@dataclass(frozen=True)
class HyperZeroConfig(ContextualConfig):
    """Hyperparameters of HyperZero."""

    initialisation: Initialisation = "bias"  # of the hypernetwork: Bias-HyperInit, or the paper's constants


class HyperZero(ContextualAgent):
    """HyperZero (Rezaei-Shoshtari et al. 2023); `policy(context)` gives a network for a context that nobody trained on.

    Data need contexts and values (`Dataset.from_arrays(..., contexts=, values=)`); `contexts=space` is required.
    """

    Config = HyperZeroConfig
    config: HyperZeroConfig

    def layers(self, generators: list[torch.Generator], inputs: int, outputs: int) -> nn.Module:
        """Layers that the hypernetwork writes."""
        c = self.config
        return Hypernetwork(generators, c.embedding_sizes[-1], (inputs, *c.hidden_sizes, outputs), c.initialisation)


HYPERZERO_PRESET = HyperZeroConfig()
HYPERZERO_PAPER_PRESET = HyperZeroConfig(
    encoding="raw",
    embedding_scale=0.5,
    normalize_embedding=False,
    value_weight=0.01,
    td_weight=0.01,
    standardize_values=False,
    learning_rate=1e-4,
    gradient_clip=None,
    normalize_observations=False,
    initialisation="paper",
)


class ContextPolicy(nn.Module):
    """The policy of one context: observations (..., O) to actions (..., A), both in the environment's units.

    Args:
        layers: weights (in, out) and biases (out,), for normalised observations.
        mean: (O,), of observations.
        std: (O,), of observations.
        action_low: (A,).
        action_high: (A,).
    """

    mean: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self, layers: Sequence[Layer], mean: Tensor, std: Tensor, action_low: Float32Array, action_high: Float32Array
    ) -> None:
        super().__init__()
        (weight, bias), *others = layers
        first = weight / std.unsqueeze(1), bias  # W ((x - mean) / std) = (W / std) (x - mean)
        modules: list[nn.Module] = []
        for matrix, offset in (first, *others):
            inputs, outputs = matrix.shape
            linear = nn.Linear(inputs, outputs, device="meta")  # takes no random number
            linear.weight, linear.bias = nn.Parameter(matrix.T.contiguous()), nn.Parameter(offset.clone())
            modules += [linear, nn.ReLU()]
        self.network = nn.Sequential(*modules[:-1], nn.Tanh())
        self.register_buffer("mean", mean.clone())  # subtracted first: digits would cancel where std is small
        self.register_buffer("low", torch.as_tensor(action_low).to(mean))
        self.register_buffer("high", torch.as_tensor(action_high).to(mean))
        self.eval()

    def forward(self, observations: Tensor) -> Tensor:
        """Actions, within their bounds."""
        fractions: Tensor = (self.network(observations - self.mean) + 1.0) / 2.0
        return (self.low + (self.high - self.low) * fractions).clamp(self.low, self.high)


def _check_environment(environment: object, space: ContextSpace) -> None:
    """Refuse an environment with another context space; one without a space passes."""
    environment_space = getattr(getattr(environment, "unwrapped", environment), "context_space", space)
    if environment_space != space:
        raise ValueError(f"the environment's contexts are {environment_space.variables}, the agent's {space.variables}")
