from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sklearn.metrics import f1_score
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import get_protocol_members

from lx.errors import LxError
from lx.tasks.base import Prediction, Task
from lx.tasks.losses import MultilabelLoss
from lx.tasks.multilabel import Multilabel
from lx.tasks.multilabel_prediction import LabelSetPrediction

CONF = Path(__file__).resolve().parents[2] / "conf" / "task"
NAMES = ["anger", "joy", "love"]
COUNTS = [10, 40, 50]


def build(**settings: Any) -> Multilabel:
    """As the worker does it."""
    cfg = OmegaConf.merge(OmegaConf.load(CONF / "multilabel.yaml").task, settings)
    task: Multilabel = instantiate(cfg)(class_names=NAMES, class_counts=COUNTS, num_examples=100)
    return task


def test_it_is_a_task() -> None:
    task = build()
    assert [name for name in get_protocol_members(Task) if not hasattr(task, name)] == []
    assert task.num_outputs == 3
    assert task.state_dict() == {}


def test_loss_equals_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(7, 3, generator=generator)
    labels = (torch.rand(7, 3, generator=generator) < 0.4).float()
    expected = [
        sum(-math.log(1 / (1 + math.exp(-x if y else x))) for x, y in zip(row, truth, strict=True)) / 3
        for row, truth in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    torch.testing.assert_close(build().loss(logits, labels), torch.tensor(expected))
    weights = torch.tensor([9.0, 1.5, 1.0])  # those without the label for one with it
    weighted = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none").mean(1)
    balanced = build(positive_weights="balanced").loss
    torch.testing.assert_close(balanced(logits, labels), weighted)
    assert balanced.state_dict() == {}
    assert balanced.to("meta").positive_weights.device.type == "meta"


def test_half_precision_is_computed_in_float32() -> None:
    logits, labels = torch.randn(7, 3).bfloat16(), torch.zeros(7, 3)
    losses = MultilabelLoss()(logits, labels)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, MultilabelLoss()(logits.float(), labels))


@pytest.mark.parametrize("settings", [{}, {"positive_weights": "balanced"}])
def test_chance_loss_is_that_of_a_probability_of_one_half(settings: dict[str, Any]) -> None:
    task = build(**settings)
    labels = torch.zeros(100, 3)
    for label, count in enumerate(COUNTS):
        labels[:count, label] = 1
    assert task.chance_loss == pytest.approx(task.loss(torch.zeros(100, 3), labels).mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"thresholds": "per_lable"}, r"task.thresholds must be .*, not 'per_lable' \(did you mean 'per_label'\?\)"),
        ({"thresholds": 1.0}, "a probability between 0 and 1, not 1.0"),
        ({"thresholds": None}, "not None"),
        ({"positive_weights": "balance"}, r"task.positive_weights must be null or balanced, not 'balance' \(did"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        build(**settings)
    assert isinstance(caught.value.__cause__ or caught.value, LxError)


@pytest.mark.parametrize("num_examples", [None, 49, "100", True])
def test_a_damaged_label_set_is_refused(num_examples: Any) -> None:
    with pytest.raises(LxError, match=r"there cannot be .* training examples"):
        Multilabel(NAMES, COUNTS, num_examples)


def evaluate(task: Multilabel, logits: Tensor, labels: Tensor, choose: bool) -> Any:
    metrics = task.metrics(choose=False)
    metrics.update(logits, labels)
    return task.summarize(metrics.compute(), choose)


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(60, 3, generator=generator) < torch.tensor([0.1, 0.4, 0.5])).float()
    return torch.randn(60, 3, generator=generator) + 2 * labels - 2, labels


@pytest.mark.parametrize("thresholds", ["shared", "per_label"])
def test_chosen_thresholds_are_kept_and_used(thresholds: str) -> None:
    logits, labels = examples()
    task = build(thresholds=thresholds)
    validation = evaluate(task, logits, labels, choose=True)
    assert evaluate(task, logits, labels, choose=False).scalars["f1_micro"] < validation.scalars["f1_micro"]
    task.choices = validation.choices
    assert task.choices == validation.choices != build().choices
    again = evaluate(task, logits, labels, choose=False)
    assert again.scalars == validation.scalars
    assert again.details == validation.details
    predicted = [prediction.labels for prediction in task.predictions([""] * 60, logits)]
    f1 = f1_score(labels, [[name in row for name in NAMES] for row in predicted], average="micro")
    assert f1 == pytest.approx(validation.scalars["f1_micro"], rel=1e-12)
    for label, logit in zip(validation.details["per_class"], validation.choices["thresholds"], strict=True):
        assert label["threshold"] == pytest.approx(1 / (1 + math.exp(-logit)))
    assert len({label["threshold"] for label in validation.details["per_class"]}) == (
        1 if thresholds == "shared" else 3
    )


