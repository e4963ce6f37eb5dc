from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.nn import functional as F
from typing_extensions import get_protocol_members

from lx.errors import LxError
from lx.tasks.base import Prediction, Task
from lx.tasks.number_labels import NumberEncoder
from lx.tasks.regression import NumberPrediction, Regression, RegressionLoss

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"
MEAN, STD = 3.5, 0.25


def build(**settings: Any) -> Regression:
    """As the worker does it."""
    cfg = OmegaConf.merge(OmegaConf.load(CONF / "regression.yaml").task, settings)
    task: Regression = instantiate(cfg)(mean=MEAN, std=STD)
    return task


def test_it_is_a_task() -> None:
    task = build()
    assert [name for name in get_protocol_members(Task) if not hasattr(task, name)] == []
    assert task.num_outputs == 1
    assert task.state_dict() == {}


@pytest.mark.parametrize(
    ("label", "number"),
    [(3, 3.0), (2.5, 2.5), ("4", 4.0), (" -1.5e3 ", -1500.0), (".5", 0.5), ("+7.", 7.0), (1e300, 1e300), (0, 0.0)],
)
def test_numbers_are_read_however_they_are_written(label: Any, number: float) -> None:
    numbers, invalid = NumberEncoder().encode([label, 1], learn=True)
    assert numbers.equals(pa.array([number, 1.0], pa.float64()))
    assert invalid.tolist() == [False, False]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("1,5", "train.csv:7: the label '1,5' has a decimal comma: write 1.5"),
        (" -,25", "the label '-,25' has a decimal comma: write -.25"),
        ("nan", "the label nan is not a finite number. Mend the row or remove it"),
        (math.nan, "the label nan is not a finite number"),
        ("-Infinity", "the label -Infinity is not a finite number"),
        (math.inf, "the label inf is not a finite number"),
        ("1e999", "the label 1e999 is not a finite number"),
        (10**400, "is not a finite number"),
        ("", "the label is empty. Every row needs a number: fill it in or remove the row"),
        ("  ", "the label is empty"),
        (None, "the label is empty"),
        ("good", "the label 'good' is not a number such as 3.5. Is data.label the right column?"),
        ("1_000", "the label '1_000' is not a number"),
        ("0x1F", "the label '0x1F' is not a number"),
        ("٣", "the label '٣' is not a number"),
        ([1.0], r"the label '[1.0]' is not a number"),
        (True, "the label is true, which is not a number: write 1 or 0"),
    ],
)
def test_what_is_no_number_is_refused(label: Any, message: str) -> None:
    encoder = NumberEncoder()
    _, invalid = encoder.encode([1, label, 2.5], learn=True)
    assert invalid.tolist() == [False, True, False]
    refusal = str(encoder.refusal("train.csv:7", label))
    assert refusal.startswith("train.csv:7: ")
    assert message in refusal


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([2.0, 2.0], "train.csv: every row has the label 2, and from that there is nothing to learn"),
        ([-1.5e308, 1.5e308], "train.csv: labels from -1.5e\\+308 to 1.5e\\+308 are beyond"),
        ([0.0, 1e-309], "train.csv: labels from 0 to 1e-309 are beyond"),
        ([0.0, 5e-324], "train.csv: labels from 0 to .* are beyond what can be computed with"),
    ],
)
def test_labels_without_a_scale_are_refused(labels: list[float], message: str) -> None:
    with pytest.raises(LxError, match=message):
        NumberEncoder().check_train(pa.array(labels), "train.csv")


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_labels_are_standardized_whatever_their_size(scale: float, offset: float) -> None:
    labels = (np.random.default_rng(0).normal(size=300) + offset) * scale
    encoder = NumberEncoder()
    encoder.check_train(pa.array(labels), "train.csv")
    label_set = encoder.label_set(pa.array(labels))
    assert label_set["mean"] == pytest.approx(labels.mean(), rel=1e-12)
    assert label_set["std"] == pytest.approx((labels / scale).std() * scale, rel=1e-9)
    task = Regression(**label_set)
    standardized = task.collate(pa.array(labels))
    assert standardized.dtype == torch.float32
    assert standardized.mean().item() == pytest.approx(0, abs=1e-6)
    assert standardized.std(correction=0).item() == pytest.approx(1, rel=1e-6)
    values = [prediction.value for prediction in task.predictions([""] * 300, standardized[:, None])]
    np.testing.assert_allclose(values, labels, rtol=1e-6)


def test_groups_are_ranges_with_about_as_many_rows() -> None:
    labels = np.random.default_rng(0).exponential(size=1000)
    groups = NumberEncoder().groups(pa.array(labels))
    assert np.bincount(groups).tolist() == [100] * 10
    for lower in range(9):
        assert labels[groups == lower].max() <= labels[groups == lower + 1].min()
    assert len(np.unique(NumberEncoder().groups(pa.array(labels[:60])))) == 1
    few = NumberEncoder().groups(pa.array([1.0, 2.0] * 500))
    assert len(np.unique(few)) == 2  # equal labels are in one group


