"""`TaskSelector`: the loop, the baselines, batches, its state, and what it refuses."""

from __future__ import annotations

import json
import time
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orl.agents import TaskSelector
from orl.agents.mbtl.strategies import Strategy

LINE = np.linspace(0, 10, 11)[:, None]
HILL = 1 - np.abs(LINE - LINE.T) / 10  # what a source loses is a tenth for each step
WAVY = HILL + 0.3 * np.sin(LINE)
LEARNING = ("auto", "gp", "mountain")  # the slow one, gp-original, has its restarts in fewer tests


def run(selector: TaskSelector, matrix: NDArray[np.float64], steps: int) -> list[int]:
    for _ in range(steps):
        index = selector.ask()
        selector.tell(index, matrix[index])
    return selector.sources.tolist()


def make(strategy: Any, contexts: NDArray[np.float64], matrix: NDArray[np.float64], **more: Any) -> TaskSelector:
    more |= {"matrix": matrix} if strategy == "sequential-oracle" else {}
    return TaskSelector(contexts, strategy, more.pop("budget", len(contexts)), **more)


def test_coverage_is_the_best_score_and_best_source_had_it_first() -> None:
    selector = TaskSelector(np.array([[0.0], [1.0], [2.0], [3.0]]))
    assert np.isnan(selector.coverage).all()
    assert selector.best_source.tolist() == [-1, -1, -1, -1]
    selector.tell(2, [0.1, 0.5, 0.9, np.nan])
    selector.tell(0, [0.8, 0.5, 0.2, np.nan])
    np.testing.assert_array_equal(selector.coverage, [0.8, 0.5, 0.9, np.nan])
    assert selector.best_source.tolist() == [0, 2, 2, -1]
    assert selector.sources.tolist() == [2, 0]
    np.testing.assert_array_equal(selector.scores[1], [0.8, 0.5, 0.2, np.nan])


def test_independent_policies_count_in_their_own_context_only() -> None:
    selector = TaskSelector(LINE, "independent")
    assert run(selector, WAVY, 3) == [0, 1, 2]
    np.testing.assert_array_equal(selector.coverage[:4], [*np.diag(WAVY)[:3], np.nan])
    assert selector.best_source[:4].tolist() == [0, 1, 2, -1]


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_every_strategy_asks_for_each_context_once_and_always_the_same(strategy: Strategy) -> None:
    orders = [run(make(strategy, LINE[:7], WAVY[:7, :7], seed=3), WAVY[:7, :7], 7) for _ in range(2)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == list(range(7))


def test_random_depends_on_the_seed() -> None:
    assert TaskSelector(LINE, "random", seed=0).ask(11) != TaskSelector(LINE, "random", seed=1).ask(11)


def test_the_first_context_is_in_the_middle_then_the_worst_covered() -> None:
    for strategy in ("auto", "gp"):
        assert run(TaskSelector(LINE, strategy), HILL, 3) == [5, 0, 10]
    assert TaskSelector(LINE[:10], "gp-original").ask() == 4  # two in the middle: the lower
    assert TaskSelector(LINE, "mountain").ask() == 5


def test_equidistant_takes_the_middles_of_equal_intervals_planned_for_the_budget() -> None:
    assert TaskSelector(np.arange(12.0)[:, None], "equidistant", 1).ask() == 5
    plans = {budget: TaskSelector(np.arange(13.0)[:, None], "equidistant", budget).ask(13) for budget in (2, 3)}
    assert plans == {2: [3, 9], 3: [2, 6, 10]}
    square = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2)
    corners = square[TaskSelector(square, "equidistant", 4).ask(4)]
    assert {tuple(corner > 1.5) for corner in corners} == {(a, b) for a in (False, True) for b in (False, True)}


def test_greedy_splits_the_longest_gap_and_ends_at_a_third() -> None:
    contexts = np.arange(25.0)[:, None]
    assert TaskSelector(contexts, "greedy").ask(3) == [12, 4, 20]  # thirds of the two ends of length 12


def test_the_sequential_oracle_takes_the_largest_gain() -> None:
    matrix = np.array([[0.9, 0.0, 0.0], [0.5, 0.5, 0.5], [0.0, 0.3, 0.9]])
    contexts = np.arange(3.0)[:, None]
    # means: 0.3, 0.5, 0.4; then with source 1: (0.9 + 0.5 + 0.5) / 3, and (0.5 + 0.5 + 0.9) / 3, the lower index first
    assert TaskSelector(contexts, "sequential-oracle", matrix=matrix).ask(3) == [1, 0, 2]


