"""Streams of random numbers: apart from each other, the same alone as in a population."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from orl import seeding
from orl.buffer import Batch
from orl.noise import Noise, NoiseBlocks, NoiseSpec, of_updates

DRAWS = {"indices": NoiseSpec("uniform", (3,)), "noise": NoiseSpec("normal", (2, 2))}
CPU = torch.device("cpu")


def test_streams_and_seeds_differ_and_repeat() -> None:
    firsts = {
        (seed, stream): torch.rand(2, generator=seeding.torch_generator(seed, stream)).sum().item()
        for seed in (0, 1)
        for stream in seeding.STREAMS
    }
    assert len(set(firsts.values())) == len(firsts)
    assert max(seeding.torch_generator(0, stream).initial_seed() for stream in seeding.STREAMS) > 2**60  # of 2**63
    again = torch.rand(2, generator=seeding.torch_generator(1, "split")).sum().item()
    assert again == firsts[1, "split"]


def test_numpy_streams_differ_and_repeat() -> None:
    first, again = (seeding.numpy_generator(3, "evaluation").integers(10**9, size=4) for _ in range(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, seeding.numpy_generator(3, "bootstrap").integers(10**9, size=4))


@pytest.mark.parametrize(("seed", "seeds"), [(0, [0]), ([3, 1, 3], [3, 1, 3]), (range(2), [0, 1]), (np.int64(5), [5])])
def test_seeds(seed: Any, seeds: list[int]) -> None:
    assert seeding.check_seeds(seed) == seeds
    assert all(type(each) is int for each in seeding.check_seeds(seed))


@pytest.mark.parametrize("seed", [-1, [], [0, -2], 1.5, [0, 0.5], "12", None])
def test_bad_seeds_are_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match="give an integer >= 0, or a non-empty list of them"):
        seeding.check_seeds(seed)


def test_numbers_have_the_shape_and_kind_that_was_asked_for() -> None:
    blocks = NoiseBlocks([0, 1], DRAWS, CPU)
    numbers = [blocks.next() for _ in range(300)]
    indices = torch.stack([each["indices"] for each in numbers])
    noise = torch.stack([each["noise"] for each in numbers])
    assert (indices.shape, noise.shape) == ((300, 2, 3), (300, 2, 2, 2))
    assert indices.dtype == torch.float64
    assert noise.dtype == torch.get_default_dtype()
    assert indices.min() >= 0
    assert indices.max() < 1
    assert indices.mean().item() == pytest.approx(0.5, abs=0.03)
    assert noise.std().item() == pytest.approx(1.0, abs=0.08)
    assert len(indices.unique()) == indices.numel()  # nothing is handed out twice, across blocks and learners


def test_a_learner_sees_the_numbers_that_it_would_see_alone() -> None:
    together, alone = NoiseBlocks([4, 7, 9], DRAWS, CPU), NoiseBlocks([7], DRAWS, CPU)
    for _ in range(NoiseBlocks.BLOCK + 5):
        population, single = together.next(), alone.next()
        for name in DRAWS:
            assert torch.equal(population[name][1:2], single[name])


@pytest.mark.parametrize("taken", [0, 1, 37, NoiseBlocks.BLOCK - 1, NoiseBlocks.BLOCK, NoiseBlocks.BLOCK + 1, 200])
def test_numbers_continue_exactly_from_a_state(taken: int) -> None:
    blocks = NoiseBlocks([0, 1], DRAWS, CPU)
    for _ in range(taken):
        blocks.next()
    start, position = blocks.state()
    resumed = NoiseBlocks([0, 1], DRAWS, CPU)
    resumed.load(start.clone(), position)
    for _ in range(NoiseBlocks.BLOCK + 3):
        expected, numbers = blocks.next(), resumed.next()
        for name in DRAWS:
            assert torch.equal(expected[name], numbers[name])
    assert torch.equal(blocks.state()[0], resumed.state()[0])


def point_at(calls: list[int]) -> Callable[[Noise], Batch]:
    """What numbers point at, and how many updates each call was for."""

    def sample(numbers: Noise) -> Batch:
        calls.append(len(numbers["indices"]))
        rows, turned = (numbers["indices"] * 100).long(), numbers["noise"].mT
        return Batch(turned, turned, rows, turned, rows)

    return sample


def test_what_numbers_point_at_is_that_of_every_update_and_asked_for_many_at_a_time() -> None:
    """Across the end of a block, in one go and in two; not more is asked for than is needed."""
    plain, ahead = NoiseBlocks([0, 1], DRAWS, CPU), NoiseBlocks([0, 1], DRAWS, CPU)
    calls: list[int] = []
    blocks = [*ahead.with_batches(50, point_at(calls)), *ahead.with_batches(20, point_at(calls))]
    assert calls == [16, 16, 16, 2, 14, 6]
    inputs = [of_updates(*block, i) for block in blocks for i in range(len(block[0].rewards))]
    assert len(inputs) == 70
    for batch, noise in inputs:
        numbers = plain.next()
        assert noise.keys() == numbers.keys()
        assert all(torch.equal(noise[name], values) for name, values in numbers.items())
        for mine, values in zip(batch[:5], point_at([])(numbers)[:5], strict=True):
            assert torch.equal(mine, values)
            assert mine.is_contiguous()
        assert batch[5:] == (None, None)


def test_updates_one_by_one_get_what_they_get_in_one_go() -> None:
    """As between steps in an environment; across the end of a block, and from a state in its middle."""
    one_by_one, at_once, resumed = (NoiseBlocks([0, 1], DRAWS, CPU) for _ in range(3))
    blocks = at_once.with_batches(70, point_at([]))
    inputs = [of_updates(*block, i) for block in blocks for i in range(len(block[0].rewards))]
    for i, (expected, numbers) in enumerate(inputs):
        if i == 37:
            resumed.load(*one_by_one.state())
        for each in (one_by_one, resumed) if i >= 37 else (one_by_one,):
            (block,) = each.with_batches(1, point_at([]))
            batch, noise = of_updates(*block, 0)
            assert all(torch.equal(noise[name], values) for name, values in numbers.items())
            for mine, values in zip(batch[:5], expected[:5], strict=True):
                assert torch.equal(mine, values)
                assert mine.is_contiguous()
            assert batch[5:] == (None, None)


def test_a_state_between_two_batches_counts_the_ones_that_were_handed_out() -> None:
    blocks, resumed = (NoiseBlocks([0, 1], DRAWS, CPU) for _ in range(2))
    assert sum(len(batches.rewards) for batches, _ in blocks.with_batches(37, point_at([]))) == 37
    resumed.load(*blocks.state())
    for each, again in zip(*(half.with_batches(62, point_at([])) for half in (blocks, resumed)), strict=True):
        assert all(torch.equal(each[1][name], again[1][name]) for name in each[1])
        assert all(torch.equal(mine, other) for mine, other in zip(each[0][:5], again[0][:5], strict=True))


def test_no_updates_draw_nothing() -> None:
    blocks = NoiseBlocks([0], DRAWS, CPU)
    before = blocks.state()[0]
    assert list(blocks.with_batches(0, point_at([]))) == []
    assert torch.equal(blocks.state()[0], before)


def test_set_states_takes_rows_of_any_layout() -> None:
    source = [torch.Generator().manual_seed(s) for s in (1, 2)]
    states = torch.stack([generator.get_state() for generator in source], dim=1).T  # rows that are not contiguous
    copies = [torch.Generator(), torch.Generator()]
    seeding.set_states(copies, states)
    for copy, original in zip(copies, source, strict=True):
        assert torch.equal(torch.rand(3, generator=copy), torch.rand(3, generator=original))


@pytest.mark.parametrize("rate", [1e-4, 0.005, 0.1, 0.5])
def test_every_unit_is_dropped_independently_at_the_rate(rate: float) -> None:
    """Poisson many throws with replacement hit each of n units with probability `rate`, apart from one another."""
    shape, count = (2, 5, 7), 20_000
    units = 2 * 5 * 7
    places = NoiseSpec("dropout", shape, rate).sample(count, torch.Generator().manual_seed(0), CPU)
    assert places.dtype == torch.int64
    assert places.min() >= 0
    assert places.max() == units  # that place is no unit
    hit = torch.zeros(count, units + 1).scatter_(1, places, 1.0)[:, :units]
    error = 4.5 * (rate * (1 - rate) / count) ** 0.5  # of one unit's share; 4.5 deviations, 70 units
    torch.testing.assert_close(hit.mean(0), torch.full((units,), rate), rtol=0, atol=error)
    assert hit.mean().item() == pytest.approx(rate, abs=error / units**0.5)
    numbers = hit.sum(1)  # binomial if units are independent
    assert numbers.var().item() == pytest.approx(units * rate * (1 - rate), rel=0.1 if rate > 1e-3 else 0.2)
    assert len(places.unique(dim=0)) > 1


def test_the_throws_are_as_many_as_the_argument_says() -> None:
    """A unit is missed by Poisson(-n log(1 - p)) throws with probability exp(log(1 - p)) = 1 - p."""
    places = NoiseSpec("dropout", (100,), 0.2).sample(20_000, torch.Generator().manual_seed(1), CPU)
    throws = (places < 100).sum(1).double()
    mean = -100 * np.log1p(-0.2)
    assert throws.mean().item() == pytest.approx(mean, rel=0.01)
    assert throws.var().item() == pytest.approx(mean, rel=0.05)
    assert throws.max() < places.shape[1]  # none was cut off


def test_dropped_units_come_from_blocks_like_other_numbers() -> None:
    draws = {"noise": NoiseSpec("normal", (2,)), "dropped/0": NoiseSpec("dropout", (2, 3, 4), 0.3)}
    together, alone = NoiseBlocks([4, 7], draws, CPU), NoiseBlocks([7], draws, CPU)
    for _ in range(70):
        population, single = together.next(), alone.next()
        for name in draws:
            assert torch.equal(population[name][1:], single[name])
    start, position = together.state()
    resumed = NoiseBlocks([4, 7], draws, CPU)
    resumed.load(start, position)
    assert torch.equal(resumed.next()["dropped/0"], together.next()["dropped/0"])


def test_streams_of_one_name_are_told_apart_by_their_place() -> None:
    draws = {"noise": NoiseSpec("normal", (4,))}
    firsts = [NoiseBlocks([0], draws, CPU, "phase", place).next()["noise"] for place in ((), (10,), (20,), (10, 2))]
    assert not any(torch.equal(a, b) for i, a in enumerate(firsts) for b in firsts[:i])
    assert torch.equal(NoiseBlocks([0], draws, CPU, "phase", (10,)).next()["noise"], firsts[1])


def test_states_of_another_kind_of_device_become_seeds() -> None:
    """A CUDA generator's state has 16 bytes."""
    states = torch.arange(32, dtype=torch.uint8).view(2, 16)
    found = []
    for rows in ([0, 1], [0, 1], [1, 0]):
        generators = [torch.Generator() for _ in rows]
        with pytest.warns(UserWarning, match="go on differently: they come from another kind of device than cpu"):
            seeding.set_states(generators, states[rows])
        found.append([torch.rand(3, generator=generator).tolist() for generator in generators])
    assert found[0] == found[1] == found[2][::-1]
    assert found[0][0] != found[0][1]


def test_a_block_of_another_kind_of_device_is_drawn_anew_and_can_be_kept() -> None:
    first, second = NoiseBlocks([0], DRAWS, CPU), NoiseBlocks([0], DRAWS, CPU)
    with pytest.warns(UserWarning, match="go on differently"):
        first.load(torch.arange(16, dtype=torch.uint8).view(1, 16), 5)
    second.load(*first.state())
    for _ in range(70):
        mine, other = first.next(), second.next()
        assert all(torch.equal(mine[name], other[name]) for name in DRAWS)
