"""Number labels, from the raw values of a data set."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lx.data.corpus.labels import LabelReport, RawLabel
from lx.errors import LxError

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WITH_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_ROWS_A_GROUP = 50  # at least, so that validation can take nearly the requested share of each group
_MOST_GROUPS = 10


class NumberEncoder:
    """Labels as numbers, be they written as integers, fractions or text; a ``LabelEncoder``."""

    column_type = pa.float64()
    spread_heading = "least, median, most"
    description = "numbers"

    def fingerprint(self) -> str:
        """Return a text that is always the same: nothing is declared."""
        return "numbers"

    def encode(self, labels: Sequence[RawLabel], *, learn: bool) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Return float64 numbers, and which labels are no finite number."""
        numbers = np.fromiter(map(_number, labels), np.float64, len(labels))
        return pa.array(numbers), ~np.isfinite(numbers)

    def refusal(self, where: str, label: RawLabel) -> LxError:
        """Return the error for a label that is no finite number."""
        text = str(label).strip()
        if label is None or not text:
            return LxError(f"{where}: the label is empty. Every row needs a number: fill it in or remove the row")
        if isinstance(label, bool):
            return LxError(f"{where}: the label is {text.lower()}, which is not a number: write 1 or 0")
        if _WITH_COMMA.fullmatch(text):
            return LxError(f"{where}: the label {text!r} has a decimal comma: write {text.replace(',', '.')}")
        if isinstance(label, int | float) or _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return LxError(f"{where}: the label {text[:60]} is not a finite number. Mend the row or remove it")
        return LxError(
            f"{where}: the label {text[:60]!r} is not a number such as 3.5. Is data.label the right column? "
            "Names of classes are for task=classification"
        )

    def check_train(self, labels: pa.Array, origin: str) -> None:
        """Refuse a train split whose labels are all equal, or too near or too far apart to compute with."""
        numbers = labels.to_numpy()
        low, high = float(numbers.min()), float(numbers.max())
        if low == high:
            raise LxError(
                f"{origin}: every row has the label {low:g}, and from that there is nothing to learn. "
                "Is data.label the right column?"
            )
        std = _mean_and_std(numbers)[1] if math.isfinite(high - low) else math.inf
        if not 1 / sys.float_info.max < std < math.inf:
            raise LxError(
                f"{origin}: labels from {low:g} to {high:g} are beyond what can be computed with. "
                "Give them in another unit"
            )

    def finish(self) -> None:
        """Return None: a number is final as it is read."""

    def groups(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return the range of each label [N], out of up to ten ranges with about equally many rows."""
        numbers = labels.to_numpy()
        count = min(_MOST_GROUPS, max(1, len(numbers) // _ROWS_A_GROUP))
        edges = np.quantile(numbers, np.arange(1, count) / count)
        groups: NDArray[np.int64] = np.searchsorted(edges, numbers, side="right").astype(np.int64)
        return groups

    def label_set(self, labels: pa.Array) -> dict[str, Any]:
        """Return ``mean`` and ``std``."""
        mean, std = _mean_and_std(labels.to_numpy())
        return {"mean": mean, "std": std}

    def report(self, labels: pa.Array) -> LabelReport:
        """Describe between which numbers the labels lie."""
        return LabelReport(", ".join(f"{value:g}" for value in np.quantile(labels.to_numpy(), [0, 0.5, 1])), {})


def _number(label: RawLabel) -> float:
    """Return the number that a label stands for; NaN if it stands for none."""
    if isinstance(label, float):
        return label
    if isinstance(label, str):
        return float(label) if _NUMBER.fullmatch(label := label.strip()) else math.nan
    if isinstance(label, int) and not isinstance(label, bool):
        try:
            return float(label)
        except OverflowError:
            return math.inf
    return math.nan


def _mean_and_std(numbers: NDArray[np.float64]) -> tuple[float, float]:
    low = float(numbers.min())
    spread = (float(numbers.max()) - low) or 1.0
    scaled = (numbers - low) / spread  # from 0 to 1: squares neither overflow nor vanish beside a large mean
    return low + float(scaled.mean()) * spread, float(scaled.std()) * spread
