"""Whether two versions of the package train to the same bits; run by hand, not by pytest.

Small trainings of every agent, preset and mode of phases, evaluations, recordings and commands leave a SHA-256 of every
state tensor, return and score, by case and name, in a JSON file. Both versions run this file, on the same machine.

    python tests/bit_equality.py record NOW.json             # with the version of this interpreter
    python tests/bit_equality.py compare START.json NOW.json
    python tests/bit_equality.py --start WORKTREE/.venv/bin/python   # all three, with the start's interpreter
    python tests/bit_equality.py --start START.json --only speq      # the last two

`--execution compile` records what compiled updates learn (minutes the first time), `--thorough` adds the long commands,
`--only TEXT` takes the cases that have the text in their names. The exit status is 1 where anything differs.

On a CPU NumPy acts, and rounds otherwise than torch, which acted at the start: here torch acts (`let_torch_act`), so
that all else can be compared.

What another version calls otherwise is translated in two lists: `RENAMED` (names of what was recorded, by prefix), and
the alternatives that `find`, `first` and `option` are given (names in the code and on the command line).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import contextlib
import csv
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import load_file

# ------------------------------------------------------------------------------------------- what was renamed since

# Prefixes of recorded names at the start -> now; * is any one part. The longest prefix that fits counts.
RENAMED: dict[str, str] = {
    "phase/kept/": "phase/critics/",
    "phase/kept/critic_target/network.": "phase/critics/critic_target/",
    "critic_target/network.": "critic_target/",
    "actor_target/network.": "actor_target/",
    "value/network.": "value/",
}
# `orl zero-shot` had one file of all returns, and has a file for each name.
RETURNS = re.compile(r"(seed-\d+/)returns/(.+)\.npz/returns$")
# Prefixes of names that only one version has, each with the reason why that is no difference.
_JOBS = "the demo's parts are jobs, which have such files in folders of their own; results.json has what they say"
ONLY_AT_THE_START: dict[str, str] = {
    **{f"{data}-small-v0/{name}": _JOBS for data in ("basic", "mix") for name in ("bc.npz", "iql.npz", "td3bc.npz")},
    **{f"{data}-small-v0/reward-model.json": _JOBS for data in ("basic", "mix")},
    "last_phase": "an agent without phases holds nothing of them",
    "stabilization_updates": "an agent without phases holds nothing of them",
}
_RESETS = "vector forms that are computed with arrays have one base, which knows whose episode has ended"
_RUNNER = "one runner of both parts, whose rows of training on data have what those of online training had"
ONLY_NOW: dict[str, str] = {
    "collector/environments/layers/0/_ended": _RESETS,
    "collector/environments/layers/0/render_mode": _RESETS,
    "collector/environments/own/ended": _RESETS,
    **{f"history.json/*/{name}": _RUNNER for name in ("after_phase", "critic_bias", "part", "steps", "work")},
    "results.json/rows/*/seed_returns": _RUNNER,
}
# Prefixes of what differs on purpose.
CHANGED: dict[str, str] = {
    **{
        f"results.json/rows/*/{name}": "the mean over seeds with Student's t interval; nothing is trained with them"
        for name in ("interval", "normalized_score", "return", "best_normalized_score", "best_return")
    },
}


@functools.cache
def definitions() -> dict[str, list[str]]:
    """Modules that define a name at their top level, by name."""
    import orl

    assert orl.__file__ is not None
    roots = {"orl": Path(orl.__file__).parent}
    for room in ("agents", "datasets", "envs", "scripts"):
        spec = importlib.util.find_spec(f"orl.{room}")
        if spec is not None and spec.origin is not None:
            roots[f"orl.{room}"] = Path(spec.origin).parent
    modules: dict[str, list[str]] = {}
    for package, root in roots.items():
        for file in sorted(root.rglob("*.py")):  # follows no links
            parts = file.relative_to(root).with_suffix("").parts
            module = ".".join((package, *(part for part in parts if part != "__init__")))
            for name in re.findall(r"^(?:def|class|async def) (\w+)|^(\w+)\s*(?::[^=]+)?=[^=]", file.read_text(), re.M):
                modules.setdefault(name[0] or name[1], []).append(module)
    return modules


def find(*names: str, within: str = "") -> Any:
    """The first of these names that a module defines whose own name has `within` in it."""
    for name in names:
        for module in definitions().get(name, []):
            if within in module:
                return getattr(importlib.import_module(module), name)
    raise LookupError(f"no module defines {' or '.join(names)}")


def first(owner: Any, *names: str) -> Any:
    """The first of these attributes that there is."""
    for name in names:
        if hasattr(owner, name):
            return getattr(owner, name)
    raise LookupError(f"{owner} has no {' or '.join(names)}")


def option(words: Sequence[str], *alternatives: str) -> str:
    """The first of these options that the command's help has."""
    said = help_of(*words)
    for alternative in alternatives:
        if re.search(rf"{re.escape(alternative)}\b", said):
            return alternative
    raise LookupError(f"orl {' '.join(words)} has no {' or '.join(alternatives)}")


@functools.cache
def help_of(*words: str) -> str:
    """What `orl WORDS --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command_line()([*words, "--help"])
    return printed.getvalue()


@functools.cache
def command_line() -> Callable[[list[str]], None]:
    """`main` of the installed command."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="orl")
    function: Callable[[list[str]], None] = entry.load()
    return function


def online(agent: Any, steps: int, environment: Any = None) -> Iterator[Any]:
    """Online training as a generator of moments that say whether a phase is running."""
    agent.connect(environment)
    loop: Iterator[Any] = find("online", "online_loop", "train_online")(agent, steps)
    return loop


# ------------------------------------------------------------------------------------------------------- recording


