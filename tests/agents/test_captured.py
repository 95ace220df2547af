"""Updates that are replayed as graphs are the ones that run eagerly, on a CPU bit for bit.

On machines without CUDA a stand-in takes the place of its graph: it keeps what matters of one, operations on fixed
memory without the Python between them. With CUDA the real one is tested too.
"""

from __future__ import annotations

import copy
import dataclasses
import gc
import importlib
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from orl import execution, seeding, torch_private, training
from orl.agent import Agent
from orl.agents import BC, IQL, SAC, SPEQ, TD3BC, FlashSAC, HyperZero
from orl.agents.hyperzero.baselines import ContextualCloning
from orl.agents.phases import Phase
from orl.context import ContextSpace, ContextVariable
from orl.dataset import Dataset
from orl.noise import of_updates

MakeData = Callable[..., Dataset]
SPACE = ContextSpace((ContextVariable("mass", "kg", 0.0, 2.0, 1.0),))
SMALL: dict[str, Any] = {"hidden_sizes": (8, 8), "batch_size": 8}
SOFT: dict[str, Any] = SMALL | {"target_entropy": -2.0, "learning_starts": 10, "learning_rate": 3e-3, "tau": 0.05}
FLASH: dict[str, Any] = {
    "critic_width": 8, "actor_width": 8, "critic_blocks": 1, "actor_blocks": 1, "batch_size": 8, "num_bins": 11,
    "learning_starts": 10,
}  # fmt: skip
CONTEXTUAL: dict[str, Any] = {
    "contexts": SPACE, "embedding_sizes": (8, 16), "embedding_blocks": 1, "hidden_sizes": (16,),
    "contexts_per_batch": 4, "rows_per_context": 4,
}  # fmt: skip
OFFLINE: dict[str, tuple[Any, dict[str, Any]]] = {
    "bc": (BC, SMALL),
    "td3bc": (TD3BC, SMALL),
    "iql": (IQL, SMALL | {"cosine_horizon": 20}),
    "sac": (SAC, SOFT | {"num_critics": 3, "actor_q": "mean", "policy_delay": 3}),
    "droq": (SAC, SOFT | {"layer_norm": True, "dropout_rate": 0.2}),
    "flash-sac": (FlashSAC, FLASH),
    "hyperzero": (HyperZero, CONTEXTUAL),
    "uvfa": (ContextualCloning, CONTEXTUAL | {"value_weight": 0.1, "td_weight": 0.1}),
}
PHASES: dict[str, Any] = {"period": 15, "phase_updates": 12, "check_every": 3}
ONLINE: dict[str, tuple[Any, dict[str, Any]]] = {
    "droq": (SAC, SOFT | {"dropout_rate": 0.2, "utd_ratio": 2, "policy_delay": 2, "buffer_size": 33}),
    "speq": (SPEQ, SOFT | PHASES | {"dropout_rate": 0.2, "buffer_size": 33}),
    "speq-auto": (SPEQ, SOFT | PHASES | {"length": "td_error", "patience": 2, "tolerance": 0.02, "held_out": 0.3}),
    "flash-speq": (FlashSAC, FLASH | PHASES | {"cosine_horizon": 50}),
}
NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA")
DEVICES = ["cpu", "stand-in", pytest.param("cuda", marks=NO_CUDA)]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:TensorFloat32")  # of torch's compiler
SEEDS = [0, 3]


