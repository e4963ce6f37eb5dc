"""Tables of class scores and confusions, for the terminal and for trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from lx.tasks.base import ResultTable

_NUM_WORST = 5
_LARGEST_MATRIX = 100  # classes
_MOST_CELLS = 20_000


def worst_classes(per_class: Sequence[Mapping[str, Any]], confused: Sequence[tuple[str, int] | None]) -> Table:
    """Build a terminal table of the classes with the lowest F1; classes without examples are not among them.

    ``confused`` is as :func:`most_confused` returns it; if it is empty, the table has no such column.
    """
    table = Table(title="worst classes", title_justify="left")
    table.add_column("class", overflow="fold")
    for heading in ("F1", "precision", "recall", "examples"):
        table.add_column(heading, justify="right")
    if confused:
        table.add_column("most often taken for", overflow="fold")
    worst = sorted(
        (index for index, scores in enumerate(per_class) if scores["support"]), key=lambda i: per_class[i]["f1"]
    )
    for index in worst[:_NUM_WORST]:
        scores = per_class[index]
        figures = (f"{scores[name]:.3f}" for name in ("f1", "precision", "recall"))
        row = [scores["name"], *figures, f"{scores['support']:,}"]
        if confused:
            other = confused[index]
            row.append(f"{other[0]} ({other[1]:,})" if other else "-")
        table.add_row(*row)
    return table


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


def confusion_table(class_names: Sequence[str], cells: Sequence[tuple[int, int, int]]) -> ResultTable:
    """Return a confusion matrix, by its cells that are not 0, as a chart."""
    rows: list[list[Any]] = [[class_names[actual], class_names[predicted], count] for actual, predicted, count in cells]
    columns = ["Actual", "Predicted", "nPredictions"]
    return ResultTable(columns, rows, chart="confusion_matrix", title="Confusion matrix")


def reliability_table(bins: Mapping[str, Mapping[str, Sequence[float]]]) -> ResultTable:
    """Return a reliability diagram (Guo et al. 2017) as a chart: accuracy against confidence, and the diagonal.

    ``bins`` are ``count``, ``confidence`` and ``accuracy`` of each bin, by the name of the line.
    """
    rows: list[list[Any]] = [[0.0, 0.0, "perfect", None], [1.0, 1.0, "perfect", None]]
    for name, columns in bins.items():
        values = zip(columns["confidence"], columns["accuracy"], columns["count"], strict=True)
        rows += [[confidence, accuracy, name, count] for confidence, accuracy, count in values if count]
    return ResultTable(["confidence", "accuracy", "probabilities", "examples"], rows, "lines", "Reliability")
