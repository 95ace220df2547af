"""Agents by their names at the command line: those of `orl.agents`, and those of other packages.

A name stands for a class and a configuration. DROQ_PRESET of `orl.agents` is called `droq`; a class without a preset is
called by its own name, as `iql`, and has the defaults of its configuration. Another package joins with an entry point:

    [project.entry-points."orl.agents"]
    mine = "my_package:Mine"          # a class, or a pair (class, configuration)
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from orl import agents, checkpoint
from orl.agent import Agent
from orl.agents.hyperzero.hyperzero import ContextualAgent
from orl.config import AgentConfig, OnlineConfig

GROUP = "orl.agents"  # of entry points


class Preset(NamedTuple):
    """An agent's class and its hyperparameters."""

    agent_class: type[Agent]
    given: AgentConfig | None = None  # of `agent_class.Config`; None: its defaults

    @property
    def config(self) -> AgentConfig:
        """Its hyperparameters."""
        return self.given or self.agent_class.Config()

    @property
    def summary(self) -> str:
        """The first line of the class's docstring, and the fields that differ from the class's own configuration."""
        said = (inspect.getdoc(self.agent_class) or self.agent_class.__name__).splitlines()[0]
        own = dataclasses.asdict(self.agent_class.preset or self.agent_class.Config())
        fields = dataclasses.asdict(self.config)
        given = [f"{name}={value}" for name, value in fields.items() if value != own[name]]
        return f"{said} With {', '.join(given)}." if given else said

    def small(self, env: str | None) -> Preset:
        """With small settings, as they suit an environment."""
        return self._replace(given=agents.small_preset(self.config, env))

    @property
    def can_train_online(self) -> bool:
        """Whether it trains in an environment, be it after training on data."""
        return issubclass(self.agent_class.Config, OnlineConfig)

    @property
    def needs_data(self) -> bool:
        """Whether it learns from recorded data, be it before it acts; else it can begin in an environment."""
        return not self.can_train_online or (self.given or self.agent_class.Config).normalize_observations


@functools.cache
def presets() -> dict[str, Preset]:
    """All agents by name; first those that learn from recorded data, then those that act, each in alphabetical order.

    An agent of another package that cannot be had is named in a warning, and left out.
    """
    named = _ours()
    for entry in entry_points(group=GROUP):
        try:
            if entry.name in named:
                raise ValueError("the name is taken")
            named[entry.name] = _of_entry_point(entry)
        except Exception as error:  # whatever that package raises
            package = entry.dist.name if entry.dist is not None else entry.value
            message = f"the agent {entry.name!r} of {package} is left out: {type(error).__name__}: {error}"
            warnings.warn(" ".join(message.split()), stacklevel=2)
    return dict(sorted(named.items(), key=lambda item: (not item[1].needs_data, item[0])))


def online_presets() -> dict[str, Preset]:
    """Those that can begin in an environment."""
    return {name: preset for name, preset in presets().items() if not preset.needs_data}


def _ours() -> dict[str, Preset]:
    """The classes and presets that `orl.agents` exports, but for those that need contexts."""
    kinds = [kind for kind in vars(agents).values() if inspect.isclass(kind) and issubclass(kind, Agent)]
    kinds = [kind for kind in kinds if not issubclass(kind, ContextualAgent)]
    by_config = {kind.Config: kind for kind in kinds if "Config" in vars(kind)}
    with_preset = {id(kind.preset): kind for kind in kinds if kind.preset is not None}  # such as DroQ
    named = {
        name.removesuffix("_PRESET").lower().replace("_", "-"): Preset(
            with_preset.get(id(value), by_config[type(value)]), value
        )
        for name, value in vars(agents).items()
        if name.endswith("_PRESET") and not name.endswith("_SMALL_PRESET") and type(value) in by_config
    }
    with_one = {type(preset.given) for preset in named.values()}
    return named | {kind.__name__.lower(): Preset(kind) for config, kind in by_config.items() if config not in with_one}


def _of_entry_point(entry: EntryPoint) -> Preset:
    value = entry.load()
    kind, config = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not (inspect.isclass(kind) and issubclass(kind, Agent)):
        raise TypeError(f"{entry.value} is no subclass of orl.agent.Agent, nor a pair of one and its configuration")
    if not isinstance(config, kind.Config | None):
        raise TypeError(f"{entry.value}: the configuration of {kind.__name__} is a {kind.Config.__name__}")
    return Preset(kind, config)


def load_agent(path: Path, device: str) -> Agent:
    """The agent, whichever it is, in a checkpoint folder or a run folder.

    Raises:
        CheckpointError: nothing readable is there.
    """
    _, manifest = checkpoint.load_population(path)
    every: list[type[Agent]] = [agents.HyperZero, agents.ContextualCloning]
    every += [preset.agent_class for preset in presets().values()]
    every.sort(key=lambda kind: kind.__name__ == kind.algorithm())  # SAC, which stores that name, after DroQ
    kinds = {kind.algorithm(): kind for kind in every}
    if manifest["agent"] not in kinds:
        names = ", ".join(kinds)
        raise checkpoint.CheckpointError(f"{path}: a checkpoint of {manifest['agent']}, which is none of {names}")
    return kinds[manifest["agent"]].load(path, device=device)
