"""Token ids of a split in Arrow: written once, memory-mapped, so that memory does not grow with the data."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.arrow import open_untrusted
from lx.data.tokens.tokenizer import Encoded
from lx.errors import LxError, shorten
from lx.system.files import atomic_write

# "second" counts the tokens of the text pair; run directories of lx 0.1 hold a file with these names.
_COLUMNS = {"token_ids": pa.list_(pa.int32()), "second": pa.int32(), "truncated": pa.bool_()}


def token_schema(label_type: pa.DataType) -> pa.Schema:
    """Return the columns of a file of token ids, with labels of a type."""
    return pa.schema({**_COLUMNS, "label": label_type})


def write_tokens(path: Path, chunks: Iterator[tuple[Encoded, pa.Array]], label_type: pa.DataType) -> None:
    """Write encoded texts, with the label of each, to an Arrow IPC file, one record batch a chunk; atomically."""
    schema = token_schema(label_type)
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, schema) as out,
    ):
        for encoded, labels in chunks:
            offsets = np.concatenate([[0], np.cumsum(encoded.lengths)]).astype(np.int32)
            columns = [
                pa.ListArray.from_arrays(pa.array(offsets), pa.array(encoded.token_ids)),
                pa.array(encoded.pair_lengths),
                pa.array(encoded.truncated),
                labels,
            ]
            out.write_batch(pa.record_batch(columns, schema=schema))


@dataclass(frozen=True)
class _Chunk:
    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int32]


class TokenTable:
    """The memory-mapped token ids of a split.

    Attributes:
        lengths: [N] tokens of each example, special tokens included.
        labels: [N] as the task encodes them.
        pair_lengths: [N] how many of an example's last tokens belong to its text pair.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            schema, batches = open_untrusted(path)
        except (pa.ArrowException, OSError, EOFError, StopIteration) as error:
            raise LxError(f"{path} is not a whole Arrow file of token ids: {error}") from error
        if schema.names[-1:] != ["label"] or schema != token_schema(schema.field("label").type):
            raise LxError(f"{path} does not hold token ids: its columns are {shorten(schema.names)}")
        try:
            table = pa.Table.from_batches(list(batches), schema)
            table.validate()
            self.labels: pa.Array = table["label"].combine_chunks()
        except (pa.ArrowException, OSError, struct.error) as error:
            raise LxError(f"{path} is damaged: {error}") from error
        columns = [chunk for column in table.columns for chunk in column.chunks]
        if any(chunk.null_count or (pa.types.is_list(chunk.type) and chunk.values.null_count) for chunk in columns):
            raise LxError(f"{path} is damaged: it has gaps")
        self._chunks = [
            _Chunk(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in table["token_ids"].chunks
        ]
        sizes = [len(chunk.offsets) - 1 for chunk in self._chunks]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self.lengths: NDArray[np.int32] = _concatenate([np.diff(chunk.offsets) for chunk in self._chunks])
        self.pair_lengths: NDArray[np.int32] = _concatenate([chunk.to_numpy() for chunk in table["second"].chunks])
        self.num_truncated = int(sum(chunk.true_count for chunk in table["truncated"].chunks))
        self.has_pairs = bool(self.pair_lengths.any())

    def check(self, vocab_size: int, labels_fit: Callable[[pa.Array], bool]) -> None:
        """Raise LxError if the content does not fit the model, or is damaged: it may come from a stranger."""
        ids = [chunk.token_ids for chunk in self._chunks if len(chunk.token_ids)]
        fits = (
            len(self) > 0
            and all(int(piece.min()) >= 0 and int(piece.max()) < vocab_size for piece in ids)
            and all(chunk.offsets[0] >= 0 and chunk.offsets[-1] <= len(chunk.token_ids) for chunk in self._chunks)
            and int(self.lengths.min()) > 0
            and labels_fit(self.labels)
        )
        if not fits:
            raise LxError(f"{self.path} is empty, damaged, or does not belong to this run's model")

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone: worker processes map the file again instead of receiving its content."""
        return TokenTable, (self.path,)

    def gather(self, rows: NDArray[np.int64], out: NDArray[np.int64]) -> None:
        """Copy the token ids of the examples ``rows`` [B] into a matrix [B, T] that is filled with the padding id."""
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        inside = rows - self._starts[chunks]
        for target, chunk_index, row in zip(out, chunks.tolist(), inside.tolist(), strict=True):
            chunk = self._chunks[chunk_index]
            start, stop = chunk.offsets[row], chunk.offsets[row + 1]
            target[: stop - start] = chunk.token_ids[start:stop]


def _concatenate(arrays: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(arrays).astype(np.int32) if arrays else np.zeros(0, np.int32)
