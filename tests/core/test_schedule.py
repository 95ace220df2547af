"""How many updates are due, and where phases may begin."""

from __future__ import annotations

import pytest

from orl.training import updates_due


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 8.1, 20.0, 1 / 3])
@pytest.mark.parametrize("copies", [1, 3, 7])
def test_the_ratio_is_kept_over_a_run_whatever_the_number_of_copies(ratio: float, copies: int) -> None:
    places = range(0, 21_001, copies)
    due = [updates_due(ratio, 100, steps, steps + copies) for steps in places]
    assert all(n == 0 for steps, n in zip(places, due, strict=True) if steps + copies <= 100)
    assert sum(due) == int(ratio * (places[-1] + copies - 100) + 1e-6)
    assert max(due) - min(due[100:]) <= 1  # spread evenly


def test_updates_begin_with_the_first_step_after_the_warm_up() -> None:
    assert [updates_due(1.0, 5, steps, steps + 1) for steps in range(8)] == [0, 0, 0, 0, 0, 1, 1, 1]
    assert updates_due(1.0, 5, 4, 7) == 2  # three copies cross it together
    assert [updates_due(1.0, 0, steps, steps + 1) for steps in range(2)] == [1, 1]


def test_an_update_is_due_once_its_transitions_are_there() -> None:
    assert [updates_due(0.5, 0, steps, steps + 1) for steps in range(4)] == [0, 1, 0, 1]
    assert updates_due(0.29, 0, 0, 100) == 29  # 0.29 * 100 is 28.999999999999996


def test_a_resumed_run_counts_as_one_that_went_on() -> None:
    due = [updates_due(8.1, 10, *steps) for steps in ((0, 57), (57, 100), (0, 100))]
    assert due[0] + due[1] == due[2] == 729
