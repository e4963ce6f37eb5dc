"""From rows to a corpus: labels, splits, empty and repeated texts, caching."""

from __future__ import annotations

import io
import json
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from lx.data.corpus.corpus import Corpus, count_rows, load_corpus
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.system.cache import build_once
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings

Row = tuple[Any, ...]


def source(folder: Path, names: list[str] | None = None, pairs: bool = False, **splits: list[Row]) -> FileSource:
    """A JSON Lines file for each split, with (text, label) or (text, second text, label) rows."""
    columns = ("text", "text_pair", "label") if pairs else ("text", "label")
    for split, rows in splits.items():
        lines = (json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), "utf-8")
    paths = {split: folder / f"{split}.jsonl" for split in splits}
    return FileSource(**paths, text_pair="text_pair" if pairs else None, class_names=names)  # type: ignore[arg-type]


def load(from_: FileSource, folder: Path, **options: Any) -> Corpus:
    return load_corpus(from_, ClassEncoder(from_.class_names), data_settings(folder / "cache", **options))


def texts(corpus: Corpus, split: str, chunk: int = 8192) -> list[str]:
    return [text for piece, _ in corpus.splits[split].texts(chunk) for text in piece]


def labels(corpus: Corpus, split: str) -> list[str]:
    return [corpus.label_set["class_names"][label] for label in corpus.splits[split].labels.to_pylist()]


PLAIN: list[Row] = [(f"text {n}", "ab"[n % 2]) for n in range(20)]


def test_rows_arrive_in_order(tmp_path: Path) -> None:
    corpus = load(source(tmp_path, train=PLAIN, validation=[("  v\n", "b")], test=[("t", "a")]), tmp_path)
    assert list(corpus.splits) == ["train", "validation", "test"]
    assert list(zip(texts(corpus, "train"), labels(corpus, "train"), strict=True)) == PLAIN
    assert (texts(corpus, "validation"), labels(corpus, "validation")) == (["v"], ["b"])
    assert (texts(corpus, "test"), labels(corpus, "test")) == (["t"], ["a"])
    assert not corpus.splits["test"].has_pairs


def test_the_file_holds_what_it_promises(tmp_path: Path) -> None:
    rows: list[Row] = [("b", "z"), (" ", "y"), ("a", "y"), ("b", "x")]
    split = load(source(tmp_path, train=rows, validation=[("c", "x")]), tmp_path).splits["train"]
    with pa.memory_map(str(split.path)) as mapped:
        table = pa.ipc.open_file(mapped).read_all().to_pydict()
    assert (table["text"], table["label"], table["row_number"]) == (["b", "a", "b"], [2, 1, 0], [1, 3, 4])
    assert split.labels.to_pylist() == table["label"]
    assert table["hash"][0] == table["hash"][2] != table["hash"][1]


def test_texts_in_chunks_across_batches(tmp_path: Path) -> None:
    rows: list[Row] = [(f"text {n}", n % 3) for n in range(10_007)]
    corpus = load(source(tmp_path, train=rows), tmp_path)
    pieces = [len(piece) for piece, _ in corpus.splits["train"].texts(701)]
    assert set(pieces[:-1]) == {701} and pieces[-1] <= 701
    for split in ("train", "validation"):
        expected = [rows[row][0] for row in corpus.splits[split].rows]
        assert texts(corpus, split, 701) == texts(corpus, split) == expected
        assert [rows[row][1] for row in corpus.splits[split].rows] == corpus.splits[split].labels.to_pylist()


def test_pairs(tmp_path: Path) -> None:
    rows: list[Row] = [("a", "b", 0), ("ab", "", 0), ("a", None, 1), ("a", "c", 1)]
    corpus = load(source(tmp_path, pairs=True, train=rows, validation=[("a", "c", 1)]), tmp_path)
    assert list(corpus.splits["train"].texts()) == [(["a", "a"], ["b", "c"])]
    assert corpus.report.splits["train"].dropped == 2
    assert corpus.report.splits["train"].repeats == 0  # the same text with another second text is no repeat
    assert corpus.report.shared["train/validation"] == 1


