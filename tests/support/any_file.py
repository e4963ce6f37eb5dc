"""Random files as people's disks hold them, and what ``lx check`` prints when it reads one."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from rich.console import Console

from lx.data.corpus.corpus import load_corpus
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.system.console import console
from lx.system.output import escape
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings

_KINDS = {"a.csv": ",", "a.TSV": "\t", "b.csv": ";", "a.jsonl": "json", "a.json.gz": "json", "a.parquet": "parquet"}
TEXTS = st.text(max_size=12)
_SOME = ["text", "label", "a", "b", "1", "true", "True", "", " ", "é", "e\u0301", "\x1b[31m", "NaN", "text "]
SOME = st.sampled_from(_SOME)
_LABELS = st.sampled_from([name for name in _SOME if name.strip()])
CELLS = st.one_of(SOME, TEXTS)
ENCODINGS = st.sampled_from(["utf-8"] * 8 + ["utf-8-sig", "utf-16", "utf-16-be", "utf-32", "latin-1", "gb18030"])


def _table(rows: list[list[str]], kind: str) -> bytes:
    header, *body = rows
    if kind == "json":
        return "".join(json.dumps(dict(zip(header, row, strict=False))) + "\n" for row in body).encode()
    if kind == "parquet":
        width = max(len(header), 1)
        padded = [(row + [""] * width)[:width] for row in body]
        sink = pa.BufferOutputStream()
        arrays = [pa.array([row[index] for row in padded], pa.string()) for index in range(len(header))]
        pq.write_table(pa.Table.from_arrays(arrays, names=header), sink)
        return bytes(sink.getvalue())
    out = io.StringIO()
    csv.writer(out, delimiter=kind).writerows(rows)
    return out.getvalue().encode()


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """A name and a table of any format and encoding, which need not fit, damaged or not; or just bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from(list(_KINDS))), draw(st.binary(max_size=200))
    name = draw(st.sampled_from(list(_KINDS)))
    kind = draw(st.sampled_from([_KINDS[name]] * 9 + list(_KINDS.values())))
    if draw(st.booleans()):  # good, but for a few rows
        rows = draw(st.lists(st.tuples(CELLS, _LABELS), min_size=8, max_size=16))
        table = [["text", "label"], *map(list, rows), *[[f"text {n}", f"label {n % 3}"] for n in range(12)]]
    else:
        table = draw(st.lists(st.lists(CELLS, max_size=4), min_size=1, max_size=8))
    content = _table(table, kind)
    if kind != "parquet":
        content = content.decode().encode(draw(ENCODINGS), "replace")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 3]))):
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(st.binary(max_size=3)) + content[at + draw(st.integers(0, 3)) :]
    if draw(st.integers(0, 7)) == 0:
        content = gzip.compress(content)[: draw(st.sampled_from([None, None, -9, 20]))]
    return name, content


def check(path: Path, cache: Path, **settings: Any) -> tuple[str, bool]:
    """Read a file as ``lx check`` does; return all that is printed, and whether the file was refused."""
    out = io.StringIO()
    shown: Console = console()
    shown.file = out
    try:
        source = FileSource(path, **settings)
        corpus = load_corpus(source, ClassEncoder(source.class_names), data_settings(cache, validation_fraction=0.3))
        shown.print(corpus.report, corpus.report.class_table(), sep="\n")
        for warning in corpus.report.warnings():
            out.write(escape(f"note: {warning}") + "\n")
    except LxError as error:
        return f"lx: error: {escape(str(error))}\n", True
    finally:
        shutil.rmtree(cache, ignore_errors=True)
    return out.getvalue(), False


def assert_fit_for_people(printed: str, refused: bool) -> None:
    """Fail for control characters, and for a refusal that is long or spread over lines."""
    assert escape(printed) == printed and "\x1b" not in printed and "\r" not in printed
    if refused:
        assert len(printed) < 1000 and printed.count("\n") == 1, printed
