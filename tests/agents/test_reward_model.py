"""The reward model: it fits, keeps labels, sees no hidden reward, and learners stay apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from orl.agents import BC, RewardModel
from orl.agents.reward_model import LabelSplit
from orl.checkpoint import CheckpointError
from orl.dataset import Dataset

MakeData = Callable[..., Dataset]
SMALL: dict[str, Any] = {
    "hidden_sizes": (16, 16), "num_members": 3, "batch_size": 32, "max_updates": 100, "check_period": 10, "patience": 3,
}  # fmt: skip


@pytest.fixture
def truth(make_data: MakeData) -> Dataset:
    return make_data(rows=600)


@pytest.fixture
def sparse(truth: Dataset) -> Dataset:
    return truth.with_labels(0.2, seed=1)


def parameters(model: RewardModel) -> list[torch.Tensor]:
    return [parameter.detach() for parameter in model.network.parameters()]


def test_it_explains_a_smooth_reward_that_it_has_not_seen(make_data: MakeData) -> None:
    truth = make_data(rows=3_000)
    sparse = truth.with_labels(0.2)
    model = RewardModel(sparse, hidden_sizes=(64, 64), num_members=3, batch_size=128, max_updates=500).fit()
    imputed = model.impute(sparse)
    hidden = ~sparse.is_labelled
    error = np.square(imputed.rewards - truth.rewards)[hidden].mean()
    assert 1 - error / truth.rewards[hidden].var() > 0.9
    report = model.report(truth)[0]
    assert report.labels == 600
    assert report.r2 is not None
    assert report.r2 > 0.9
    assert report.mae < 0.2
    assert 0.5 < report.coverage <= 1.0
    assert report.return_correlation is not None
    assert report.return_correlation > 0.9


def test_returns_that_are_undefined_have_no_correlation(truth: Dataset, sparse: Dataset) -> None:
    rows = np.arange(0, len(truth), 2)
    scattered = RewardModel(sparse.pick(rows), **SMALL).fit().report(truth.pick(rows))[0]
    assert (scattered.labels, scattered.return_correlation) == (sparse.is_labelled[rows].sum(), None)
    assert RewardModel(sparse, **SMALL).fit().report(truth.with_labels(0.5))[0].return_correlation is None


def test_true_labels_stay_bit_for_bit_and_nothing_else_changes(sparse: Dataset) -> None:
    imputed = RewardModel(sparse, **SMALL).fit().impute(sparse)
    is_labelled = sparse.is_labelled
    assert imputed.is_labelled.all()
    assert np.array_equal(imputed.rewards[is_labelled], sparse.rewards[is_labelled])
    assert len(np.unique(imputed.rewards[~is_labelled])) > 100
    for field in ("observations", "actions", "next_observations", "terminated", "truncated"):
        assert getattr(imputed, field) is getattr(sparse, field)
    assert imputed.whole_episodes


def test_data_that_are_fully_labelled_are_returned_unchanged(truth: Dataset, sparse: Dataset) -> None:
    model = RewardModel(truth.with_labels(1.0), **SMALL).fit()
    assert model.impute(truth) is truth
    assert np.array_equal(RewardModel(sparse, **SMALL).fit().impute(truth).rewards, truth.rewards)


@pytest.mark.parametrize("reward", [0.0, -3.7, 0.1, 1e6])
def test_constant_rewards_give_exactly_the_constant(truth: Dataset, reward: float) -> None:
    constant = truth.with_rewards(np.full(len(truth), reward)).with_labels(0.1)
    model = RewardModel(constant, **SMALL).fit()
    assert model.buffers["target_std"].item() == 0.0  # no rounding is taken for a spread
    assert (model.impute(constant).rewards == np.float32(reward)).all()
    report = model.report(truth)[0]
    assert (report.r2, report.mae, report.coverage, report.return_correlation) == (None, 0.0, 1.0, None)


def test_hidden_rewards_do_not_leak(truth: Dataset) -> None:
    """The model of data whose hidden rewards were others before hiding is the same, bit for bit."""
    is_labelled = truth.with_labels(0.2).is_labelled
    rewards = [np.where(is_labelled, truth.rewards, other) for other in (truth.rewards, 1e6)]
    models = [RewardModel(truth.with_rewards(each).with_labels(0.2), **SMALL).fit() for each in rewards]
    first, second = (model.impute(truth.with_labels(0.2)).rewards for model in models)
    assert np.array_equal(first, second)


def test_standardisation_uses_labels_for_rewards_and_all_rows_for_inputs(truth: Dataset, sparse: Dataset) -> None:
    buffers = RewardModel(sparse, **SMALL).buffers
    labels = sparse.rewards[sparse.is_labelled]
    assert buffers["target_mean"].item() == pytest.approx(labels.mean(), rel=1e-5)
    assert buffers["target_std"].item() == pytest.approx(labels.std(), rel=1e-5)
    assert buffers["label_range"].tolist() == [[labels.min(), labels.max()]]
    change = truth.next_observations - truth.observations
    parts = [truth.observations, truth.actions, change, np.log(np.abs(truth.next_observations) + 0.01)]
    inputs = np.concatenate(parts, axis=1)
    np.testing.assert_allclose(buffers["input_mean"].flatten(), inputs.mean(0), atol=1e-5)
    np.testing.assert_allclose(buffers["input_std"].flatten(), inputs.std(0) + 1e-3, atol=1e-5)


def test_the_split_parts_the_labels_and_training_sees_its_own_part(sparse: Dataset) -> None:
    model = RewardModel(sparse, **SMALL)
    split = model.splits[0]
    assert (len(split.train), len(split.validation), len(split.held_out)) == (96, 12, 12)
    assert set(np.concatenate([split.train, split.validation, split.held_out])) == set(
        np.flatnonzero(sparse.is_labelled)
    )
    assert sorted(model.replay_buffer.rewards.tolist()) == sorted(sparse.rewards[split.train].tolist())


@pytest.mark.parametrize(("labels", "share"), [(3, 0.1), (3, 0.49), (4, 0.4), (100, 0.499)])
def test_no_part_of_a_split_is_empty(labels: int, share: float) -> None:
    split = LabelSplit.draw(np.arange(labels), share, share, seed=0)
    parts = [len(split.train), len(split.validation), len(split.held_out)]
    assert min(parts) >= 1
    assert sum(parts) == labels


def test_held_out_labels_do_not_touch_the_model(sparse: Dataset) -> None:
    """Permuting held-out labels keeps every statistic; it must keep every parameter and the calibration too."""
    model = RewardModel(sparse, **SMALL).fit()
    rewards = sparse.rewards.copy()
    held_out = model.splits[0].held_out
    rewards[held_out] = np.roll(rewards[held_out], 1)
    other = RewardModel(sparse.with_rewards(rewards), **SMALL).fit()
    assert all(torch.equal(a, b) for a, b in zip(parameters(model), parameters(other), strict=True))
    assert torch.equal(model.buffers["calibration"], other.buffers["calibration"])
    assert model.report()[0].mae != other.report()[0].mae


def test_pessimism_lowers_by_standard_deviations_of_the_ensemble(sparse: Dataset) -> None:
    plain, pessimistic = (RewardModel(sparse, pessimism=p, **SMALL).fit() for p in (0.0, 2.0))
    hidden = ~sparse.is_labelled
    std = plain.member_predictions(0, sparse).std(axis=0)
    difference = plain.impute(sparse).rewards - pessimistic.impute(sparse).rewards
    np.testing.assert_allclose(difference[hidden], 2 * std[hidden], atol=1e-5)
    assert (difference[hidden] > 0).all()
    assert (difference[~hidden] == 0).all()


def test_the_clip_keeps_imputed_rewards_in_the_range_of_labels(sparse: Dataset) -> None:
    labels = sparse.rewards[sparse.is_labelled]
    low, high = np.quantile(labels, [0.3, 0.7])
    narrow = sparse.with_rewards(np.where((sparse.rewards > low) & (sparse.rewards < high), sparse.rewards, np.nan))
    free, clipped = (RewardModel(narrow, pessimism=3.0, clip_to_labels=c, **SMALL).fit() for c in (False, True))
    labels = narrow.rewards[narrow.is_labelled]
    assert free.impute(narrow).rewards.min() < labels.min()
    imputed = clipped.impute(narrow).rewards
    assert imputed.min() >= labels.min()
    assert imputed.max() <= labels.max()


def test_next_observations_are_inputs_only_when_asked(make_data: MakeData) -> None:
    data = make_data(rows=200).with_labels(0.5)
    moved = Dataset.from_arrays(
        *(data.observations, data.actions, data.rewards, data.next_observations + 1), *(data.terminated, data.truncated)
    )
    for uses in (True, False):
        model = RewardModel(data, use_next_observations=uses, **SMALL).fit()
        assert np.array_equal(model.member_predictions(0, data), model.member_predictions(0, moved)) != uses


def test_the_prediction_is_the_mean_of_members_and_their_calibrated_spread(sparse: Dataset) -> None:
    model = RewardModel(sparse, **SMALL).fit()
    members = model.member_predictions(0, sparse)
    assert members.shape == (3, 600)
    mean, std = model.predict(0, sparse)
    np.testing.assert_allclose(mean, members.mean(0))
    calibration = model.buffers["calibration"].item()
    np.testing.assert_allclose(std, members.std(0) * calibration)
    validation = model.splits[0].validation
    ratio = np.abs(mean - sparse.rewards)[validation] / (2 * members.std(0)[validation] + 1e-8)
    assert calibration == pytest.approx(np.quantile(ratio, 0.95), rel=1e-4)


def test_predictions_do_not_depend_on_the_chunk(sparse: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model = RewardModel(sparse, **SMALL).fit()
    expected = model.member_predictions(0, sparse)
    monkeypatch.setattr("orl.agents.reward_model.CHUNK", 77)
    np.testing.assert_allclose(model.member_predictions(0, sparse), expected, atol=1e-5)


def test_members_predict_what_the_stacked_network_says(sparse: Dataset) -> None:
    model = RewardModel([sparse, sparse], seed=[0, 1], **SMALL).fit()
    change = sparse.next_observations - sparse.observations
    parts = [sparse.observations, sparse.actions, change, np.log(np.abs(sparse.next_observations) + np.float32(0.01))]
    inputs = np.concatenate(parts, axis=1)
    with torch.no_grad():
        outputs = model.forward(torch.from_numpy(inputs).expand(2, 1, -1, -1))
    expected = outputs * model.buffers["target_std"] + model.buffers["target_mean"]
    for k in range(2):
        np.testing.assert_allclose(model.member_predictions(k, sparse), expected[k].numpy(), atol=1e-5)


def test_save_and_load_impute_the_same(sparse: Dataset, tmp_path: Path) -> None:
    model = RewardModel(sparse, seed=[2, 3], pessimism=0.5, **SMALL).fit()
    model.save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    assert (loaded.seeds, loaded.config) == (model.seeds, model.config)
    for mine, other in zip(model.impute(sparse), loaded.impute(sparse), strict=True):
        assert np.array_equal(mine.rewards, other.rewards)
    assert np.array_equal(model.predict(1, sparse)[1], loaded.predict(1, sparse)[1])


def test_a_checkpoint_of_something_else_is_refused(truth: Dataset, tmp_path: Path) -> None:
    BC(truth, hidden_sizes=(8,)).save(tmp_path)
    with pytest.raises(CheckpointError, match="a checkpoint of BC, not of a RewardModel"):
        RewardModel.load(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint is there"):
        RewardModel.load(tmp_path / "nothing")


def test_the_population_law(make_data: MakeData, truth: Dataset, float64: None) -> None:
    """Learner k of two equals it alone, though they stop at different times and have data of different sizes."""
    datasets = [truth.with_labels(0.5), make_data(rows=200, seed=9).with_labels(0.3)]
    settings = SMALL | {"max_updates": 300, "patience": 1}
    together = RewardModel(datasets, seed=[3, 4], **settings).fit()
    for k, data in enumerate(datasets):
        alone = RewardModel(data, seed=3 + k, **settings).fit()
        for mine, own in zip(parameters(together), parameters(alone), strict=True):
            torch.testing.assert_close(mine[k : k + 1], own, rtol=1e-10, atol=1e-10)
        for name, values in together.buffers.items():
            torch.testing.assert_close(values[k : k + 1], alone.buffers[name], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(together.impute(datasets)[k].rewards, alone.impute(data).rewards, rtol=1e-6)


def test_losses_are_hubers_of_standardised_rewards(sparse: Dataset, float64: None) -> None:
    """Of training with its gradients, and of the validation labels, for each learner in its own unit."""
    datasets = [sparse, sparse.with_rewards(100 * sparse.rewards)]
    model = RewardModel(datasets, seed=[0, 1], huber_threshold=0.5, **SMALL)
    applied: list[torch.Tensor] = []
    batch = model.replay_buffer.gather((torch.arange(96) % 70).expand(2, -1))
    model.update(batch, SimpleNamespace(step=applied.extend))  # type: ignore[arg-type]
    loss, validation = torch.zeros(()), []
    for k, data in enumerate(datasets):
        labels = data.rewards[data.is_labelled].astype(np.float64)
        inputs = model.inputs(batch.observations[k], batch.actions[k], batch.next_observations[k]).view(1, 3, 32, -1)
        outputs = model.network(
            ((inputs - model.buffers["input_mean"][k]) / model.buffers["input_std"][k]).expand(2, -1, -1, -1)
        )
        targets = (batch.rewards[k].view(3, 32) - labels.mean()) / labels.std()
        loss = loss + 3 * 2 * torch.nn.functional.huber_loss(outputs[k, ..., 0], targets, delta=0.5)
        rows = model.splits[k].validation
        errors = np.abs(model.member_predictions(k, data.pick(rows)) - data.rewards[rows]) / labels.std()
        validation.append(np.where(errors <= 0.5, errors**2, errors - 0.25).mean(1))
    expected = torch.autograd.grad(loss, list(model.network.parameters()))
    for mine, plain in zip(applied, expected, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(model.validation_loss().numpy(), validation, rtol=1e-5)


def test_members_keep_the_parameters_that_were_best_on_validation(
    sparse: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors are dictated: member 0 is best at look 2, member 1 at the last one, member 2 stops before look 5.

    The fifth look is at the last update, though no period ends there.
    """
    errors = iter([[3, 9, 5], [1, 8, 6], [2, 7, 6], [2, 6, 6], [1.5, 5, 0]])
    seen: list[list[torch.Tensor]] = []

    def dictated(self: RewardModel) -> torch.Tensor:
        seen.append([parameter.clone() for parameter in parameters(self)])
        return torch.tensor([next(errors)], dtype=torch.float64)

    monkeypatch.setattr(RewardModel, "validation_loss", dictated)
    model = RewardModel(sparse, **(SMALL | {"max_updates": 45})).fit()
    assert len(seen) == 5
    for member, look in ((0, 1), (1, 4), (2, 0)):
        for restored, then in zip(parameters(model), seen[look], strict=True):
            assert torch.equal(restored[0, member], then[0, member]), member


