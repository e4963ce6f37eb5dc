"""Let one process at a time train in a run directory."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from lx.errors import LxError
from lx.run.directory import RunDirectory

# A killed process holds its lock until its memory is freed, which takes a moment.
_WAIT_S = 3.0
_IN_USE = "{} is being trained by another process at this moment"


@contextmanager
def locked(run: RunDirectory) -> Iterator[None]:
    """Lock a run directory while the block runs, or raise LxError; the system frees the lock of a process that dies."""
    with run.lock.open("a") as file:
        if not _acquire(file, _WAIT_S):
            raise LxError(_IN_USE.format(run.path))
        yield


def require_idle(run: RunDirectory) -> None:
    """Raise LxError if another process trains in a run directory."""
    if in_use(run, _WAIT_S):
        raise LxError(_IN_USE.format(run.path))


def in_use(run: RunDirectory, wait_s: float = 0.0) -> bool:
    """Return whether another process trains in a run directory; wait ``wait_s`` seconds for it to end.

    The process that holds the lock must not call this.
    """
    if not run.lock.exists():
        return False
    with run.lock.open("a") as file:
        return not _acquire(file, wait_s)


def _acquire(file: IO[str], wait_s: float) -> bool:
    # Not flock: loader processes inherit such a lock, and hold it for a while after this process has ended.
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        else:
            return True
