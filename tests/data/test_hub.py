"""Data sets of the Hub, stood in for by folders of Parquet files; nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import pytest

from lx.data.corpus.clean import read_clean
from lx.data.corpus.corpus import load_corpus
from lx.data.sources.hub import HubSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_OFFLINE", True, raising=False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def make(folder: Path, features: dict[str, Any], **splits: dict[str, list[Any]]) -> str:
    """A folder laid out as on the Hub: ``data/train-00000-of-00001.parquet`` and so on."""
    for split, columns in splits.items():
        table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return str(folder)


TEXT = datasets.Value("string")
NAMED = {"text": TEXT, "label": datasets.ClassLabel(names=["neg", "pos"])}


def rows(source: HubSource, split: str) -> list[tuple[Any, ...]]:
    return [row for piece in source.read(split) for row in zip(piece.texts, piece.labels, strict=True)]


def test_declared_class_names(tmp_path: Path) -> None:
    path = make(
        tmp_path / "set",
        NAMED,
        train={"text": ["a", "b", "c", "d"], "label": [1, 0, 1, 0]},
        test={"text": ["e"], "label": [1]},
    )
    source = HubSource(path, test="test")
    assert (source.splits, source.class_names) == (("train", "test"), ("neg", "pos"))
    assert rows(source, "train") == [("a", "pos"), ("b", "neg"), ("c", "pos"), ("d", "neg")]
    options = data_settings(tmp_path / "lx", validation_fraction=0.5)
    corpus = load_corpus(source, ClassEncoder(source.class_names), options)
    assert corpus.label_set == {"class_names": ["neg", "pos"], "class_counts": [1, 1]}
    assert {name: len(split) for name, split in corpus.splits.items()} == {"train": 2, "validation": 2, "test": 1}


def test_class_ids_are_not_taken_for_names(tmp_path: Path) -> None:
    features = {"text": TEXT, "label": datasets.ClassLabel(names=["1", "2", "0"])}
    path = make(tmp_path / "set", features, train={"text": ["a", "b", "c"], "label": [0, 1, 2]})
    assert [label for _, label in rows(HubSource(path), "train")] == ["1", "2", "0"]
    own = HubSource(path, class_names=["one", "two", "none"])
    assert own.class_names == ("one", "two", "none")
    assert [label for _, label in rows(own, "train")] == ["one", "two", "none"]


def test_other_columns_and_plain_labels(tmp_path: Path) -> None:
    features = {"id": TEXT, "q1": TEXT, "q2": TEXT, "same": datasets.Value("int64")}
    columns = {"id": ["7", "8"], "q1": ["a", "b"], "q2": ["c", "d"], "same": [1, 0]}
    path = make(tmp_path / "set", features, train=columns, validation=columns)
    source = HubSource(path, validation="validation", text="q1", text_pair="q2", label="same")
    (piece,) = source.read("validation")
    assert (piece.texts, piece.pairs, piece.labels, piece.first) == (["a", "b"], ["c", "d"], [1, 0], 1)
    assert source.class_names is None
    named = HubSource(path, text="q1", label="same", class_names=["no", "yes"])
    assert named.class_names == ("no", "yes")


def test_fingerprint(tmp_path: Path) -> None:
    columns = {"text": ["a", "b"], "label": [1, 0]}
    one = make(tmp_path / "one", NAMED, train=columns, test=columns)
    two = make(tmp_path / "two", NAMED, train={"text": ["a", "c"], "label": [1, 0]}, test=columns)
    sources = [HubSource(one), HubSource(one, test="test"), HubSource(two), HubSource(one, class_names=["x", "y"])]
    assert len({source.fingerprint() for source in sources}) == 4
    assert HubSource(one).fingerprint() == sources[0].fingerprint()


def read_all(settings: dict[str, Any]) -> None:
    source = HubSource(**settings)
    encoder = ClassEncoder(source.class_names)
    list(read_clean(source, source.splits[-1], encoder, learn=True))


def test_refused(tmp_path: Path) -> None:
    features = {**NAMED, "many": datasets.List(datasets.Value("int64")), "score": datasets.Value("float32")}
    columns = {"text": ["a", "b"], "label": [1, 0], "many": [[1], [2]], "score": [0.5, 1.5]}
    hidden = {**columns, "label": [-1, -1]}
    path = make(tmp_path / "set", features, train=columns, test=hidden)
    where = re.escape(f"{path}[train]")
    known = "text, label, many, score"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"path": None}, r"data\.path is not set: name a data set of the Hub"),
        ({"train": None}, r"data\.train is not set: name the split"),
        ({"text": "txt"}, rf"{where}: there is no column 'txt' \(did you mean 'text'\?\). The columns are: {known}"),
        ({"label": "gold"}, rf"{where}: there is no column 'gold'\. The columns are: {known}\. Set data\.label="),
        (
            {"label": "many"},
            rf"{where} row 1: the label '\[1\]' is a list\. A label is a string or an integer, one a row.*data\.label",
        ),
        (
            {"label": "score"},
            rf"{where} row 1: the label '0\.5' is a fraction\. A label is a string or an integer.*data\.label",
        ),
        ({"text": "score"}, rf"{where}: the column 'score' holds Value\('float32'\), not strings"),
        ({"test": "tset"}, r"there is no split 'tset' \(did you mean 'test'\?\)\. The splits are: train, test"),
        ({"class_names": ["a", "b", "c"]}, r"data\.class_names has 3 names, but .* has 2 classes: neg, pos"),
        ({"test": "test"}, r"\[test\] row 1: the label is -1, which is no class: .* hidden.*data\.test=null"),
        ({"path": "nobody/nothing"}, r"the data set 'nobody/nothing' cannot be loaded: .*data=files data\.train="),
        ({"path": "nobody/nothing", "name": "x"}, r"'nobody/nothing' \(configuration 'x'\) cannot be loaded"),
    ]
    for settings, message in cases:
        with pytest.raises(LxError, match=message):
            read_all({"path": path, **settings})
