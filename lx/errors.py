"""The errors that a person can mend."""

from __future__ import annotations

from collections.abc import Sequence

_LONGEST = 80  # characters of a name that a message shows


class LxError(Exception):
    """Bad input or configuration: what is wrong, where, and what to do about it.

    The command line prints the message alone, without a traceback, and exits with ``exit_code``.
    """

    exit_code = 2


class ArgumentError(LxError):
    """A bad argument. The message begins with the argument's name, to which `lx.config.instantiate` adds its key."""


class MissingDataError(LxError):
    """The data is not where a setting says: it may have moved."""


class TrainingError(LxError):
    """Training cannot go on: the disk is full, the loss is not a number, a process died. What was saved stays."""

    exit_code = 1


class UploadError(LxError):
    """What was recorded has not arrived where it should go; it stays on this machine."""

    exit_code = 1


class RanksLostError(TrainingError):
    """Another rank is gone, which is its error, not this one's."""


def require_list(argument: str, value: object) -> None:
    """Raise LxError if an argument that takes several strings was given a single one, each of whose letters is one."""
    if isinstance(value, str):
        raise LxError(f"{argument} is a single string, not a list of strings: give [{quote(value)}]")


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`` (did you mean 'x'?)`` if something known is close to ``word``, else nothing."""
    import difflib  # not for a command that goes well

    if len(word) > _LONGEST:
        return ""
    short = [name for name in known if len(name) <= _LONGEST]
    close = difflib.get_close_matches(word, short, n=1, cutoff=0.6) or [n for n in short if n.lower() == word.lower()]
    return f" (did you mean {quote(close[0])}?)" if close else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its kind if it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def shorten(names: Sequence[str], most: int = 20) -> str:
    """Join names for a message; of a long list only the first and the number of the others, of a long name its ends."""
    shown: list[str] = []
    length = 0
    for name in map(printable, map(str, names[:most])):
        length += len(name)
        if shown and length > 5 * _LONGEST:
            break
        shown.append(name)
    rest = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + rest


def shorten_text(text: str, most: int = _LONGEST) -> str:
    """Return a text for a message; of a long one the beginning and the end."""
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def quote(text: str) -> str:
    """Return a text between quotation marks for a message: on one line, shortened, with control codes escaped."""
    return repr(shorten_text(text))


def printable(text: str) -> str:
    """Return a text for a message: on one line, shortened, what cannot be printed escaped."""
    shown = shorten_text(text)
    return shown if shown.isprintable() else repr(shown)[1:-1]
