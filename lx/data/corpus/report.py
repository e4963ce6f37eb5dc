"""What a person is told about a corpus."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from lx.data.corpus.labels import shorten

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitReport:
    """Facts about one split.

    Attributes:
        origin: Where it comes from, such as ``train.csv``.
        rows: Rows kept.
        dropped: Rows left out because a text was null or blank.
        class_counts: Rows of each class, in class-id order.
        repeats: Rows whose text stands in an earlier row of the split.
        conflicts: Distinct texts that stand under more than one label.
    """

    origin: str
    rows: int
    dropped: int
    class_counts: tuple[int, ...]
    repeats: int
    conflicts: int


@dataclass(frozen=True)
class CorpusReport:
    """Facts about a corpus; printing it with rich shows a table.

    Attributes:
        class_names: In class-id order.
        splits: Facts about each split.
        shared: For "train/test" and the like, how many rows of the second split have a text of the first.
        validation_was_cut: Whether validation is a part of the train data.
    """

    class_names: tuple[str, ...]
    splits: dict[str, SplitReport]
    shared: dict[str, int]
    validation_was_cut: bool

    def warnings(self) -> list[str]:
        """One sentence for each thing that somebody who trusts the numbers should know."""
        found = []
        for name, split in self.splits.items():
            if split.dropped:
                found.append(f"{split.origin}: {split.dropped:,} rows with an empty text were dropped")
            if split.conflicts:
                found.append(f"{name}: {split.conflicts:,} texts stand under more than one label")
            absent = [c for c, count in zip(self.class_names, split.class_counts, strict=True) if not count]
            if absent:
                found.append(f"{name}: no rows of {len(absent)} class(es): {shorten(absent, 5)}")
        for pair, count in self.shared.items():
            if count:
                first, second = pair.split("/")
                share = count / self.splits[second].rows
                found.append(f"{second}: {count:,} rows ({share:.1%}) have a text that also stands in {first}")
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CorpusReport:
        """The report that :meth:`to_dict` was called on."""
        splits = {
            name: SplitReport(**{**split, "class_counts": tuple(split["class_counts"])})
            for name, split in state["splits"].items()
        }
        return cls(**{**state, "class_names": tuple(state["class_names"]), "splits": splits})

    def log(self) -> None:
        """Say one line a split, and every warning, in the log."""
        for name, split in self.splits.items():
            log.info("%s: %d rows from %s, %d repeated texts", name, split.rows, split.origin, split.repeats)
        for warning in self.warnings():
            log.warning("%s", warning)

    def __rich__(self) -> RenderableType:
        cut = "validation is cut from train" if self.validation_was_cut else None
        table = Table("split", title=f"{len(self.class_names)} classes", title_justify="left", caption=cut)
        for heading in ("rows", "empty", "repeated", "class shares"):
            table.add_column(heading, justify="right")
        for name, split in self.splits.items():
            least, most = (pick(split.class_counts) / split.rows for pick in (min, max))
            numbers = (f"{number:,}" for number in (split.rows, split.dropped, split.repeats))
            table.add_row(name, *numbers, f"{least:.1%} to {most:.1%}")
        return table


def report_split(
    origin: str, dropped: int, labels: NDArray[np.int32], hashes: NDArray[np.uint64], num_classes: int
) -> SplitReport:
    """Count one split's rows, classes and repeated texts."""
    order = np.lexsort((labels, hashes))
    same_text = hashes[order][1:] == hashes[order][:-1]
    other_label = labels[order][1:] != labels[order][:-1]
    return SplitReport(
        origin=origin,
        rows=len(labels),
        dropped=dropped,
        class_counts=tuple(np.bincount(labels, minlength=num_classes).tolist()),
        repeats=int(same_text.sum()),
        conflicts=len(np.unique(hashes[order][1:][same_text & other_label])),
    )


def count_shared(hashes: Mapping[str, NDArray[np.uint64]]) -> dict[str, int]:
    """For each two splits, such as "train/test", the rows of the second whose text stands in the first."""
    return {
        f"{first}/{second}": int(np.isin(hashes[second], hashes[first]).sum())
        for first, second in combinations(hashes, 2)
    }
