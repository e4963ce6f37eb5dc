"""What a file holds by its first bytes, whatever its name says, and its text: unpacked, decoded, errors named."""

from __future__ import annotations

import gzip
import re
import zlib
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO, cast

from lx.errors import LxError

PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_HEAD = 512  # bytes that are looked at
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook. Unpack it, or save the sheet as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook. Save the sheet as CSV in UTF-8",
    b"BZh91AY&SY": "packed with bzip2. Unpack it with bunzip2",
    b"\xfd7zXZ\0": "packed with xz. Unpack it with unxz",
    b"\x28\xb5\x2f\xfd": "packed with zstd. Unpack it with unzstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive. Unpack it",
    b"SQLite format 3\0": "an SQLite database. Export the table as CSV",
    b"ARROW1\0\0": "an Arrow file. Save it as Parquet",
}
_UNDECODED = re.compile("[\udc80-\udcff]")  # a byte under ``surrogateescape``
_MARKS = {  # those of UTF-32 first: one of them begins as one of UTF-16 does
    BOM_UTF32_LE: "UTF-32",
    BOM_UTF32_BE: "UTF-32",
    BOM_UTF16_LE: "UTF-16",
    BOM_UTF16_BE: "UTF-16",
}


# What the frequent characters of an encoding with two bytes a character look like. In this order: the frequent Korean
# ones have first bytes of which Chinese ones have more.
_DOUBLE_BYTE = {
    "EUC-KR": re.compile(rb"[\xb0-\xc8\xa1-\xa3][\xa1-\xfe]"),
    "GB18030": re.compile(rb"[\xb0-\xd7\xa1-\xa3][\xa1-\xfe]"),
    "BIG5": re.compile(rb"[\xa4-\xc6\xa1-\xa3][\x40-\x7e\xa1-\xfe]"),
    "SHIFT_JIS": re.compile(rb"[\x81-\x83\x88-\x9f\xe0-\xe2][\x40-\x7e\x80-\xfc]"),
}


@contextmanager
def open_text(path: Path, newline: str | None = "") -> Iterator[IO[str]]:
    """Open a text file in UTF-8, compressed with gzip or not.

    Raises:
        LxError: It cannot be read, is of another encoding (the line is named) or another kind, or is cut short.
    """
    try:
        try:
            with path.open("rb") as raw, TextIOWrapper(unpack(raw, str(path)), "utf-8-sig", newline=newline) as file:
                yield file
        except UnicodeDecodeError:
            number, line = _undecodable(path)
            raise _not_utf8(f"{path}:{number}", line) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged_gzip(str(path), error) from error
    except OSError as error:
        raise unreadable(path, error) from error


def read_lines(raw: BufferedReader, name: str) -> Iterator[str]:
    """Yield the lines of an open binary file in UTF-8, which may be a pipe; it is left open.

    Raises:
        LxError: As :func:`open_text`; ``name`` stands for the file.
    """
    try:
        # What is no UTF-8 comes as lone surrogates, so that its line is known without reading the file again.
        text = TextIOWrapper(unpack(raw, name), "utf-8-sig", errors="surrogateescape")
        try:
            for number, line in enumerate(text, 1):
                if not line.isascii() and _UNDECODED.search(line):
                    raise _not_utf8(f"{name}:{number}", line.encode("utf-8", "surrogateescape"))
                yield line.rstrip("\n")
        finally:
            text.detach()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged_gzip(name, error) from error
    except OSError as error:
        raise LxError(f"{name}: cannot be read: {error.strerror or error}") from error


def unpack(raw: BufferedReader, name: str) -> IO[bytes]:
    """Return a binary file as it is or, if that is what it holds, unpacked by gzip; refuse what is no UTF-8 text.

    Raises:
        LxError: It is of another kind or encoding, by its first bytes.
    """
    head = raw.peek(_HEAD)[:_HEAD]
    if not head.startswith(_GZIP):
        _refuse_other_kinds(head, name)
        return raw
    unpacked = gzip.GzipFile(fileobj=raw)
    _refuse_other_kinds(unpacked.peek(_HEAD)[:_HEAD], name)
    return cast("IO[bytes]", unpacked)


