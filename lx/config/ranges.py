"""The values that settings may take, beyond their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Range(NamedTuple):
    """What must hold of a value unless it is null, and the words that complete "KEY must be ..."."""

    holds: Callable[[Any], bool]
    words: str


def at_least(minimum: int, words: str | None = None) -> Range:
    """A number from ``minimum`` on."""
    return Range(lambda value: value >= minimum, words or f"at least {minimum}")


def above_zero(words: str = "above 0") -> Range:
    """A number above 0."""
    return Range(lambda value: value > 0, words)


def between_zero_and_one(words: str = "between 0 and 1") -> Range:
    """A number between 0 and 1, neither of the two."""
    return Range(lambda value: 0 < value < 1, words)


def one_of(*names: str) -> Range:
    """One of a few words."""
    return Range(lambda value: value in names, f"{', '.join(names[:-1])} or {names[-1]}".removeprefix(" or "))


def count_or_auto(words: str = "at least 1, or auto") -> Range:
    """A number from 1 on, or ``auto``."""
    return Range(lambda value: value == "auto" or (isinstance(value, int) and value >= 1), words)


def text_or_at_least(minimum: int, words: str) -> Range:
    """A number from ``minimum`` on, or text that others check."""
    return Range(lambda value: isinstance(value, str) or value >= minimum, words)


def between(least: float, most: float, words: str | None = None) -> Range:
    """A number from ``least`` to ``most``, both included."""
    return Range(lambda value: least <= value <= most, words or f"from {least} to {most}")


SEED = between(0, 2**32 - 1, "a whole number from 0 to 4294967295")
PROBABILITY = Range(lambda value: 0 <= value < 1, "from 0 up to, but not including, 1")
DECAY_RATES = Range(
    lambda value: len(value) == 2 and all(_is_number(rate) and 0 <= rate < 1 for rate in value),
    "two numbers from 0 up to, but not including, 1",
)
EPSILON = Range(
    lambda value: all(part is None or (_is_number(part) and part >= 0) for part in _as_list(value)), "0 or more"
)
THRESHOLDS = Range(
    lambda value: value in ("shared", "per_label") or (_is_number(value) and 0 < value < 1),
    "shared, per_label, or a number between 0 and 1",
)
AUTO_OR_ABOVE_ZERO = Range(lambda value: value == "auto" or (_is_number(value) and value > 0), "above 0, or auto")
COUNT_OR_NULL = at_least(1, "at least 1, or null")
VALIDATION_INTERVAL = Range(
    lambda value: 0 < value < 1 or (isinstance(value, int) and value >= 1),
    "a whole number of steps, a share of an epoch between 0 and 1, or null",
)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