def test_a_fixed_threshold_stays() -> None:
    logits, labels = examples()
    task = build(thresholds=0.3)
    evaluation = evaluate(task, logits, labels, choose=True)
    f1 = f1_score(labels, logits.sigmoid() >= 0.3, average="micro")
    assert evaluation.scalars["f1_micro"] == pytest.approx(f1, rel=1e-12)
    assert evaluation.choices == task.choices == {}
    task.choices = {"thresholds": [1.0, 1.0, 1.0]}  # from a checkpoint of another configuration
    assert evaluate(task, logits, labels, choose=False).scalars == evaluation.scalars
    reached = [row.labels for row in task.predictions([""] * 60, logits)]
    assert reached == [[NAMES[i] for i in range(3) if row[i] >= 0.3] for row in logits.sigmoid().tolist()]


@pytest.mark.parametrize("choices", [None, [], {"thresholds": [0.0]}, {"thresholds": ["a"] * 3}, {"x": 1},
                                     {"thresholds": [math.nan] * 3}, {"thresholds": [40.0] * 3}])  # fmt: skip
def test_damaged_choices_are_refused(choices: Any) -> None:
    with pytest.raises(LxError, match=r"chosen for (the 3 labels|encoder and expert) are damaged"):
        build().choices = choices


def test_step_counts_are_of_exactly_right_sets() -> None:
    logits = torch.tensor([[1.0, -1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, -1.0]])
    labels = build().collate(pa.array([[0], [0], []], pa.list_(pa.int32())))
    assert build().step_counts(logits, labels) == {"subset_accuracy": torch.tensor(2)}


def test_evaluation_is_plain() -> None:
    evaluation = evaluate(build(), *examples(), choose=True)
    names = ("f1_micro", "f1_macro", "subset_accuracy", "mean_average_precision", "loss")
    assert tuple(evaluation.scalars) == names == Multilabel.metric_names
    assert type(evaluation).from_plain(evaluation.to_plain()) == evaluation
    table, diagram = build().tables(evaluation).values()
    assert diagram.chart == "lines" and {row[2] for row in diagram.rows} == {"perfect", "labels"}
    assert table.columns == ["label", "support", "precision", "recall", "f1", "average_precision", "threshold"]
    assert [row[0] for row in table.rows] == NAMES
    assert len(build().show(evaluation)) == 1


def test_predictions() -> None:
    task = build(thresholds=0.5)
    (prediction,) = task.predictions(["a text"], torch.tensor([[0.0, -1.0, 2.0]]))
    assert isinstance(prediction, Prediction)
    assert isinstance(prediction, LabelSetPrediction)
    assert prediction.labels == ["anger", "love"]
    assert prediction.probabilities == pytest.approx({"anger": 0.5, "joy": 0.2689414, "love": 0.8807971})
    assert list(prediction.to_json(probabilities=False)["probabilities"]) == ["anger", "love"]
    assert list(prediction.to_json(probabilities=True)["probabilities"]) == NAMES
    assert prediction.to_row(False) == ["a text", "anger|love"]
    for probabilities in (False, True):
        assert len(task.prediction_columns(probabilities)) == len(prediction.to_row(probabilities))


def test_labels_of_a_strangers_file() -> None:
    task, sets = build(), pa.list_(pa.int32())
    assert task.fits(pa.array([[0, 2], []], sets))
    damaged = pa.ListArray.from_arrays(pa.array([0, 9, 2], pa.int32()), pa.array([0, 1], pa.int32()))
    for labels in (pa.array([[0, 3]], sets), pa.array([[-1]], sets), pa.array([None, [0]], sets),
                   pa.array([[None]], sets), pa.array([0, 1], pa.int32()), damaged):  # fmt: skip
        assert not task.fits(labels)