class Record:
    """Hashes of one case, by name."""

    def __init__(self) -> None:
        self.hashes: dict[str, str] = {}

    def __call__(self, name: str, value: Any) -> None:
        """Add an array, a number, a text, or what is made of such."""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        elif hasattr(value, "_asdict"):
            value = value._asdict()
        if isinstance(value, Mapping):
            for key, each in value.items():
                self(f"{name}/{key}", each)
        elif isinstance(value, list | tuple) and not all(isinstance(each, int | float | np.number) for each in value):
            for key, each in enumerate(value):
                self(f"{name}/{key}", each)
        elif value is None or isinstance(value, str | bytes):
            self._add(name, type(value).__name__, value if isinstance(value, bytes) else str(value).encode())
        else:
            array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
            kind = f"{array.dtype}{list(array.shape)}"
            self._add(name, kind, np.ascontiguousarray(array).tobytes())

    def _add(self, name: str, kind: str, content: bytes) -> None:
        assert name not in self.hashes, name
        self.hashes[name] = f"{kind} {hashlib.sha256(content).hexdigest()}"

    def agent(self, agent: Any, name: str = "state") -> None:
        """All that a saved agent keeps: networks, optimizers, generators, buffer, running episodes, a phase."""
        with tempfile.TemporaryDirectory() as folder:
            agent.save(folder)
            self.checkpoints(folder, name)
        self(f"{name}/updates", agent.updates)
        self(f"{name}/steps", agent.steps)

    def checkpoints(self, folder: str | Path, name: str = "state") -> None:
        """Tensors of the newest checkpoint in every folder; states of environments attribute by attribute."""
        newest: dict[Path, Path] = {}
        for file in sorted(Path(folder).rglob("checkpoint-*/state.safetensors"), key=_number):
            newest[file.parent.parent] = file
        for place, file in sorted(newest.items()):
            learner = place.relative_to(folder).as_posix()
            for key, tensor in load_file(file).items():
                prefix = f"{name}/{learner}/{key}".replace("/./", "/")
                if tensor.dtype == torch.uint8 and "environment" in key:
                    self.environments(prefix, bytes(tensor.numpy().tobytes()))
                else:
                    self(prefix, tensor)

    def environments(self, name: str, text: bytes) -> None:
        """The state of environments as JSON, in which attributes may have been renamed."""
        try:
            content = json.loads(text.decode().strip() or "null")
        except ValueError:
            content = text.decode(errors="replace")
        self._attributes(name, content)

    def _attributes(self, name: str, content: Any) -> None:
        if isinstance(content, dict) and not any(key.startswith(":") for key in content):
            parts: Iterable[tuple[Any, Any]] = content.items()
        elif isinstance(content, list) and any(isinstance(each, dict) for each in content):
            parts = enumerate(content)
        else:
            self(name, re.sub(r'"/[^"]*"', '"PATH"', json.dumps(content, sort_keys=True)))
            return
        for key, value in parts:
            self._attributes(f"{name}/{key}", value)

    def folder(self, folder: Path, *, but: Sequence[str] = ()) -> None:
        """What a command wrote: checkpoints, results, histories, metrics, datasets."""
        self.checkpoints(folder, "checkpoints")
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if any(part.startswith("checkpoint-") for part in file.parts) or any(part in name for part in but):
                continue
            if file.name in ("results.json", "history.json", "source.json", "reward-model.json"):
                self(name, _untimed(json.loads(file.read_text())))
            elif file.name == "progress.csv":
                with file.open(newline="") as lines:
                    rows = list(csv.DictReader(lines))
                for column in rows[0] if rows else ():
                    if "time" not in column and "seconds" not in column:
                        self(f"{name}/{column}", [row[column] for row in rows])
            elif file.suffix in (".npz", ".npy"):
                with np.load(file) if file.suffix == ".npz" else contextlib.nullcontext({"": np.load(file)}) as arrays:
                    for key in arrays:
                        self(RETURNS.sub(r"\1returns.npz/\2", f"{name}/{key}"), arrays[key])
            elif file.suffix == ".safetensors":
                self(name, load_file(file))


def _number(file: Path) -> tuple[str, int]:
    return str(file.parent.parent), int(file.parent.name.removeprefix("checkpoint-"))


def _untimed(content: Any) -> Any:
    """JSON without times, versions and paths."""
    if isinstance(content, dict):
        words = ("second", "time", "version", "folder", "path", "command", "config", "date", "hour", "minute")
        return {key: _untimed(each) for key, each in content.items() if not any(word in key for word in words)}
    return [_untimed(each) for each in content] if isinstance(content, list) else content


# ------------------------------------------------------------------------------------------------ what cases share

EXECUTION = "eager"
SEEDS = [3, 8]  # two learners
Case = Callable[[Record], None]
CASES: dict[str, Case] = {}
COMPILED: set[str] = set()  # cases that are run when updates are compiled
THOROUGH: set[str] = set()  # cases that are left out unless asked for


def case(name: str, *, compiled: bool = False, thorough: bool = False) -> Callable[[Case], Case]:
    """Register a case; compiled: its updates can be compiled."""

    def register(function: Case) -> Case:
        assert name not in CASES, name
        CASES[name] = function
        if compiled:
            COMPILED.add(name)
        if thorough:
            THOROUGH.add(name)
        return function

    return register


def agents() -> Any:
    """The module of all agents."""
    return importlib.import_module("orl.agents")


def make_data(rows: int = 120, seed: int = 0, **fields: Any) -> Any:
    """Random transitions of the pendulum's sizes, in episodes of ten rows, of which half terminate."""
    generator = np.random.default_rng(seed)
    end, ends = np.arange(rows) % 10 == 9, generator.uniform(size=rows) < 0.5
    observations = generator.normal(size=(rows, 3))
    actions = generator.uniform(-2, 2, (rows, 1))
    return find("Dataset", within="orl.dataset").from_arrays(
        observations,
        actions,
        np.sin(observations[:, 0]) + actions[:, 0],
        observations + 0.1 * generator.normal(size=(rows, 3)),
        end & ends,
        end & ~ends,
        action_low=-2.0,
        action_high=2.0,
        environment_id="Pendulum-v1",
        **fields,
    )