@pytest.mark.parametrize("strategy", LEARNING)
@pytest.mark.parametrize("told", [0, 1, 4])
def test_a_batch_holds_different_contexts_that_are_apart(strategy: Strategy, told: int) -> None:
    contexts = np.linspace(0, 1, 40)[:, None]
    matrix = 1 - np.abs(contexts - contexts.T)
    selector = TaskSelector(contexts, strategy)
    run(selector, matrix, told)
    batch = selector.ask(4)
    assert batch[0] == selector.ask()
    taken = np.sort(np.append(batch, selector.sources))
    assert np.diff(taken).min() >= 2
    assert selector.ask(4) == batch


def test_a_batch_of_the_original_rule_holds_different_contexts() -> None:
    selector = TaskSelector(LINE, "gp-original")
    selector.tell(5, WAVY[5])
    assert len({5, *selector.ask(3)}) == 4


def test_a_batch_ends_with_the_budget() -> None:
    selector = TaskSelector(LINE, "greedy", 3)
    run(selector, HILL, 1)
    assert len(selector.ask(5)) == 2


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("matrix", [np.full((6, 6), 0.5), np.full((6, 6), -2e5), np.zeros((6, 6))])
def test_flat_scores_are_survived(strategy: Strategy, matrix: NDArray[np.float64]) -> None:
    assert sorted(run(make(strategy, LINE[:6], matrix), matrix, 6)) == list(range(6))


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_two_contexts_and_one(strategy: Strategy) -> None:
    assert sorted(run(make(strategy, LINE[:2], HILL[:2, :2]), HILL, 0)) == []
    assert sorted(run(make(strategy, LINE[:2], HILL[:2, :2]), HILL[:2, :2], 2)) == [0, 1]
    assert run(make(strategy, LINE[:1], HILL[:1, :1]), HILL[:1, :1], 1) == [0]


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_dimension_that_never_varies_changes_nothing(strategy: Strategy) -> None:
    more = np.column_stack([LINE, np.full(11, 7.0)])
    budget = {"budget": 6} if strategy != "equidistant" else {"budget": 1}
    steps = budget["budget"]
    assert run(make(strategy, more, WAVY, **budget), WAVY, steps) == run(
        make(strategy, LINE, WAVY, **budget), WAVY, steps
    )


@pytest.mark.parametrize("strategy", LEARNING)
def test_the_unit_of_scores_and_contexts_does_not_matter(strategy: Strategy) -> None:
    plain = run(TaskSelector(LINE, strategy), WAVY, 7)
    assert run(TaskSelector(1e3 * LINE - 5, strategy), 2e3 * WAVY - 1e4, 7) == plain


@pytest.mark.parametrize("strategy", LEARNING)
def test_scores_that_are_missing_are_survived(strategy: Strategy) -> None:
    generator = np.random.default_rng(0)
    matrix = np.where(generator.uniform(size=WAVY.shape) < 0.5, WAVY, np.nan)
    np.fill_diagonal(matrix, np.nan)
    matrix[:, 0] = np.nan  # a target that is never evaluated
    matrix[:, 1] = WAVY[:, 1]
    selector = TaskSelector(LINE, strategy)
    for _ in range(10):
        index = selector.ask()
        selector.tell(index, matrix[index])
        assert np.isfinite(selector.prediction().mean).all()
    assert np.isnan(selector.coverage).tolist() == [True] + [False] * 10


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_a_state_goes_on_with_the_same_answers(strategy: Strategy) -> None:
    first = make(strategy, LINE, WAVY, budget=8, seed=2)
    run(first, WAVY, 4)
    first.tell(7 if 7 not in first.sources else 6, np.where(np.arange(11) == 3, np.nan, WAVY[7]))
    state = first.state_dict()
    text = json.dumps({name: np.asarray(value).tolist() for name, value in state.items()})
    second = make(strategy, LINE, WAVY, budget=8, seed=2)
    second.load_state_dict(json.loads(text))
    assert second.ask(3) == first.ask(3)
    assert run(second, WAVY, 2) == run(first, WAVY, 2)
    np.testing.assert_array_equal(first.coverage, second.coverage)
    assert len(state["sources"]) == 5  # what was told later is not in it


