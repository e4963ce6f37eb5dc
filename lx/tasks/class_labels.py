"""Class labels, from the raw values of a data set to class ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.corpus.labels import FEW_ROWS, LabelReport, RawLabel
from lx.errors import LxError, quote, shorten
from lx.tasks.class_names import ClassNames, class_name
from lx.tasks.label_hints import are_amounts, class_warnings


class ClassEncoder:
    """Labels as class ids; a :class:`lx.data.corpus.labels.LabelEncoder`.

    Arguments and errors are those of :class:`lx.tasks.class_names.ClassNames`.
    """

    column_type = pa.int32()
    spread_heading = "class shares"

    def __init__(self, class_names: Sequence[str] | None, by_position: bool | None = None) -> None:
        self._classes = ClassNames(class_names, by_position)
        self._num_train = 0

    @property
    def description(self) -> str:
        """How many classes there are."""
        return f"{len(self._classes.names)} classes"

    def fingerprint(self) -> str:
        """Return an empty text, as class ids follow from the source alone, or a mark that spellings were joined."""
        return "joined spellings" if self._classes.joined_spellings else ""

    def encode(self, labels: Sequence[RawLabel], *, learn: bool) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Return int32 class ids, and which rows have none."""
        ids = self._classes.encode(labels, learn=learn)
        return pa.array(ids), ids < 0

    def refusal(self, where: str, label: RawLabel) -> LxError:
        """Return the error for a label that is empty, unknown, or of a wrong type."""
        num_classes = len(self._classes.names)
        if class_name(label) and 2 * num_classes > self._num_train >= FEW_ROWS:
            return LxError(
                f"{where}: the label {quote(str(label))} never occurs in the train split, which has {num_classes:,} "
                f"classes for {self._num_train:,} rows: is data.label the right column?"
            )
        refusal = self._classes.refusal(where, label)
        task = {list: "multilabel", float: "regression"}.get(type(label))
        return refusal if task is None else LxError(f"{refusal} Labels of this kind are for task={task}")

    def check_train(self, labels: pa.Array, origin: str) -> None:
        """Refuse a train split of one class."""
        ids = labels.to_numpy()
        self._num_train = len(ids)
        if (ids == ids[0]).all():
            raise LxError(
                f"{origin}: every row has the label {quote(self._classes.names[ids[0]])}, and a classifier needs "
                "two classes. Is data.label the right column?"
            )
        num_classes = len(self._classes.names)
        if 2 * num_classes > len(ids) >= FEW_ROWS and are_amounts(self._classes.names):
            raise LxError(
                f"{origin}: there are {num_classes:,} classes for {len(ids):,} rows, all of them numbers: if they are "
                "amounts, add task=regression; else, is data.label the right column?"
            )

    def finish(self) -> Callable[[pa.Array], pa.Array] | None:
        """Put learned names in order, and renumber what was encoded."""
        final_ids = self._classes.finish()
        return None if final_ids is None else lambda labels: pa.array(final_ids[labels.to_numpy()])

    def groups(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return the class ids."""
        groups: NDArray[np.int64] = labels.to_numpy().astype(np.int64)
        return groups

    def label_set(self, labels: pa.Array) -> dict[str, Any]:
        """Return ``class_names`` and ``class_counts``, the training examples of each class."""
        counts = self._classes.count(labels.to_numpy())
        return {"class_names": list(counts), "class_counts": list(counts.values())}

    def report(self, labels: pa.Array) -> LabelReport:
        """Describe how large the classes are, and warn of those without rows."""
        counts = self._classes.count(labels.to_numpy())
        absent = [name for name, count in counts.items() if not count]
        least, most = (pick(counts.values()) / len(labels) for pick in (min, max))
        warnings = (f"no rows of {len(absent)} class(es): {shorten(absent, 5)}",) if absent else ()
        name_warnings = class_warnings(self._classes.names)
        return LabelReport(f"{least:.1%} to {most:.1%}", counts, warnings, name_warnings)