@pytest.mark.parametrize(
    ("given", "spelt", "names", "ids"),
    [
        (None, ["b", "a", "c", "a"], ("a", "b", "c"), [1, 0, 2, 0]),
        (None, [10, 9, -1, 9], ("-1", "9", "10"), [2, 1, 0, 1]),
        (None, ["10", "9", 9, 10], ("9", "10"), [1, 0, 0, 1]),
        (None, [True, False, True, True], ("false", "true"), [1, 0, 1, 1]),
        (["no", "yes"], [1, 0, "yes", "0"], ("no", "yes"), [1, 0, 1, 0]),
        (["1", "2"], ["1", 2, "2", 1], ("1", "2"), [0, 1, 1, 0]),
        (["a", "b", "never"], ["b", "a", "b", "b"], ("a", "b", "never"), [1, 0, 1, 1]),
    ],
)
def test_class_ids(
    tmp_path: Path, given: list[str] | None, spelt: list[Any], names: tuple[str, ...], ids: list[int]
) -> None:
    rows: list[Row] = [(f"text {n}", label) for n, label in enumerate(spelt)]
    corpus = load(source(tmp_path, given, train=rows, validation=rows), tmp_path)
    assert corpus.label_set["class_names"] == list(names)
    assert corpus.splits["train"].labels.to_pylist() == ids
    assert corpus.splits["validation"].labels.to_pylist() == ids


def test_empty_texts_are_counted(tmp_path: Path) -> None:
    rows: list[Row] = [("a", 0), (None, 0), ("b", 1), (" \t\n", 1), ("", None)]
    corpus = load(source(tmp_path, train=rows, validation=[("c", 0)]), tmp_path)
    assert texts(corpus, "train") == ["a", "b"]
    assert corpus.report.splits["train"].dropped == 3
    assert any("train.jsonl: 3 rows with an empty text were dropped" in told for told in corpus.report.warnings())


def test_report(tmp_path: Path) -> None:
    train: list[Row] = [("a", "x"), ("a", "x"), ("a", "y"), ("b", "y"), ("b", "y"), ("c", "x"), ("d", "z")]
    test: list[Row] = [("a", "x"), ("c", "y"), ("a", "y"), ("new", "x")]
    report = load(source(tmp_path, train=train, validation=[("new", "x"), ("b", "y")], test=test), tmp_path).report
    facts = report.splits["train"]
    assert (facts.rows, facts.repeats, facts.conflicts, facts.labels.counts) == (7, 3, 1, {"x": 3, "y": 3, "z": 1})
    assert report.splits["test"].labels.counts == {"x": 2, "y": 2, "z": 0}
    assert report.shared == {"train/validation": 1, "train/test": 3, "validation/test": 1}
    assert report.warnings() == [
        "train: 1 texts stand under more than one label",
        "validation: no rows of 1 class(es): z",
        "test: 1 texts stand under more than one label",
        "test: no rows of 1 class(es): z",
        "validation: 1 rows (50.0%) have a text that also stands in train",
        "test: 3 rows (75.0%) have a text that also stands in train",
        "test: 1 rows (25.0%) have a text that also stands in validation",
    ]
    shown = io.StringIO()
    Console(width=100, file=shown).print(report)
    assert "14.3% to 42.9%" in shown.getvalue()


def test_a_second_call_reads_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(source(tmp_path, train=PLAIN, test=PLAIN), tmp_path)

    def never(*_: object) -> None:
        raise AssertionError("the source was read again")

    monkeypatch.setattr(FileSource, "read", never)
    again = load(source(tmp_path, train=PLAIN, test=PLAIN), tmp_path)
    assert (again.fingerprint, again.report, again.label_set) == (first.fingerprint, first.report, first.label_set)
    assert texts(again, "validation") == texts(first, "validation")
    assert isinstance(again.splits["train"].rows, np.memmap)


def test_the_fingerprint_follows_what_changes_the_rows(tmp_path: Path) -> None:
    with_validation = {"train": PLAIN, "validation": PLAIN}
    options = [{}, {"split_seed": 1}, {"validation_fraction": 0.3}, {"on_empty": "error"}]
    prints = [load(source(tmp_path, train=PLAIN), tmp_path, **each).fingerprint for each in options]
    others = [{"names": ["a", "b"], "train": PLAIN}, {"train": PLAIN[::-1]}, with_validation]
    prints += [load(source(tmp_path, **each), tmp_path).fingerprint for each in others]
    assert len(set(prints)) == len(prints)
    # With a validation split of its own, how one would be cut does not matter.
    assert load(source(tmp_path, **with_validation), tmp_path, split_seed=1).fingerprint == prints[-1]


@pytest.mark.parametrize("validation", [{}, {"validation": PLAIN}])
def test_rows_are_counted_once_for_runs_that_begin_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, validation: dict[str, list[Row]]
) -> None:
    from_ = source(tmp_path, train=PLAIN, **validation)

    def count() -> int:
        return count_rows(from_, ClassEncoder(None), data_settings(tmp_path / "cache"), lambda number: 0.4)

    def build_once_beside_another(*arguments: Any) -> Path:
        """Return when another run has gone on."""
        monkeypatch.undo()
        folder = build_once(*arguments)
        assert count() == len(PLAIN)
        return folder

    monkeypatch.setattr("lx.data.corpus.corpus.build_once", build_once_beside_another)
    assert count() == len(PLAIN)
    monkeypatch.setattr(FileSource, "read", lambda *_: pytest.fail("the source was read again"))
    assert load(from_, tmp_path, validation_fraction=0.4).splits["train"]


