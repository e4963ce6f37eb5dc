"""The rows read from a table: checked, and gathered into chunks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.columns import Columns
from lx.errors import LxError

Record = tuple[int, Sequence[Any]]
"""A row: its line or row number, and its values in the columns to read, in the order of :meth:`Columns.find`."""


def in_chunks(path: Path, columns: Columns, records: Iterable[Record]) -> Iterator[Rows]:
    """Gather the rows of a file, a few thousand at a time; raise LxError for a text that is not a string."""
    num_texts, num_named = (1 if columns.pair is None else 2), len(columns.named())
    checked = _with_checked_texts(path, columns, num_texts, records)
    while chunk := list(islice(checked, CHUNK)):
        row_numbers = [number for number, _ in chunk]
        texts, *others = (list(column) for column in zip(*(values for _, values in chunk), strict=True))
        pairs = others[0] if num_texts == 2 else None
        labels = others[num_texts - 1] if columns.label is not None else []
        ids = others[-1] if len(others) == num_named else None
        yield Rows(texts, pairs, labels, row_numbers[0], row_numbers, ids)


def _with_checked_texts(path: Path, columns: Columns, num_texts: int, records: Iterable[Record]) -> Iterator[Record]:
    for number, values in records:
        for text in values[:num_texts]:
            if text is not None and type(text) is not str:
                option = columns.options[0 if type(values[0]) not in (str, type(None)) else 1]
                advice = f"Is it the right column? Set {option}..."
                if type(text) is dict:
                    advice = "Write a row a line; from pandas: to_json(FILE, orient='records', lines=True)"
                raise LxError(f"{path}:{number}: the text is {kind_of(text)}, not a string. {advice}")
        yield number, values


def split_label(label: Any, separator: str | None) -> Any:
    """Split a label that is text into a list, without white space and empty parts; leave any other as it is."""
    if separator is None or not isinstance(label, str):
        return label
    return [part for piece in label.split(separator) if (part := piece.strip())]


def kind_of(value: object) -> str:
    """Name the kind of a value, for messages."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN, a missing value"
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a fraction",
        str: "a string",
        bytes: "binary data",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), f"a {type(value).__name__}")
