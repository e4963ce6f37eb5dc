"""The final evaluation of a run, and the per-class figures that follow from its confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """Final metrics of a run and the confusion matrix they were counted from.

    Args:
        metrics: Metric name to value, e.g. ``test/accuracy`` and the best ``val/accuracy``.
        class_names: C names, in label-id order.
        confusion: C rows of C counts; row = true class, column = predicted class.
    """

    metrics: Mapping[str, float]
    class_names: Sequence[str]
    confusion: Sequence[Sequence[int]]


@dataclass(frozen=True)
class ClassRow:
    """One class's scores, each in [0, 1]; ``support`` counts the examples that truly have the class."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    confused_with: str | None
    confused_count: int


def class_rows(class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> list[ClassRow]:
    """Per-class scores, in label-id order; a ratio with nothing to divide by is 0.

    Args:
        class_names: C names.
        confusion: C rows of C counts; row = true class, column = predicted class.

    Returns:
        One row per class; ``confused_with`` is the class most often predicted in its place, if any was.

    Raises:
        ValueError: The matrix is not C by C.
    """
    num_classes = len(class_names)
    if len(confusion) != num_classes or any(len(row) != num_classes for row in confusion):
        raise ValueError(f"The confusion matrix must be {num_classes} x {num_classes}, one row a class.")
    predicted = [sum(column) for column in zip(*confusion, strict=True)]
    return [_class_row(index, class_names, confusion[index], predicted[index]) for index in range(num_classes)]


def _class_row(index: int, class_names: Sequence[str], counts: Sequence[int], predicted: int) -> ClassRow:
    support, correct = sum(counts), counts[index]
    wrong = [0 if other == index else count for other, count in enumerate(counts)]
    worst = max(range(len(wrong)), key=wrong.__getitem__)
    return ClassRow(
        name=class_names[index],
        precision=correct / predicted if predicted else 0.0,
        recall=correct / support if support else 0.0,
        f1=2 * correct / (predicted + support) if predicted + support else 0.0,
        support=support,
        confused_with=class_names[worst] if wrong[worst] else None,
        confused_count=wrong[worst],
    )
