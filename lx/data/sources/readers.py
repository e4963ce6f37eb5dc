"""Read CSV, TSV, JSON Lines and Parquet; errors name the line."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.rows import Columns, Record, in_chunks, kind_of
from lx.errors import LxError

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

_LONGEST_FIELD = 64 * 2**20  # characters; also bounds what a quote that is never closed can swallow


def read_rows(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read a file of a known kind, a few thousand rows at a time; raise LxError if it is damaged or empty."""
    reader = _READERS[_extension(path).removesuffix(".gz")]
    return in_chunks(path, columns, reader(path, columns))


def is_known(path: Path) -> bool:
    """Return whether the extension is one that is read."""
    return _extension(path) in known_extensions()


def known_extensions() -> Sequence[str]:
    """Return the extensions that are read, for messages."""
    return [*_READERS, *(f"{suffix}.gz" for suffix in _READERS if suffix != ".parquet")]


def _extension(path: Path) -> str:
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() + suffix if suffix == ".gz" else suffix


def _read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    """Read comma-separated values with a header; fields may be quoted and then span lines."""
    with _opened(path) as file:
        yield from _read_records(path, columns, csv.reader(file, strict=True))


def _read_tsv(path: Path, columns: Columns) -> Iterator[Record]:
    """Read tab-separated values with a header. Quotation marks are text like any other, as is usual in TSV."""
    with _opened(path) as file:
        yield from _read_records(path, columns, csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read_records(path: Path, columns: Columns, records: _CsvReader) -> Iterator[Record]:
    """Yield the rows under a header; the number of a row is the line on which its record begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    line = 1
    try:
        header = next(records, None)
        if not header:
            raise LxError(f"{path}: the file is empty" if header is None else f"{path}:1: the header is blank")
        columns.require(f"{path}:1", header)
        indices = [header.index(name) for name in columns.names()]
        line = records.line_num + 1
        for record in records:
            if len(record) == len(header):
                yield line, [record[index] for index in indices]
            elif record:  # a blank line is no record
                raise LxError(
                    f"{path}:{line}: {len(record)} field(s) where the header has {len(header)}. In a .csv "
                    "file, quote a field with a comma or a line break in it; a .tsv file cannot hold one"
                )
            line = records.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason or "field larger" in reason:
            reason = "a quotation mark is opened and never closed"
        raise LxError(f"{path}:{line}: malformed CSV: {reason}, in the record that begins here") from error


def _read_jsonl(path: Path, columns: Columns) -> Iterator[Record]:
    """Read one JSON object a line; blank lines are skipped."""
    names, is_empty = columns.names(), True
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            is_empty = False
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise LxError(f"{path}:{number}: not valid JSON: {error.msg} at column {error.colno}") from error
            except RecursionError as error:
                raise LxError(f"{path}:{number}: not valid JSON: nested too deeply") from error
            if not isinstance(row, dict):
                raise LxError(
                    f"{path}:{number}: {kind_of(row)} instead of an object. lx reads JSON Lines: "
                    "one object a line, no list round them"
                )
            if not row.keys() >= set(names):
                columns.require(f"{path}:{number}", list(row))
            yield number, [row[name] for name in names]
    if is_empty:
        raise LxError(f"{path}: the file is empty")


def _read_parquet(path: Path, columns: Columns) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise LxError(f"{path}: not a Parquet file, or a damaged one: {error}") from error
    with file:
        columns.require(str(path), file.schema_arrow.names)
        names, row_number = columns.names(), 0
        try:
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(dict.fromkeys(names))):
                for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    row_number += 1
                    yield row_number, row
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise LxError(f"{path}: damaged after row {row_number:,}: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[str]]:
    """Open a text file, compressed or not; name the line where its encoding is wrong."""
    try:
        with _binary(path) as raw, TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            yield file
    except UnicodeDecodeError:
        line, reason = _undecodable(path)
        raise LxError(
            f"{path}:{line}: not UTF-8 ({reason}). Save the file as UTF-8, for example with "
            f"`iconv -f LATIN1 -t UTF-8` and the encoding it has now"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise LxError(f"{path}: not a gzip file, or one that was cut short: {error}") from error
    except OSError as error:
        raise LxError(f"{path}: cannot be read: {error.strerror or error}") from error


def _binary(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _undecodable(path: Path) -> tuple[int, str]:
    """Find the first line that is not UTF-8, and why; called only once decoding has failed."""
    with _binary(path) as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return number, f"byte 0x{line[error.start]:02x}"
    return 1, "unreadable"


_READERS: dict[str, Callable[[Path, Columns], Iterator[Record]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".ndjson": _read_jsonl,
    ".json": _read_jsonl,
    ".parquet": _read_parquet,
}
