"""Checks the texts of rows as they are read, and gathers rows into chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lx.data.sources.base import CHUNK, Rows
from lx.errors import LxError


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


class RowBuffer:
    """Takes rows one by one and yields them in chunks.

    Args:
        path: The file they come from, for messages.
        columns: What the values of a row are.
    """

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self.is_empty = True
        self._has_pairs = columns.pair is not None
        self._has_labels = columns.label is not None
        self._clear()

    def _clear(self) -> None:
        self._texts: list[str | None] = []
        self._pairs: list[str | None] = []
        self._labels: list[Any] = []
        self._row_numbers: list[int] = []

    def add(self, row_number: int, *values: object) -> Iterator[Rows]:
        """Take text, second text if there is one, and label if it is read; yield a chunk when it is full."""
        self.is_empty = False
        for text in values[:-1] if self._has_labels else values:
            if text is not None and type(text) is not str:
                raise LxError(
                    f"{self.path}:{row_number}: the text is {kind_of(text)}, not a string. "
                    "Is data.text the right column?"
                )
        self._texts.append(cast("str | None", values[0]))
        if self._has_pairs:
            self._pairs.append(cast("str | None", values[1]))
        if self._has_labels:
            self._labels.append(values[-1])
        self._row_numbers.append(row_number)
        if len(self._texts) == CHUNK:
            yield from self.rest()

    def rest(self) -> Iterator[Rows]:
        """Yield the rows that are not in a chunk yet."""
        if self._texts:
            pairs = self._pairs if self._has_pairs else None
            rows = Rows(self._texts, pairs, self._labels, self._row_numbers[0], self._row_numbers)
            self._clear()
            yield rows


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
