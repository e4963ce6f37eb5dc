from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from lx.errors import LxError
from lx.tasks.base import Task
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
    with pytest.raises(LxError, match=r"class19, \.\.\. \(25 in all\)$"):
        Classification(names, [1] * 25, class_weights=[1.0])


def test_it_is_a_task() -> None:
    task = build()
    assert isinstance(task, Task)
    assert task.num_outputs == 3


@pytest.mark.parametrize("prefix", [None, "val/"])
def test_summary_is_plain(prefix: str | None) -> None:
    task = build(label_smoothing=0.1)
    metrics = task.metrics().clone(prefix=prefix)
    predictions, labels = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 0, 0, 1])
    metrics.update(8 * torch.nn.functional.one_hot(predictions, 3).float(), labels)
    summary = task.summarise(metrics.compute())

    front = prefix or ""
    names = ("loss", "accuracy", "f1_macro", "calibration_error")
    assert set(summary.scalars) == {front + name for name in names}
    assert summary.scalars[front + "accuracy"] == 4 / 5
    assert summary.scalars[front + "f1_macro"] == pytest.approx((2 * 2 / 5 + 2 * 2 / 5) / 2)
    assert [score.name for score in summary.per_class] == NAMES
    assert asdict(summary.per_class[1]) == {
        "name": "business", "support": 2, "precision": 2 / 3, "recall": 1.0, "f1": pytest.approx(4 / 5),
    }  # fmt: skip
    assert asdict(summary.per_class[2]) == {
        "name": "world", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0,
    }  # fmt: skip
    assert summary.confusion == [[2, 1, 0], [0, 2, 0], [0, 0, 0]]
    assert json.loads(json.dumps(asdict(summary)))["confusion"] == summary.confusion
