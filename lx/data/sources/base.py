"""What a source of labelled texts offers; files, the Hub and the docstring corpus are its kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lx.errors import LxError, did_you_mean

CHUNK = 4096
"""Rows that a source hands over at a time: what bounds the memory of everything that reads one."""


@dataclass(frozen=True)
class Rows:
    """A piece of a split, as read: nothing cleaned, labels not yet numbered.

    Attributes:
        texts: One text a row; ``None`` where the data has none.
        pairs: The second text of each row, or ``None`` if the task has no second text.
        labels: One label a row, as the data spells it.
        first: Place (line or row number, from 1) of the first row.
        places: The place of each row, where places do not simply count up from ``first``.
    """

    texts: list[str | None]
    pairs: list[str | None] | None
    labels: list[str | int | None]
    first: int
    places: Sequence[int] | None = None

    def place(self, row: int) -> int:
        """The place of one row of this piece."""
        return self.first + row if self.places is None else self.places[row]


class Source(Protocol):
    """Labelled texts in one to three splits, read in pieces so that memory stays bounded."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Which of "train", "validation" and "test" there are, in that order."""

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The class names in label-id order where the source knows them."""

    def fingerprint(self) -> str:
        """A short text that changes whenever the rows would; cheap beside reading them."""

    def read(self, split: str) -> Iterator[Rows]:
        """The rows of a split, in order."""

    def describe(self, split: str) -> str:
        """A name for a split in messages, such as ``train.csv``."""

    def locate(self, split: str, place: int) -> str:
        """A name for one row in messages, such as ``train.csv:17``."""


def missing_column(where: str, key: str, column: str, known: Sequence[str]) -> LxError:
    """The error for a column that is not there: says which there are, and which key to set."""
    return LxError(
        f"{where}: there is no column {column!r}{did_you_mean(column, known)}. "
        f"The columns are: {', '.join(known)}. Set {key}=..."
    )
