"""Reading Arrow files without loading them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_MAGIC = b"ARROW1"  # at both ends of a file
_AFTER_MAGIC = 8  # where the first message of an Arrow file begins
_HEADER, _COMPRESSION = 2, 3  # fields of the tables Message and RecordBatch in Arrow's format/Message.fbs


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Yield the record batches of an Arrow file, memory-mapped."""
    with pa.memory_map(str(path)) as mapped:
        reader = pa.ipc.open_file(mapped)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index)


def open_untrusted(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open an Arrow file that a stranger may have written, memory-mapped, so that reading takes next to no memory.

    Returns:
        Its schema, and its record batches.

    Raises:
        ArrowInvalid: not an Arrow file, or one whose batches are compressed, and could be of any size.
    """
    mapped = pa.memory_map(str(path))
    end = mapped.read_at(len(_MAGIC), max(0, mapped.size() - len(_MAGIC)))
    if mapped.read(len(_MAGIC)) != _MAGIC or end != _MAGIC:
        raise pa.ArrowInvalid("not a whole Arrow file")
    mapped.seek(_AFTER_MAGIC)
    messages = pa.ipc.MessageReader.open_stream(mapped)
    schema = pa.ipc.read_schema(messages.read_next_message())
    return schema, (_plain_batch(message, schema) for message in messages)


def _plain_batch(message: pa.Message, schema: pa.Schema) -> pa.RecordBatch:
    metadata = message.metadata.to_pybytes()
    (root,) = struct.unpack_from("<I", metadata, 0)
    header = _field(metadata, root, _HEADER)
    batch = header + struct.unpack_from("<I", metadata, header)[0]
    if message.type != "record batch" or _field(metadata, batch, _COMPRESSION):
        raise pa.ArrowInvalid("it holds more than plain record batches")
    return pa.ipc.read_record_batch(message, schema)


def _field(buffer: bytes, table: int, index: int) -> int:
    """Return where a field of a table of FlatBuffers stands; 0: the table has none.

    Source: https://flatbuffers.dev/internals, "Tables".
    """
    fields = table - struct.unpack_from("<i", buffer, table)[0]
    (size,) = struct.unpack_from("<H", buffer, fields)
    entry = 4 + 2 * index
    (offset,) = struct.unpack_from("<H", buffer, fields + entry) if entry + 2 <= size else (0,)
    return table + offset if offset else 0
