"""What a run says: lx's own lines on standard error and in ``log.txt``; other libraries' only in ``log.txt``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_OTHERS = ("lightning.pytorch", "lightning.fabric", "py.warnings")


class _Screen(logging.Handler):
    """Writes to whatever standard error is at the time: a live progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: a disk that takes no more is told of by whoever cannot do without it."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path, on_screen: bool = True) -> Iterator[None]:
    """Send log lines of INFO and above to a file, lx's own to standard error as well, while the block runs.

    Args:
        path: the file; lines are added at its end.
        on_screen: whether standard error gets any; the file of a process that says nothing there gets warnings only.
    """
    file = _File(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    screen = _Screen(logging.INFO if on_screen else logging.CRITICAL)
    if not on_screen:
        file.setLevel(logging.WARNING)  # whatever all processes say is said by the first
    ours = logging.getLogger("lx")
    level, ours_propagates = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    others = [logging.getLogger(name) for name in _OTHERS]
    kept = [(logger, logger.handlers, logger.propagate) for logger in others]
    logging.captureWarnings(True)
    ours.addHandler(file)
    ours.addHandler(screen)
    for logger in others:
        logger.handlers, logger.propagate = [file], False
    try:
        yield
    finally:
        for logger, handlers, propagate in kept:
            logger.handlers, logger.propagate = handlers, propagate
        logging.captureWarnings(False)
        ours.removeHandler(file)
        ours.removeHandler(screen)
        ours.propagate = ours_propagates
        ours.setLevel(level)
        file.close()