def test_builders_at_once_and_failed_builds(tmp_path: Path) -> None:
    rows: list[Row] = [(f"text {n}", n % 2) for n in range(5_003)]
    from_ = source(tmp_path, train=rows)
    with ThreadPoolExecutor(5) as pool:
        corpora = list(pool.map(lambda _: load(from_, tmp_path), range(5)))
    assert all(texts(corpus, "train") == texts(corpora[0], "train") for corpus in corpora)
    with pytest.raises(LxError):
        load(source(tmp_path, train=[("a", 0)]), tmp_path)
    (only,) = (tmp_path / "cache" / "corpus").iterdir()
    assert only.name.startswith(corpora[0].fingerprint)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    peaks = []
    for rows in (20_000, 120_000):
        path = tmp_path / f"{rows}.csv"
        words = "a sentence of some length that would be felt if it were kept"
        path.write_text("text,label\n" + "".join(f"{words} {n},{n % 3}\n" for n in range(rows)), "utf-8")
        tracemalloc.start()
        corpus = load(FileSource(path), tmp_path)
        sum(len(piece) for piece, _ in corpus.splits["train"].texts())
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    per_row = (peaks[1] - peaks[0]) / 100_000
    assert per_row < 130  # a few numbers while duplicates are counted; the text alone would be 115 and more


TRAIN: list[Row] = [("one", "a"), ("two", "b"), ("three", "a")]
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "one class": ({"train": [("a", "x"), ("b", "x")]}, {}, r"train\.jsonl: every row has the label 'x'.*data\.label"),
    "null label": ({"train": [*TRAIN, ("x", None)]}, {}, r"train\.jsonl:4: the label is empty"),
    "label unseen in train": (
        {"train": TRAIN, "test": [("x", "a"), ("y", "B1")]},
        {},
        r"test\.jsonl:2: the label 'B1' never occurs in the train split.*classes are: a, b",
    ),
    "label misspelt in validation": (
        {"train": [("x", "sports"), ("y", "world")], "validation": [("z", "sport")]},
        {},
        r"validation\.jsonl:1: the label 'sport' never occurs.*did you mean 'sports'",
    ),
    "label not among the names": (
        {"train": TRAIN, "names": ["a", "c"]},
        {},
        r"train\.jsonl:2: the label 'b' is not among the class names: a, c\..*data\.class_names",
    ),
    "label out of range": (
        {"train": [("x", 0), ("y", 2)], "names": ["a", "c"]},
        {},
        r"train\.jsonl:2: the label 2 is out of range: there are 2 class names, 0 to 1: a, c",
    ),
    "negative label": ({"train": [("x", -1)], "names": ["a", "c"]}, {}, r"the label -1 is out of range"),
    "names repeat": ({"train": TRAIN, "names": ["a", "b", "a"]}, {}, r"data\.class_names lists 'a' twice"),
    "one name": ({"train": TRAIN, "names": ["a"]}, {}, r"data\.class_names has 1 name\(s\)"),
    "nothing left": (
        {"train": TRAIN, "test": [("", "a"), (None, "b")]},
        {},
        r"test\.jsonl: no rows are left in the test split: all 2 texts are empty",
    ),
    "empty text refused": (
        {"train": [*TRAIN, (" ", "a"), ("x", "a"), (None, "b")]},
        {"on_empty": "error"},
        r"train\.jsonl:4: the text is empty, as in 2 row\(s\) of the train split.*data\.on_empty=drop",
    ),
    "half a surrogate": ({"train": [*TRAIN, ("\ud800", "a")]}, {}, r"train\.jsonl:4: \\ud800 is half of a surr"),
    "nothing to cut": (
        {"train": [("one", "a"), ("two", "b")]},
        {},
        r"no validation split can be cut from 2 row\(s\).*data\.validation=",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    rows, options, message = REFUSED[case]
    with pytest.raises(LxError, match=message):
        load(source(tmp_path, **rows), tmp_path, **options)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LxError, match=r"the cache folder .* cannot be written: .*data\.cache_dir.*LX_CACHE"):
        load(source(tmp_path, train=PLAIN), tmp_path, cache_dir=tmp_path / "file")