def test_report() -> None:
    report = NumberEncoder().report(pa.array([5.0, 1.0, 3.25]))
    assert (report.spread, report.counts) == ("1, 3.25, 5", {})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"loss": "mse"}, lambda z: F.mse_loss(z, torch.tensor([0.5, -1.0, 3.0]), reduction="none")),
        ({"loss": "huber"}, lambda z: F.huber_loss(z, torch.tensor([0.5, -1.0, 3.0]), reduction="none")),
        (
            {"loss": "huber", "huber_delta": 0.1},
            lambda z: torch.tensor([0.25**2 / 2 * 0, 0.1 * (2 - 0.05), 0.1 * 2.95]),
        ),
    ],
)
def test_loss_of_each_example_in_standard_units(settings: dict[str, Any], expected: Any) -> None:
    logits = torch.tensor([[0.5], [1.0], [0.0]])
    labels = build().collate(pa.array([MEAN + 0.5 * STD, MEAN - STD, MEAN + 3 * STD]))
    losses = build(**settings).loss(logits, labels)
    torch.testing.assert_close(losses, expected(logits[:, 0]))


def test_half_precision_is_computed_in_float32() -> None:
    logits, labels = torch.randn(7, 1).bfloat16(), torch.randn(7)
    losses = RegressionLoss("mse", 1.0)(logits, labels)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, (logits[:, 0].float() - labels) ** 2)


@pytest.mark.parametrize("settings", [{}, {"loss": "huber"}, {"loss": "huber", "huber_delta": 0.3}])
def test_chance_loss_is_that_of_always_predicting_the_mean(settings: dict[str, Any]) -> None:
    task = build(**settings)
    labels = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    assert task.chance_loss == pytest.approx(task.loss(torch.zeros(100_000, 1), labels).mean().item(), rel=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hubert"}, r"task.loss must be mse or huber, not 'hubert' \(did you mean 'huber'\?\)"),
        ({"huber_delta": 0}, "task.huber_delta must be a number above 0, not 0"),
        ({"huber_delta": "big"}, "task.huber_delta must be a number above 0, not 'big'"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        build(**settings)
    assert isinstance(caught.value.__cause__ or caught.value, LxError)


@pytest.mark.parametrize(("mean", "std"), [("x", 1.0), (1.0, 0.0), (1.0, math.nan), (math.inf, 1.0), (None, 1.0)])
def test_a_damaged_label_set_is_refused(mean: Any, std: Any) -> None:
    with pytest.raises(LxError, match="mean and standard deviation cannot be"):
        Regression(mean, std)


def test_metrics_are_in_the_units_of_the_labels() -> None:
    task = build()
    metrics = task.metrics(choose=False)
    labels = pa.array([3.0, 3.5, 5.0])
    logits = torch.tensor([[-1.0], [0.0], [2.0]])  # 3.25, 3.5, 4.0
    metrics.update(logits, task.collate(labels))
    evaluation = task.summarize(metrics.compute(), choose=False)
    assert evaluation.scalars == pytest.approx(
        {
            "mse": (0.25**2 + 1) / 3, "rmse": math.sqrt((0.25**2 + 1) / 3), "mae": 1.25 / 3,
            "r2": 1 - (0.25**2 + 1) / np.var([3.0, 3.5, 5.0]) / 3,
            "pearson": np.corrcoef([3.25, 3.5, 4.0], [3.0, 3.5, 5.0])[0, 1], "spearman": 1.0,
            "loss": (1 + 4**2) / 3,
        }, rel=1e-6,
    )  # fmt: skip
    assert tuple(evaluation.scalars) == Regression.metric_names
    assert (evaluation.details, evaluation.choices) == ({}, {})
    assert task.step_counts(logits, task.collate(labels))["mae"].item() == pytest.approx(1.25)


def test_predictions() -> None:
    task = build()
    (prediction,) = task.predictions(["a text"], torch.tensor([[2.0]]))
    assert isinstance(prediction, Prediction)
    assert prediction == NumberPrediction("a text", 4.0)
    assert prediction.to_json(probabilities=True) == {"text": "a text", "value": 4.0}
    assert dict(zip(task.prediction_columns(False), prediction.to_row(False), strict=True)) == prediction.to_json(False)


def test_labels_of_a_strangers_file() -> None:
    task = build()
    assert task.fits(pa.array([1.0, 2.0]))
    for labels in (pa.array([1, 2]), pa.array([1.0, None]), pa.array([1.0, math.nan]), pa.array([[1.0]])):
        assert not task.fits(labels)
