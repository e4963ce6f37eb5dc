"""Builds a corpus from a source in bounded memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.config.schema import DataSettings
from lx.data.corpus.clean import read_clean
from lx.data.corpus.labels import FEW_ROWS, LabelEncoder
from lx.data.corpus.report import CorpusReport, SplitReport, count_conflicts, count_repeats, count_shared
from lx.data.corpus.split import stratified_split
from lx.data.corpus.storage import convert_labels, row_schema, to_record_batch
from lx.data.sources.base import Source, SourceWithNotes
from lx.errors import LxError

ROWS_VERSION = 1
"""Raised whenever the same source would give other rows or labels: runs trained on the others cannot be resumed."""

FILES_VERSION = 4
"""Raised whenever the same corpus would be stored in other files: it is then built again."""


@dataclass(frozen=True)
class _Draft:
    """A split while the corpus is built: where its rows lie, and what is known of each."""

    file: str
    origin: str
    dropped: int
    rows: NDArray[np.int64]
    labels: pa.Array
    hashes: NDArray[np.uint64]
    notes: Sequence[str]

    def select(self, chosen: NDArray[np.bool_]) -> _Draft:
        """Return a draft of the chosen rows alone."""
        return replace(
            self, rows=self.rows[chosen], labels=self.labels.filter(pa.array(chosen)), hashes=self.hashes[chosen]
        )


class CorpusBuilder:
    """Reads each split of a source, settles its labels, splits off validation, and writes it all down."""

    def __init__(
        self,
        source: Source,
        encoder: LabelEncoder,
        options: DataSettings,
        validation_fraction: Callable[[int], float] | None = None,
    ) -> None:
        """``validation_fraction``, given the number of rows, takes the place of the option of that name."""
        self._source = source
        self._encoder = encoder
        self._options = options
        self._validation_fraction = validation_fraction or (lambda num_rows: options.validation_fraction)
        self._has_pairs = False

    def build(self, folder: Path) -> None:
        """Fill an empty folder with the corpus."""
        drafts = {split: self._read(split, folder) for split in self._source.splits}
        if (convert := self._encoder.finish()) is not None:
            for split, draft in drafts.items():
                convert_labels(folder / draft.file, convert)
                drafts[split] = replace(draft, labels=convert(draft.labels))
        was_split = "validation" not in drafts
        if was_split:
            drafts["train"], drafts["validation"] = self._split_off_validation(drafts["train"])
        drafts = {split: drafts[split] for split in ("train", "validation", "test") if split in drafts}
        for split, draft in drafts.items():
            np.save(folder / f"{split}.rows.npy", draft.rows)
        report = CorpusReport(
            labels=self._encoder.description,
            spread_heading=self._encoder.spread_heading,
            splits={split: self._report(draft) for split, draft in drafts.items()},
            shared=count_shared({split: draft.hashes for split, draft in drafts.items()}),
            validation_was_split_off=was_split,
        )
        state = {
            "files": {split: draft.file for split, draft in drafts.items()},
            "has_pairs": self._has_pairs,
            "label_encoding": self._encoder.fingerprint(),
            "label_set": self._encoder.label_set(drafts["train"].labels),
            "report": asdict(report),
        }
        (folder / "corpus.json").write_text(json.dumps(state, ensure_ascii=False), "utf-8")

    def _read(self, split: str, folder: Path) -> _Draft:
        """Write the rows of one split to an Arrow file of their own."""
        path = folder / f"{split}.arrow"
        origin = self._source.describe(split)
        chunks = read_clean(self._source, split, self._encoder, learn=split == "train")
        first = next(chunks, None)
        if first is None:
            raise LxError(f"{origin}: the {split} split has no rows")
        self._has_pairs = first.pairs is not None
        num_empty, first_empty = 0, None
        labels: list[pa.Array] = []
        hashes: list[NDArray[np.uint64]] = []
        schema = row_schema(self._encoder.column_type, has_pairs=self._has_pairs)
        with pa.ipc.new_file(str(path), schema) as writer:
            for rows in chain([first], chunks):
                num_empty += len(rows.empty)
                first_empty = first_empty or next(iter(rows.empty), None)
                if rows.texts:
                    writer.write_batch(to_record_batch(rows, schema))
                    labels.append(rows.labels)
                    hashes.append(rows.hashes)
        if first_empty is not None and self._options.on_empty == "error":
            raise LxError(
                f"{self._source.locate(split, first_empty)}: the text is empty, as in {num_empty:,} row(s) of the "
                f"{split} split. Fill them in, or set data.on_empty=drop to leave them out"
            )
        if not labels:
            raise LxError(f"{origin}: no rows are left in the {split} split: all {num_empty:,} texts are empty")
        all_labels = pa.concat_arrays(labels)
        if split == "train":
            self._encoder.check_train(all_labels, origin)
        notes = self._source.notes(split) if isinstance(self._source, SourceWithNotes) else ()
        rows_kept = np.arange(len(all_labels))
        return _Draft(path.name, origin, num_empty, rows_kept, all_labels, np.concatenate(hashes), notes)

    def _split_off_validation(self, train: _Draft) -> tuple[_Draft, _Draft]:
        """Return train without, and validation with, the rows that are taken from train."""
        groups = self._encoder.groups(train.labels)
        fraction = self._validation_fraction(len(train.rows))
        chosen = stratified_split(groups, train.hashes, fraction=fraction, seed=self._options.split_seed)
        if not chosen.any():
            raise LxError(
                f"{train.origin}: no validation split can be cut from {len(chosen):,} row(s) with a row of "
                f"each class left in train. {self._why_not_split(groups, train.hashes)}"
            )
        return train.select(~chosen), replace(
            train.select(chosen), origin=f"cut from {train.origin}", dropped=0, notes=()
        )

    def _why_not_split(self, groups: NDArray[np.int64], hashes: NDArray[np.uint64]) -> str:
        num_rows, num_groups, num_texts = len(groups), len(np.unique(groups)), len(np.unique(hashes))
        if 2 * num_groups > num_rows >= FEW_ROWS:
            return f"There are {num_groups:,} classes for {num_rows:,} rows: is data.label the right column?"
        if num_rows >= FEW_ROWS and 2 * count_conflicts(hashes, groups) > num_texts:
            return (
                f"Most of the {num_texts:,} texts stand under more than one label: are data.text and data.label the "
                "right columns? If a text may have several labels, take task=multilabel, with a row for each text"
            )
        return "Give more rows, or a file of its own by data.validation=..."

    def _report(self, draft: _Draft) -> SplitReport:
        return SplitReport(
            origin=draft.origin,
            rows=len(draft.rows),
            dropped=draft.dropped,
            labels=self._encoder.report(draft.labels),
            repeats=count_repeats(draft.hashes),
            conflicts=count_conflicts(draft.hashes, self._encoder.groups(draft.labels)),
            notes=draft.notes,
        )
