"""Send lx's log lines to standard error and ``log.txt``, and those of other libraries to ``log.txt`` only."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from typing_extensions import override

from lx.system.output import escape, say

_OTHERS = ("lightning.pytorch", "lightning.fabric", "py.warnings")


class _Screen(logging.Handler):
    """Writes to ``sys.stderr`` as it is at the time: a live progress bar replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record), sys.stderr)


class _Escaping(logging.Formatter):
    """Formats lines that a terminal may be shown as they are."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return escape(super().format(record))


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Do nothing: a full disk is reported where a file is needed."""

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path, on_screen: bool = True) -> Iterator[None]:
    """Append log lines of INFO and above to a file, and write lx's own to standard error too, while the block runs.

    Without ``on_screen`` nothing is written to standard error, and the file gets warnings only.
    """
    file = _File(path, encoding="utf-8", delay=True)
    file.setFormatter(_Escaping("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    screen = _Screen(logging.INFO if on_screen else logging.CRITICAL)
    if not on_screen:
        file.setLevel(logging.WARNING)  # the first process logs the rest
    lx_logger = logging.getLogger("lx")
    level, propagates = lx_logger.level, lx_logger.propagate
    lx_logger.setLevel(logging.INFO)
    lx_logger.propagate = False
    others = [logging.getLogger(name) for name in _OTHERS]
    before = [(logger, logger.handlers, logger.propagate) for logger in others]
    logging.captureWarnings(True)
    lx_logger.addHandler(file)
    lx_logger.addHandler(screen)
    for logger in others:
        logger.handlers, logger.propagate = [file], False
    try:
        yield
    finally:
        for logger, handlers, propagate in before:
            logger.handlers, logger.propagate = handlers, propagate
        logging.captureWarnings(False)
        lx_logger.removeHandler(file)
        lx_logger.removeHandler(screen)
        lx_logger.propagate = propagates
        lx_logger.setLevel(level)
        file.close()