def test_training_stops_when_every_member_has(sparse: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def never_better(self: RewardModel) -> torch.Tensor:
        looks.append(1)
        return torch.ones(1, 3)

    monkeypatch.setattr(RewardModel, "validation_loss", never_better)
    RewardModel(sparse, **SMALL).fit()
    assert len(looks) == 1 + SMALL["patience"]


def test_the_same_seed_repeats_and_members_differ(sparse: Dataset) -> None:
    first, again, other = (
        RewardModel(sparse, seed=seed, **SMALL).fit().member_predictions(0, sparse) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])


def test_one_dataset_serves_every_learner_and_a_list_each_its_own(truth: Dataset) -> None:
    first, second = truth.with_labels(0.2, seed=0), truth.with_labels(0.2, seed=1)
    model = RewardModel([first, second], seed=[0, 0], **SMALL).fit()
    imputed = model.impute([first, second])
    assert [type(each) for each in imputed] == [Dataset, Dataset]
    assert np.array_equal(imputed[1].rewards[second.is_labelled], second.rewards[second.is_labelled])
    both = model.impute(first)
    assert np.array_equal(both[0].rewards, imputed[0].rewards)
    assert len(model.report(truth)) == 2


def test_too_few_labels_are_refused(truth: Dataset) -> None:
    two = truth.with_rewards(np.where(np.arange(600) < 2, 1.0, np.nan))
    with pytest.raises(ValueError, match="arrays: 2 labelled transitions; a reward model needs three or more"):
        RewardModel(two)
    three = truth.with_rewards(np.where(np.arange(600) < 3, truth.rewards, np.nan))
    assert RewardModel(three, **SMALL).fit().impute(three).is_labelled.all()