class RecordedGraph(TorchDispatchMode):
    """Stands in for `CudaGraph`: what a capture records is done again on the same memory.

    As on a device a capture leaves no trace in it, and refuses what would wait for the device, or copy to it.
    """

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal")

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []

    def warm_up(self, function: Callable[[], Any]) -> Any:
        return function()

    def capture(self, function: Callable[[], Any]) -> Any:
        try:
            with self:
                return function()
        finally:
            with torch.no_grad():
                for tensor, value in reversed(self.overwritten):
                    tensor.copy_(value)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.REFUSED:
            raise RuntimeError(f"{func} in a capture")
        kwargs = kwargs or {}
        for i, argument in enumerate(func._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                written = args[i] if i < len(args) else kwargs.get(argument.name)
                self.overwritten += [(each, each.clone()) for each in tree_leaves(written) if each is not None]
        outputs = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, outputs))
        return outputs

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, outputs in self.operations:
            for old, new in zip(tree_leaves(outputs), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on a machine that has none."""
    monkeypatch.setattr(execution, "CudaGraph", RecordedGraph)
    monkeypatch.setattr(execution, "is_captured", lambda *_: True)


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where graphs are made; the stand-in makes them on the CPU. Any warning is an error."""
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    if request.param == "stand-in":
        request.getfixturevalue("stand_in")
        return "cpu"
    return str(request.param)


def everything(agent: Agent) -> dict[str, Tensor]:
    tensors = agent.state()[0] | agent.online_state()[0]
    tensors.pop("collector/environments", None)  # texts
    return tensors


def assert_same(mine: Mapping[str, Tensor], other: Mapping[str, Tensor], device: str, cuda: float = 1e-6) -> None:
    """Bit for bit on a CPU, up to rounding on CUDA."""
    assert mine.keys() == other.keys()
    for name, values in mine.items():
        if device == "cpu":
            assert values.equal(other[name]) or values.isnan().any(), name
        torch.testing.assert_close(values, other[name], rtol=cuda, atol=cuda, equal_nan=True)


def with_contexts(data: Dataset) -> Dataset:
    """Two tasks, in turns of ten rows."""
    contexts = (np.arange(len(data)) // 10 % 2)[:, None].astype(np.float32)
    return dataclasses.replace(data, contexts=contexts, values=data.rewards)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", OFFLINE)
def test_learners_on_data_are_the_eager_ones(name: str, device: str, make_data: MakeData) -> None:
    """Also on other data, with the same graphs, and in the middle of the actors' turns."""
    kind, settings = OFFLINE[name]
    first, second = (with_contexts(make_data(rows=rows, seed=rows)) for rows in (60, 80))
    agents = [kind(first, seed=SEEDS, device=device, execution=way, **settings) for way in ("eager", "graph")]
    for updates, data in ((13, None), (12, second), (10, first)):
        eager, graph = (agent.fit(updates, data) for agent in agents)
        assert_same(everything(graph), everything(eager), device)
    assert agents[1].run.makes_graphs


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ONLINE)
def test_learners_in_environments_are_the_eager_ones(name: str, device: str, stroll: str, tmp_path: Path) -> None:
    """With buffers that fill and run over, phases that begin and end, learning rates that fall, and a checkpoint."""
    kind, settings = ONLINE[name]
    agents = [kind(stroll, seed=SEEDS, device=device, execution=way, **settings) for way in ("eager", "graph")]
    eager, graph = (agent.learn(52) for agent in agents)
    assert graph.config.execution == "graph"
    assert_same(everything(graph), everything(eager), device, cuda=1e-4)  # environments see actions in float32
    graph.save(tmp_path)
    resumed = kind.load(tmp_path, device=device)
    eager, graph, resumed = (agent.learn(11) for agent in (eager, graph, resumed))
    assert_same(everything(graph), everything(eager), device, cuda=1e-4)
    assert_same(everything(resumed), everything(eager), device, cuda=1e-4)
    assert graph.run.makes_graphs


@pytest.mark.usefixtures("float64")
def test_learners_that_go_on_in_environments_are_the_eager_ones(device: str, stroll: str, make_data: MakeData) -> None:
    """In a larger buffer, with the data in it."""
    settings = SMALL | {"cosine_horizon": 30, "buffer_size": 90}
    data = make_data(action_size=1, action_low=-2, action_high=2)
    agents = [IQL(data, seed=SEEDS, device=device, execution=way, **settings) for way in ("eager", "graph")]
    eager, graph = (agent.fit(12).learn(40, env=stroll) for agent in agents)
    assert_same(everything(graph), everything(eager), device, cuda=1e-4)


def test_metrics_are_the_callers(device: str, make_data: MakeData) -> None:
    """A replay does not overwrite those of the update before."""
    agents = [BC(make_data(), device=device, execution=way, **SMALL) for way in ("eager", "graph")]
    eager, graph = (
        [agent.gradient_steps(*next(agent.batches(1)))["actor_loss"].clone() for _ in range(8)] for agent in agents
    )
    assert len(set(map(float, eager))) == 8
    torch.testing.assert_close(torch.stack(graph), torch.stack(eager))
    kept = agents[1].gradient_steps(*next(agents[1].batches(1)))
    before = float(kept["actor_loss"])
    agents[1].gradient_steps(*next(agents[1].batches(1)))
    assert float(kept["actor_loss"]) == before


def test_a_copy_makes_graphs_of_its_own(device: str, make_data: MakeData) -> None:
    agent = TD3BC(make_data(), device=device, execution="graph", **SMALL).fit(12)
    twin = copy.deepcopy(agent)
    agent.fit(9)
    twin.fit(9)
    assert_same(everything(twin), everything(agent), device)


def test_a_graph_serves_all_phases_and_holds_nothing_of_them(device: str, stroll: str) -> None:
    """Each has the policies of all transitions in memory, as long as it runs."""
    kind, settings = ONLINE["speq"]
    agent = kind(stroll, seed=SEEDS, device=device, execution="graph", **settings)
    agent.connect()
    policies, graphs = [], []
    for moment in training.online(agent, 35):
        if moment.in_phase:
            graphs += [graph for kind, graph in agent.run.graphs.items() if kind[0] == "update_critic"]
            if agent.phases.running is not None:
                policies.append(weakref.ref(agent.phases.running.policies))
    assert agent.total_phase_updates == 24
    assert len(set(graphs)) == 1
    assert policies
    assert all(each() is None for each in policies)


class Asks(BC):
    """Its updates wait for the device."""

    def update(self, batch: Any, noise: Any, is_actor_update: bool) -> Any:
        """Print the loss, say."""
        metrics = super().update(batch, noise, is_actor_update)
        assert metrics["actor_loss"].sum().item() > 0
        return metrics


def test_what_can_not_be_captured_warns_once_and_goes_on(device: str, make_data: MakeData) -> None:
    """Also on other data."""
    first, second = make_data(), make_data(rows=80)
    eager = Asks(first, device=device, **SMALL).fit(9).fit(9, second)
    graph = Asks(first, device=device, execution="graph", **SMALL).fit(3)
    with pytest.warns(UserWarning, match="updates run eagerly, execution='graph' failed: ") as said:
        graph.fit(1)
    assert len(said) == 1
    graph.fit(5).fit(9, second)
    assert_same(everything(graph), everything(eager), device)


def test_memory_is_given_back_with_the_agent(device: str, make_data: MakeData) -> None:
    """At once: nothing tells Python's collector of cycles that a device is full."""
    agent = TD3BC(make_data(), device=device, execution="graph", **SMALL).fit(12)
    table = weakref.ref(agent.replay_buffer.table)
    gc.disable()
    try:
        del agent
        assert table() is None
    finally:
        gc.enable()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another device on any machine: torch's `meta`, which has shapes and no numbers that one could ask for."""
    cpu_generator = seeding.torch_generator
    monkeypatch.setattr("orl.agent.pick_device", torch.device)
    monkeypatch.setattr("orl.buffer.refuse_memory", lambda *_: None)
    monkeypatch.setattr(Agent, "check_finite", lambda _: None)  # waits, once at the end of `fit`
    monkeypatch.setattr(seeding, "torch_generator", lambda seed, stream, _="", key=(): cpu_generator(seed, stream))
    adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(adam, "_device_dtype_check_for_fused", lambda *_, **__: None)
    monkeypatch.setattr(torch_private, "fused_adam", lambda *_, **__: None)  # not there for `meta`


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("name", OFFLINE)
def test_updates_stay_on_the_device_and_never_wait_for_it(name: str, make_data: MakeData) -> None:
    kind, settings = OFFLINE[name]
    agent = kind(with_contexts(make_data()), seed=SEEDS, device="meta", **settings).fit(4)
    assert all(metric.is_meta for metric in agent.gradient_steps(*next(agent.batches(1))).values())
    assert all(tensor.is_meta for name, tensor in agent.state()[0].items() if not name.startswith("random/"))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [(SPEQ, SOFT | {"dropout_rate": 0.2}), (SPEQ, SOFT | {"length": "td_error"}), (FlashSAC, FLASH)],
)
def test_updates_of_a_phase_stay_on_the_device_and_never_wait_for_it(
    kind: Any, settings: dict[str, Any], make_data: MakeData
) -> None:
    agent = kind(make_data(), seed=SEEDS, device="meta", **{"phase_updates": 3, **settings})
    phase = Phase(agent, agent.steps, torch.ones(2, dtype=torch.bool, device="meta"))
    for i, (batches, noise) in enumerate(phase.batches(agent, 3)):
        assert all(metric.is_meta for metric in agent.update_critic(*of_updates(batches, noise, i)).values())
