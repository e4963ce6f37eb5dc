from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.inference.classifier import Classifier
from lx.inference.texts import read_texts, write_predictions
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
    monkeypatch.setattr("lx.inference.classifier._CHUNK", 7)
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
    assert list(read_texts(tmp_path / name, "text", None)) == [("bread", None), ("violin", None)]


def test_command_line(trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("text,id\nbread,7\n,8\nviolin,9\n")
    assert main(["predict", str(trained_run), str(tmp_path / "a.csv"), "--out", str(tmp_path / "out.csv")]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        assert [row["text"] for row in csv.DictReader(file)] == ["bread", "", "violin"]
    assert capsys.readouterr().out == ""
    assert main(["predict", str(trained_run), "--text", "bread", "violin", "--text", "orbit"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["id"], row["text"]) for row in rows] == [(0, "bread"), (1, "violin"), (2, "orbit")]


def test_standard_input(trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("中\r\nbread\n".encode()), encoding="utf-8"))
    assert main(["predict", str(trained_run), "-"]) == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["中", "bread"]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    assert main(["predict", str(trained_run)]) == 2
    assert "standard input is not UTF-8" in capsys.readouterr().err


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
