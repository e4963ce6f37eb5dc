"""The interface of a source of labelled texts: files, the Hub, the docstring corpus, or a class of the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

CHUNK = 4096
"""Rows that a source yields at a time, so that reading needs bounded memory."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a split, as read: nothing cleaned, labels not yet encoded.

    Attributes:
        texts: One text a row; None where the data has none.
        pairs: The second text of each row, or None if the data has no second text.
        labels: One label a row, as the data spells it; empty if labels were not asked for.
        first: Line or row number (from 1) of the first row.
        row_numbers: The line or row number of each row, where they do not simply count up from ``first``.
        ids: The value of each row in its column of ids, if one was asked for and is there.
    """

    texts: list[str | None]
    pairs: list[str | None] | None
    labels: list[Any]
    first: int
    row_numbers: Sequence[int] | None = None
    ids: list[Any] | None = None

    def row_number(self, row: int) -> int:
        """Return the line or row number of one of these rows."""
        return self.first + row if self.row_numbers is None else self.row_numbers[row]


class Source(Protocol):
    """Labelled texts in one to three splits, read in pieces so that memory stays bounded."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Those of "train", "validation" and "test" that exist, in that order."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names of the labels in label-id order, where the source declares them."""

    def fingerprint(self) -> str:
        """Return a short text that changes whenever the rows would; cheap beside reading them."""

    def read(self, split: str) -> Iterator[Rows]:
        """Yield the rows of a split, in order."""

    def describe(self, split: str) -> str:
        """Return a name for a split in messages, such as ``train.csv``."""

    def locate(self, split: str, row_number: int) -> str:
        """Return a name for one row in messages, such as ``train.csv:17``."""


@runtime_checkable
class SourceWithNotes(Protocol):
    """A source that says what its user should know beside the rows."""

    def notes(self, split: str) -> Sequence[str]:
        """Return sentences on a split, such as what was left out of it."""
