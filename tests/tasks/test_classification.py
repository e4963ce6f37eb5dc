from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from typing_extensions import get_protocol_members

from lx.errors import LxError
from lx.tasks.base import Evaluation, Task
from lx.tasks.classification import Classification

NAMES = ["sports", "business", "world"]
COUNTS = [10, 40, 50]
CONF = Path(__file__).resolve().parents[2] / "conf" / "task"


def build(**settings: Any) -> Classification:
    """As the worker does it."""
    cfg = OmegaConf.merge(OmegaConf.load(CONF / "classification.yaml"), settings)
    return instantiate(cfg)(class_names=NAMES, class_counts=COUNTS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("balanced", [100 / 30, 100 / 120, 100 / 150]),
        ({"world": 2.5}, [1.0, 1.0, 2.5]),
        ({"business": 0, "sports": 3}, [3.0, 0.0, 1.0]),
        ([0.5, 1, 2], [0.5, 1.0, 2.0]),
    ],
)
def test_class_weights_arrive_in_the_loss(given: Any, expected: list[float] | None) -> None:
    weights = build(class_weights=given).loss.class_weights
    assert (None if weights is None else weights.tolist()) == (expected and pytest.approx(expected))


def test_balanced_weights_average_to_one_and_leave_absent_classes_alone() -> None:
    task = Classification(["a", "b", "c"], [2, 0, 6], class_weights="balanced")
    assert task.loss.class_weights.tolist() == pytest.approx([8 / 4, 1, 8 / 12])


def test_a_weight_for_a_class_without_rows_alone_is_refused() -> None:
    with pytest.raises(LxError, match="no class that has training rows"):
        Classification(["a", "b", "c"], [2, 0, 6], class_weights={"a": 0, "c": 0})


def test_class_names_that_yaml_reads_as_numbers() -> None:
    cfg = OmegaConf.create("class_weights: {1: 5.0}")
    task = Classification(["0", "1"], [3, 4], class_weights=cfg.class_weights)
    assert task.loss.class_weights.tolist() == [1, 5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"class_weights": {"sport": 2}},
            r"names 'sport', .* \(did you mean 'sports'\?\); there are: sports, b",
        ),
        (
            {"class_weights": "balance"},
            r"class_weights='balance' is none of: .*\(did you mean 'balanced'\?\)",
        ),
        ({"class_weights": [1, 2]}, r"lists 2 weights, but there are 3 classes: sports, business, world"),
        ({"class_weights": [1, 2, -1]}, r"the weight of class 'world' must be a number from 0, not -1"),
        (
            {"class_weights": {"sports": "much"}},
            r"the weight of class 'sports' must be a number from 0, not 'much'",
        ),
        ({"class_weights": {"sports": float("inf")}}, r"the weight of class 'sports' must be .* not inf"),
        ({"class_weights": [0, 0, 0]}, "gives no class that has training rows a weight above 0"),
        ({"class_weights": dict.fromkeys(NAMES, 0)}, "gives no class that has training rows a weight above 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be from 0 to below 1, not 1\.0"),
        ({"label_smoothing": -0.1}, r"label_smoothing must be from 0 to below 1, not -0\.1"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message) as caught:
        build(**settings)
    assert isinstance(caught.value.__cause__ or caught.value, LxError)


def test_a_long_list_of_classes_is_cut() -> None:
    names = [f"class{i}" for i in range(25)]
    with pytest.raises(LxError, match=r"class19 and 5 more$"):
        Classification(names, [1] * 25, class_weights=[1.0])


def test_it_is_a_task() -> None:
    task = build()
    assert [name for name in get_protocol_members(Task) if not hasattr(task, name)] == []
    assert task.num_outputs == 3


