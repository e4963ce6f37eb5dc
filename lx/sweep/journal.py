"""Optuna's journal in one file, which survives ``kill -9``, a full disk and relative paths."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

_READ_BYTES = 1 << 16


class KernelLock:
    """A lock that the kernel releases when its holder dies; acquiring it cuts off a torn last record.

    A writer that is killed or runs out of disk space during a write leaves a line without its newline. The next record
    would be appended to that line, and once another record follows, the journal could not be read any more.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._path = journal.with_name(f".{journal.name}.lock")
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the lock, then repair the journal."""
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o666)
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)
        cut_torn_record(self._journal)
        return True

    def release(self) -> None:
        """Let go of the lock."""
        os.close(self._descriptor)


def cut_torn_record(journal: Path) -> None:
    """Truncate a file behind its last newline, or to nothing if it has none."""
    with journal.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        keep = end
        while keep > 0:
            start = max(0, keep - _READ_BYTES)
            file.seek(start)
            newline = file.read(keep - start).rfind(b"\n")
            keep = start + newline + 1 if newline >= 0 else start
            if newline >= 0:
                break
        if keep < end:
            file.truncate(keep)


def open_journal(path: Path) -> JournalStorage:
    """Open or create the journal of a sweep.

    Args:
        path: made absolute here, since Optuna's own code waits forever at a relative one whose lock is stale.
    """
    path = path.resolve()
    path.touch()
    lock = KernelLock(path)
    lock.acquire()
    lock.release()
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))  # type: ignore[arg-type]  # the base class is private
