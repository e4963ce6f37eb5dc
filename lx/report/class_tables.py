"""What a report says of each class: the confusion matrix, its largest confusions, and the scores by support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lx.report.confusion import confusion_figure, largest_confusions
from lx.report.page import Block, Figures, Table
from lx.tasks.confusion import confusion_cells

_SCORES = ("precision", "recall", "f1", "average_precision", "threshold", "support")


def class_blocks(details: Mapping[str, Any]) -> list[Block]:
    """Build the blocks from the details of a result; none for a task without classes."""
    per_class = details.get("per_class") or []
    if not per_class:
        return []
    names = [str(scores["name"]) for scores in per_class]
    blocks: list[Block] = []
    if "confusion_matrix" in details or "confusion_cells" in details:
        cells = confusion_cells(details)
        if (figure := confusion_figure(names, cells)) is not None:
            blocks.append(Figures([figure]))
        confusions = largest_confusions(names, cells)
        columns = ["true class", "taken for", "texts", "share of the true class"]
        if confusions:
            blocks.append(Table("The largest confusions of the test split", columns, confusions))
    shown = [name for name in _SCORES if name in per_class[0]]
    ordered = sorted(per_class, key=lambda scores: -int(scores["support"]))
    rows = [[str(scores["name"]), *(_number(scores[name]) for name in shown)] for scores in ordered]
    headings = ["class", *({"f1": "F1", "support": "texts"}.get(name, name.replace("_", " ")) for name in shown)]
    table = Table("Scores of each class on the test split, the most frequent first", headings, rows, bar=3)
    return [*blocks, table]


def _number(value: Any) -> int | float:
    return value if isinstance(value, int) else float(value)
