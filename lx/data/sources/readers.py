"""Read a table of any known format, recognised by its content where that tells more than its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.columns import Columns
from lx.data.sources.content import PARQUET, read_head
from lx.data.sources.delimited import read_csv, read_tsv
from lx.data.sources.json_lines import read_json_lines
from lx.data.sources.rows import Record, in_chunks
from lx.errors import LxError


def read_rows(path: Path, columns: Columns) -> Iterator[Rows]:
    """Read a file of a known kind, a few thousand rows at a time; raise LxError if it is damaged or empty."""
    is_parquet = read_head(path).startswith(PARQUET)
    reader = _read_parquet if is_parquet else _READERS[_extension(path).removesuffix(".gz")]
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


def _read_parquet(path: Path, columns: Columns) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row_number = 0
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise LxError(f"{path}: not a Parquet file, or a damaged one: {_reason(error)}") from error
    with file:
        header = file.schema_arrow.names
        names = [header[index] for index in columns.find(str(path), header)]
        try:
            for batch in file.iter_batches(batch_size=CHUNK, columns=list(dict.fromkeys(names))):
                for row in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
                    row_number += 1
                    yield row_number, row
        except UnicodeDecodeError as error:
            raise LxError(f"{path}: a string after row {row_number:,} is not UTF-8. Save the file anew") from error
        except (pa.ArrowException, OSError) as error:
            raise LxError(f"{path}: damaged after row {row_number:,}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


_READERS: dict[str, Callable[[Path, Columns], Iterator[Record]]] = {
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json_lines,
    ".parquet": _read_parquet,
}