def read_head(path: Path) -> bytes:
    """Return the first bytes of a file, as they lie; raise LxError if it cannot be read or is a Git LFS pointer."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    if head.startswith(_LFS_POINTER):
        _refuse_other_kinds(head, str(path))
    return head


def unreadable(path: Path, error: OSError) -> LxError:
    """Return the error for a file that cannot be opened or read."""
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return LxError(f"{path}: a link to {path.readlink()}, which does not exist. Mend the link or remove it")
    return LxError(f"{path}: cannot be read: {error.strerror or error}")


def _refuse_other_kinds(head: bytes, name: str) -> None:
    if head.startswith(_LFS_POINTER):
        raise LxError(
            f"{name}: a pointer of Git LFS, which stands for the file until it is fetched: run `git lfs pull`"
        )
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise LxError(f"{name}: not a text file but {kind}")
    if head.startswith(_GZIP):
        raise LxError(f"{name}: packed with gzip twice. Unpack it once with gunzip")
    if (encoding := _wide_encoding(head)) is not None:
        raise LxError(
            f"{name}: the encoding is {encoding}, not UTF-8. Convert it: "
            f"`iconv -f {encoding} -t UTF-8 < OLD > NEW`, or save it as UTF-8"
        )


def _wide_encoding(head: bytes) -> str | None:
    """Return UTF-16 or UTF-32, by the mark or by the zeros between Latin letters; None for anything else."""
    for mark, encoding in _MARKS.items():
        if head.startswith(mark):
            return encoding
    for encoding, width, zeros in (
        ("UTF-32LE", 4, (1, 2, 3)),
        ("UTF-32BE", 4, (0, 1, 2)),
        ("UTF-16LE", 2, (1,)),
        ("UTF-16BE", 2, (0,)),
    ):
        units = [head[start : start + width] for start in range(0, len(head) // width * width, width)]
        wide = sum(all((unit[i] == 0) == (i in zeros) for i in range(width)) for unit in units)
        if len(units) >= 4 and wide > 0.7 * len(units):
            return encoding
    return None


def _not_utf8(where: str, line: bytes) -> LxError:
    byte = _UNDECODED.findall(line.decode("utf-8", "surrogateescape"))[0]
    guess = _guess_encoding(line)
    others = [name for name in ("GB18030", "BIG5", "SHIFT_JIS", "EUC-KR", "CP1252") if name != guess]
    return LxError(
        f"{where}: not UTF-8 (byte 0x{ord(byte) - 0xDC00:02x}). Save the file as UTF-8, for example with "
        f"`iconv -f {guess} -t UTF-8 < OLD > NEW`, where {guess} is a guess; it may be {', '.join(others)} or another"
    )


def _guess_encoding(line: bytes) -> str:
    """Return the first encoding of ``_DOUBLE_BYTE`` that explains nearly all bytes beyond ASCII; else CP1252."""
    num_beyond = sum(byte >= 0x80 for byte in line)
    for encoding, character in _DOUBLE_BYTE.items():
        left = sum(byte >= 0x80 for byte in character.sub(b"", line))
        enough = 24 if encoding == "EUC-KR" else 4  # a few Chinese characters may well have the first bytes of Korean
        if num_beyond >= enough and left <= 0.15 * num_beyond:
            return encoding
    return "CP1252"


def _damaged_gzip(name: str, error: Exception) -> LxError:
    return LxError(f"{name}: not a gzip file, or one that was cut short: {error}")


def _undecodable(path: Path) -> tuple[int, bytes]:
    """Find the first line that is not UTF-8; called only once decoding has failed."""
    with path.open("rb") as raw:
        for number, line in enumerate(unpack(raw, str(path)), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number, line
    raise AssertionError(f"{path} has changed while it was read")
