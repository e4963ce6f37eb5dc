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


PROBABILITY = Range(lambda value: 0 <= value < 1, "from 0 up to, but not including, 1")
COUNT_OR_NULL = at_least(1, "at least 1, or null")
VALIDATION_INTERVAL = Range(
    lambda value: 0 < value < 1 or (isinstance(value, int) and value >= 1),
    "a whole number of steps, a share of an epoch between 0 and 1, or null",
)

# Of settings that are not in lx.config.schema, since not every option of their group has them.
RANGES: dict[str, Range] = {
    "tokenizer.vocab_size": at_least(5, "at least 5: there are 4 special tokens"),
    "model.dim": at_least(1),
    "model.num_layers": at_least(1),
    "model.num_heads": at_least(1),
    "model.dropout": PROBABILITY,
    "model.embedding_dropout": PROBABILITY,
    "model.head_dropout": PROBABILITY,
    "model.token_dropout": PROBABILITY,
    "task.label_smoothing": PROBABILITY,
    "optimizer.lr": above_zero(),
    "optimizer.weight_decay": at_least(0, "0 or more"),
}
