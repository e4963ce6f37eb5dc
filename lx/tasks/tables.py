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


def most_confused(class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[tuple[str, int] | None]:
    """Return the class most often predicted in place of each class, and how often; None if none ever was.

    ``confusion`` counts examples by true class (rows) and predicted class (columns).
    """
    others: list[tuple[str, int] | None] = []
    for index, counts in enumerate(confusion):
        wrong = [0 if column == index else count for column, count in enumerate(counts)]
        worst = max(range(len(wrong)), key=wrong.__getitem__)
        others.append((class_names[worst], wrong[worst]) if wrong[worst] else None)
    return others


def confusion_table(class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> ResultTable:
    """Return the cells of a confusion matrix that are not 0: of C x C there can be many."""
    rows = [
        [actual, predicted, count]
        for actual, counts in zip(class_names, confusion, strict=True)
        for predicted, count in zip(class_names, counts, strict=True)
        if count
    ]
    columns = ["Actual", "Predicted", "nPredictions"]
    return ResultTable(columns, rows, chart="wandb/confusion_matrix/v1", title="Confusion matrix")
