"""Readers of CSV, TSV, JSON Lines and Parquet, a few thousand rows at a time; errors name the line."""

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

from lx.data.sources.base import CHUNK, Rows, missing_column
from lx.data.sources.rows import Columns, RowBuffer, kind_of
from lx.errors import LxError

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

_LONGEST_FIELD = 64 * 2**20  # characters; also bounds what a quote that is never closed can swallow


Reader = Callable[[Path, Columns], Iterator[Rows]]


def reader_of(path: Path) -> Reader | None:
    """Return the reader for a file's extension, or None if the extension is not known."""
    suffix, packed = path.suffix.lower(), False
    if suffix == ".gz":
        suffix, packed = Path(path.stem).suffix.lower(), True
    reader = _READERS.get(suffix)
    return None if packed and reader is read_parquet else reader


def read_csv(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read comma-separated values with a header; fields may be quoted and then span lines."""
    with _opened(path) as file:
        yield from _read_records(path, columns, csv.reader(file, strict=True))


def read_tsv(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read tab-separated values with a header. Quotation marks are text like any other, as is usual in TSV."""
    with _opened(path) as file:
        yield from _read_records(path, columns, csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _read_records(path: Path, columns: Columns, records: _CsvReader) -> Iterator[Rows]:
    """Yield the rows under a header; the number of a row is the line on which its record begins."""
    csv.field_size_limit(_LONGEST_FIELD)
    line = 1
    try:
        header = next(records, None)
        if not header:
            raise LxError(f"{path}: the file is empty" if header is None else f"{path}:1: the header is blank")
        indices = []
        for key, column in columns.keys().items():
            if column not in header:
                raise missing_column(f"{path}:1", key, column, header)
            indices.append(header.index(column))
        buffer = RowBuffer(path, columns)
        line = records.line_num + 1
        for record in records:
            if len(record) == len(header):
                yield from buffer.add(line, *(record[index] for index in indices))
            elif record:  # a blank line is no record
                raise LxError(
                    f"{path}:{line}: {len(record)} field(s) where the header has {len(header)}. In a .csv "
                    "file, quote a field with a comma or a line break in it; a .tsv file cannot hold one"
                )
            line = records.line_num + 1
        yield from buffer.rest()
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason or "field larger" in reason:
            reason = "a quotation mark is opened and never closed"
        raise LxError(f"{path}:{line}: malformed CSV: {reason}, in the record that begins here") from error


def read_jsonl(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read one JSON object a line; blank lines are skipped."""
    keys = columns.keys()
    buffer = RowBuffer(path, columns)
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
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
            for key, column in keys.items():
                if column not in row:
                    raise missing_column(f"{path}:{number}", key, column, list(row))
            yield from buffer.add(number, *(row[column] for column in keys.values()))
    if buffer.is_empty:
        raise LxError(f"{path}: the file is empty")
    yield from buffer.rest()


def read_parquet(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read a Parquet file, a few thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise LxError(f"{path}: not a Parquet file, or a damaged one: {error}") from error
    with file:
        schema = file.schema_arrow
        for key, column in columns.keys().items():
            if column not in schema.names:
                raise missing_column(str(path), key, column, schema.names)
        buffer = RowBuffer(path, columns)
        names = list(columns.keys().values())
        row_number = 0
        try:
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(dict.fromkeys(names))):
                values = {name: batch.column(name).to_pylist() for name in batch.schema.names}
                for row in zip(*(values[name] for name in names), strict=True):
                    row_number += 1
                    yield from buffer.add(row_number, *row)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            raise LxError(f"{path}: damaged after row {row_number:,}: {error}") from error
        yield from buffer.rest()


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


def known_extensions() -> Sequence[str]:
    """Return the extensions that are read, for messages."""
    return [*_READERS, *(f"{suffix}.gz" for suffix in _READERS if suffix != ".parquet")]


_READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_jsonl,
    ".parquet": read_parquet,
}