def test_a_state_of_something_else_is_refused_and_changes_nothing() -> None:
    selector = TaskSelector(LINE, "gp")
    run(selector, HILL, 2)
    for other, what in [
        (TaskSelector(LINE, "auto"), "strategy='auto'"),
        (TaskSelector(LINE, "gp", seed=1), "seed=1"),
        (TaskSelector(LINE + 1, "gp"), "other contexts"),
    ]:
        with pytest.raises(ValueError, match=what):
            selector.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="told before"):
        selector.load_state_dict(selector.state_dict() | {"sources": [5, 5]})
    assert selector.sources.tolist() == [5, 0]


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=1, max_size=8), st.sampled_from(LEARNING))
def test_any_order_of_asking_and_telling(moves: list[tuple[bool, int]], strategy: Strategy) -> None:
    selector = TaskSelector(LINE, strategy)
    told: list[int] = []
    for is_asked, other in moves:
        index = selector.ask() if is_asked or other in told else other
        assert index not in told
        selector.tell(index, WAVY[index])
        told.append(index)
        np.testing.assert_array_equal(selector.coverage, WAVY[told].max(0))
    assert selector.sources.tolist() == told
    assert selector.ask() not in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"contexts": [1.0, 2.0]}, r"shape \(2,\)"),
        ({"contexts": np.zeros((0, 1))}, r"shape \(0, 1\)"),
        ({"contexts": np.zeros((1, 8))}, r"shape \(1, 8\)"),
        ({"contexts": [[0.0], [np.nan]]}, r"contexts\[1\] is not finite"),
        ({"contexts": [[0.0], [1.0], [0.0]]}, r"contexts\[2\] repeats contexts\[0\]"),
        ({"strategy": "best"}, "strategy='best'"),
        ({"budget": 12}, "budget=12: give a whole number from 1 to 11"),
        ({"budget": 0}, "budget=0"),
        ({"strategy": "equidistant"}, "give a budget"),
        ({"bounds": (1.0, 1.0)}, "bounds="),
        ({"seed": -1}, "seed="),
        ({"strategy": "sequential-oracle"}, "full matrix"),
        ({"matrix": HILL}, "full matrix"),
        ({"strategy": "sequential-oracle", "matrix": HILL[:5]}, r"shape \(5, 11\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskSelector(**{"contexts": LINE} | arguments)


@pytest.mark.parametrize(
    ("index", "scores", "message"),
    [
        (5, HILL[5], "index=5 was told before"),
        (11, HILL[5], "index=11: the contexts are 0 to 10"),
        (-1, HILL[5], "index=-1"),
        (0, HILL[5, :9], r"shape \(9,\)"),
        (0, np.full(11, np.nan), "all NaN"),
        (0, np.where(np.arange(11) == 2, np.inf, 0.5), r"scores\[2\] is infinite"),
        (0, HILL[0] + 0.5, r"from 0.5 to 1.5 are outside bounds=\(0, 1\)"),
    ],
)
def test_scores_that_cannot_be_are_refused_and_change_nothing(index: int, scores: Any, message: str) -> None:
    selector = TaskSelector(LINE, bounds=(0, 1))
    selector.tell(5, HILL[5])
    with pytest.raises(ValueError, match=message):
        selector.tell(index, scores)
    assert selector.sources.tolist() == [5]


def test_a_spent_budget_and_an_empty_batch_are_refused() -> None:
    selector = TaskSelector(LINE, budget=1)
    with pytest.raises(ValueError, match="n=0"):
        selector.ask(0)
    with pytest.raises(ValueError, match="nothing was told"):
        selector.prediction()
    run(selector, HILL, 1)
    with pytest.raises(ValueError, match="budget of 1 sources is spent"):
        selector.ask()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "dimensions", "seconds"), [(100, 1, 0.05), (1_000, 3, 2.0), (10_000, 7, 30.0)])
def test_asking_is_quick(count: int, dimensions: int, seconds: float) -> None:
    generator = np.random.default_rng(0)
    contexts = generator.uniform(size=(count, dimensions))
    level = np.sin(3 * contexts.sum(1))
    spent = []
    for _ in range(3):
        selector = TaskSelector(contexts)
        for index in range(50):
            loss = np.abs(contexts[index] - contexts).sum(1)
            selector.tell(index, level[index] - loss + 0.01 * generator.normal(size=count))
        start = time.process_time()
        selector.ask()
        spent.append(time.process_time() - start)
    assert min(spent) < seconds
