"""The errors that a person can mend."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class LxError(Exception):
    """Bad input or configuration: what is wrong, where, and what to do about it.

    The command line prints the message alone, without a traceback, and exits with ``exit_code``.
    """

    exit_code = 2


class ArgumentError(LxError):
    """A bad argument. The message begins with the argument's name, to which `lx.config.instantiate` adds its key."""


class TrainingError(LxError):
    """Training cannot go on: the disk is full, the loss is not a number, a process died. What was saved stays."""

    exit_code = 1


class RanksLostError(TrainingError):
    """Another rank is gone, which is its error, not this one's."""


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` if something known is close to ``word``, else nothing."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6) or [n for n in known if n.lower() == word.lower()]
    return f" (did you mean {close[0]!r}?)" if close else ""


def shorten(names: Sequence[str], most: int = 20) -> str:
    """Join names for a message; of a long list only the first and the number of the others."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest
