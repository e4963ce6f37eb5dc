"""How labels are read: the part of a task that data preparation uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.errors import LxError

FEW_ROWS = 20
"""From so many training rows on, nearly as many classes as rows suggest that ``data.label`` is the wrong column."""

RawLabel = str | int | float | bool | list[Any] | None
"""A label as a source gives it: text as it stands in the file, or a value of JSON, Parquet or the Hub."""


@dataclass(frozen=True)
class LabelReport:
    """The labels of one split, for the corpus report.

    Attributes:
        spread: How they are distributed, in a few words, such as ``14.3% to 42.9%``.
        counts: Rows of each label, by name; empty if labels have no names.
        warnings: Sentences about them, without the name of the split.
        of_all: Sentences about the labels of all splits, of which only the train split's are shown.
    """

    spread: str
    counts: dict[str, int]
    warnings: Sequence[str] = ()
    of_all: Sequence[str] = ()


class LabelEncoder(Protocol):
    """Turns the raw labels of a source into one Arrow column; each task has its own.

    While a corpus is built, the train split is encoded first, with ``learn=True``, then the other splits.

    Attributes:
        column_type: Of an encoded label, such as int32 (class id), float64 (number) or list<int32> (class ids).
        spread_heading: What :attr:`LabelReport.spread` shows, such as ``class shares``.
    """

    column_type: pa.DataType
    spread_heading: str

    @property
    def description(self) -> str:
        """All labels in a few words, such as ``4 classes``; final after :meth:`finish`."""

    def fingerprint(self) -> str:
        """Return a short text that changes whenever equal raw labels of a source would be encoded differently.

        The class names that the source declares need not be in it. What was found while learning may be added.
        """

    def encode(self, labels: Sequence[RawLabel], *, learn: bool) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Encode some rows' labels; one that was not met before is invalid, unless it is to ``learn`` it.

        Returns:
            The labels as ``column_type``, without nulls, and True for each row whose label is invalid.
        """

    def refusal(self, where: str, label: RawLabel) -> LxError:
        """Return the error for an invalid label: where it stands, what is wrong, and what to do."""

    def check_train(self, labels: pa.Array, origin: str) -> None:
        """Raise LxError if nothing can be learned from these labels of the train split."""

    def finish(self) -> Callable[[pa.Array], pa.Array] | None:
        """Settle what was learned from all splits; return a function to the final labels, None if they are final."""

    def groups(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return a number for each final label, equal for labels that count as the same.

        They are the strata of a validation split, and decide which repeated texts have conflicting labels.
        """

    def label_set(self, labels: pa.Array) -> dict[str, Any]:
        """Return what the task has to know of the train split's final labels, as plain JSON: its keyword arguments."""

    def report(self, labels: pa.Array) -> LabelReport:
        """Describe the final labels of one split."""