def test_evaluation_is_plain() -> None:
    task = build(label_smoothing=0.1, calibrate=False)
    metrics = task.metrics(choose=True)
    predictions, labels = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 0, 0, 1])
    metrics.update(8 * torch.nn.functional.one_hot(predictions, 3).float(), labels)
    evaluation = task.summarize(metrics.compute(), choose=True)

    assert list(evaluation.scalars) == ["accuracy", "f1_macro", "loss", "calibration_error"] == list(task.metric_names)
    assert evaluation.scalars["accuracy"] == 4 / 5
    assert evaluation.scalars["f1_macro"] == pytest.approx((2 * 2 / 5 + 2 * 2 / 5) / 2)
    assert [score["name"] for score in evaluation.details["per_class"]] == NAMES
    assert evaluation.details["per_class"][1:] == [
        {"name": "business", "support": 2, "precision": 2 / 3, "recall": 1.0, "f1": pytest.approx(4 / 5)},
        {"name": "world", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]
    assert evaluation.details["confusion_matrix"] == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert Evaluation.from_plain(json.loads(json.dumps(evaluation.to_plain()))) == evaluation


def test_an_evaluation_in_a_checkpoint_of_lx_0_1() -> None:
    plain = {"scalars": {"loss": 0.5}, "per_class": [{"name": "a"}], "confusion": [[1]]}
    details = {"per_class": [{"name": "a"}], "confusion_matrix": [[1]]}
    assert Evaluation.from_plain(plain) == Evaluation({"loss": 0.5}, details)


def test_tables_of_trackers() -> None:
    per_class = [
        {"name": "sports", "support": 7, "precision": 1.0, "recall": 5 / 7, "f1": 10 / 12},
        {"name": "business", "support": 3, "precision": 0.6, "recall": 1.0, "f1": 0.75},
        {"name": "world", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
    ]
    evaluation = Evaluation({}, {"per_class": per_class, "confusion_matrix": [[5, 2, 0], [0, 3, 0], [0, 0, 0]]})
    classes = build().tables(evaluation)["classes"]
    assert classes.rows == [
        ["sports", 1.0, 5 / 7, 10 / 12, 7, "business"],
        ["business", 0.6, 1.0, 0.75, 3, None],
        ["world", 0.0, 0.0, 0.0, 0, None],
    ]
    assert len(classes.columns) == 6
    assert build().tables(evaluation)["confusion"].rows[1] == ["sports", "business", 2]


def test_predictions() -> None:
    task = build()
    (first, second) = task.predictions(["a", "b"], torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    assert (first.text, first.label, second.label) == ("a", "business", "sports")
    assert first.probability == first.probabilities["business"] == pytest.approx(math.exp(2) / (2 + math.exp(2)))
    assert first.to_json(False) == {"text": "a", "label": "business", "probability": first.probability}
    assert first.to_json(True)["probabilities"] == first.probabilities
    assert len(first.to_row(True)) == len(task.prediction_columns(True)) == 6
    assert first.to_row(False) == ["a", "business", first.probability]
    assert task.prediction_columns(False) == ["text", "label", "probability"]


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        (pa.array([0, 2], pa.int32()), True),
        (pa.array([], pa.int32()), True),
        (pa.array([0, 3], pa.int32()), False),
        (pa.array([-1], pa.int32()), False),
        (pa.array([0], pa.int64()), False),
        (pa.array([0, None], pa.int32()), False),
        (pa.array([[0]], pa.list_(pa.int32())), False),
    ],
)
def test_labels_that_fit(labels: pa.Array, fits: bool) -> None:
    assert build().fits(labels) == fits


def test_labels_of_a_batch() -> None:
    batch = build().collate(pa.array([2, 0], pa.int32()))
    assert (batch.tolist(), batch.dtype) == ([2, 0], torch.int64)
    assert build().collate(pa.array([], pa.int32())).shape == (0,)


def test_the_encoder_of_a_task_knows_its_classes_and_learns_none() -> None:
    encoder = build().trained_encoder(None)
    labels, invalid = encoder.encode(["world", " sports ", "spice", None, 1, True, ["world"]], learn=False)
    assert (labels.to_pylist(), invalid.tolist()) == ([2, 0, -1, -1, -1, -1, -1], [False, False, *[True] * 5])
    labels, invalid = build().trained_encoder(["x", "y", "z"]).encode([1, "2", 3], learn=False)
    assert (labels.to_pylist(), invalid.tolist()) == ([1, 2, -1], [False, False, True])


def test_true_is_not_one() -> None:
    encoder = Classification.label_encoder(None)
    labels, _ = encoder.encode([1, True, "true", "1", 1.0], learn=True)
    assert labels.to_pylist() == [0, 1, 1, 0, -1]


@pytest.mark.parametrize(
    ("names", "counts", "message"),
    [
        ({"a": 1}, [1, 2], "class names are not a list"),
        (["a", "b"], [1, -2], "class_counts is not"),
        (["a", "b"], [1], "the same number of classes"),
        (["a"], [1], "two at least"),
    ],
)
def test_class_names_that_are_none(names: Any, counts: Any, message: str) -> None:
    with pytest.raises(LxError, match=message):
        Classification(names, counts)
