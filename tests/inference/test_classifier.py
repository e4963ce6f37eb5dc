from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.inference.classifier import Classifier
from lx.inference.texts import texts_of_file, write_predictions
from support.tiny_run import train_tiny

TEXTS = ["orbit rocket", "", "bread onion soup butter bread onion soup", "violin", "中文 🚀", "bread"]


@pytest.fixture(scope="module")
def classifier(trained_run: Path) -> Classifier:
    return lx.load(trained_run, accelerator="cpu")


def test_order_and_probabilities(classifier: Classifier) -> None:
    predictions = classifier.predict(TEXTS)
    assert [prediction.text for prediction in predictions] == TEXTS
    for text, prediction in zip(TEXTS, predictions, strict=True):
        (alone,) = classifier.predict([text])
        assert alone.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
        assert list(prediction.probabilities) == list(classifier.task.class_names) == ["food", "music", "space"]
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert prediction.probability == max(prediction.probabilities.values())
        assert prediction.probabilities[prediction.label] == prediction.probability
    assert classifier.predict([]) == []


def test_many_texts_keep_their_order(classifier: Classifier) -> None:
    texts = [f"{'bread ' * (i % 13)}{i}" for i in range(5000)]
    assert [prediction.text for prediction in classifier.predict(texts)] == texts


