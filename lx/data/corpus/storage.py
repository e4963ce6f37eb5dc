"""Cleaned rows on disk: written in pieces, read back memory-mapped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Some rows of an Arrow file; train and a validation split cut from it share one file.

    Attributes:
        path: Arrow IPC file with the columns text, text_pair (if the task has pairs), label (int32),
            hash (uint64, of the text and its pair) and place (int64, line or row number in the source).
        rows: Which rows of the file belong to the split, ascending.
        labels: The class of each of those rows.
        has_pairs: Whether there is a second text.
    """

    path: Path
    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    has_pairs: bool

    def __len__(self) -> int:
        return len(self.rows)

    def texts(self, chunk: int = 8192) -> Iterator[tuple[list[str], list[str] | None]]:
        """The texts, and second texts, in the order of ``rows``, ``chunk`` at a time (the last fewer)."""
        texts: list[str] = []
        pairs: list[str] = []
        start = 0
        for batch in read_batches(self.path):
            low, high = np.searchsorted(self.rows, [start, start + batch.num_rows])
            wanted = pa.array(self.rows[low:high] - start)
            start += batch.num_rows
            texts += batch.column("text").take(wanted).to_pylist()
            if self.has_pairs:
                pairs += batch.column("text_pair").take(wanted).to_pylist()
            while len(texts) >= chunk:
                yield texts[:chunk], pairs[:chunk] if self.has_pairs else None
                del texts[:chunk], pairs[:chunk]
        if texts:
            yield texts, pairs if self.has_pairs else None


class RowWriter:
    """Writes the rows of one file, and keeps of each only its hash and label in memory."""

    def __init__(self, path: Path, *, has_pairs: bool) -> None:
        pair = [("text_pair", pa.string())] if has_pairs else []
        self.schema = pa.schema(
            [
                ("text", pa.string()),
                *pair,
                ("label", pa.int32()),
                ("hash", pa.uint64()),
                ("place", pa.int64()),
            ]
        )
        self._writer = pa.ipc.new_file(str(path), self.schema)
        self._hashes: list[NDArray[np.uint64]] = []
        self._labels: list[NDArray[np.int32]] = []

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(
        self,
        texts: list[str],
        pairs: list[str] | None,
        labels: NDArray[np.int32],
        hashes: NDArray[np.uint64],
        places: list[int],
    ) -> None:
        """Add rows."""
        columns = [texts, *([] if pairs is None else [pairs]), labels, hashes, places]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=self.schema))
        self._hashes.append(hashes)
        self._labels.append(labels)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The hash of each row written."""
        return np.concatenate(self._hashes) if self._hashes else np.empty(0, np.uint64)

    @property
    def labels(self) -> NDArray[np.int32]:
        """The label of each row written."""
        return np.concatenate(self._labels) if self._labels else np.empty(0, np.int32)


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The record batches of an Arrow file, memory-mapped."""
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def renumber(path: Path, new_ids: NDArray[np.int32]) -> None:
    """Replace each label ``i`` of a file by ``new_ids[i]``; the texts are copied as they lie."""
    if np.array_equal(new_ids, np.arange(len(new_ids))):
        return
    target = path.with_suffix(".renumbered")
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        column = reader.schema.get_field_index("label")
        with pa.ipc.new_file(str(target), reader.schema) as writer:
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                labels = pa.array(new_ids[batch.column(column).to_numpy()], pa.int32())
                writer.write_batch(batch.set_column(column, "label", labels))
    target.replace(path)
