"""The scores that are explained, of each task."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lx.errors import LxError
from lx.tasks.calibration import LogLinearPool
from lx.tasks.classification import Classification
from lx.tasks.explained import describe_prediction, explained_scores
from lx.tasks.multilabel import Multilabel
from lx.tasks.regression import Regression

LOGITS = torch.tensor([[1.0, 3.0, -2.0]])
EXPERT = torch.tensor([[0.2, 0.5, 0.3]]).log()


def test_of_a_classification() -> None:
    task = Classification(["a", "b", "c"], [1, 1, 1])
    task.pool = LogLinearPool(0.5, 2.0)
    (prediction,) = task.predictions([""], LOGITS, EXPERT)
    log_probabilities = (0.5 * LOGITS + 2 * EXPERT).log_softmax(-1)[0]
    for label, index in ((None, 1), ("c", 2)):
        (score,) = explained_scores(task, prediction, label)
        others = [log_probabilities[i].item() for i in range(3) if i != index]
        expected = log_probabilities[index].item() - sum(others) / 2
        assert score.value([LOGITS[0], EXPERT[0]]) == pytest.approx(expected, abs=1e-6)
        assert score.label == task.class_names[index]
        assert score.expert_weights.sum().item() == pytest.approx(0, abs=1e-6)
    assert describe_prediction(prediction) == f"b ({prediction.probability:.1%})"


def test_of_two_classes_the_score_is_the_logarithm_of_the_odds() -> None:
    task = Classification(["a", "b"], [1, 1])
    (prediction,) = task.predictions([""], LOGITS[:, :2])
    (score,) = explained_scores(task, prediction, None)
    assert score.value([LOGITS[0, :2]]) == pytest.approx(2.0)
    odds = prediction.probability / (1 - prediction.probability)
    assert score.value([LOGITS[0, :2]]) == pytest.approx(math.log(odds), abs=1e-5)


def test_of_each_predicted_label() -> None:
    task = Multilabel(["a", "b", "c"], [1, 1, 1], 3, thresholds=0.5)
    (prediction,) = task.predictions([""], LOGITS)
    assert [(score.label, score.value([LOGITS[0]])) for score in explained_scores(task, prediction, None)] == [
        ("a", 1.0),
        ("b", 3.0),
    ]
    assert [score.label for score in explained_scores(task, prediction, "c")] == ["c"]
    (nothing,) = task.predictions([""], -LOGITS.abs())
    assert [score.label for score in explained_scores(task, nothing, None)] == ["a"]
    assert describe_prediction(nothing) == "no label reaches its threshold"


def test_of_a_value() -> None:
    task = Regression(mean=10.0, std=2.0)
    (prediction,) = task.predictions([""], LOGITS[:, 1:2])
    (score,) = explained_scores(task, prediction, None)
    assert score.value([LOGITS[0, 1:2]]) == pytest.approx(16.0) == pytest.approx(prediction.value)
    assert describe_prediction(prediction) == "16"
    with pytest.raises(LxError, match="--label"):
        explained_scores(task, prediction, "a")


def test_unknown_labels_and_tasks() -> None:
    task: Any = Classification(["food", "music"], [1, 1])
    (prediction,) = task.predictions([""], LOGITS[:, :2])
    with pytest.raises(LxError, match="did you mean 'music'"):
        explained_scores(task, prediction, "musik")
    with pytest.raises(LxError, match="object"):
        explained_scores(object(), prediction, None)
