"""What people's files hold in spite of their names: read as it is meant, or refused with the cause and the cure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lx.data.corpus.clean import read_clean
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder

PLAIN = b"text,label\none,a\ntwo,b\n"
ROWS = [("one", "a"), ("two", "b")]
LINES = b'{"text": "one", "label": "a"}\n{"text": "two", "label": "b"}\n'


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


READ = {
    "mark": ("a.csv", b"\xef\xbb\xbf" + PLAIN),
    "gzip by another name": ("a.csv", gzip.compress(PLAIN)),
    "gzip of lines": ("a.json", gzip.compress(LINES)),
    "no gzip in spite of its name": ("a.csv.gz", PLAIN),
    "parquet by another name": ("a.csv", parquet(text=["one", "two"], label=["a", "b"])),
    "tabs in .csv": ("a.csv", PLAIN.replace(b",", b"\t")),
    "semicolons": ("a.csv", b'label;"text";x\n"a";one;1,5\nb;two;2,5\n'),
    "bars": ("a.csv", PLAIN.replace(b",", b"|")),
    "commas in .tsv": ("a.tsv", PLAIN),
    "quoted .tsv": ("a.tsv", b'"text"\t"label"\n"one"\t"a"\ntwo\tb\n'),
    "spaces before quotes": ("a.csv", b'n, "text", "label"\n1, "one", "a"\n\n2, "two", "b"\n'),
    "spaces before some": ("a.csv", b'text,label,x\none,a,1\ntwo,b, "3, 4"\n'),
    "space in a header": ("a.csv", PLAIN.replace(b"text", b" text ")),
    "no-break space": ("a.csv", PLAIN.replace(b"label", "label\xa0".encode())),
    "mark inside quotes": ("a.csv", b'"\xef\xbb\xbf\xe2\x80\x8btext",label\none,a\ntwo,b\n'),
    "space in a key": ("a.jsonl", LINES.replace(b'"text"', b'"text "')),
    "other spelling in one row": ("a.jsonl", LINES.replace(b'"text": "two"', b'"text ": "two"')),
    "decomposed name of parquet": ("a.parquet", parquet(**{"text ": ["one", "two"], "label": ["a", "b"]})),
    "blank lines": ("a.csv", PLAIN.replace(b"\n", b"\r\n\r\n")),
}


def read(path: Path, **settings: Any) -> list[tuple[str | None, Any]]:
    source = FileSource(path, **settings)
    return [row for rows in source.read("train") for row in zip(rows.texts, rows.labels, strict=True)]


@pytest.mark.parametrize("case", READ)
def test_read_as_it_is_meant(tmp_path: Path, case: str) -> None:
    name, content = READ[case]
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == ROWS


def test_exact_names_go_first(tmp_path: Path) -> None:
    """What was read before without overlooking anything is read in the same way."""
    (tmp_path / "a.csv").write_text("text ;x,text,label ,label\n1,2,3,4\n")
    assert read(tmp_path / "a.csv") == [("2", "4")]
    assert read(tmp_path / "a.csv", label="label ", text="text ;x") == [("1", "3")]
    (tmp_path / "a.tsv").write_text('"text"\tlabel\n"one"\t"a"\n')
    assert read(tmp_path / "a.tsv", text='"text"') == [('"one"', '"a"')]


def test_nan_is_null(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": NaN, "label": NaN}\n{"text": "x", "label": -Infinity, "y": NaN}\n')
    assert read(tmp_path / "a.jsonl") == [(None, None), ("x", float("-inf"))]


def test_a_space_before_a_quote_may_be_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n a "b", "c"\n')
    assert read(tmp_path / "a.csv") == [(' a "b"', ' "c"')]


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
HALF = b'{"text": "one", "label": "a"}\n{"text": "cut \\ud83d", "label": "b"}\n'
REFUSED = {
    "half a pair in a text": ("a.jsonl", HALF, ":2: \\ud83d is half of a surrogate pair"),
    "half a pair in a label": (
        "a.jsonl",
        HALF.replace(b"cut ", b"").replace(b'"b"', b'"\\uDE00"'),
        ":2: \\ud83d is half",
    ),
    "UTF-16": (
        "a.csv",
        PLAIN.decode().encode("utf-16"),
        ": the encoding is UTF-16, not UTF-8. Convert it: `iconv -f U",
    ),
    "UTF-16 without a mark": ("a.jsonl", LINES.decode().encode("utf-16-be"), ": the encoding is UTF-16BE"),
    "UTF-16, packed": ("a.csv.gz", gzip.compress(PLAIN.decode().encode("utf-16")), ": the encoding is UTF-16"),
    "UTF-32": ("a.tsv", PLAIN.decode().encode("utf-32"), ": the encoding is UTF-32"),
    "UTF-32 without a mark": ("a.csv", PLAIN.decode().encode("utf-32-le"), ": the encoding is UTF-32LE"),
    "GB18030": ("a.csv", "text,label\n股市大涨,财经\n".encode("gb18030"), ":2: not UTF-8 (byte 0xb9). Save"),
    "GB18030 in lines": ("a.jsonl", '{"text": "体育", "label": "新闻"}'.encode("gb18030"), "iconv -f GB18030"),
    "Big5": (
        "a.csv",
        "text,label\n股市今天大漲,財經\n".encode("big5"),
        "where BIG5 is a guess; it may be GB18030, SHIFT_JIS",
    ),
    "Shift JIS": ("a.csv", "text,label\nこれは日本語です,文\n".encode("shift_jis"), "iconv -f SHIFT_JIS"),
    "EUC-KR": ("a.csv", "text,label\n오늘 주식 시장이 크게 올랐다,경제\n".encode("euc-kr"), "iconv -f EUC-KR"),
    "CP1252": ("a.csv", "text,label\nl’été “à” Genève,ville\n".encode("cp1252"), "iconv -f CP1252"),
    "a line that ends": ("a.jsonl", LINES + b'{"text": "x", \n', ":3: not valid JSON: the line ends too soon"),
    "a quote in a text": (
        "a.jsonl",
        LINES + b'{"text": "a "b" c", "label": 1}\r\n',
        ":3: not valid JSON: Expecting ',' delimiter at column 14, in ",
    ),
    "a space before a quote, and a comma": (
        "a.csv",
        b'text,label,x\n1, "a, b",c\n2,3\n',
        ":2: 4 field(s) where the header has 3. A space stands before a quotation mark, which is then text",
    ),
    "full-width commas": ("a.csv", "text，label\n甲，乙\n".encode(), "not by the full-width one (，)"),
    "no header, Chinese": ("a.csv", "比赛结束了，冠军,体育\n".encode(), "Is the first line a row of data?"),
    "curly quotes": ("a.csv", "text,label\n“甲, 乙”,丙\n".encode(), 'Only " is a quotation mark, and “ is text'),
    "single quotes": ("a.csv", b"text,label\n'one, two',a\n", "Only \" is a quotation mark, and ' is text"),
    "a list inside an object": (
        "a.json",
        b'{"data": [{"text": "a", "label": "b"}]}',
        ":1: rows in a list inside an object",
    ),
    "a list of labels": (
        "a.jsonl",
        b'{"text": "a", "labels": ["b", "c"]}\n',
        ":1: there is no column 'label' (did you mean 'labels'?). The columns are: text, labels.",
    ),
    "two columns": ("a.csv", b"message,team\n1,2\n", "Set data.text=... and data.label=..."),
    "LFS": ("a.csv", LFS, ": a pointer of Git LFS, which stands for the file until it is fetched: run `git lfs pull`"),
    "LFS for parquet": ("a.parquet", LFS, "run `git lfs pull`"),
    "LFS for gzip": ("a.jsonl.gz", LFS, "run `git lfs pull`"),
    "a workbook": ("a.csv", b"PK\x03\x04\x14\0", ": not a text file but a ZIP archive or an Excel workbook"),
    "bzip2": ("a.csv", b"BZh91AY&SY\x12", "packed with bzip2"),
    "not UTF-8 and cut short": ("a.csv.gz", gzip.compress(PLAIN + bytes(range(128, 256)) * 9)[:-9], "cut short"),
    "packed twice": ("a.csv.gz", gzip.compress(gzip.compress(PLAIN)), "packed with gzip twice"),
    "twice in a header": (
        "a.csv",
        b"text,label,text\n1,2,3\n",
        ":1: the column 'text' stands there twice, as columns 1 and",
    ),
    "twice with a space": ("a.csv", b"text ,label, text\n1,2,3\n", ":1: the column 'text' stands there twice"),
    "twice in an object": (
        "a.jsonl",
        b'{"text": "a", "label": 1, "label": 2}\n',
        ":1: the column 'label' stands there twice",
    ),
    "header again": ("a.csv", PLAIN + b"text,label\none,b\n", ":4: the header stands here again"),
    "header with a mark again": (
        "a.tsv",
        (PLAIN + b"\xef\xbb\xbftext,label\n").replace(b",", b"\t"),
        ":4: the header stands",
    ),
    "no header": (
        "a.csv",
        b"3,Some title,A long story of many words that goes on and on\n" * 2,
        ":1: there is no column 'text'",
    ),
    "no header, cure": (
        "a.csv",
        b"3,Some title,story\n" * 2,
        "Put a line above it with the names of the columns, such as",
    ),
    "long header": (
        "a.csv",
        b"x" * 5000 + b"," + b"y" * 5000 + b"\n",
        "there is no column 'text'. The columns are: xxxx",
    ),
    "many columns": ("a.csv", b",".join(b"column %d" % n for n in range(9000)) + b"\n", "and 8980 more"),
    "Excel's line": ("a.csv", b"sep=;\ntext;label\n1;2\n", "Remove the first line, which only Excel reads"),
    "one column": ("a.csv", b"a/b/c\n1/2/3\n", "Separate columns by commas, tabs, semicolons or |"),
    "control codes": ("a.csv", b"te\x1b[31mxt,la\x07bel\n1,2\n", r"The columns are: te\x1b[31mxt, la\x07bel"),
    "json over lines": (
        "a.json",
        json.dumps([{"text": "a"}], indent=1).encode(),
        ":1: a JSON value that goes on over sev",
    ),
    "json in an object": ("a.json", b'{\n"data": []}', "one object a line"),
    "json of columns": (
        "a.json",
        b'{"text": {"0": "a"}, "label": {"0": "b"}}',
        "to_json(FILE, orient='records', lines=True)",
    ),
    "long number": ("a.jsonl", b'{"text": "a", "label": %s}' % (b"1" * 5000), ":1: not a number that can be read"),
    "bytes that are no string": (
        "a.parquet",
        parquet(text=pa.array([b"\xff"]).cast(pa.binary()), label=["a"]),
        "binary data",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_cause_and_cure(tmp_path: Path, case: str) -> None:
    name, content, message = REFUSED[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(LxError) as refusal:
        list(read_clean(FileSource(path), "train", ClassEncoder(None), learn=True))
    told = str(refusal.value)
    assert told.startswith(str(path)) and message in told
    assert len(told) < 1000 and told.isprintable()
