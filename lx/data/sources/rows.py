"""The columns of a table, and the rows read from them: checked, and gathered into chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lx.data.sources.base import CHUNK, Rows
from lx.errors import LxError, did_you_mean

Record = tuple[int, Sequence[Any]]
"""A row: its line or row number, and its values in the columns to read, in the order of :meth:`Columns.names`."""


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; ``pair`` is None for single texts, ``label`` if labels are not needed."""

    text: str
    pair: str | None
    label: str | None

    def keys(self) -> dict[str, str]:
        """Return each column to read, by the config key that names it: text, text pair, label."""
        columns = {"data.text": self.text, "data.text_pair": self.pair, "data.label": self.label}
        return {key: column for key, column in columns.items() if column is not None}

    def names(self) -> list[str]:
        """Return the columns to read: text, text pair, label."""
        return list(self.keys().values())

    def require(self, where: str, known: Sequence[str]) -> None:
        """Raise LxError, with the columns there are and the key to set, if a column to read is not among them."""
        for key, column in self.keys().items():
            if column not in known:
                raise LxError(
                    f"{where}: there is no column {column!r}{did_you_mean(column, known)}. "
                    f"The columns are: {', '.join(known)}. Set {key}=..."
                )


def in_chunks(path: Path, columns: Columns, records: Iterable[Record]) -> Iterator[Rows]:
    """Gather the rows of a file, a few thousand at a time; raise LxError for a text that is not a string."""
    num_texts = 1 if columns.pair is None else 2
    checked = _with_checked_texts(path, num_texts, records)
    while chunk := list(islice(checked, CHUNK)):
        row_numbers = [number for number, _ in chunk]
        texts, *others = (list(column) for column in zip(*(values for _, values in chunk), strict=True))
        pairs = others[0] if num_texts == 2 else None
        yield Rows(texts, pairs, others[-1] if columns.label is not None else [], row_numbers[0], row_numbers)


def _with_checked_texts(path: Path, num_texts: int, records: Iterable[Record]) -> Iterator[Record]:
    for number, values in records:
        for text in values[:num_texts]:
            if text is not None and type(text) is not str:
                raise LxError(
                    f"{path}:{number}: the text is {kind_of(text)}, not a string. Is data.text the right column?"
                )
        yield number, values


def split_label(label: Any, separator: str | None) -> Any:
    """Split a label that is text into a list, without white space and empty parts; leave any other as it is."""
    if separator is None or not isinstance(label, str):
        return label
    return [part for piece in label.split(separator) if (part := piece.strip())]


def kind_of(value: object) -> str:
    """Name the kind of a value, for messages."""
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a fraction",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
