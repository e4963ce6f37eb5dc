"""Class names as people's files have them: spellings of one class, integers, and columns that are no labels."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lx.data.corpus.corpus import load_corpus
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder
from lx.tasks.multilabel_labels import LabelSetEncoder
from support.corpus import data_settings

NFC, NFD = "café", unicodedata.normalize("NFD", "café")


@pytest.mark.parametrize(
    ("train", "names", "ids", "other", "other_ids"),
    [
        ([NFD, "thé", NFC], [NFD, "thé"], [0, 1, 0], [NFC, " thé "], [0, 1]),
        (["True", "False", "True"], ["False", "True"], [1, 0, 1], [True, "false", "TRUE"], [1, 0, 1]),
        ([True, False], ["false", "true"], [1, 0], ["True", "FALSE"], [1, 0]),
        (["True", True, "no"], ["True", "no"], [0, 0, 1], ["true"], [0]),
    ],
)
def test_spellings_of_one_class(
    train: list[Any], names: list[str], ids: list[int], other: list[Any], other_ids: list[int]
) -> None:
    for encoder, wrap in ((ClassEncoder(None), lambda label: label), (LabelSetEncoder(None), lambda label: [label])):
        first, _ = encoder.encode([wrap(label) for label in train], learn=True)
        final = encoder.finish() or (lambda labels: labels)
        assert encoder.label_set(final(first))["class_names"] == names
        assert final(first).to_pylist() == [wrap(index) for index in ids]
        second, invalid = encoder.encode([wrap(label) for label in other], learn=False)
        assert not invalid.any()
        assert second.to_pylist() == [wrap(index) for index in other_ids]


def test_joined_spellings_change_the_fingerprint(tmp_path: Path) -> None:
    """Runs that were trained while these were two classes must not go on with one; all other runs must."""
    for name, labels in (("one", [NFC, NFC, "b", "b"]), ("two", [NFC, NFD, "b", "b"])):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"text": f"t {n}", "label": x}) + "\n" for n, x in enumerate(labels)))
    options = data_settings(tmp_path / "cache", validation_fraction=0.5)
    prints = []
    for name in ("one", "two", "two"):
        encoder = ClassEncoder(None)
        corpus = load_corpus(FileSource(tmp_path / f"{name}.jsonl"), encoder, options)
        prints.append((corpus.fingerprint, corpus.report.class_table() is not None, corpus.label_set["class_counts"]))
    assert prints[0] != prints[1] == prints[2]


@pytest.mark.parametrize(
    ("names", "good", "bad", "message"),
    [
        (["1", "2", "3"], [1, "3", 2], 0, "the label '0' is not among the class names: 1, 2, 3"),
        (["0", "1", "2"], [0, "2"], 3, "the label '3' is not among the class names: 0, 1, 2"),
        (["10", "20"], [0, 1, 10, "20"], 2, "the label 2 is out of range: there are 2 class names, 0 to 1"),
        (["no", "yes"], [0, "1", "yes"], "1" * 5000, "is not among the class names: no, yes"),
    ],
)
def test_integers_against_names(names: list[str], good: list[Any], bad: Any, message: str) -> None:
    encoder = ClassEncoder(names)
    _, invalid = encoder.encode([*good, bad], learn=True)
    assert np.flatnonzero(invalid).tolist() == [len(good)]
    refusal = str(encoder.refusal("a.csv:4", bad))
    assert message in refusal and len(refusal) < 1000


WRONG_COLUMNS = {
    "all different": ([f"text {n},id {n}" for n in range(40)], None, "40 classes for 40 rows: is data.label the right"),
    "unknown, all different": ([f"{n % 4},{'long ' * 99}{n}" for n in range(40)], "1,x", "40 classes for 40 rows: is"),
    "several labels a text": (
        [f"{n % 20},c{n % 7}" for n in range(100)],
        None,
        "Most of the 20 texts stand under more",
    ),
    "few rows": ([f"text {n},id {n}" for n in range(6)], None, "Give more rows, or a file of its own by"),
}


@pytest.mark.parametrize("case", WRONG_COLUMNS)
def test_wrong_columns(tmp_path: Path, case: str) -> None:
    train, test, message = WRONG_COLUMNS[case]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *train]))
    (tmp_path / "b.csv").write_text(f"text,label\n{test}\n")
    source = FileSource(tmp_path / "a.csv", test=None if test is None else tmp_path / "b.csv")
    with pytest.raises(LxError, match=message) as refusal:
        load_corpus(source, ClassEncoder(None), data_settings(tmp_path / "cache"))
    assert len(str(refusal.value)) < 1000
