"""What is wrong with a file is said in one message: what, where, and what to do."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lx.data.corpus.clean import read_clean
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder


def raw(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def table(**columns: list[object]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


LATIN = "text,label\nfine,a\nna\xefve,b\n".encode("latin-1")
CASES = {
    "empty csv": ("a.csv", raw(b""), "a.csv: the file is empty"),
    "empty jsonl": ("a.jsonl", raw(b"\n\n"), "a.jsonl: the file is empty"),
    "empty gz": ("a.csv.gz", raw(gzip.compress(b"")), "a.csv.gz: the file is empty"),
    "blank header": ("a.csv", raw(b"\ntext,label\n"), "a.csv:1: the header is blank"),
    "header only": ("a.csv", raw(b"text,label\n"), "a.csv: there is a header and no rows under it"),
    "no rows in parquet": ("a.parquet", table(text=[], label=[]), "a.parquet: there is a header and no rows"),
    "misspelt column": (
        "a.csv",
        raw(b"texts,label\nx,y\n"),
        "a.csv:1: there is no column 'text' (did you mean 'texts'?). The columns are: texts, label. Set data.text=...",
    ),
    "missing label": (
        "a.tsv",
        raw(b"text\tgold\nx\ty\n"),
        "a.tsv:1: there is no column 'label'. The columns are: text, gold. Set data.label=...",
    ),
    "column in other case": ("a.csv", raw(b"TEXT,label\nx,y\n"), "no column 'text' (did you mean 'TEXT'?)"),
    "missing key": (
        "a.jsonl",
        raw(b'{"text": "x", "label": 1}\n{"txt": "y", "label": 1}\n'),
        "a.jsonl:2: there is no column 'text' (did you mean 'txt'?). The columns are: txt, label",
    ),
    "missing parquet column": ("a.parquet", table(text=["x"], l=["y"]), "a.parquet: there is no column 'label'"),
    "too many fields": ("a.csv", raw(b"text,label\na,b\na,b,c\n"), "a.csv:3: 3 field(s) where the header has 2"),
    "too few fields": ("a.tsv", raw(b"text\tlabel\na\n"), "a.tsv:2: 1 field(s) where the header has 2"),
    "unclosed quote": (
        "a.csv",
        raw(b'text,label\na,b\n"never,closed\nc,d\n'),
        "a.csv:3: malformed CSV: a quotation mark is opened and never closed, in the record that begins here",
    ),
    "stray quote": ("a.csv", raw(b'text,label\na,b\n"x" y,b\n'), "a.csv:3: malformed CSV: ',' expected after"),
    "bad json": (
        "a.jsonl",
        raw(b'{"text": "x", "label": 1}\n{"text": "x" "label": 1}\n'),
        "a.jsonl:2: not valid JSON: Expecting ',' delimiter at column 14",
    ),
    "json array": (
        "a.json",
        raw(b'[{"text": "x"}]'),
        "a.json:1: a list instead of an object. lx reads JSON Lines",
    ),
    "json deep": ("a.jsonl", raw(b"[" * 200_000), "a.jsonl:1: not valid JSON: nested too deeply"),
    "latin-1": ("a.csv", raw(LATIN), "a.csv:3: not UTF-8 (byte 0xef). Save the file as UTF-8"),
    "latin-1 packed": ("a.csv.gz", raw(gzip.compress(LATIN)), "a.csv.gz:3: not UTF-8 (byte 0xef)"),
    "utf-16": (
        "a.csv",
        raw("text,label\n".encode("utf-16")),
        "a.csv: the encoding is UTF-16, not UTF-8. Convert it: `iconv -f UTF-16",
    ),
    "short gzip": (
        "a.csv.gz",
        raw(gzip.compress(b"text,label\n" + b"a,b\n" * 99)[:-9]),
        "a.csv.gz: not a gzip file, or one",
    ),
    "not parquet": ("a.parquet", raw(b"text,label\n"), "a.parquet: not a Parquet file, or a damaged one"),
    "list label": (
        "a.jsonl",
        raw(b'{"text": "x", "label": ["a", "b"]}\n'),
        "a.jsonl:1: the label \"['a', 'b']\" is a list. A label is a string or an integer, one a row",
    ),
    "float label": ("a.jsonl", raw(b'{"text": "x", "label": 0.5}\n'), "a.jsonl:1: the label '0.5' is a fraction"),
    "object label": ("a.jsonl", raw(b'{"text": "x", "label": {}}\n'), "a.jsonl:1: the label '{}' is an object"),
    "float parquet label": (
        "a.parquet",
        table(text=["x", "y"], label=[1.0, None]),
        "a.parquet:1: the label '1.0' is a fraction",
    ),
    "number for a text": (
        "a.jsonl",
        raw(b'{"text": "x", "label": 1}\n{"text": 5, "label": 1}\n'),
        "a.jsonl:2: the text is an integer, not a string. Is it the right column? Set data.text=...",
    ),
    "list for a text": (
        "a.jsonl",
        raw(b'{"text": ["x"], "label": 1}\n'),
        "a.jsonl:1: the text is a list, not a string",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file_is_refused(tmp_path: Path, case: str) -> None:
    name, make, message = CASES[case]
    make(tmp_path / name)
    with pytest.raises(LxError, match=re.escape(f"{tmp_path}/{message}" if message.startswith(name) else message)):
        list(read_clean(FileSource(tmp_path / name), "train", ClassEncoder(None), learn=True))


def test_train_has_to_be_given() -> None:
    with pytest.raises(LxError, match=r"data\.train is not set: name your training file.*data\.train=train\.csv"):
        FileSource(None)


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    with pytest.raises(LxError, match=r"data\.train: there is no file .*tain\.jsonl \(did you mean 'train\.jsonl'\?\)"):
        FileSource(tmp_path / "tain.jsonl")
    with pytest.raises(LxError, match=r"data\.test: there is no file .*x\.csv \(nor is the folder .*nowhere\)"):
        FileSource(tmp_path / "train.jsonl", test=tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.parquet.gz", "a.gz"])
def test_unknown_extension_lists_the_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(LxError, match=r"not a known format\. Known are \.csv, \.tsv, .*\.csv\.gz.* and a folder"):
        FileSource(tmp_path / name)


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(LxError, match=r"a folder needs a sub-folder for each class with \.txt files in it"):
        list(FileSource(tmp_path).read("train"))
    with pytest.raises(LxError, match=r"data\.text_pair is set, but .* is a folder of texts"):
        FileSource(tmp_path, text_pair="other")
    (tmp_path / "pos").mkdir()
    (tmp_path / "pos" / "1.txt").write_bytes(b"na\xefve")
    with pytest.raises(LxError, match=r"pos/1\.txt:1: not UTF-8 \(byte 0xef\)"):
        list(FileSource(tmp_path).read("train"))


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,y\n")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(LxError, match=r"a\.csv: cannot be read: Permission denied"):
        list(FileSource(tmp_path / "a.csv").read("train"))
