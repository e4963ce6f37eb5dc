"""Token ids of a split in Arrow: written once, memory-mapped, so that memory does not grow with the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.tokens.tokenizer import Encoded
from lx.errors import LxError
from lx.system.files import atomic_write

SCHEMA = pa.schema(
    {"token_ids": pa.list_(pa.int32()), "second": pa.int32(), "truncated": pa.bool_(), "label": pa.int32()}
)


def write_tokens(path: Path, pieces: Iterator[tuple[Encoded, NDArray[np.int32]]]) -> None:
    """Write encoded texts with their labels, one record batch a piece, under a temporary name first.

    Args:
        path: the Arrow IPC file to make.
        pieces: encoded texts and the label ids of each.
    """
    with (
        atomic_write(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as out,
    ):
        for encoded, labels in pieces:
            offsets = np.concatenate([[0], np.cumsum(encoded.lengths)]).astype(np.int32)
            columns = [
                pa.ListArray.from_arrays(pa.array(offsets), pa.array(encoded.token_ids)),
                pa.array(encoded.second),
                pa.array(encoded.truncated),
                pa.array(labels),
            ]
            out.write_batch(pa.record_batch(columns, schema=SCHEMA))


@dataclass(frozen=True)
class _Chunk:
    token_ids: NDArray[np.int32]
    offsets: NDArray[np.int32]


class TokenTable:
    """The memory-mapped token ids of a split.

    Attributes:
        lengths: [N] tokens of each example, special tokens included.
        labels: [N] label ids.
        second: [N] how many of an example's last tokens belong to its text pair.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
        except (pa.ArrowInvalid, OSError) as error:
            raise LxError(f"{path} is not a whole Arrow file of token ids: {error}") from error
        if reader.schema != SCHEMA:
            raise LxError(f"{path} does not hold token ids: its columns are {', '.join(reader.schema.names)}")
        try:
            table = reader.read_all()
            table.validate()
        except pa.ArrowException as error:
            raise LxError(f"{path} is damaged: {error}") from error
        if any(column.null_count for column in (*table.columns, *_values(table["token_ids"]))):
            raise LxError(f"{path} is damaged: it has gaps")
        self._chunks = [
            _Chunk(chunk.values.to_numpy(), chunk.offsets.to_numpy()) for chunk in table["token_ids"].chunks
        ]
        sizes = [len(chunk.offsets) - 1 for chunk in self._chunks]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)
        self.lengths: NDArray[np.int32] = _process_group([np.diff(chunk.offsets) for chunk in self._chunks])
        self.labels: NDArray[np.int32] = _process_group([chunk.to_numpy() for chunk in table["label"].chunks])
        self.second: NDArray[np.int32] = _process_group([chunk.to_numpy() for chunk in table["second"].chunks])
        self.num_truncated = int(sum(chunk.true_count for chunk in table["truncated"].chunks))
        self.has_pairs = bool(self.second.any())

    def check(self, vocab_size: int, num_classes: int) -> None:
        """Refuse a file whose content does not fit a model, or is damaged: it may come from a stranger.

        Raises:
            LxError: says so.
        """
        ids = [chunk.token_ids for chunk in self._chunks if len(chunk.token_ids)]
        fits = (
            len(self) > 0
            and all(int(piece.min()) >= 0 and int(piece.max()) < vocab_size for piece in ids)
            and all(self._is_ordered(chunk) for chunk in self._chunks)
            and int(self.lengths.min()) > 0
            and int(self.labels.min()) >= 0
            and int(self.labels.max()) < num_classes
        )
        if not fits:
            raise LxError(f"{self.path} is empty, damaged, or does not belong to this run's model")

    def __len__(self) -> int:
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Worker processes map the file again instead of receiving its content."""
        return TokenTable, (self.path,)

    @staticmethod
    def _is_ordered(chunk: _Chunk) -> bool:
        return bool(chunk.offsets[0] >= 0 and chunk.offsets[-1] <= len(chunk.token_ids))

    def gather(self, rows: NDArray[np.int64], out: NDArray[np.int64]) -> None:
        """Copy the token ids of some examples into the rows of a padded matrix.

        Args:
            rows: [B] which examples.
            out: [B, T] filled with the padding id; T is at least the longest length.
        """
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        inside = rows - self._starts[chunks]
        for target, chunk_index, row in zip(out, chunks.tolist(), inside.tolist(), strict=True):
            chunk = self._chunks[chunk_index]
            start, stop = chunk.offsets[row], chunk.offsets[row + 1]
            target[: stop - start] = chunk.token_ids[start:stop]


def _values(lists: pa.ChunkedArray) -> list[pa.Array]:
    return [chunk.values for chunk in lists.chunks]


def _process_group(pieces: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(pieces).astype(np.int32) if pieces else np.zeros(0, np.int32)