def test_chunks_that_are_started_ahead_come_in_order(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, which computes one chunk while the next is tokenized."""
    monkeypatch.setattr("lx.inference.stream._CHUNK", 7)
    texts = [f"{'bread ' * (i % 13)}{i}" for i in range(45)]
    one_by_one = classifier.predict(texts)
    monkeypatch.setattr(classifier, "_num_ahead", 1)
    read: list[str] = []
    stream = classifier.stream((read.append(text) or text, None) for text in texts)  # type: ignore[func-returns-value]
    first = next(stream)
    assert len(read) == 14, "two chunks"
    assert [first, *stream] == one_by_one


def test_cores_that_label_side_by_side_find_what_one_finds(trained_run: Path) -> None:
    before = torch.get_num_threads()
    texts = [f"{'bread ' * (i % 13)}{i}" for i in range(3000)]
    try:
        alone, together = (lx.load(trained_run, accelerator="cpu", threads=n).predict(texts) for n in (1, 3))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert len(alone) == len(texts)
    for one, other in zip(alone, together, strict=True):
        assert other.text == one.text
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-6)


def test_what_a_core_raises_arrives(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(classifier, "hardware", replace(classifier.hardware, threads=2))
    monkeypatch.setattr(classifier.net, "forward", lambda *inputs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        classifier.predict(["bread"] * 3000)
    torch.set_num_threads(before)


def test_input_is_read_as_it_is_needed(classifier: Classifier) -> None:
    read = 0

    def endless() -> Iterator[tuple[str, None]]:
        nonlocal read
        while True:
            read += 1
            yield "bread", None

    stream = classifier.stream(endless())
    next(stream)
    assert read <= 8192


def test_pairs_are_refused_by_a_classifier_of_single_texts(classifier: Classifier) -> None:
    with pytest.raises(LxError, match="labels single texts"):
        classifier.predict(["a"], ["b"])


def test_jsonl(classifier: Classifier) -> None:
    out = io.StringIO()
    assert write_predictions(
        classifier.predict(TEXTS), out, "jsonl", True, classifier.task.prediction_columns(True)
    ) == len(TEXTS)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["id"] for row in rows] == list(range(len(TEXTS)))
    assert [row["text"] for row in rows] == TEXTS
    assert list(rows[0]) == ["id", "text", "label", "probability", "probabilities"]
    assert "中文 🚀" in out.getvalue()


def test_csv(classifier: Classifier) -> None:
    out = io.StringIO()
    texts = ['a "quoted", text', "two\nlines"]
    write_predictions(classifier.predict(texts), out, "csv", True, classifier.task.prediction_columns(True))
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [row["text"] for row in rows] == texts
    assert list(rows[0])[4:] == ["probability[food]", "probability[music]", "probability[space]"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "bread\nviolin\n"),
        ("a.csv", "text,other\nbread,1\nviolin,2\n"),
        ("a.tsv", "other\ttext\n1\tbread\n2\tviolin\n"),
        ("a.jsonl", '{"text": "bread"}\n{"text": "violin"}\n'),
    ],
)
def test_files(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert list(texts_of_file(tmp_path / name, "text", None).rows()) == [("bread", None), ("violin", None)]


def test_command_line(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("text,id\nbread,7\n,8\nviolin,9\n")
    assert main(["predict", str(trained_run), str(tmp_path / "a.csv"), "--out", str(tmp_path / "out.csv")]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["bread", "", "violin"]
    assert capsys.readouterr().out == ""
    assert main(["predict", str(trained_run), "--text", "bread", "violin", "--text", "orbit"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [(0, "bread"), (1, "violin"), (2, "orbit")]


def _stdin(content: bytes) -> io.TextIOWrapper:
    """Standard input under a locale that is not UTF-8."""
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(content)), encoding="ascii", errors="surrogateescape")


def test_standard_input(trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", _stdin("中\r\nbread\n".encode()))
    assert main(["predict", str(trained_run), "-"]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["中", "bread"]
    monkeypatch.setattr("sys.stdin", _stdin(b"bread\ncaf\xe9\n"))
    assert main(["predict", str(trained_run)]) == 2
    assert "standard input:2: not UTF-8 (byte 0xe9)" in capsys.readouterr().err


def test_closed_standard_input(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    assert main(["predict", str(trained_run)]) == 2
    assert "standard input is closed" in capsys.readouterr().err


def test_arguments_under_any_locale(trained_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(trained_run), "--text", "bread", os.fsdecode(b"caf\xe9")]) == 2
    assert "--text 'caf\\udce9': not UTF-8 (byte 0xe9)" in capsys.readouterr().err


def test_ids_of_a_file_are_carried_over(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As many as are read ahead, and more; a file without ids gets the numbers of its rows."""
    contents = {
        "a.csv": (
            "id,text\n" + "".join(f"doc-{n},bread {n}\n" for n in range(4100)),
            [f"doc-{n}" for n in range(4100)],
        ),
        "b.jsonl": (
            '{"text": "a", "id": {"n": [1]}}\n{"text": "b"}\n{"text": "c", "id": null}\n',
            [{"n": [1]}, None, None],
        ),
        "c.tsv": ("ID\ttext\n7\ta\n8\tb\n", [0, 1]),
        "D.TXT": ("a\nb\n", [0, 1]),
        "e.txt.gz": ("a\nb\nc\n", [0, 1, 2]),
    }
    for name, (content, ids) in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
        assert main(["predict", str(trained_run), str(tmp_path / name)]) == 0
        assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ids, name


def test_the_name_of_the_output_says_its_format(
    trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, first in (("a.tsv", "id\ttext\tlabel\tprobability"), ("b.CSV", "id,text,label,probability")):
        assert main(["predict", str(trained_run), "--text", "bread", "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).read_text().splitlines()[0] == first
    for name in ("a.parquet", "a.csv.gz", "a.txt"):
        assert main(["predict", str(trained_run), "--text", "bread", "--out", str(tmp_path / name)]) == 2
        assert not (tmp_path / name).exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("bread", "a single string"),
        (["bread", None], r"texts\[1\] is null"),
        ([1.5], r"texts\[0\] is a fraction"),
        (["bread", "\ud83d"], r"texts\[1\] holds half of a surrogate pair"),
        (["bread", float("nan")], r"texts\[1\] is NaN, a missing value"),
        (b"bread", "texts is binary data"),
        ({"text": "bread"}, "texts is an object"),
        ({"bread"}, "texts is a set"),
        (np.array([["bread", "violin"]]), "texts is a ndarray, not a list of strings; of a table give one column"),
    ],
)
def test_what_is_no_list_of_texts(classifier: Classifier, texts: Any, message: str) -> None:
    with pytest.raises(LxError, match=message):
        classifier.predict(texts)
    with pytest.raises(LxError, match=message.replace("texts", "pairs")):
        classifier.predict(["bread"] * len(texts), texts)


@pytest.mark.parametrize("nothing", [None, 7])
def test_what_is_no_texts_at_all(classifier: Classifier, nothing: Any) -> None:
    with pytest.raises(LxError, match=r"texts is (null|an integer), not a list of strings"):
        classifier.predict(nothing)


def test_anything_that_yields_strings_is_a_list_of_texts(classifier: Classifier) -> None:
    for texts in ((text for text in TEXTS), np.array(TEXTS), tuple(TEXTS), dict.fromkeys(TEXTS).keys()):
        assert [prediction.text for prediction in classifier.predict(texts)] == TEXTS


def test_each_text_needs_its_pair(classifier: Classifier) -> None:
    with pytest.raises(LxError, match="texts has 2 strings, and pairs 1"):
        classifier.predict(["a", "b"], ["c"])


@pytest.mark.parametrize("name", ["empty.txt", "empty.csv", "empty.jsonl"])
def test_an_empty_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(LxError, match=f"{name}: the file is empty"):
        list(texts_of_file(tmp_path / name, "text", None).rows())


@pytest.mark.parametrize("out", ["no/out.jsonl", "file/out.jsonl"])
def test_an_output_that_cannot_be_written(
    trained_run: Path, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["predict", str(trained_run), "--text", "a", "--out", str(tmp_path / out)]) == 2
    assert f"cannot write {tmp_path / out}" in capsys.readouterr().err


def test_pairs(tmp_path: Path) -> None:
    result = train_tiny(tmp_path, "data.text_pair=pair", "trainer.max_epochs=1")
    classifier = lx.load(result.run_dir, accelerator="cpu")
    (one,), (other,) = classifier.predict(["bread"], ["and 1"]), classifier.predict(["and 1"], ["bread"])
    assert one.probabilities != other.probabilities
    with pytest.raises(LxError, match="give the second text too"):
        classifier.predict(["bread"])

    command = ["predict", str(result.run_dir), "--text", "bread", "soup", "--pair", "and 1", "and, 2", "--out"]
    assert main([*command, str(tmp_path / "out.jsonl")]) == main([*command, str(tmp_path / "out.csv")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(lines[0]) == ["id", "text", "text_pair", "label", "probability"]
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    for rows in (lines, cells):
        assert [(row["text"], row["text_pair"]) for row in rows] == [("bread", "and 1"), ("soup", "and, 2")]
    assert [row["label"] for row in lines] == [row["label"] for row in cells]