def contextual_data(rows: int = 120, seed: int = 0) -> Any:
    """The same with a context of one variable that changes every 30 rows, and values."""
    generator = np.random.default_rng(seed + 100)
    masses = np.repeat(generator.uniform(0.5, 2.0, rows // 30), 30)[:, None]
    return make_data(rows, seed, contexts=masses, values=generator.normal(5.0, 2.0, rows))


def masses() -> Any:
    """The space of that context."""
    variable = find("ContextVariable", within="orl.context")("mass", "kg", 0.5, 2.0, 1.0, "log")
    return find("ContextSpace", within="orl.context")((variable,))


def copies(environment_id: str, number: int, **keywords: Any) -> Any:
    """Copies of an environment to learn in."""
    mode = {"autoreset_mode": AutoresetMode.SAME_STEP}
    return gymnasium.make_vec(environment_id, number, vectorization_mode="sync", vector_kwargs=mode, **keywords)


def played(into: Record, agent: Any, environment_id: str, **keywords: Any) -> None:
    """Returns of evaluation, with modes and with samples."""
    evaluate = find("evaluate", within="orl.evaluation")
    for deterministic in (True, False):
        done = evaluate(agent, environment_id, seed=5, deterministic=deterministic, **keywords)
        into("modes" if deterministic else "samples", done)


def acted(record: Record, agent: Any, name: str = "act") -> None:
    """Actions on fixed observations, with modes and with samples."""
    size = agent.spaces.observation_size
    observations = np.random.default_rng(1).uniform(0.5, 1.0, (len(agent.seeds), 4, size)).astype(np.float32)
    for deterministic in (True, False):
        record(
            f"{name}/{'modes' if deterministic else 'samples'}", agent.act(observations, deterministic=deterministic)
        )
    if len(agent.seeds) == 1:
        with let_numpy_act():  # as it predicted single actions at the start, too
            record(f"{name}/single", agent.predict(observations[0, 0], deterministic=True)[0])


def let_torch_act() -> None:
    """Compute actions by torch, of all actors that NumPy computes with."""
    from orl import networks

    if hasattr(networks, "Actor"):
        NUMPY_ACTS.setdefault("act", networks.Actor.act)
        networks.Actor.act = lambda self, observations, noise: self.actions(self.network(observations), noise)


@contextlib.contextmanager
def let_numpy_act() -> Iterator[None]:
    """Undo `let_torch_act` for a while."""
    from orl import networks

    if "act" in NUMPY_ACTS:
        networks.Actor.act = NUMPY_ACTS["act"]
    yield
    let_torch_act()


NUMPY_ACTS: dict[str, Any] = {}  # the method that `let_torch_act` replaced

# No powers of two: dividing by one is exact, and hides the order of sums and divisions.
NETWORKS: dict[str, Any] = {"hidden_sizes": (9, 7), "batch_size": 11}
ONLINE: dict[str, Any] = {"buffer_size": 60, "learning_starts": 12}  # of 60: full before the end
SOFT = NETWORKS | ONLINE
PHASES: dict[str, Any] = {"period": 16, "phase_updates": 10, "check_every": 4}
STOPS: dict[str, Any] = {  # after some improvement
    "phase_updates": 40,
    "check_every": 2,
    "patience": 2,
    "tolerance": 0.03,
    "learning_rate": 3e-3,
}
FLASH: dict[str, Any] = {
    "critic_width": 9,
    "actor_width": 7,
    "critic_blocks": 1,
    "actor_blocks": 1,
    "num_bins": 11,
    "batch_size": 11,
    **ONLINE,
}
CONTEXTUAL: dict[str, Any] = {
    "embedding_sizes": (9, 7),
    "embedding_blocks": 1,
    "hidden_sizes": (9,),
    "contexts_per_batch": 3,
    "rows_per_context": 5,
}


def overridden(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, with the execution that is recorded."""
    return {**settings, "execution": EXECUTION, "device": "cpu"}


# ------------------------------------------------------------------------------------------------- on recorded data


def offline_case(kind: str, settings: Mapping[str, Any], preset: str = "") -> Case:
    """Two learners on two datasets, saved and loaded half way; then one of them alone."""

    def run(record: Record) -> None:
        data = [make_data(seed=1), make_data(seed=2)]
        config = (find(preset),) if preset else ()
        agent = getattr(agents(), kind)(data, *config, seed=SEEDS, **overridden(settings))
        record.agent(agent, "made")
        agent.fit(23)
        record.agent(agent, "half")
        with tempfile.TemporaryDirectory() as folder:
            agent.save(folder)
            agent = type(agent).load(folder, device="cpu").fit(23, data)
        record.agent(agent, "trained")
        acted(record, agent)
        single = agent.learner(1).fit(70, data[1])  # over the end of a block of random numbers
        record.agent(single, "alone")
        acted(record, single, "alone")

    return run


case("bc", compiled=True)(offline_case("BC", NETWORKS))
case("bc without normalised observations")(offline_case("BC", NETWORKS | {"normalize_observations": False}))
case("td3bc", compiled=True)(offline_case("TD3BC", NETWORKS))
case("td3bc, three critics, late actor")(offline_case("TD3BC", NETWORKS | {"num_critics": 3, "policy_delay": 3}))
case("iql", compiled=True)(offline_case("IQL", NETWORKS | {"cosine_horizon": 50}))
case("iql, three critics, own rewards")(
    offline_case("IQL", NETWORKS | {"num_critics": 3, "scale_rewards": False, "cosine_horizon": None})
)
case("sac on data")(offline_case("SAC", SOFT))
case("redq on data")(offline_case("SAC", SOFT | {"num_critics": 4}, "REDQ_PRESET"))
case("speq on data")(offline_case("SPEQ", SOFT | {"dropout_rate": 0.1} | PHASES))
case("flash-sac on data")(offline_case("FlashSAC", FLASH))


# ------------------------------------------------------------------------------------------------ in an environment


def online_case(
    kind: str,
    settings: Mapping[str, Any],
    preset: str = "",
    *,
    steps: int = 50,
    environment: str = "Pendulum-v1",
    data: bool = False,
) -> Case:
    """Two learners in an environment, left and loaded on the way."""

    def run(record: Record) -> None:
        config = (find(preset),) if preset else ()
        source = [make_data(seed=1), make_data(seed=2)] if data else environment
        agent = getattr(agents(), kind)(source, *config, seed=SEEDS, **overridden(settings))
        if data:
            agent.fit(15)
            record.agent(agent, "after data")
        keyword = "env" if "env" in inspect.signature(agent.learn).parameters else "environment"
        agent.learn(steps, **{keyword: environment})
        record.agent(agent, "half")
        acted(record, agent)
        with tempfile.TemporaryDirectory() as folder:
            agent.save(folder)
            agent = type(agent).load(folder, device="cpu")
        agent.learn(20)
        record.agent(agent, "trained")
        record.agent(agent.learner(1), "alone")

    return run


case("sac", compiled=True)(online_case("SAC", SOFT, "SAC_PRESET"))
case("sac in Hopper")(online_case("SAC", SOFT | {"num_critics": 3}, environment="Hopper-v5", steps=90))
case("sac, entropy and delay")(
    online_case("SAC", SOFT | {"target_entropy": -0.5, "policy_delay": 2, "utd_ratio": 0.5, "actor_q": "mean"})
)
case("redq", compiled=True)(online_case("SAC", SOFT | {"num_critics": 4, "utd_ratio": 4}, "REDQ_PRESET"))
case("redq's own ratio")(online_case("SAC", SOFT | {"hidden_sizes": (9,)}, "REDQ_PRESET", steps=18))
case("droq", compiled=True)(online_case("SAC", SOFT | {"utd_ratio": 4}, "DROQ_PRESET"))
case("droq in Hopper")(online_case("SAC", SOFT, "DROQ_PRESET", environment="Hopper-v5", steps=18))
case("speq", compiled=True)(online_case("SPEQ", SOFT | PHASES, "SPEQ_PRESET"))
case("speq by default")(online_case("SPEQ", SOFT | PHASES))
case("speq-auto", compiled=True)(online_case("SPEQ", SOFT | PHASES, "SPEQ_AUTO_PRESET"))
case("speq-auto that stops")(online_case("SPEQ", SOFT | PHASES | STOPS, "SPEQ_AUTO_PRESET"))
case("sope")(online_case("SPEQ", SOFT | PHASES, "SOPE_PRESET"))
case("sope that stops, critics of the stop")(
    online_case(
        "SPEQ",
        SOFT | PHASES | STOPS | {"restore_best": False, "smoothing": 1},
        "SOPE_PRESET",
    )
)
case("speq, new data")(online_case("SPEQ", SOFT | PHASES | {"timing": "new_data", "new_share": 0.3}))
case("speq, td error")(online_case("SPEQ", SOFT | PHASES | {"timing": "td_error", "error_ratio": 0.95}))
case("speq, td error and length")(
    online_case("SPEQ", SOFT | PHASES | {"timing": "td_error", "error_ratio": 1.0, "length": "td_error", "patience": 1})
)
case("speq, many critics in Hopper")(
    online_case(
        "SPEQ",
        SOFT | PHASES | {"num_critics": 4, "target_subset_size": 2, "utd_ratio": 2, "policy_delay": 2},
        environment="Hopper-v5",
    )
)
case("flash-sac", compiled=True)(online_case("FlashSAC", FLASH, "FLASH_SAC_PRESET"))
case("flash-speq", compiled=True)(online_case("FlashSAC", FLASH | PHASES, "FLASH_SPEQ_PRESET"))
case("flash-speq, new data, in Hopper")(
    online_case("FlashSAC", FLASH | PHASES | {"timing": "new_data", "new_share": 0.3}, environment="Hopper-v5")
)
case("data, then environment: iql")(online_case("IQL", NETWORKS | {"buffer_size": 150}, data=True))
case("data, then environment: sac")(online_case("SAC", NETWORKS | {"buffer_size": 150}, data=True))
case("data, then environment: speq")(online_case("SPEQ", NETWORKS | PHASES | {"buffer_size": 5_100}, data=True))
case("data, then environment: flash-speq")(online_case("FlashSAC", FLASH | PHASES | {"buffer_size": 150}, data=True))
case("iql in an environment alone")(online_case("IQL", SOFT))


@case("default sizes")
def _(record: Record) -> None:
    """Kernels for wide layers are others than those for narrow ones."""
    for name in ("BC", "TD3BC", "IQL", "SAC", "SPEQ", "FlashSAC"):
        agent = getattr(agents(), name)(make_data(400), seed=4, device="cpu", execution=EXECUTION).fit(4)
        record.agent(agent, name)


@case("names of presets as agents")
def _(record: Record) -> None:
    """`REDQ(environment)` is `SAC(environment, REDQ_PRESET)`, also where there is no such class yet."""
    small = SOFT | {"hidden_sizes": (9,), "utd_ratio": 2}
    for name in ("REDQ", "DroQ"):
        kind, config = getattr(agents(), name, None), []
        if kind is None:
            kind, config = agents().SAC, [find(f"{name.upper()}_PRESET")]
        agent = kind("Pendulum-v1", *config, seed=SEEDS, **overridden(small)).learn(18)
        record.agent(agent, name)


def resumed_case(kind: str, settings: Mapping[str, Any], pieces: int = 1) -> Case:
    """Saved after some pieces of the second phase, loaded, and led on."""

    def run(record: Record) -> None:
        agent = getattr(agents(), kind)("Pendulum-v1", seed=SEEDS, **overridden(settings))
        phases, done = 0, 0
        was_in_phase = False
        for moment in online(agent, 50):
            phases += moment.in_phase and not was_in_phase
            done = done + 1 if moment.in_phase else 0
            was_in_phase = moment.in_phase
            if phases == 2 and done == pieces:
                break
        assert was_in_phase
        record.agent(agent, "in phase")
        with tempfile.TemporaryDirectory() as folder:
            agent.save(folder)
            agent = type(agent).load(folder, device="cpu")
        agent.learn(20)
        record.agent(agent, "trained")

    return run


case("resumed in a phase: speq")(resumed_case("SPEQ", SOFT | PHASES))
case("resumed in a phase: speq-auto")(resumed_case("SPEQ", SOFT | PHASES | {"length": "td_error"}, 2))
case("resumed in a phase: sope, td error")(
    resumed_case(
        "SPEQ",
        SOFT | PHASES | {"length": "policy_value", "timing": "td_error", "error_ratio": 0.5, "dropout_rate": 0.1},
    )
)
case("resumed in a phase: flash-speq")(resumed_case("FlashSAC", FLASH | PHASES))


@case("several copies, short episodes")
def _(record: Record) -> None:
    for name, settings in (("SAC", SOFT), ("SPEQ", SOFT | PHASES), ("FlashSAC", FLASH | PHASES)):
        environment = copies("Pendulum-v1", 4, max_episode_steps=7)
        agent = getattr(agents(), name)(environment, seed=SEEDS, **overridden(settings))
        agent.learn(40)
        record.agent(agent, name)
        agent.learn(10)
        record.agent(agent, f"{name} on")
        environment.close()


@case("racing, online")
def _(record: Record) -> None:
    importlib.import_module("orl.envs")
    for number in (2, 4):
        own = functools.partial(gymnasium.make_vec, autoreset_mode=AutoresetMode.SAME_STEP)  # its own vector form
        environment = (copies if number == 2 else own)("orl/Racing-v0", number, max_episode_steps=9)
        agent = agents().SAC(environment, seed=SEEDS, **overridden(SOFT | {"target_entropy": -2.0})).learn(24)
        record.agent(agent, f"{number} copies")
        environment.close()


@case("one learner, more wrappers")
def _(record: Record) -> None:
    environment = gymnasium.wrappers.TimeLimit(gymnasium.make("Hopper-v5"), 9)
    agent = agents().SAC(environment, seed=4, **overridden(SOFT)).learn(45)
    record.agent(agent)
    acted(record, agent)


@case("learners taken out and put together")
def _(record: Record) -> None:
    agent = agents().SAC("Pendulum-v1", seed=[3, 8, 5], **overridden(SOFT)).learn(30)
    record.agent(agent, "three")
    chosen = agent.select([2, 0])
    record.agent(chosen, "two")
    acted(record, chosen)


# --------------------------------------------------------------------------------------------------------- contexts


def contextual_case(kind: str, preset: str) -> Case:
    """Two learners that clone contexts, and the policy of one for a context."""

    def run(record: Record) -> None:
        data = [contextual_data(seed=1), contextual_data(seed=2)]
        agent = getattr(agents(), kind)(
            data, find(preset), seed=SEEDS, contexts=masses(), **overridden(CONTEXTUAL)
        ).fit(23)
        record.agent(agent, "half")
        with tempfile.TemporaryDirectory() as folder:
            agent.save(folder)
            agent = type(agent).load(folder, device="cpu").fit(60, data)
        record.agent(agent, "trained")
        acted(record, agent)
        single = agent.learner(1)
        observations = torch.from_numpy(np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32))
        record("policy", single.policy({"mass": 1.3})(observations))
        fresh = [dataclasses.replace(make_data(60, seed), contexts=None, values=None) for seed in (5, 6)]
        cloner = find("few_shot")(single, np.array([[0.6], [1.7]]), fresh, seed=SEEDS, batch_size=11).fit(9)
        record.agent(cloner, "few shots")

    return run


case("hyperzero", compiled=True)(contextual_case("HyperZero", "HYPERZERO_PRESET"))
case("hyperzero as in the paper")(contextual_case("HyperZero", "HYPERZERO_PAPER_PRESET"))
case("concatenation", compiled=True)(contextual_case("ContextualCloning", "CONCATENATION_PRESET"))
case("uvfa")(contextual_case("ContextualCloning", "UVFA_PRESET"))


@case("choice of tasks")
def _(record: Record) -> None:
    contexts = np.random.default_rng(0).uniform(size=(12, 2))
    gap = np.abs(contexts[:, None] - contexts[None]).sum(-1)
    matrix = 10.0 - 4.0 * gap + np.random.default_rng(1).normal(size=(12, 1))
    for strategy in ("auto", "gp", "gp-original", "mountain", "greedy", "equidistant", "random"):
        selector = agents().TaskSelector(contexts, strategy, budget=5, bounds=(0.0, 12.0), seed=2)
        for _ in range(4):
            index = selector.ask()
            selector.tell(index, matrix[index])
        record(f"{strategy}/sources", selector.sources)
        record(f"{strategy}/coverage", selector.coverage)


@case("specialists' episodes")
def _(record: Record) -> None:
    importlib.import_module("orl.envs")
    space, contexts = find("offered_contexts")("orl/ContextPendulum-v0").parse("mass=0.5:2:2")
    environment = gymnasium.make_vec("orl/ContextPendulum-v0", 2, contexts=space.ranges, context=contexts)
    for name, settings in (("SAC", SOFT | {"target_entropy": -1.0}), ("FlashSAC", FLASH)):
        agent = getattr(agents(), name)(environment, seed=SEEDS, **overridden(settings)).learn(30)
        episodes = find("specialist_episodes")(agent, "orl/ContextPendulum-v0", space, contexts, episodes=2, seed=4)
        record(f"{name}/episodes", episodes)
        record.agent(agent, name)


# ----------------------------------------------------------------------------------------------------- reward model


@case("reward model")
def _(record: Record) -> None:
    small: dict[str, Any] = {"hidden_sizes": (9, 7), "num_members": 3, "batch_size": 11, "device": "cpu"}
    sparse = [make_data(240, seed).with_labels(0.3, seed=seed) for seed in (1, 2)]
    variants: dict[str, dict[str, Any]] = {
        "default": {},
        "stops": {"patience": 1, "check_period": 5},
        "of states": {"use_next_observations": False, "log_offset": None, "pessimism": 0.5, "clip_to_labels": True},
    }
    for name, settings in variants.items():
        model = agents().RewardModel(sparse, seed=SEEDS, max_updates=70, **small, **settings).fit()
        record(f"{name}/imputed", [each.rewards for each in model.impute(sparse)])
        record(f"{name}/predicted", model.predict(1, sparse[1]))
        record(f"{name}/report", model.report())
    contexts = contextual_data(240).with_labels(0.3, seed=1)
    model = agents().RewardModel(contexts, seed=5, max_updates=40, **small).fit()
    record("contexts/imputed", model.impute(contexts).rewards)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)
        record.checkpoints(folder)
        loaded = agents().RewardModel.load(folder, device="cpu")
    record("loaded/imputed", loaded.impute(contexts).rewards)


# --------------------------------------------------------------------------------- evaluation, recording, critic bias


@case("evaluation: Pendulum")
def _(record: Record) -> None:
    for name, settings in (
        ("SAC", SOFT),
        ("FlashSAC", FLASH),
        ("BC", NETWORKS),
        ("IQL", NETWORKS),
        ("TD3BC", NETWORKS),
    ):
        agent = getattr(agents(), name)("Pendulum-v1", seed=SEEDS, **overridden(settings))
        part = Record()
        played(part, agent, "Pendulum-v1", episodes=2)
        record(name, part.hashes)


@case("evaluation: Hopper")
def _(record: Record) -> None:
    agent = agents().SAC("Hopper-v5", seed=SEEDS, **overridden(SOFT))
    played(record, agent, "Hopper-v5", episodes=3)


@case("evaluation: racing")
def _(record: Record) -> None:
    importlib.import_module("orl.envs")
    agent = agents().SAC("orl/Racing-v0", seed=SEEDS, **overridden(SOFT | {"target_entropy": -2.0}))
    played(record, agent, "orl/Racing-v0", episodes=2, record=("speed",), max_episode_steps=300)
    played_once = find("evaluate", within="orl.evaluation")(agent, "orl/RacingProcedural-v0", episodes=1, seed=1)
    record("procedural", played_once)


@case("critic bias")
def _(record: Record) -> None:
    for name, settings in (("SAC", SOFT), ("SPEQ", SOFT | {"dropout_rate": 0.1}), ("FlashSAC", FLASH)):
        agent = getattr(agents(), name)("Pendulum-v1", seed=SEEDS, **overridden(settings)).learn(30)
        record(name, find("critic_bias")(agent, "Pendulum-v1", episodes=2, seed=1))
    agent = agents().SAC("Hopper-v5", seed=SEEDS, **overridden(SOFT)).learn(20)
    record("Hopper", find("critic_bias")(agent, "Hopper-v5", episodes=2))


@case("recorded episodes")
def _(record: Record) -> None:
    datasets = importlib.import_module("orl.datasets")
    for name, environment in (
        ("single", gymnasium.make("Hopper-v5")),
        ("vector", gymnasium.make_vec("Hopper-v5", num_envs=3)),
        ("same step", copies("Hopper-v5", 3)),
        ("by steps", gymnasium.make_vec("Hopper-v5", num_envs=2)),
    ):
        policy = datasets.RandomPolicy(environment, 1)
        goal = {"steps": 120} if name == "by steps" else {"episodes": 5}
        episodes = datasets.record(policy, environment, seed=6, **goal)
        record(name, episodes)
        environment.close()
    record("pieces", datasets.pieces(episodes, 5, 4, seed=2))
    record("mixed", datasets.mix([episodes, episodes[:2]], [2, 1], 3, seed=3))


@case("racing: drivers")
def _(record: Record) -> None:
    importlib.import_module("orl.envs")
    for skill in ("basic", "medium", "expert", "reference"):
        episodes = find("drive", within="racing")(skill, 2, seed=7)
        record(skill, [(each.actions, each.rewards, each.observations) for each in episodes])


# --------------------------------------------------------------------------------------------------- the command line


@contextlib.contextmanager
def emptied_folder() -> Iterator[Path]:
    """A temporary working folder with a Minari store of its own."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        before = os.environ.get("MINARI_DATASETS_PATH")
        os.environ["MINARI_DATASETS_PATH"] = str(Path(folder, "store"))
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["MINARI_DATASETS_PATH"]
            else:
                os.environ["MINARI_DATASETS_PATH"] = before


def orl(*words: object) -> None:
    """Run a command in this process, quietly."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            command_line()([*map(str, words)])
    except SystemExit as stop:
        if stop.code:
            raise RuntimeError(f"orl {' '.join(map(str, words))}: {printed.getvalue()[-2000:]}") from None
    torch.set_num_threads(1)


def stored(record: Record, dataset_id: str) -> None:
    """Every array of a dataset in the store."""
    data = importlib.import_module("orl.datasets").load(dataset_id)
    for name in ("observations", "actions", "rewards", "next_observations", "terminated", "truncated", "contexts"):
        record(f"{dataset_id}/{name}", getattr(data, name))
    record(f"{dataset_id}/values", data.values)


SHORT = ("--seeds", 2, "--first-seed", 3, "--device", "cpu", "--threads", 1, "--eval-episodes", 2)


def trained_on_data(agent: str, *words: object) -> Case:
    """`orl train` on a file."""

    def run(record: Record) -> None:
        with emptied_folder() as folder:
            importlib.import_module("orl.datasets").write_npz(make_data(300), folder / "data.npz")
            count = option(("train", agent), "--updates", "--steps")
            often = ("--eval-every", 10, "--log-every", 5, "--checkpoint-every", 10)
            small = ("--hidden-sizes", 9, 7, "--batch-size", 11)
            orl(
                "train", agent, "--dataset", "data.npz", "--env", "Pendulum-v1", count, 25, *SHORT, *often, *small,
                "--execution", EXECUTION, "--out", "run", *words,
            )  # fmt: skip
            record.folder(folder / "run")

    return run


def trained_online(agent: str, *words: object) -> Case:
    """`orl train` in the pendulum."""

    def run(record: Record) -> None:
        with emptied_folder() as folder:
            often = ("--eval-every", 20, "--log-every", 5, "--checkpoint-every", 15)
            orl(
                "train", agent, "--env", "Pendulum-v1", "--steps", 40, *SHORT, *often, "--batch-size", 11,
                "--learning-starts", 12, "--buffer-size", 100, "--execution", EXECUTION, "--out", "run", *words,
            )  # fmt: skip
            record.folder(folder / "run")

    return run


case("orl train bc")(trained_on_data("bc"))
case("orl train td3bc, few labels")(
    trained_on_data("td3bc", "--labels", 0.2, "--reward-model.max-updates", 20, "--reward-model.hidden-sizes", 9, 7)
)
case("orl train iql")(trained_on_data("iql"))
case("orl train iql, mean rewards")(trained_on_data("iql", "--labels", 0.2, "--rewards", "mean"))
case("orl train sac")(trained_online("sac", "--hidden-sizes", 9, "--save-replay"))
case("orl train speq")(
    trained_online("speq", "--hidden-sizes", 9, "--period", 16, "--phase-updates", 10, "--check-every", 4)
)
case("orl train sope")(
    trained_online("sope", "--hidden-sizes", 9, "--period", 16, "--phase-updates", 10, "--check-every", 4)
)
case("orl train flash-speq")(
    trained_online(
        "flash-speq", "--critic-width", 9, "--actor-width", 7, "--period", 16, "--phase-updates", 10, "--check-every", 4
    )
)


@case("orl specialists")
def _(record: Record) -> None:
    with emptied_folder() as folder:
        dataset_id = "orl/context-pendulum/specialists-v0"
        orl(
            "specialists", "sac", "--env", "orl/ContextPendulum-v0", "--contexts", "mass=0.5:2:2", "--steps", 30,
            "--hidden-sizes", 9, "--batch-size", 11, "--learning-starts", 12, "--buffer-size", 100, "--eval-every", 20,
            "--eval-episodes", 1, "--device", "cpu", "--threads", 1, "--execution", EXECUTION, "--out", "run",
            "--dataset", dataset_id, "--dataset-episodes", 2,
        )  # fmt: skip
        record.folder(folder / "run")
        stored(record, dataset_id)
        orl("evaluate", "run", "--episodes", 2, "--out", "played", "--device", "cpu")
        record("evaluate", _untimed(json.loads((folder / "played" / "results.json").read_text())))
        orl("evaluate", "run/seed-0", "--episodes", 2, "--sample", "--out", "sampled", "--device", "cpu")
        record("evaluate samples", _untimed(json.loads((folder / "sampled" / "results.json").read_text())))


@case("orl dataset make")
def _(record: Record) -> None:
    with emptied_folder():
        for dataset_id in ("orl/hopper/random-v0", "orl/hopper/medium-expert-v0", "orl/hopper/medium-replay-v0"):
            orl("dataset", "make", dataset_id, "--steps", 300)
            stored(record, dataset_id)
        orl("dataset", "make", "--env", "Pendulum-v1", "--policy", "random", "--episodes", 3, "--id", "local/p/r-v0")
        stored(record, "local/p/r-v0")


@case("orl dataset make: racing")
def _(record: Record) -> None:
    with emptied_folder():
        orl("dataset", "make", "orl/racing/basic-small-v0")
        stored(record, "orl/racing/basic-small-v0")


@case("orl select", thorough=True)
def _(record: Record) -> None:
    with emptied_folder() as folder:
        orl(
            "select", "--env", "orl/ContextPendulum-v0", "--contexts", "length=0.5:2:4", "--steps", 24, "--episodes", 2,
            "--device", "cpu", "--checkpoint-every", 5, "--budget", 2, "--baselines", "random", "multi-task", "--out",
            "run", "--settings", "hidden_sizes=[9]", "batch_size=11", "learning_starts=10",
        )  # fmt: skip
        record.folder(folder / "run", but=("jobs/",))


@case("orl zero-shot", thorough=True)
def _(record: Record) -> None:
    with emptied_folder() as folder:
        orl(
            "zero-shot", "--env", "orl/ContextCartPole-v0", "--contexts", "mass=0.25:4:8", "--steps", 30, "--settings",
            "learning_starts=10", "hidden_sizes=[4]", "batch_size=11", "--updates", 5, "--data-episodes", 1,
            "--eval-episodes", 1, "--shots", 1, "--shot-updates", 3, "--device", "cpu", "--labels", 0.5, "--out", "run",
        )  # fmt: skip
        record.folder(folder / "run", but=("jobs/",))


@case("orl generalist", thorough=True)
def _(record: Record) -> None:
    with emptied_folder() as folder:
        orl(
            "generalist", "--env", "orl/ContextCartPole-v0", "--contexts", "mass=0.25:4:5", "--budget", 2, "--steps",
            24, "--episodes", 2, "--updates", 4, "--data-episodes", 1, "--settings", "hidden_sizes=[9]",
            "batch_size=11", "learning_starts=10", "--device", "cpu", "--out", "run",
        )  # fmt: skip
        record.folder(folder / "run", but=("jobs/",))


@case("orl demo", thorough=True)
def _(record: Record) -> None:
    with emptied_folder() as folder:
        orl(
            "demo", "--out", "run", "--seeds", 2, "--updates", 20, "--second-updates", 10, "--episodes", 1,
            "--reward-model.max-updates", 20, "--dataset", "orl/racing/mix-small-v0", "--second-dataset",
            "orl/racing/basic-small-v0", "--labels", 0.1, "--workers", 1, "--device", "cpu",
        )  # fmt: skip
        record.folder(folder / "run", but=("jobs/",))


# -------------------------------------------------------------------------------------------------- record, compare


def record_all(path: Path, execution: str, *, thorough: bool, only: str) -> None:
    """Run the cases and write their hashes."""
    global EXECUTION
    EXECUTION = execution
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if execution == "compile":
        warnings.filterwarnings("error", message=".*runs eagerly")
    content: dict[str, dict[str, str]] = {}
    for name, run in CASES.items():
        if only not in name or (name in THOROUGH and not thorough) or (execution == "compile" and name not in COMPILED):
            continue
        started, record = time.monotonic(), Record()
        try:
            run(record)
            content[name] = record.hashes
        except Exception as error:
            content[name] = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        print(f"{name}: {len(record.hashes)} values, {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
        path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def compare(start: Path, now: Path, only: str = "") -> list[str]:
    """Differences, one line each."""
    before, after = (json.loads(path.read_text()) for path in (start, now))
    found: list[str] = []
    for case_name in dict.fromkeys([*before, *after]):
        if only not in case_name:
            continue
        theirs, ours = before.get(case_name), after.get(case_name)
        if case_name in THOROUGH and (theirs is None or ours is None):  # recorded with --thorough
            continue
        if theirs is None or ours is None:
            found.append(f"{case_name}: only {'now' if theirs is None else 'at the start'}")
        elif "error" in theirs or "error" in ours:
            found += [
                f"{case_name}: failed {when}: {part['error']}"
                for when, part in (("at the start", theirs), ("now", ours))
                if "error" in part
            ]
        else:
            found += _differences(case_name, {renamed(name): value for name, value in theirs.items()}, ours)
    return found


def _differences(case_name: str, theirs: dict[str, str], ours: dict[str, str]) -> list[str]:
    found = []
    for name in dict.fromkeys([*theirs, *ours]):
        if name not in ours:
            if not _has_prefix(name, ONLY_AT_THE_START):
                found.append(f"{case_name}: {name}: only at the start")
        elif name not in theirs:
            if not _has_prefix(name, ONLY_NOW):
                found.append(f"{case_name}: {name}: only now")
        elif theirs[name] != ours[name] and not _has_prefix(name, CHANGED):
            (kind, _), (other, _) = theirs[name].rsplit(" ", 1), ours[name].rsplit(" ", 1)
            found.append(f"{case_name}: {name}: differs ({kind}{'' if kind == other else f' -> {other}'})")
    return found


def _has_prefix(name: str, prefixes: Mapping[str, str]) -> bool:
    return any(part_of(name, prefix) is not None for prefix in prefixes)


def renamed(name: str) -> str:
    """A name of the start as it is now."""
    for prefix in sorted(RENAMED, key=len, reverse=True):
        match = part_of(name, prefix)
        if match is not None:
            return name[: match.start("prefix")] + RENAMED[prefix] + name[match.end() :]
    return name


def part_of(name: str, prefix: str) -> re.Match[str] | None:
    """The prefix in a name, after the parts that say which state of which learner it is of."""
    pattern = "[^/]*".join(map(re.escape, prefix.split("*")))
    return re.search(f"(?:^|/)(?P<prefix>{pattern})", name)


def main() -> None:
    """Record, compare, or both."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--execution", choices=("eager", "graph", "compile"), default="eager")
    shared.add_argument("--thorough", action="store_true", help="the long commands, too")
    shared.add_argument("--only", default="", help="cases that have this text in their names")
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0], parents=[shared])
    parser.add_argument("--start", type=Path, help="the start's interpreter, or what it recorded: record and compare")
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("record", parents=[shared]).add_argument("out", type=Path)
    comparison = verbs.add_parser("compare", parents=[shared])
    comparison.add_argument("before", type=Path)
    comparison.add_argument("after", type=Path)
    words = parser.parse_args()
    if words.verb == "record":
        record_all(words.out, words.execution, thorough=words.thorough, only=words.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        if words.verb is None:
            if words.start is None:
                parser.error("give record, compare or --start")
            before, after = Path(folder, "start.json"), Path(folder, "now.json")
            flags = ["--execution", words.execution, "--only", words.only, *["--thorough"] * words.thorough]
            interpreters = [(words.start, before), (sys.executable, after)]
            if words.start.suffix == ".json":
                before = words.start
                del interpreters[0]
            for python, out in interpreters:
                subprocess.run([python, __file__, "record", out, *flags], check=True)
        else:
            before, after = words.before, words.after
        found = compare(before, after, words.only)
        checked = {name: len(hashes) for name, hashes in json.loads(after.read_text()).items() if words.only in name}
    for line in found:
        print(line)
    print(f"{sum(checked.values())} values of {len(checked)} cases: {len(found) or 'no'} differences")
    sys.exit(bool(found))


if __name__ in ("__main__", "__mp_main__"):  # also in the processes that a command starts
    let_torch_act()
if __name__ == "__main__":
    main()
