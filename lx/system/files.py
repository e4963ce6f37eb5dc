"""Files that a reader sees whole or not at all, and that survive a crash of the machine."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lx.errors import LxError

_NUMBERS = re.compile(r"\[\n\s+([-+.,\deE\s]+?)\n\s+\]")  # a line feed is never within a JSON string


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, and rename it to ``path``, synced to the disk, if the block succeeds.

    Raises:
        LxError: it cannot be written; what ``path`` held before is still there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # a name that cannot be guessed
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise LxError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """Give the path to write for a file that a person has named: as :func:`atomic_write`, and what it is stays.

    Links are followed, and an existing file keeps its permissions. A pipe, a device and a file with several names are
    written in place.

    Raises:
        LxError: it cannot be written.
    """
    try:
        status = _file_status(path)
        if _is_written_in_place(status):
            yield path
            return
        target = Path(os.path.realpath(path))
        if target.is_symlink():  # as it stays if it leads to itself
            raise LxError(f"cannot write {path}: its links go in a circle")
        with atomic_write(target) as temporary:
            yield temporary
            if status is not None:
                temporary.chmod(stat.S_IMODE(status.st_mode))
    except OSError as error:
        raise LxError(f"cannot write {path}: {error.strerror or error}") from error


def check_output(path: Path) -> None:
    """Raise LxError if :func:`output_file` may not write there, for a command that works long before it writes."""
    target = path
    if not _is_written_in_place(_file_status(path)):
        target = Path(os.path.realpath(path)).parent
        if not target.is_dir():
            raise LxError(f"cannot write {path}: there is no directory {target}")
    if not os.access(target, os.W_OK):
        raise LxError(f"cannot write {path}: you may not write to {target}")


def _file_status(path: Path) -> os.stat_result | None:
    """Return the status of a file, None if it is not there; raise LxError if it is a directory."""
    status = path.stat() if path.exists() else None
    if status is not None and stat.S_ISDIR(status.st_mode):
        raise LxError(f"cannot write {path}: it is a directory")
    return status


def _is_written_in_place(status: os.stat_result | None) -> bool:
    return status is not None and (not stat.S_ISREG(status.st_mode) or status.st_nlink > 1)


def as_argument(path: Path) -> str:
    """Return a path as an argument of a command, which takes a leading hyphen for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def sync_directory(path: Path) -> None:
    """Sync the names in a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write_json(path: Path, content: Any) -> None:
    """Write a JSON file; a reader sees the old content or the new, never a mixture."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(content), encoding="utf-8")


def to_json(content: Any) -> str:
    """Format JSON for people: indented, a list of numbers on one line."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


def link_or_copy(source: Path, target: Path) -> None:
    """Give an unchanging file a second name: by a hard link, or a copy where the file system has none."""
    with atomic_write(target) as temporary:
        try:
            temporary.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, temporary)
