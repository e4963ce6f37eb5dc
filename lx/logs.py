"""What a run says: lx's own lines on standard error and in ``log.txt``; other libraries' only in ``log.txt``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OTHERS = ("lightning.pytorch", "lightning.fabric", "py.warnings")


class _Screen(logging.Handler):
    """Writes to whatever standard error is at the time: a live progress bar puts itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send log lines of INFO and above to a file, lx's own to standard error as well, while the block runs."""
    file = logging.FileHandler(path, encoding="utf-8", delay=True)
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    screen = _Screen()
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
