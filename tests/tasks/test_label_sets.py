"""Labels of a row as a set of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lx.errors import LxError
from lx.tasks.multilabel_labels import LabelSetEncoder, multi_hot

NAMES = ["anger", "joy", "love"]


def encode(rows: list[Any], **settings: Any) -> tuple[LabelSetEncoder, list[list[int]]]:
    """The encoder, and the final ids of rows of the train split."""
    encoder = LabelSetEncoder(settings.pop("class_names", None), **settings)
    labels, invalid = encoder.encode(rows, learn=True)
    assert not invalid.any()
    final = encoder.finish()
    return encoder, (labels if final is None else final(labels)).to_pylist()


def test_sets_of_labels() -> None:
    encoder, ids = encode([["joy", "anger"], [], "love", [" joy ", "joy"], "", ["anger"]])
    assert [sorted(row) for row in ids] == [[0, 1], [], [2], [1], [], [0]]
    labels = pa.array(ids, encoder.column_type)
    assert encoder.label_set(labels) == {"class_names": NAMES, "class_counts": [2, 2, 1], "num_examples": 6}
    assert encoder.description == "3 labels"
    assert encoder.report(labels).spread == "0.83, 16.7% to 33.3%"
    assert encoder.report(labels[:2]).warnings == ("no rows of 1 label(s): love",)
    np.testing.assert_array_equal(multi_hot(labels[2:5], 3), [[0, 0, 1], [0, 1, 0], [0, 0, 0]])


def test_numbers_are_ordered_by_value_and_are_positions_among_given_names() -> None:
    encoder, ids = encode([[10, 2], ["2"], [True]])
    assert encoder.label_set(pa.array(ids, encoder.column_type))["class_names"] == ["10", "2", "true"]
    encoder, ids = encode([[10, 2], ["2"]])
    assert encoder.label_set(pa.array(ids, encoder.column_type))["class_names"] == ["2", "10"]
    _, ids = encode([[2, "anger"], ["0"]], class_names=NAMES)
    assert [sorted(row) for row in ids] == [[0, 2], [0]]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (["joy", "hate"], "test.csv:3: the label 'hate' never occurs in the train split"),
        ("yoy", r"the label 'yoy' never occurs in the train split (did you mean 'joy'?)"),
        (["joy", ""], "one of the labels is empty. Remove it; a text without labels has an empty list"),
        ([None], "one of the labels is empty"),
        (None, "there are no labels but null. A text without labels has an empty list: []"),
        (["joy", 1.5], "the label '1.5' is a fraction"),
        (["joy", ["anger"]], "is a list"),
    ],
)
def test_bad_labels_are_refused(label: Any, message: str) -> None:
    encoder, _ = encode([["joy", "anger"], ["love"]])
    labels, invalid = encoder.encode([["joy"], label, []], learn=False)
    assert invalid.tolist() == [False, True, False]
    assert len(labels) == 3
    refusal = str(encoder.refusal("test.csv:3", label))
    assert refusal.startswith("test.csv:3: ")
    assert message in refusal


@pytest.mark.parametrize(
    ("rows", "message"),
    [([[], []], "train.csv: no row has a label, and at least two"), ([["a"], []], "train.csv: the one label is 'a'")],
)
def test_fewer_than_two_labels_are_refused(rows: list[list[str]], message: str) -> None:
    encoder, ids = encode(rows)
    with pytest.raises(LxError, match=message):
        encoder.check_train(pa.array(ids, encoder.column_type), "train.csv")


def test_rare_sets_are_grouped_by_their_rarest_label() -> None:
    rows = [[0]] * 30 + [[0, 1]] * 25 + [[]] * 3 + [[1, 0, 2], [2, 1], [2]] + [[3, 0]]
    groups = LabelSetEncoder(None).groups(pa.array(rows, pa.list_(pa.int32())))
    sizes = [len(set(part.tolist())) for part in np.split(groups, [30, 55, 58, 61])]
    assert sizes == [1, 1, 1, 1, 1]
    assert len(np.unique(groups)) == 5
