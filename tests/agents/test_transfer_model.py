"""The gap, the Gaussian process, the acquisition and the detection, on numbers that are known beforehand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orl.agents import TaskSelector
from orl.agents.mbtl.strategies import gp_acquisition, is_mountain, mountain_acquisition
from orl.agents.mbtl.transfer_model import GeneralisationGap, ObservedScores, TransferModel, gp_model, original_gp_model
from orl.arrays import Float64Array

SQUARE = np.stack(np.meshgrid(*[np.linspace(0, 1, 6)] * 2, indexing="ij"), -1).reshape(-1, 2)
LINE = np.linspace(0, 1, 21)[:, None]


def parts(contexts: Float64Array) -> tuple[Float64Array, Float64Array]:
    difference = contexts[:, None] - contexts
    return np.maximum(difference, 0), np.maximum(-difference, 0)


def world(
    contexts: Float64Array, left: list[float], right: list[float], source: Float64Array | float = 0.0
) -> Float64Array:
    """J = source - gap."""
    below, above = parts(contexts)
    return np.broadcast_to(source, len(contexts))[:, None] - below @ np.array(left) - above @ np.array(right)


def observe(contexts: Float64Array, matrix: Float64Array, sources: list[int]) -> ObservedScores:
    return ObservedScores(contexts, np.array(sources), matrix[sources])


@pytest.mark.parametrize("sources", [[7], [7, 30], [3, 14, 22, 35, 8]])
def test_slopes_of_clean_data_are_those_of_plain_least_squares(sources: list[int]) -> None:
    level = np.sin(5 * SQUARE[:, 0])
    matrix = world(SQUARE, [0.8, -0.2], [0.3, 1.5], level)
    gap = GeneralisationGap.fit(SQUARE, np.array(sources), matrix[sources])
    below, above = (part[sources].reshape(-1, 2) for part in parts(SQUARE))
    losses = (level[sources][:, None] - matrix[sources]).ravel()
    plain = np.linalg.lstsq(np.hstack([below, above]), losses, rcond=None)[0]
    np.testing.assert_allclose([*gap.slopes_below, *gap.slopes_above], plain, atol=1e-6)
    np.testing.assert_allclose(gap.policy_quality, level[sources], atol=1e-6)
    np.testing.assert_allclose(gap.task_ease, 0, atol=1e-6)
    np.testing.assert_allclose(
        gap.policy_quality[:, None] - gap.between(SQUARE[sources], SQUARE), matrix[sources], atol=1e-6
    )


def test_hard_targets_are_not_taken_for_distant_ones() -> None:
    ease = np.sin(9 * LINE[:, 0])
    matrix = world(LINE, [0.7], [0.4]) + ease
    gap = GeneralisationGap.fit(LINE, np.array([2, 9, 17]), matrix[[2, 9, 17]])
    assert gap.slopes_below[0] + gap.slopes_above[0] == pytest.approx(1.1, abs=1e-5)
    assert np.corrcoef(gap.task_ease - ease, LINE[:, 0])[0, 1] ** 2 == pytest.approx(1, abs=1e-3)  # but for a trend


def test_missing_scores_do_not_count() -> None:
    matrix = world(SQUARE, [0.8, 0.5], [0.3, 1.5], SQUARE[:, 0])
    sources = [3, 14, 22, 35, 8]
    seen = np.where(np.random.default_rng(0).uniform(size=(5, 36)) < 0.6, matrix[sources], np.nan)
    gap = GeneralisationGap.fit(SQUARE, np.array(sources), seen)
    np.testing.assert_allclose([*gap.slopes_below, *gap.slopes_above], [0.8, 0.5, 0.3, 1.5], atol=1e-5)


def test_near_pairs_decide_where_the_gap_flattens_out() -> None:
    distance = np.abs(LINE - LINE.T)
    sources = np.arange(2, 21, 4)
    gap = GeneralisationGap.fit(LINE, sources, 1 - np.exp(-distance[sources] / 0.3) * -1 - 2)
    everywhere = np.polyfit(distance[sources].ravel(), 1 - np.exp(-distance[sources] / 0.3).ravel(), 1)[0]
    assert gap.slopes_below[0] > 1.5 * everywhere
    assert gap.slopes_above[0] == pytest.approx(gap.slopes_below[0], rel=0.05)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = world(SQUARE, [0.8, 0.5], [0.3, 1.5], np.sin(5 * SQUARE[:, 0]))
    observed = [observe(SQUARE, matrix, [3, 14, 22, 35, 8]) for _ in range(2)]
    whole = gp_acquisition(observed[0], gp_model(observed[0])), mountain_acquisition(observed[0])
    monkeypatch.setattr("orl.agents.mbtl.transfer_model.BLOCK", 72)
    pieces = gp_acquisition(observed[1], gp_model(observed[1])), mountain_acquisition(observed[1])
    np.testing.assert_allclose(pieces, whole, rtol=1e-6)


def test_the_acquisition_is_the_mean_gain_over_what_is_covered() -> None:
    contexts = np.array([[0.0], [0.5], [1.0]])
    observed = ObservedScores(contexts, np.array([1]), np.array([[0.2, 0.6, 0.4]]))
    gap = GeneralisationGap(np.array([0.4]), np.array([0.8]), np.array([0.6]), np.zeros(3))
    nothing = np.zeros((3, 0))
    model = TransferModel(contexts, np.array([0.7, 0.6, 0.5]), np.array([0.0, 0.0, 0.1]), gap, nothing, nothing.T)
    bonus = math.sqrt(math.log(2)) * 0.1
    # from 0: 0.7, 0.3, -0.1; from 0.5: 0.4, 0.6, 0.2; from 1: 0.1, 0.3, 0.5, each and the bonus
    gains = [0.5 / 3, 0.2 / 3, (0.1 + bonus) / 3]
    np.testing.assert_allclose(gp_acquisition(observed, model), gains, atol=1e-12)
    without_gain = model._replace(mean=np.zeros(3), std=np.zeros(3))
    np.testing.assert_array_equal(gp_acquisition(observed, without_gain), [-0.2, -0.6, -0.4])


def test_ease_shifts_a_target_for_every_source() -> None:
    contexts = np.array([[0.0], [1.0]])
    gap = GeneralisationGap(np.array([0.5]), np.array([0.5]), np.array([0.9]), np.array([0.0, -0.3]))
    nothing = np.zeros((2, 0))
    model = TransferModel(contexts, np.array([0.9, 0.6]), np.zeros(2), gap, nothing, nothing.T)
    np.testing.assert_allclose(model.rows(slice(0, 2)), [[0.9, 0.1], [0.4, 0.6]])


def test_the_gp_model_knows_its_sources_and_doubts_the_rest() -> None:
    level = 3 + np.sin(4 * LINE[:, 0])
    sources = [0, 4, 8, 20]
    model = gp_model(observe(LINE, world(LINE, [0.6], [0.6], level), sources))
    np.testing.assert_allclose(model.mean[sources], level[sources], atol=0.02)
    assert model.std[sources].max() < 0.03  # of the mean: the learned noise is not in it
    assert model.std[14] > 2 * model.std[2]
    assert abs(model.mean[14] - level[14]) < 3 * model.std[14]


def test_noise_is_learned() -> None:
    truth = np.sin(4 * LINE[:, 0])
    noise = 0.3 * np.random.default_rng(0).normal(size=21)
    model = gp_model(observe(LINE, world(LINE, [0.6], [0.6], truth + noise), list(range(21))))
    assert np.abs(model.mean - truth).mean() < 0.8 * np.abs(noise).mean()


def test_rows_of_near_sources_bend_the_expected_row() -> None:
    contexts = np.linspace(0, 1, 81)[:, None]
    matrix = np.exp(-np.abs(contexts - contexts.T) / 0.2)
    model = gp_model(observe(contexts, matrix, [*range(0, 81, 8)]))
    straight = model._replace(residuals=0 * model.residuals)
    errors = [np.abs(each.row(33) - matrix[33]).mean() for each in (model, straight)]
    assert errors[0] < 0.4 * errors[1]


def test_the_original_model_takes_running_maxima_and_a_mean_of_zero() -> None:
    contexts = np.linspace(0, 1, 101)[:, None]
    matrix = np.full((101, 101), 0.2)
    matrix[0] = 0.8
    model = original_gp_model(observe(contexts, matrix, [0, 50]), (0.0, 1.0), 0)
    assert model.mean[50] == pytest.approx(0.8, abs=0.03)  # source 0 is better there than source 50
    assert model.gap.slopes_below[0] == pytest.approx(0.5)  # 0.005 for each of 100 steps
    wider = original_gp_model(observe(contexts, 1000 * matrix, [0, 50]), (0.0, 1000.0), 0)
    np.testing.assert_allclose(wider.mean, 1000 * model.mean, rtol=1e-6)
    far = original_gp_model(observe(contexts, np.where(matrix > 0.5, 0.8, 0.9), [0, 1]), (0.0, 1.0), 0)
    assert 0 <= far.mean[100] < 0.9


def test_distance_decides_where_sources_are_alike_and_scores_fall_both_ways() -> None:
    sources = [3, 14, 22, 35, 8, 27]
    bumps = 0.3 * np.sin(6 * SQUARE.sum(1))
    hill = world(SQUARE, [0.8, 0.5], [0.6, 0.9]) + bumps  # targets differ, sources do not
    assert is_mountain(observe(SQUARE, hill, sources))
    assert not is_mountain(observe(SQUARE, hill, sources[:4]))  # too early to say
    assert not is_mountain(observe(SQUARE, hill + 3 * bumps[:, None], sources))  # sources differ
    assert not is_mountain(observe(SQUARE, world(SQUARE, [0.8, 0.5], [-0.6, -0.9]), sources))  # falls one way only


def test_auto_is_the_one_that_was_detected() -> None:
    sources = [3, 14, 22, 35, 8, 27]
    bumps = 0.3 * np.sin(6 * SQUARE.sum(1))
    for matrix, strategy in [
        (world(SQUARE, [0.8, 0.5], [0.6, 0.9]) + bumps, "mountain"),
        (world(SQUARE, [0.8, 0.5], [0.6, 0.9], 4 * bumps), "gp"),
    ]:
        asked = []
        for each in ("auto", strategy):
            selector = TaskSelector(SQUARE, each)  # type: ignore[arg-type]
            for source in sources:
                selector.tell(source, matrix[source])
            asked.append(selector.prediction().acquisition)
        np.testing.assert_array_equal(asked[0], asked[1])


def test_the_mountain_minimises_the_distance_to_the_nearest_source() -> None:
    contexts = np.array([[0.0], [0.25], [0.5], [0.75], [1.0]])
    nothing = ObservedScores(contexts, np.empty(0, np.int64), np.empty((0, 5)))
    np.testing.assert_allclose(mountain_acquisition(nothing), [-0.5, -0.35, -0.3, -0.35, -0.5])
    with_middle = ObservedScores(contexts, np.array([2]), np.ones((1, 5)))
    np.testing.assert_allclose(mountain_acquisition(with_middle), [-0.2, -0.2, -0.3, -0.2, -0.2])


def test_a_dimension_that_costs_nothing_does_not_count_as_distance() -> None:
    matrix = world(SQUARE, [1.0, 0.0], [1.0, 0.0])
    values = mountain_acquisition(observe(SQUARE, matrix, [14, 20])).reshape(6, 6)
    np.testing.assert_allclose(values, values[:, :1] * np.ones(6), atol=1e-6)


def test_a_prediction_is_in_the_unit_of_the_scores() -> None:
    matrix = 100 * world(LINE, [0.6], [0.2], 1 + np.sin(4 * LINE[:, 0]))
    selector = TaskSelector(LINE * 8 + 1)
    for source in (10, 0, 20, 5, 15):
        selector.tell(source, matrix[source])
    prediction = selector.prediction()
    assert np.abs(prediction.mean - np.diag(matrix)).max() < 10
    assert prediction.slopes_below[0] == pytest.approx(60, rel=1e-3)  # over the whole range
    assert prediction.slopes_above[0] == pytest.approx(20, rel=1e-3)
    assert {array.shape for array in prediction[:3]} == {(21,)}
    free = np.delete(np.arange(21), selector.sources)
    assert selector.ask() == free[prediction.acquisition[free].argmax()]
