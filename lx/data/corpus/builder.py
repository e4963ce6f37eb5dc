"""Builds a corpus from a source, one bounded piece after another."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lx.data.corpus.labels import LabelTable
from lx.data.corpus.report import CorpusReport, count_shared, report_split
from lx.data.corpus.split import cut_validation
from lx.data.corpus.storage import RowWriter, renumber
from lx.data.sources.base import Rows, Source
from lx.errors import LxError

CODE_VERSION = 1
"""Raised whenever the same source would give another corpus."""


@dataclass(frozen=True)
class _Part:
    """One split on its way: where its rows lie, and what is known of each."""

    file: str
    origin: str
    dropped: int
    rows: NDArray[np.int64]
    labels: NDArray[np.int32]
    hashes: NDArray[np.uint64]

    def only(self, chosen: NDArray[np.bool_]) -> _Part:
        """The part that holds just the chosen rows."""
        return replace(self, rows=self.rows[chosen], labels=self.labels[chosen], hashes=self.hashes[chosen])


class CorpusBuilder:
    """Reads each split of a source, numbers the classes, cuts validation, and writes it all down.

    Args:
        source: Where the rows come from.
        drop_empty: Whether rows with an empty text are left out rather than refused.
        fraction: Share of train that becomes validation where there is none.
        seed: Chooses those rows.
    """

    def __init__(self, source: Source, *, drop_empty: bool, fraction: float, seed: int) -> None:
        self._source = source
        self._drop_empty = drop_empty
        self._fraction = fraction
        self._seed = seed
        self._table = LabelTable(source.class_names)
        self._has_pairs = False

    def build(self, folder: Path) -> None:
        """Fill an empty folder with the corpus."""
        parts = {split: self._read(split, folder) for split in self._source.splits}
        new_ids = self._table.settle()
        for split, part in parts.items():
            renumber(folder / part.file, new_ids)
            parts[split] = replace(part, labels=new_ids[part.labels])
        was_cut = "validation" not in parts
        if was_cut:
            parts["train"], parts["validation"] = self._cut(parts["train"])
        parts = {split: parts[split] for split in ("train", "validation", "test") if split in parts}
        for split, part in parts.items():
            np.save(folder / f"{split}.rows.npy", part.rows)
            np.save(folder / f"{split}.labels.npy", part.labels)
        names = tuple(self._table.names)
        report = CorpusReport(
            class_names=names,
            splits={
                split: report_split(part.origin, part.dropped, part.labels, part.hashes, len(names))
                for split, part in parts.items()
            },
            shared=count_shared({split: part.hashes for split, part in parts.items()}),
            validation_was_cut=was_cut,
        )
        state = {
            "files": {split: part.file for split, part in parts.items()},
            "has_pairs": self._has_pairs,
            "report": report.to_dict(),
        }
        (folder / "corpus.json").write_text(json.dumps(state, ensure_ascii=False), "utf-8")

    def _read(self, split: str, folder: Path) -> _Part:
        """Write the rows of one split to an Arrow file of their own."""
        path = folder / f"{split}.arrow"
        origin = self._source.describe(split)
        pieces = self._source.read(split)
        first = next(pieces, None)
        if first is None:
            raise LxError(f"{origin}: the {split} split has no rows")
        self._has_pairs = first.pairs is not None
        empty, first_empty = 0, ""
        with RowWriter(path, has_pairs=self._has_pairs) as writer:
            piece: Rows | None = first
            while piece is not None:
                kept = _full_rows(piece)
                if len(kept) < len(piece.texts):
                    empty += len(piece.texts) - len(kept)
                    first_empty = first_empty or self._where(split, piece, _first_gap(kept))
                if kept:
                    self._write(writer, split, piece, kept)
                piece = next(pieces, None)
        if empty and not self._drop_empty:
            raise LxError(
                f"{first_empty}: the text is empty, as in {empty:,} row(s) of the {split} split. "
                "Fill them in, or set data.on_empty=drop to leave them out"
            )
        labels = writer.labels
        if not len(labels):
            raise LxError(f"{origin}: no rows are left in the {split} split: all {empty:,} texts are empty")
        if split == "train" and (labels == labels[0]).all():
            raise LxError(
                f"{origin}: every row has the label {self._table.names[labels[0]]!r}, and a classifier needs "
                "two classes. Is data.label the right column?"
            )
        return _Part(path.name, origin, empty, np.arange(len(labels)), labels, writer.hashes)

    def _write(self, writer: RowWriter, split: str, piece: Rows, kept: list[int]) -> None:
        """Clean, label and write the kept rows of a piece."""
        texts = [str(piece.texts[row]).strip() for row in kept]
        pairs = None if piece.pairs is None else [str(piece.pairs[row]).strip() for row in kept]
        labels = self._table.encode([piece.labels[row] for row in kept], learn=split == "train")
        unknown = np.flatnonzero(labels < 0)
        if len(unknown):
            row = kept[unknown[0]]
            raise self._table.refusal(self._where(split, piece, row), piece.labels[row])
        whole = texts if pairs is None else [f"{a}\0{b}" for a, b in zip(texts, pairs, strict=True)]
        try:
            hashes = _hash(whole)
        except UnicodeEncodeError as error:
            row = kept[whole.index(error.object)]
            raise LxError(
                f"{self._where(split, piece, row)}: the text holds half of a surrogate pair, which is no "
                "character. Save the file anew as UTF-8"
            ) from None
        writer.write(texts, pairs, labels, hashes, [piece.place(row) for row in kept])

    def _where(self, split: str, piece: Rows, row: int) -> str:
        return self._source.locate(split, piece.place(row))

    def _cut(self, train: _Part) -> tuple[_Part, _Part]:
        """Train without, and validation with, the rows that are cut from train."""
        chosen = cut_validation(train.labels, train.hashes, fraction=self._fraction, seed=self._seed)
        if not chosen.any():
            raise LxError(
                f"{train.origin}: no validation split can be cut from {len(chosen):,} row(s) with a row of "
                "each class left in train. Give more rows, or a file of its own by data.validation=..."
            )
        return train.only(~chosen), replace(train.only(chosen), origin=f"cut from {train.origin}", dropped=0)


def _full_rows(piece: Rows) -> list[int]:
    """The rows whose text, and second text if the task has one, hold more than white space."""
    if piece.pairs is None:
        return [row for row, text in enumerate(piece.texts) if text and not text.isspace()]
    both = zip(piece.texts, piece.pairs, strict=True)
    return [row for row, (a, b) in enumerate(both) if a and b and not a.isspace() and not b.isspace()]


def _first_gap(kept: list[int]) -> int:
    """The first row that is not among the kept ones."""
    return next((row for row, index in enumerate(kept) if row != index), len(kept))


def _hash(texts: list[str]) -> NDArray[np.uint64]:
    """64 bits of each text; among five million, two agree by chance once in 1.5 million corpora."""
    joined = b"".join(blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(joined, "<u8").astype(np.uint64)
