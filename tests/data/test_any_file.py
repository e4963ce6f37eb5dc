"""Random bytes, headers and class names go in; out comes a result or one clear refusal."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from lx.data.sources.files import FileSource
from lx.tasks.class_labels import ClassEncoder
from support.any_file import CELLS, SOME, assert_fit_for_people, check, files

FEW = settings(max_examples=25, derandomize=True, database=None, deadline=None)


@FEW
@given(files(), CELLS, CELLS)
def test_any_file_is_read_or_refused(file: tuple[str, bytes], text: str, label: str) -> None:
    name, content = file
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        for columns in ({}, {"text": text, "label": label}):
            assert_fit_for_people(*check(path, Path(folder) / "cache", **columns))


@FEW
@given(st.lists(CELLS.filter(bool), min_size=2, max_size=5, unique=True), st.data())
def test_any_header(header: list[str], data: st.DataObject) -> None:
    """A column is found by its exact name, whatever stands beside it."""
    text, label = data.draw(st.permutations(header))[:2]
    cells = [f"cell {index}" for index in range(len(header))]
    out = io.StringIO()
    csv.writer(out).writerows([header, cells])
    expected = [(cells[header.index(text)], cells[header.index(label)])]
    with TemporaryDirectory() as folder:
        for name, content in (
            ("a.csv", out.getvalue()),
            ("a.jsonl", json.dumps(dict(zip(header, cells, strict=True)))),
        ):
            path = Path(folder) / name
            path.write_text(content, "utf-8", newline="")
            if name == "a.csv" and header[0][:1] == "\ufeff":
                continue  # which is the file's mark
            (rows,) = FileSource(path, text=text, label=label).read("train")
            assert list(zip(rows.texts, rows.labels, strict=True)) == expected


@FEW
@given(st.lists(CELLS, min_size=1, max_size=12))
def test_any_class_names(names: list[str]) -> None:
    """What looks the same is one class, and every class can be shown."""
    labels = [name for name in names if name.strip()]
    encoder = ClassEncoder(None)
    _, invalid = encoder.encode(names, learn=True)
    assert invalid.tolist() == [not name.strip() for name in names]
    looks = {unicodedata.normalize("NFC", name.strip()) for name in labels}
    looks = {name.lower() if name.lower() in ("true", "false") else name for name in looks}
    encoder.finish()
    assert encoder.description == f"{len(looks)} classes"
    again, unknown = encoder.encode([unicodedata.normalize("NFD", name) for name in labels], learn=False)
    assert not unknown.any() and len(set(again.to_pylist())) == len(looks)


@FEW
@given(st.lists(SOME, min_size=24, max_size=24), st.lists(CELLS, min_size=24, max_size=24))
def test_any_labels_are_counted_or_refused(labels: list[str], texts: list[str]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        rows = ({"text": text, "label": label} for text, label in zip(texts, labels, strict=True))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert_fit_for_people(*check(path, Path(folder) / "cache"))
