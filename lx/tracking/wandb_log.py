"""The log of a part of a W&B record, in LevelDB's log format.

Source: https://github.com/google/leveldb/blob/main/doc/log_format.md. W&B puts seven bytes of its own before the first
record, and its checksum is zlib's.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lx.system.private_api import kind_of_wandb_record

_BLOCK_BYTES = 32 * 1024
_FILE_HEADER_BYTES = 7
_CHUNK_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_KINDS = {_FULL, _FIRST, _MIDDLE, _LAST}


def cut_to_whole_records(path: Path) -> None:
    """Move what follows the last whole record, which a killed client leaves, into the file ``unfinished`` beside it.

    W&B never marks a log that ends with an unfinished record as uploaded: its rows would be repeated by each upload.
    """
    with path.open("r+b") as log:
        end = max((end for end, _ in _records(log)), default=0)
        log.seek(end)
        if rest := log.read():
            (path.parent / "unfinished").write_bytes(rest)
            log.truncate(end)


def holds_run(path: Path) -> bool:
    """Tell whether a log names its run, without which W&B refuses it; a client may be killed before that."""
    with path.open("rb") as log:
        return any(kind_of_wandb_record(record) == "run" for _, record in _records(log))


def _records(log: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield each whole record with the position of its end, up to the first that is not whole."""
    record = b""
    for end, kind, content in _chunks(log):
        record = content if kind in (_FULL, _FIRST) else record + content
        if kind in (_FULL, _LAST):
            yield end, record


def _chunks(log: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield end, kind and content of each chunk, the part of a record that lies in one block."""
    position = log.seek(_FILE_HEADER_BYTES)
    while True:
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _CHUNK_HEADER.size:  # too small for another chunk
            position = log.seek(position + left)
        header = log.read(_CHUNK_HEADER.size)
        if len(header) < _CHUNK_HEADER.size:
            return
        checksum, length, kind = _CHUNK_HEADER.unpack(header)
        content = log.read(length)
        if kind not in _KINDS or len(content) < length or zlib.crc32(bytes([kind]) + content) != checksum:
            return
        position += _CHUNK_HEADER.size + length
        yield position, kind, content
