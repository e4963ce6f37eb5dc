"""Cleaned rows on disk: written a few thousand at a time, read back memory-mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.arrow import read_batches
from lx.data.corpus.clean import CleanRows


@dataclass(frozen=True)
class SplitView:
    """Some rows of an Arrow file; train and a validation split taken from it share one file.

    Attributes:
        path: Arrow IPC file with the columns text, text_pair (if the data has pairs), label (as the task encodes it),
            hash (uint64, of the text and its pair) and row_number (int64, line or row in the source).
        rows: Which rows of the file belong to the split, ascending.
        has_pairs: Whether there is a second text.
    """

    path: Path
    rows: NDArray[np.int64]
    has_pairs: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> pa.Array:
        """The label of each row, read now."""
        column = pa.chunked_array([batch.column("label") for batch in read_batches(self.path)])
        return column.combine_chunks().take(pa.array(self.rows))

    def fingerprint(self) -> str:
        """Return a digest of the texts in their order; labels do not enter it."""
        hashes = np.concatenate([batch.column("hash").to_numpy() for batch in read_batches(self.path)])
        return sha256(hashes[self.rows].astype("<u8").tobytes()).hexdigest()

    def select(self, positions: NDArray[np.int64]) -> SplitView:
        """Return a view of some of these rows, by their positions, ascending."""
        return replace(self, rows=self.rows[positions])

    def texts(self, chunk: int = 8192) -> Iterator[tuple[list[str], list[str] | None]]:
        """Yield the texts, and second texts, in the order of ``rows``, ``chunk`` at a time (the last fewer)."""
        texts: list[str] = []
        pairs: list[str] = []
        start = 0
        for batch in read_batches(self.path):
            low, high = np.searchsorted(self.rows, [start, start + batch.num_rows])
            selected = pa.array(self.rows[low:high] - start)
            start += batch.num_rows
            texts += batch.column("text").take(selected).to_pylist()
            if self.has_pairs:
                pairs += batch.column("text_pair").take(selected).to_pylist()
            while len(texts) >= chunk:
                yield texts[:chunk], pairs[:chunk] if self.has_pairs else None
                del texts[:chunk], pairs[:chunk]
        if texts:
            yield texts, pairs if self.has_pairs else None


def row_schema(label_type: pa.DataType, *, has_pairs: bool) -> pa.Schema:
    """Return the columns of a file of rows; see :class:`SplitView`."""
    pair = [("text_pair", pa.string())] if has_pairs else []
    return pa.schema(
        [("text", pa.string()), *pair, ("label", label_type), ("hash", pa.uint64()), ("row_number", pa.int64())]
    )


def to_record_batch(rows: CleanRows, schema: pa.Schema) -> pa.RecordBatch:
    """Return rows as the columns of a schema."""
    columns = {
        "text": rows.texts,
        "text_pair": rows.pairs,
        "label": rows.labels,
        "hash": rows.hashes,
        "row_number": rows.row_numbers,
    }
    return pa.record_batch({name: columns[name] for name in schema.names}, schema=schema)


def convert_labels(path: Path, convert: Callable[[pa.Array], pa.Array]) -> None:
    """Replace the labels of a file by ``convert(labels)``; the texts are copied as they lie."""
    target = path.with_suffix(".converted")
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        column = reader.schema.get_field_index("label")
        with pa.ipc.new_file(str(target), reader.schema) as writer:
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                writer.write_batch(batch.set_column(column, "label", convert(batch.column(column))))
    target.replace(path)
