"""How numbers and label sets of an encoder are joined with those of an expert."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lx.errors import LxError
from lx.tasks.calibration import LogLinearPool
from lx.tasks.multilabel import Multilabel
from lx.tasks.number_pool import NumberPool
from lx.tasks.regression import Regression

N, C = 400, 3


def numbers(encoder_error: float, expert_error: float, rows: int = N) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions of both with independent errors, and the labels."""
    labels, of_encoder, of_expert = torch.from_numpy(np.random.default_rng(0).normal(size=(3, rows)).astype(np.float32))
    return (labels + encoder_error * of_encoder)[:, None], labels, (labels + expert_error * of_expert)[:, None]


def fit(predictions: Tensor, labels: Tensor, expert: Tensor) -> NumberPool:
    return NumberPool.fit(torch.stack([predictions, expert], 1).numpy(), labels.numpy())


@pytest.mark.parametrize(("encoder_error", "expert_error"), [(1, 1), (1, 2), (2, 1)])
def test_independent_errors_are_weighed_by_their_inverse_variances(encoder_error: float, expert_error: float) -> None:
    share = fit(*numbers(encoder_error, expert_error)).encoder_share
    assert share == pytest.approx(expert_error**2 / (encoder_error**2 + expert_error**2), abs=0.06)


def test_a_bad_encoder_gets_nothing_and_a_perfect_one_almost_all() -> None:
    assert fit(*numbers(50, 1)).encoder_share < 0.01
    assert 0.95 < fit(*numbers(0, 1)).encoder_share <= 1
    predictions, labels, expert = numbers(0.5, 1, rows=4)
    assert fit(predictions, labels, expert).encoder_share < 0.7, "few rows: the expert's part is the safe one"
    assert fit(expert, labels, expert).encoder_share == 0
    assert fit(predictions[:0], labels[:0], expert[:0]).encoder_share == 0


def test_numbers_that_are_not_finite_are_left_out_and_the_order_does_not_matter() -> None:
    predictions, labels, expert = numbers(1, 1)
    share = fit(predictions, labels, expert).encoder_share
    assert type(share) is float
    order = torch.from_numpy(np.random.default_rng(1).permutation(N))
    assert fit(predictions[order], labels[order], expert[order]).encoder_share == share
    worse = torch.cat([predictions, torch.tensor([[math.nan], [math.inf]])])
    more = torch.cat([labels, labels[:2]]), torch.cat([expert, expert[:2]])
    assert fit(worse, *more).encoder_share == share


@pytest.mark.parametrize("rows", [1, N])
@pytest.mark.parametrize("has_expert", [False, True])
def test_a_regression_is_measured_by_what_it_predicts(has_expert: bool, rows: int) -> None:
    predictions, labels, expert = numbers(1, 0.8, rows)
    task = Regression(mean=3.0, std=2.0)
    more = {"expert": expert} if has_expert else {}
    chosen = task.metrics(choose=True)
    chosen.update(predictions, labels, **more)
    validation = task.summarize(chosen.compute(), choose=True)
    assert bool(validation.choices) == has_expert
    task.choices = validation.choices
    applied = task.metrics(choose=False)
    applied.update(predictions, labels, **more)
    assert task.summarize(applied.compute(), choose=False).scalars == validation.scalars
    said = np.array([row.value for row in task.predictions([""] * rows, predictions, *more.values())])
    assert ((said - 3) / 2 - labels.numpy()) ** 2 == pytest.approx(
        (task.score(predictions, labels, *more.values()).metric / 4).numpy(), rel=1e-5
    )
    assert 4 * np.square((said - 3) / 2 - labels.numpy()).mean() == pytest.approx(validation.scalars["mse"], rel=1e-5)
    if has_expert and rows == N:
        parts = validation.scalars["encoder_mse"], validation.scalars["expert_mse"]
        assert validation.scalars["mse"] < min(parts)
        assert parts == pytest.approx([4 * (x[:, 0] - labels).square().mean().item() for x in (predictions, expert)])


@pytest.mark.parametrize("choices", [None, [], {"x": 1.0}, {"encoder_share": 2.0}, {"encoder_share": math.nan}])
def test_damaged_shares_are_refused(choices: Any) -> None:
    with pytest.raises(LxError, match="the share chosen for the encoder is damaged"):
        Regression(mean=0.0, std=1.0).choices = choices


def label_scores() -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds of both from independent evidence, those of the encoder too sure, and the labels."""
    draw = np.random.default_rng(0)
    labels = draw.random((N, C)) < [0.5, 0.2, 0.1]
    evidence = np.where(labels, 1.0, -1.0) + draw.normal(size=(2, N, C))
    log_odds = 2 * evidence + np.log([0.5 / 0.5, 0.2 / 0.8, 0.1 / 0.9]) / 2
    encoder, expert = torch.from_numpy(log_odds.astype(np.float32))
    return 5 * encoder, torch.from_numpy(labels.astype(np.float32)), expert


def test_labels_are_weighed_by_likelihood() -> None:
    encoder, labels, expert = label_scores()
    pool = LogLinearPool.fit_labels(torch.stack([encoder, expert], 1).numpy(), labels.numpy())
    assert 5 * pool.encoder_weight == pytest.approx(1, abs=0.25)
    assert pool.expert_weight == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("task", [Multilabel(["a", "b", "c"], [200, 80, 40], N), Regression(mean=0.0, std=1.0)])
def test_scores_are_kept_only_beside_an_expert(task: Multilabel | Regression) -> None:
    """Without one there is nothing to choose, and those of many labels take a lot of memory."""
    logits, labels, _ = label_scores() if isinstance(task, Multilabel) else numbers(1, 1)
    metrics = task.metrics(choose=True)
    for rows in (N, N // 2):
        metrics.reset()
        metrics.update(logits[:rows], labels[:rows])
        assert not metrics["kept"].scores
        alone = task.metrics(choose=False)
        alone.update(logits[:rows], labels[:rows])
        of_alone = task.summarize(alone.compute(), choose=True)
        assert task.summarize(metrics.compute(), choose=True) == of_alone


@pytest.mark.parametrize("rows", [1, N])
@pytest.mark.parametrize("thresholds", ["shared", 0.5])
def test_label_sets_are_measured_by_what_is_predicted(thresholds: Any, rows: int) -> None:
    encoder, labels, expert = (tensor[:rows] for tensor in label_scores())
    task = Multilabel(["a", "b", "c"], [200, 80, 40], N, thresholds=thresholds)
    chosen = task.metrics(choose=True)
    chosen.update(encoder, labels, expert=expert)
    validation = task.summarize(chosen.compute(), choose=True)
    task.choices = validation.choices
    assert task.choices == validation.choices
    applied = task.metrics(choose=False)
    applied.update(encoder, labels, expert=expert)
    assert task.summarize(applied.compute(), choose=False).scalars == validation.scalars
    said = task.predictions([""] * rows, encoder, expert)
    truth = [{name for name, there in zip("abc", row, strict=True) if there} for row in labels.tolist()]
    exact = np.mean([set(each.labels) == names for each, names in zip(said, truth, strict=True)])
    assert exact == validation.scalars["subset_accuracy"]
    if rows == N:
        parts = [validation.scalars[f"{part}_mean_average_precision"] for part in ("encoder", "expert")]
        assert validation.scalars["mean_average_precision"] > max(parts) > 0.5
        averaged = task.averaged([task, task])
        assert averaged.pool == LogLinearPool()
        assert averaged.choices.get("thresholds") == task.choices.get("thresholds")
