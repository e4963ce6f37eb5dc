"""Cleaned rows of a source: white space stripped, empty texts left out, labels encoded, texts hashed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.corpus.labels import LabelEncoder
from lx.data.sources.base import Rows, Source
from lx.errors import LxError


@dataclass(frozen=True)
class CleanRows:
    """Rows that can be learned from.

    Attributes:
        texts: Without surrounding white space, and not empty.
        pairs: The second text of each, likewise; None if the data has none.
        labels: Encoded.
        hashes: 64 bits of each text and its pair.
        row_numbers: Line or row of each in the source.
        empty: Line or row of each row that was left out because a text is null or blank.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: pa.Array
    hashes: NDArray[np.uint64]
    row_numbers: list[int]
    empty: list[int]


def read_clean(source: Source, split: str, encoder: LabelEncoder, *, learn: bool) -> Iterator[CleanRows]:
    """Read a split of a source, a few thousand rows at a time; ``learn`` labels that were not met before.

    Raises:
        LxError: A label is invalid, a text is no Unicode, or whatever the source itself refuses.
    """
    for rows in source.read(split):
        full, empty = _full_and_empty(rows)
        texts = [clean(rows.texts[row]) for row in full]
        pairs = None if rows.pairs is None else [clean(rows.pairs[row]) for row in full]
        labels, invalid = encoder.encode([rows.labels[row] for row in full], learn=learn)
        if invalid.any():
            row = full[int(np.argmax(invalid))]
            raise encoder.refusal(source.locate(split, rows.row_number(row)), rows.labels[row])
        joined = texts if pairs is None else [f"{a}\0{b}" for a, b in zip(texts, pairs, strict=True)]
        try:
            hashes = _hash(joined)
        except UnicodeEncodeError as error:
            where = source.locate(split, rows.row_number(full[joined.index(error.object)]))
            raise LxError(
                f"{where}: the text holds half of a surrogate pair, which is no character. Save the file anew as UTF-8"
            ) from None
        numbers = [rows.row_number(row) for row in full]
        yield CleanRows(texts, pairs, labels, hashes, numbers, [rows.row_number(row) for row in empty])


def clean(text: str | None) -> str:
    """Return a text as it is tokenized, without surrounding white space; an empty text for None."""
    return text.strip() if text else ""


def _full_and_empty(rows: Rows) -> tuple[list[int], list[int]]:
    """Return the rows with more than white space in the text (and in the second, if there is one), and the others."""
    if rows.pairs is None:
        is_full = [bool(text) and not text.isspace() for text in rows.texts]  # type: ignore[union-attr]
    else:
        both = zip(rows.texts, rows.pairs, strict=True)
        is_full = [bool(a and b) and not a.isspace() and not b.isspace() for a, b in both]  # type: ignore[union-attr]
    if all(is_full):
        return list(range(len(is_full))), []
    return np.flatnonzero(is_full).tolist(), np.flatnonzero(~np.array(is_full)).tolist()


def _hash(texts: list[str]) -> NDArray[np.uint64]:
    """Return 64 bits of each text; among five million, two agree by chance once in 1.5 million corpora."""
    joined = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, "<u8").astype(np.uint64)
