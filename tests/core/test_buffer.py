"""The replay buffer: stretches, wrap-around, sharing, sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from orl import device, losses
from orl.buffer import ReplayBuffer, gather_per_learner
from orl.dataset import Dataset
from orl.device import available_memory, refuse_memory


def rows(*first: int) -> dict[str, Tensor]:
    """One transition per number and learner; every entry tells its number. (P, n) from one tuple per learner."""
    numbers = torch.tensor([first], dtype=torch.float32)
    return transitions(numbers)


def transitions(numbers: Tensor) -> dict[str, Tensor]:
    column = numbers.unsqueeze(-1)
    return {
        "observations": column.repeat(1, 1, 2),
        "actions": column / 1_000,
        "rewards": numbers * 10,
        "next_observations": column.repeat(1, 1, 2) + 0.5,
        "terminated": (numbers % 2 == 0).float(),
    }


def contents(buffer: ReplayBuffer) -> list[list[float]]:
    """The first observation feature of every stored row, by learner, in the order of storage."""
    uniform = torch.stack([(torch.arange(len(buffer)) + 0.5) / size for size in buffer.sizes[:, 0]]).double()
    return buffer.sample(uniform).observations[..., 0].tolist()


def test_a_batch_holds_whole_rows() -> None:
    buffer = ReplayBuffer(4, 2, 1)
    buffer.add(**rows(1, 2, 3))
    batch = buffer.sample(torch.tensor([[0.0, 0.34, 0.99, 0.5]], dtype=torch.float64))
    numbers = torch.tensor([[1.0, 2.0, 3.0, 2.0]])
    for name, expected in transitions(numbers).items():
        assert torch.equal(getattr(batch, name), expected), name


def test_wrap_around_exactly_at_capacity() -> None:
    buffer = ReplayBuffer(3, 2, 1)
    buffer.add(**rows(1, 2, 3))
    assert (len(buffer), buffer.position) == (3, 0)
    assert contents(buffer) == [[1, 2, 3]]
    buffer.add(**rows(4))
    assert (len(buffer), buffer.position) == (3, 1)
    assert contents(buffer) == [[4, 2, 3]]


def test_an_add_that_straddles_the_end() -> None:
    buffer = ReplayBuffer(5, 2, 1)
    buffer.add(**rows(1, 2, 3))
    buffer.add(**rows(4, 5, 6, 7))
    assert contents(buffer) == [[6, 7, 3, 4, 5]]
    assert (len(buffer), buffer.position) == (5, 2)
    batch = buffer.sample(torch.tensor([[0.0, 0.3]], dtype=torch.float64))
    assert batch.rewards.tolist() == [[60.0, 70.0]]  # rewards lie apart and wrap with the rows


def test_what_environments_give_is_stored_as_torch_rounds_it() -> None:
    """Observations and rewards in double precision, flags as booleans."""
    generator = np.random.default_rng(0)
    observations, following = generator.normal(size=(2, 1, 3, 2))
    actions, rewards = generator.normal(size=(1, 3, 1)).astype(np.float32), generator.normal(size=(1, 3))
    flags = np.array([[True, False, True]])
    buffer = ReplayBuffer(5, 2, 1)
    for rows in (slice(0, 2), slice(2, 3)):
        buffer.add(*(values[:, rows] for values in (observations, actions, rewards, following, flags)))
    batch = buffer.gather(torch.arange(3).unsqueeze(0))
    for mine, given in zip(batch[:5], (observations, actions, rewards, following, flags), strict=True):
        assert torch.equal(mine, torch.as_tensor(given, dtype=torch.float32))


def test_learners_have_stretches_of_their_own() -> None:
    buffer = ReplayBuffer(3, 2, 1, population=2)
    buffer.add(**transitions(torch.tensor([[1.0, 2.0], [11.0, 12.0]])))
    buffer.add(**transitions(torch.tensor([[3.0, 4.0], [13.0, 14.0]])))
    assert contents(buffer) == [[4, 2, 3], [14, 12, 13]]
    uniform = torch.rand(2, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = buffer.sample(uniform)
    assert set(batch.rewards[0].tolist()) == {20.0, 30.0, 40.0}
    assert set(batch.rewards[1].tolist()) == {120.0, 130.0, 140.0}


def test_only_what_was_added_is_sampled() -> None:
    buffer = ReplayBuffer(100, 2, 1)
    buffer.add(**rows(1, 2))
    uniform = torch.rand(1, 200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert set(buffer.sample(uniform).rewards[0].tolist()) == {10.0, 20.0}


def test_the_largest_uniform_number_stays_inside() -> None:
    last = torch.tensor([[np.nextafter(1.0, 0.0)]], dtype=torch.float64)
    for size in (1, 2, 3, 1_000, 1_025):
        buffer = ReplayBuffer(size, 1, 1)
        buffer.add(
            torch.zeros(1, size, 1),
            torch.zeros(1, size, 1),
            torch.arange(float(size))[None],
            torch.zeros(1, size, 1),
            torch.zeros(1, size),
        )
        assert buffer.sample(last).rewards.item() == size - 1


@pytest.mark.parametrize("numbers", [torch.zeros(1, 4), torch.zeros(2, 1)])
def test_an_add_of_another_shape_is_refused(numbers: Tensor) -> None:
    with pytest.raises(ValueError, match=r"give \(1, n <= 3\)"):
        ReplayBuffer(3, 2, 1).add(**transitions(numbers))


def test_no_capacity_is_refused() -> None:
    with pytest.raises(ValueError, match="capacity=0: a buffer holds at least one"):
        ReplayBuffer(0, 2, 1)


def test_a_buffer_of_a_dataset_returns_its_rows(data: Dataset) -> None:
    buffer = ReplayBuffer.from_datasets([data])
    batch = buffer.sample(torch.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]], dtype=torch.float64))
    for name in ("observations", "actions", "rewards", "next_observations"):
        assert np.array_equal(getattr(batch, name)[0].numpy(), getattr(data, name)), name
    assert batch.terminated.tolist() == [[0, 1, 0, 0, 0]]
    with pytest.raises(ValueError, match="filled from a dataset"):
        buffer.add(**rows(1))


def test_batches_of_many_updates_are_those_of_each(data: Dataset) -> None:
    buffer = ReplayBuffer.from_datasets([data, dataclasses.replace(data, rewards=data.rewards + 1)])
    uniform = torch.rand(7, 2, 4, dtype=torch.float64)
    together = buffer.sample(uniform)
    assert together.observations.shape[:3] == (7, 2, 4)
    for i in range(7):
        for mine, other in zip(together[:5], buffer.sample(uniform[i])[:5], strict=True):
            assert torch.equal(mine[i], other)
    assert together[5:] == (None, None)


def test_each_learner_takes_entries_of_its_own_table() -> None:
    tables = torch.arange(12).view(2, 3, 2)
    assert gather_per_learner(tables, torch.tensor([[2], [0]])).tolist() == [[[4, 5]], [[6, 7]]]
    assert gather_per_learner(tables[..., 0], torch.tensor([[[2], [0]], [[1], [1]]])).tolist() == [
        [[4], [6]],
        [[2], [8]],
    ]


def test_truncation_bootstraps_and_termination_does_not(data: Dataset) -> None:
    """Row 1 terminates, row 4 is truncated: with V(s') = 10 and discount 0.5 only the first has no value beyond."""
    batch = ReplayBuffer.from_datasets([data]).sample(torch.tensor([[0.3, 0.9]], dtype=torch.float64))
    targets = losses.td_target(batch.rewards, batch.terminated, torch.full((1, 2), 10.0), 0.5)
    assert targets.tolist() == [[2.0, 10.0]]


def test_reward_variants_share_rows_and_read_their_own_rewards(data: Dataset) -> None:
    variants = [data, data.with_rewards(-data.rewards), data]
    buffer = ReplayBuffer.from_datasets(variants)
    assert len(buffer.table) == len(data)  # stored once
    assert len(buffer.rewards) == 2 * len(data)  # two variants for three learners
    batch = buffer.sample(torch.full((3, 1), 0.5, dtype=torch.float64))
    assert batch.rewards.tolist() == [[3.0], [-3.0], [3.0]]
    assert torch.equal(batch.observations[0], batch.observations[1])


def test_data_of_different_sizes_lie_in_stretches_of_their_own(make_data: Callable[..., Dataset]) -> None:
    first, second = make_data(7, seed=1), make_data(20, seed=2)
    buffer = ReplayBuffer.from_datasets([first, second])
    assert len(buffer) == 20
    ends = torch.tensor([[0.0, 0.999], [0.0, 0.999]], dtype=torch.float64)
    batch = buffer.sample(ends)
    for k, each in enumerate((first, second)):
        assert np.array_equal(batch.observations[k].numpy(), each.observations[[0, -1]])
        assert np.array_equal(batch.rewards[k].numpy(), each.rewards[[0, -1]])


def test_data_that_share_observations_alone_keep_their_actions_and_flags(arrays: dict[str, np.ndarray]) -> None:
    first = Dataset.from_arrays(**arrays)
    second = Dataset.from_arrays(**(arrays | {"actions": -arrays["actions"], "terminated": np.ones(5)}))
    assert second.observations is first.observations
    batch = ReplayBuffer.from_datasets([first, second]).sample(torch.zeros(2, 1, dtype=torch.float64))
    assert batch.actions[1].item() == -batch.actions[0].item()
    assert batch.terminated.tolist() == [[0.0], [1.0]]


def test_hidden_rewards_are_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"tiny: 4 of 5 rewards are hidden .* labelled\(\)"):
        ReplayBuffer.from_datasets([data, data.with_labels(0.2)])


