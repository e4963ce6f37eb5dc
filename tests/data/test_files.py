"""Reading files: every format gives the same rows, in pieces."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lx.data.sources.base import CHUNK
from lx.data.sources.files import FileSource
from lx.tasks.class_names import class_name

ROWS = [("plain words", "up"), ('a comma, a "quote"', "down"), ("漢字 and é", "up"), ("two\nlines", "down")]
FLAT = [row for row in ROWS if "\n" not in row[0]]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """Write rows in the format that the name says."""
    open_ = gzip.open if path.suffix == ".gz" else open
    kind = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        texts, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"label": labels, "text": texts}), path)
        return path
    with open_(path, "wt", encoding="utf-8", newline="") as file:
        if kind == ".csv":
            csv.writer(file).writerows([("label", "text"), *((label, text) for text, label in rows)])
        elif kind == ".tsv":
            file.writelines(f"{label}\t{text}\n" for text, label in [("text", "label"), *rows])
        else:
            file.writelines(json.dumps({"label": label, "text": text}) + "\n" for text, label in rows)
    return path


def read(source: FileSource, split: str = "train") -> list[tuple[str | None, str | int | None]]:
    return [row for rows in source.read(split) for row in zip(rows.texts, rows.labels, strict=True)]


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("a.csv", ROWS),
        ("a.CSV", ROWS),
        ("a.csv.gz", ROWS),
        ("a.tsv", FLAT),
        ("a.tsv.gz", FLAT),
        ("a.jsonl", ROWS),
        ("a.jsonl.gz", ROWS),
        ("a.ndjson", ROWS),
        ("a.json", ROWS),
        ("a.parquet", ROWS),
    ],
)
def test_formats_agree(tmp_path: Path, name: str, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / name
    if name == "a.CSV":
        write(tmp_path / "a.csv", rows).rename(path)
    else:
        write(path, rows)
    assert read(FileSource(path)) == rows


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\r\none,1\r\n\r\ntwo,2\r\n")
    (tmp_path / "a.jsonl").write_bytes(
        b'\xef\xbb\xbf{"text": "one", "label": 1}\r\n\r\n{"text": "two", "label": 2}\r\n'
    )
    assert read(FileSource(tmp_path / "a.csv")) == [("one", "1"), ("two", "2")]
    assert read(FileSource(tmp_path / "a.jsonl")) == [("one", 1), ("two", 2)]


def test_columns_by_name_and_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,premise,gold,hypothesis\n7,it rains,yes,wet\n8,it shines,no,wet\n", "utf-8")
    (rows,) = FileSource(tmp_path / "a.csv", text="premise", text_pair="hypothesis", label="gold").read("train")
    assert (rows.texts, rows.pairs, rows.labels) == (["it rains", "it shines"], ["wet", "wet"], ["yes", "no"])


def test_one_column_may_serve_twice(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", FLAT)
    (rows,) = FileSource(tmp_path / "a.parquet", text="text", text_pair="text").read("train")
    assert rows.pairs == rows.texts == [text for text, _ in FLAT]


def test_labels_of_every_allowed_kind(tmp_path: Path) -> None:
    lines = [{"text": "t", "label": label} for label in ("  up ", 3, True, None, "")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    raw = [label for _, label in read(FileSource(tmp_path / "a.jsonl"))]
    assert raw == ["  up ", 3, True, None, ""]
    assert list(map(class_name, raw)) == ["up", "3", "true", None, None]
    table = pa.table({"text": ["a", "b"], "label": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read(FileSource(tmp_path / "a.parquet")) == [("a", "x"), ("b", "y")]


def test_row_numbers_are_lines(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", [("two\nlines", "up"), ("one", "up"), ("three\n\nlines", "up"), ("last", "up")])
    (rows,) = FileSource(tmp_path / "a.csv").read("train")
    assert [rows.row_number(row) for row in range(4)] == [2, 4, 5, 8]
    source = FileSource(write(tmp_path / "a.jsonl", ROWS))
    (rows,) = source.read("train")
    assert [rows.row_number(row) for row in range(4)] == [1, 2, 3, 4]
    assert source.locate("train", 3) == f"{tmp_path / 'a.jsonl'}:3"


def test_folder_of_classes(tmp_path: Path) -> None:
    for name, text in [("pos/2.txt", "good"), ("pos/1.txt", "\ufefffine"), ("neg/1.txt", "bad\n")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "pos" / "notes.md").write_text("not a text", "utf-8")
    (tmp_path / ".cache").mkdir()
    source = FileSource(tmp_path)
    assert read(source) == [("bad\n", "neg"), ("fine", "pos"), ("good", "pos")]
    assert source.locate("train", 3) == str(tmp_path / "pos" / "2.txt")


def test_splits_are_those_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", FLAT)
    assert FileSource(path).splits == ("train",)
    assert FileSource(path, test=path).splits == ("train", "test")
    assert FileSource(path, path, path, class_names=["up", "down"]).splits == ("train", "validation", "test")


def test_fingerprint_follows_content_and_options(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", FLAT)
    first = FileSource(path).fingerprint()
    (tmp_path / "elsewhere").mkdir()
    copy = write(tmp_path / "elsewhere" / "b.csv", FLAT)
    assert FileSource(copy).fingerprint() == first
    others = [
        FileSource(path, test=path),
        FileSource(path, text="label", label="text"),
        FileSource(path, class_names=["up", "down"]),
        FileSource(write(tmp_path / "c.csv", ROWS)),
    ]
    assert len({first, *(source.fingerprint() for source in others)}) == 5


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    peaks = []
    for rows in (20_000, 200_000):
        path = tmp_path / f"{rows}.csv"
        path.write_text("text,label\n" + "".join(f"row number {n},{n % 3}\n" for n in range(rows)), "utf-8")
        tracemalloc.start()
        pieces = [len(piece.texts) for piece in FileSource(path).read("train")]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sum(pieces) == rows
        assert max(pieces) == CHUNK
    assert peaks[1] < 1.2 * peaks[0]