def test_wrong_sizes_and_counts_are_refused(make_data: MakeData, truth: Dataset) -> None:
    with pytest.raises(ValueError, match="2 datasets for 3 seeds"):
        RewardModel([truth, truth], seed=[0, 1, 2])
    with pytest.raises(ValueError, match=r"differ in .* size: \[\(3, 1, 0\), \(3, 2, 0\)\]"):
        RewardModel([truth, make_data(action_size=1)], seed=[0, 1])
    with pytest.raises(ValueError, match="0 datasets"):
        RewardModel([])
    model = RewardModel(truth, **SMALL)
    with pytest.raises(ValueError, match=r"wide: .* sizes are \(4, 2, 0\), the model has \(3, 2, 0\)"):
        model.impute(make_data(observation_size=4, name="wide").with_labels(0.5))
    with pytest.raises(ValueError, match="2 datasets for 1 seeds; give one dataset, or one per seed"):
        model.impute([truth, truth])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"num_member": 3}, "did you mean num_members"),
        ({"patience": 0}, r"RewardModelConfig\.patience=0: must be above 0"),
        ({"validation_fraction": 0.0}, "validation_fraction and held_out_fraction must be above 0"),
        ({"validation_fraction": 0.5, "held_out_fraction": 0.5}, "leave labels to train on"),
    ],
)
def test_bad_settings_are_refused(truth: Dataset, override: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RewardModel(truth, **override)


def test_a_model_that_was_not_fitted_imputes_and_reports_nothing(sparse: Dataset) -> None:
    model = RewardModel(sparse, **SMALL)
    for call in (lambda: model.impute(sparse), model.report):
        with pytest.raises(ValueError, match=r"not fitted; call fit\(\) first"):
            call()


def test_a_loaded_model_has_no_data_to_fit_or_report_on(sparse: Dataset, tmp_path: Path) -> None:
    RewardModel(sparse, **SMALL).fit().save(tmp_path)
    loaded = RewardModel.load(tmp_path)
    for call in (loaded.fit, loaded.report):
        with pytest.raises(ValueError, match="a loaded reward model has no data"):
            call()


def test_other_action_bounds_are_refused(make_data: MakeData, truth: Dataset, tmp_path: Path) -> None:
    """The same numbers would be other actions."""
    wide = make_data(rows=600, action_low=-2, action_high=2)
    with pytest.raises(ValueError, match="differ in \\(lower, upper\\) action bounds"):
        RewardModel([truth.with_labels(0.2), wide], seed=[0, 1], **SMALL)
    model = RewardModel(truth.with_labels(0.2), **SMALL).fit()
    model.save(tmp_path)
    for each in (model, RewardModel.load(tmp_path)):
        with pytest.raises(ValueError, match=r"actions lie in \[\[-2.0, -2.0\], \[2.0, 2.0\]\], the model's in \[\[-1"):
            each.impute(wide.with_labels(0.2))


def test_a_model_that_was_not_fitted_is_not_saved(sparse: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not fitted; call fit\(\) first"):
        RewardModel(sparse, **SMALL).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()
