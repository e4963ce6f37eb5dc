"""Reads a label column with any number of labels a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lx.data.corpus.labels import LabelReport, RawLabel
from lx.errors import LxError, quote, shorten
from lx.tasks.class_names import ClassNames, class_name
from lx.tasks.label_hints import label_warnings

_RARE = 20  # rows: a rarer set of labels is grouped by one of its labels


class LabelSetEncoder:
    """Labels as sets of ids; a ``LabelEncoder``.

    A row has a list of labels, which may be empty, or a single one. A label that a row repeats counts once. Names and
    numbers are treated as by :class:`ClassNames`, which has the same arguments and errors.
    """

    column_type = pa.list_(pa.int32())
    spread_heading = "labels a text, label shares"

    def __init__(self, class_names: Sequence[str] | None, by_position: bool | None = None) -> None:
        self._classes = ClassNames(class_names, by_position)
        self._fingerprint = f"label sets {class_names}"

    @property
    def description(self) -> str:
        """How many labels there are."""
        return f"{len(self._classes.names)} labels"

    def fingerprint(self) -> str:
        """Return a text of the declared names, and whether spellings were joined, as once they were not."""
        return self._fingerprint + (", joined spellings" if self._classes.joined_spellings else "")

    def encode(self, labels: Sequence[RawLabel], *, learn: bool) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Return the label ids of each row, and which rows are invalid: null, or with an empty or unknown label [N]."""
        rows = [_as_list(row) for row in labels]
        ids = self._classes.encode([label for row in rows for label in row], learn=learn)
        row_of = np.repeat(np.arange(len(rows)), list(map(len, rows)))
        invalid = np.zeros(len(rows), np.bool_)
        invalid[row_of[ids < 0]] = True
        distinct = np.unique(np.stack([row_of, ids], axis=1).reshape(-1, 2), axis=0)
        offsets = np.searchsorted(distinct[:, 0], np.arange(len(rows) + 1))
        values = pa.array(distinct[:, 1].astype(np.int32))
        return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values), invalid

    def refusal(self, where: str, label: RawLabel) -> LxError:
        """Return the error for the first bad label of a row."""
        if label is None:
            return LxError(f"{where}: there are no labels but null. A text without labels has an empty list: []")
        bad = next(entry for entry in _as_list(label) if self._classes.encode([entry], learn=False)[0] < 0)
        if bad is None or (isinstance(bad, str) and class_name(bad) is None):
            return LxError(f"{where}: one of the labels is empty. Remove it; a text without labels has an empty list")
        return self._classes.refusal(where, bad)

    def check_train(self, labels: pa.Array, origin: str) -> None:
        """Refuse a train split with fewer than two labels."""
        occurring = [self._classes.names[index] for index in np.unique(pc.list_flatten(labels).to_numpy())]
        if len(occurring) < 2:
            only = f"the one label is {quote(occurring[0])}" if occurring else "no row has a label"
            raise LxError(f"{origin}: {only}, and at least two are needed. Is data.label the right column?")

    def finish(self) -> Callable[[pa.Array], pa.Array] | None:
        """Put learned names in order, and renumber what was encoded."""
        final_ids = self._classes.finish()
        if final_ids is None:
            return None

        def renumber(labels: pa.Array) -> pa.Array:
            values = pa.array(final_ids[pc.list_flatten(labels).to_numpy()])
            return pa.ListArray.from_arrays(pa.array(_offsets(labels)), values)

        return renumber

    def groups(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return equal numbers for equal sets; rare sets go together with those of the same rarest label."""
        sets = [tuple(sorted(row)) for row in labels.to_pylist()]
        rows_of_set, rows_of_label = Counter(sets), Counter(label for row in sets for label in row)

        def group(row: tuple[int, ...]) -> tuple[int, ...]:
            if rows_of_set[row] >= _RARE or not row:
                return row
            return (-1, min(row, key=lambda label: (rows_of_label[label], label)))

        numbers: dict[tuple[int, ...], int] = {}
        return np.array([numbers.setdefault(group(row), len(numbers)) for row in sets], np.int64)

    def label_set(self, labels: pa.Array) -> dict[str, Any]:
        """Return ``class_names``, ``class_counts`` (training examples with each label) and ``num_examples``."""
        counts = self._classes.count(pc.list_flatten(labels).to_numpy())
        return {"class_names": list(counts), "class_counts": list(counts.values()), "num_examples": len(labels)}

    def report(self, labels: pa.Array) -> LabelReport:
        """Describe how many labels a text has and how frequent they are, and warn of those without rows."""
        counts = self._classes.count(pc.list_flatten(labels).to_numpy())
        absent = [name for name, count in counts.items() if not count]
        least, most = (pick(counts.values()) / len(labels) for pick in (min, max))
        spread = f"{sum(counts.values()) / len(labels):.2f}, {least:.1%} to {most:.1%}"
        warnings = (f"no rows of {len(absent)} label(s): {shorten(absent, 5)}",) if absent else ()
        most_of_a_text = int(np.diff(_offsets(labels)).max(initial=0))
        return LabelReport(spread, counts, warnings, label_warnings(self._classes.names, most_of_a_text))


def multi_hot(labels: pa.Array, num_labels: int) -> NDArray[np.float32]:
    """Return a row of zeros for each set of label ids, with a one for every label [B, C]."""
    rows = np.zeros((len(labels), num_labels), np.float32)
    lengths = np.diff(_offsets(labels))
    rows[np.repeat(np.arange(len(labels)), lengths), pc.list_flatten(labels).to_numpy()] = 1
    return rows


def _as_list(row: RawLabel) -> list[Any]:
    """Return the labels of a row: none for an empty text; for null, a single null, which is an invalid label."""
    if isinstance(row, list):
        return row
    return [] if isinstance(row, str) and not row.strip() else [row]


def _offsets(labels: pa.Array) -> NDArray[np.int32]:
    """Return where each row's labels begin in the list of all, and at last where that list ends [rows + 1]."""
    lengths = pc.list_value_length(labels).to_numpy()
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