def test_features_that_differ_are_refused(make_data: Callable[..., Dataset]) -> None:
    with pytest.raises(ValueError, match=r"differ in \(observation, action\) size: \[\(2, 2\), \(3, 2\)\]"):
        ReplayBuffer.from_datasets([make_data(), make_data(observation_size=2)])


def test_memory_is_refused_up_front_with_both_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_memory", lambda device: 2**30)
    # (2 + 1 + 2 + 1 + 1 reward) * 4 bytes * 10**9 rows = 26.1 GiB
    with pytest.raises(MemoryError, match=r"buffer: 26\.1 GiB needed, and cpu has 1\.0 GiB free; lower the capacity"):
        ReplayBuffer(10**9, 2, 1)
    with pytest.raises(MemoryError, match=r"52\.2 GiB needed"):
        ReplayBuffer(10**9, 2, 1, population=2)
    assert len(ReplayBuffer(10, 2, 1)) == 0


def test_memory_of_a_system_that_does_not_say_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available_memory", lambda device: None)
    refuse_memory(2**60, torch.device("cpu"), "everything", "less")


def test_free_memory_of_this_machine_is_known() -> None:
    free = available_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50


def test_a_grown_buffer_begins_with_the_dataset(make_data: Callable[..., Dataset]) -> None:
    first, second = make_data(20, seed=1), make_data(20, seed=2)
    grown = ReplayBuffer.from_datasets([first, second]).grown(25)
    assert (len(grown), grown.position, grown.capacity) == (20, 20, 25)
    batch = grown.gather(torch.arange(20).expand(2, 20))
    for k, each in enumerate((first, second)):
        assert np.array_equal(batch.observations[k].numpy(), each.observations)
        assert np.array_equal(batch.rewards[k].numpy(), each.rewards)
        assert np.array_equal(batch.terminated[k].numpy(), each.terminated)
    grown.add(**{name: values for name, values in sized(torch.full((2, 7), 1.0)).items()})
    assert (len(grown), grown.position) == (25, 2)
    assert np.array_equal(grown.gather(torch.full((2, 1), 2)).observations[1, 0].numpy(), second.observations[2])


