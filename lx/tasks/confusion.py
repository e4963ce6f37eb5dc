"""Which classes are taken for which, as a result records it; read without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_LARGEST_MATRIX = 100  # classes
_MOST_CELLS = 20_000


def confusion_details(confusion: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return the counts by true class (rows) and predicted class (columns) as they are recorded.

    Of up to 100 classes that is ``confusion_matrix``, the matrix; of more ``confusion_cells``: true class, predicted
    class and count of the cells that are not 0, the largest first.
    """
    if len(confusion) <= _LARGEST_MATRIX:
        return {"confusion_matrix": [list(counts) for counts in confusion]}
    cells = sorted(_cells_of(confusion), key=lambda cell: -cell[2])
    return {"confusion_cells": [list(cell) for cell in cells[:_MOST_CELLS]]}


def confusion_cells(details: Mapping[str, Any]) -> list[tuple[int, int, int]]:
    """Return true class, predicted class and count of the cells that are not 0, from :func:`confusion_details`."""
    if "confusion_cells" in details:
        return [(actual, predicted, count) for actual, predicted, count in details["confusion_cells"]]
    return list(_cells_of(details["confusion_matrix"]))


def _cells_of(confusion: Sequence[Sequence[int]]) -> Iterator[tuple[int, int, int]]:
    for actual, counts in enumerate(confusion):
        for predicted, count in enumerate(counts):
            if count:
                yield actual, predicted, count


def most_confused(class_names: Sequence[str], cells: Sequence[tuple[int, int, int]]) -> list[tuple[str, int] | None]:
    """Return the class most often predicted in place of each class, and how often; None if none ever was.

    ``cells`` are true class, predicted class and count.
    """
    others: list[tuple[str, int] | None] = [None] * len(class_names)
    for actual, predicted, count in cells:
        most = others[actual]
        if actual != predicted and (most is None or count > most[1]):
            others[actual] = (class_names[predicted], count)
    return others
