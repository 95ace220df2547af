"""Streams of random numbers: apart from each other, the same alone as in a population."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from orl import seeding
from orl.seeding import Draw, RandomBlocks

DRAWS = {"indices": Draw("uniform", (3,)), "noise": Draw("normal", (2, 2))}
CPU = torch.device("cpu")


def test_streams_and_seeds_differ_and_repeat() -> None:
    firsts = {
        (seed, stream): torch.rand(2, generator=seeding.torch_generator(seed, stream)).sum().item()
        for seed in (0, 1)
        for stream in seeding.STREAMS
    }
    assert len(set(firsts.values())) == len(firsts)
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
    blocks = RandomBlocks([0, 1], DRAWS, CPU)
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
    together, alone = RandomBlocks([4, 7, 9], DRAWS, CPU), RandomBlocks([7], DRAWS, CPU)
    for _ in range(RandomBlocks.BLOCK + 5):
        population, single = together.next(), alone.next()
        for name in DRAWS:
            assert torch.equal(population[name][1:2], single[name])


@pytest.mark.parametrize("taken", [0, 1, 37, RandomBlocks.BLOCK - 1, RandomBlocks.BLOCK, RandomBlocks.BLOCK + 1, 200])
def test_numbers_continue_exactly_from_a_state(taken: int) -> None:
    blocks = RandomBlocks([0, 1], DRAWS, CPU)
    for _ in range(taken):
        blocks.next()
    start, position = blocks.state()
    resumed = RandomBlocks([0, 1], DRAWS, CPU)
    resumed.load(start.clone(), position)
    for _ in range(RandomBlocks.BLOCK + 3):
        expected, numbers = blocks.next(), resumed.next()
        for name in DRAWS:
            assert torch.equal(expected[name], numbers[name])
    assert torch.equal(blocks.state()[0], resumed.state()[0])


def test_set_states_takes_rows_of_any_layout() -> None:
    source = [torch.Generator().manual_seed(s) for s in (1, 2)]
    states = torch.stack([generator.get_state() for generator in source], dim=1).T  # rows that are not contiguous
    copies = [torch.Generator(), torch.Generator()]
    seeding.set_states(copies, states)
    for copy, original in zip(copies, source, strict=True):
        assert torch.equal(torch.rand(3, generator=copy), torch.rand(3, generator=original))