def sized(numbers: Tensor) -> dict[str, Tensor]:
    """Transitions of the size that `make_data` has."""
    made = transitions(numbers)
    return made | {
        "observations": made["observations"][..., :1].repeat(1, 1, 3),
        "actions": made["actions"].repeat(1, 1, 2),
        "next_observations": made["next_observations"][..., :1].repeat(1, 1, 3),
    }


def test_a_grown_buffer_keeps_the_last_rows_that_fit(make_data: Callable[..., Dataset]) -> None:
    data = make_data(20)
    grown = ReplayBuffer.from_datasets([data]).grown(8)
    assert (len(grown), grown.position) == (8, 0)
    rows = grown.gather(torch.arange(8).unsqueeze(0)).observations[0].numpy()
    assert np.array_equal(rows, data.observations[-8:])


def test_data_of_unequal_sizes_do_not_grow(make_data: Callable[..., Dataset]) -> None:
    buffer = ReplayBuffer.from_datasets([make_data(20), make_data(30)])
    with pytest.raises(ValueError, match=r"datasets of \[20, 30\] transitions: .* go on online need equal ones"):
        buffer.grown(100)
    assert len(buffer.grown(10)) == 10  # as many of each


@pytest.mark.parametrize("added", [2, 3, 5])
def test_a_buffer_continues_from_its_state(added: int) -> None:
    """Not full, exactly full, and wrapped; the tensors have the population first and hold what is there alone."""
    numbers = torch.arange(1.0, added + 1)
    buffer, loaded = (ReplayBuffer(3, 2, 1, population=2) for _ in range(2))
    for number in numbers:
        buffer.add(**transitions(torch.stack([number, number + 10]).unsqueeze(1)))
    state = buffer.state()
    assert all(len(tensor) == 2 for tensor in state.values())
    assert state["rewards"].shape == (2, min(added, 3))
    loaded.load({name: tensor.clone() for name, tensor in state.items()})
    assert contents(loaded) == contents(buffer)
    uniform = torch.tensor([[0.0, 0.4, 0.7, 0.99]] * 2, dtype=torch.float64)
    assert torch.equal(loaded.sample(uniform).rewards, buffer.sample(uniform).rewards)
    for each in (buffer, loaded):
        each.add(**transitions(torch.tensor([[7.0, 8.0], [17.0, 18.0]])))
    assert contents(loaded) == contents(buffer)
    assert (len(loaded), loaded.position) == (len(buffer), buffer.position)
