"""Tables of class scores and confusions, for the terminal and for trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from lx.tasks.base import ResultTable

_NUM_WORST = 5


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
