"""Facts about a corpus for its user: rows, labels, empty, repeated and shared texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table

from lx.data.corpus.labels import LabelReport
from lx.errors import printable

_ENDS = 10  # of many classes, how many of the first and of the last are shown


@dataclass(frozen=True)
class SplitReport:
    """Facts about one split.

    Attributes:
        origin: Where it comes from, such as ``train.csv``.
        rows: Rows kept.
        dropped: Rows left out because a text was null or blank.
        labels: What the task says of its labels.
        repeats: Rows whose text stands in an earlier row of the split.
        conflicts: Distinct texts that stand under more than one label.
        notes: Sentences of the source, such as what was left out.
    """

    origin: str
    rows: int
    dropped: int
    labels: LabelReport
    repeats: int
    conflicts: int
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class CorpusReport:
    """Facts about a corpus; printing it with rich shows a table.

    Attributes:
        labels: What the labels are, such as ``4 classes``.
        spread_heading: What is shown of the labels of each split, such as ``class shares``.
        splits: Facts about each split.
        shared: For "train/test" and the like, how many rows of the second split have a text of the first.
        validation_was_split_off: Whether validation is a part of the train data.
    """

    labels: str
    spread_heading: str
    splits: dict[str, SplitReport]
    shared: dict[str, int]
    validation_was_split_off: bool

    def warnings(self) -> list[str]:
        """Return a sentence for each fact that makes the numbers less trustworthy."""
        sentences: list[str] = [*self.splits["train"].labels.of_all]
        for name, split in self.splits.items():
            sentences += split.notes
            if split.dropped:
                sentences.append(f"{split.origin}: {split.dropped:,} rows with an empty text were dropped")
            if split.conflicts:
                sentences.append(f"{name}: {split.conflicts:,} texts stand under more than one label")
            sentences += [f"{name}: {warning}" for warning in split.labels.warnings]
        for names, count in self.shared.items():
            if count:
                first, second = names.split("/")
                share = count / self.splits[second].rows
                sentences.append(f"{second}: {count:,} rows ({share:.1%}) have a text that also stands in {first}")
        return sentences

    def class_table(self) -> Table | None:
        """Return a table of the rows of each label, the first and last of many; None if labels have no names."""
        counts = {name: split.labels.counts for name, split in self.splits.items()}
        names = list(next(iter(counts.values())))
        if not names:
            return None
        table = Table("class", title="rows of each class", title_justify="left")
        for split in counts:
            table.add_column(split, justify="right")
        shown = names if len(names) <= 2 * _ENDS + 1 else [*names[:_ENDS], None, *names[-_ENDS:]]
        for name in shown:
            if name is None:
                table.add_row(f"... {len(names) - 2 * _ENDS:,} more")
            else:
                table.add_row(printable(name), *(f"{of_split.get(name, 0):,}" for of_split in counts.values()))
        return table

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> CorpusReport:
        """Rebuild a report from the plain containers that ``dataclasses.asdict`` made of it."""
        splits = {
            name: SplitReport(**{**split, "labels": LabelReport(**split["labels"])})
            for name, split in state["splits"].items()
        }
        return cls(**{**state, "splits": splits})

    def __rich__(self) -> RenderableType:
        caption = "validation is cut from train" if self.validation_was_split_off else None
        table = Table("split", title=self.labels, title_justify="left", caption=caption)
        for heading in ("rows", "empty", "repeated", self.spread_heading):
            table.add_column(heading, justify="right")
        for name, split in self.splits.items():
            numbers = (f"{number:,}" for number in (split.rows, split.dropped, split.repeats))
            table.add_row(name, *numbers, split.labels.spread)
        return table


def count_repeats(hashes: NDArray[np.uint64]) -> int:
    """Count the rows whose text stands in an earlier row."""
    return len(hashes) - len(np.unique(hashes))


def count_conflicts(hashes: NDArray[np.uint64], groups: NDArray[np.int64]) -> int:
    """Count the distinct texts that stand under more than one label."""
    order = np.lexsort((groups, hashes))
    same_text = hashes[order][1:] == hashes[order][:-1]
    other_label = groups[order][1:] != groups[order][:-1]
    return len(np.unique(hashes[order][1:][same_text & other_label]))


def count_shared(hashes: Mapping[str, NDArray[np.uint64]]) -> dict[str, int]:
    """For each two splits, such as "train/test", count the rows of the second whose text stands in the first."""
    return {
        f"{first}/{second}": int(np.isin(hashes[second], hashes[first]).sum())
        for first, second in combinations(hashes, 2)
    }
