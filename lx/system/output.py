"""Text on its way to people: without control characters, and never the cause of a failure.

Messages, log lines, tables and progress all pass here: `say` prints a line, `lx.system.console` draws with rich on a
`Stream`, and log lines go through `escape`. What comes from data, paths or a stranger's files needs no care elsewhere.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from io import TextIOWrapper
from typing import Any, TextIO

from lx.errors import LxError

# All but tab and line feed: they move the cursor, colour, hide or reorder text; half a surrogate pair has no bytes.
_CONTROL = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"


def escape(text: str) -> str:
    r"""Replace each control character by its escape sequence in Python, such as ``\x1b``."""
    return re.sub(_CONTROL, lambda match: repr(match[0])[1:-1], text)


def say(text: str, file: TextIO | None = None) -> None:
    """Print a line, escaped, on standard output or another stream; a line that cannot be written is dropped."""
    stream = Stream(sys.stdout if file is None else file)
    stream.write(f"{escape(text)}\n")
    stream.flush()


class Stream:
    """A text stream that never fails: what cannot be written is dropped.

    A closed pipe is no news: its reader has seen enough. Any other failure of standard output is reported once.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it."""
        try:
            return self._stream.write(text)
        except OSError as error:
            _drop(self._stream, error)
            return len(text)

    def flush(self) -> None:
        """Write what is held back, or drop it."""
        try:
            self._stream.flush()
        except OSError as error:
            _drop(self._stream, error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class DataStream:
    """Standard output in UTF-8 where a command's result goes there, such as predictions; on a terminal it is escaped.

    A closed pipe raises BrokenPipeError, which ends the command; any other failure raises LxError.
    """

    def __init__(self) -> None:
        self._escape = escape if sys.stdout.isatty() else str
        if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: programs read it

    def write(self, text: str) -> int:
        """Write the text."""
        try:
            return sys.stdout.write(self._escape(text))
        except OSError as error:
            raise _unwritable(error) from error

    def flush(self) -> None:
        """Write what is held back."""
        try:
            sys.stdout.flush()
        except OSError as error:
            raise _unwritable(error) from error


def open_streams() -> None:
    """Make standard output and error usable where this process was started without them, or with a narrow encoding.

    A closed descriptor would be given to the next file that is opened, and printing would write into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    logging.raiseExceptions = False  # a log line of another library that cannot be written is dropped


def flush_streams(code: int) -> int:
    """Write what the standard streams hold back, before this process ends.

    Returns:
        ``code``; that of an LxError if the command had succeeded and its output is lost.
    """
    Stream(sys.stderr).flush()
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop(sys.stdout, error)
        return code or (0 if isinstance(error, BrokenPipeError) else LxError.exit_code)
    return code


def _unwritable(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return LxError(f"cannot write standard output: {error.strerror or error}")


def _drop(stream: TextIO, error: OSError) -> None:
    """Send what is written to a stream from now on, and what it holds back, nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
    if not isinstance(error, BrokenPipeError) and stream.fileno() == 1:
        say(f"lx: cannot write standard output: {error.strerror or error}", sys.stderr)
