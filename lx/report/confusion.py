"""The confusion matrix, readable with 2 and with 150 classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from lx.report.colours import INK, PAPER, SERIES
from lx.report.drawing import Figure, canvas, label, shaded, text_inches

_MOST_NUMBERED = 20  # classes whose cells hold their counts
_MOST_NAMED = 45
_MOST_DRAWN = 400
_MOST_LISTED = 30  # confusions
_SIZE = 8.0  # points

Cells = Sequence[tuple[int, int, int]]


def confusion_figure(class_names: Sequence[str], cells: Cells) -> Figure | None:
    """Draw the matrix, each row by its share of the true class; None with more classes than can be seen.

    Up to 20 classes each cell holds its count, up to 45 rows and columns are named.

    Args:
        class_names: in label order.
        cells: true class, predicted class and count.
    """
    number = len(class_names)
    if number > _MOST_DRAWN:
        return None
    counts = np.zeros((number, number), np.int64)
    for actual, predicted, count in cells:
        counts[actual, predicted] = count
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [label(name, 22) for name in class_names] if number <= _MOST_NAMED else []
    size = _SIZE if number <= _MOST_NUMBERED else 6.5
    side = max(1.6, number * (0.42 if number <= _MOST_NUMBERED else 0.17)) if names else 5.0
    margin = text_inches(names, size) + 0.45
    width, height = max(side, 2.2) + margin + 0.1, side + margin + 0.35
    with canvas(width, height) as (drawing, axes):
        drawing.set_layout_engine("none")  # it cannot measure letters that its font lacks
        axes.set_position((margin / width, margin / height, side / width, side / height))
        axes.grid(visible=False)
        if number <= _MOST_NUMBERED:
            _draw_cells(axes, counts, shares)
        else:
            opacity = np.where(counts > 0, 0.08 + 0.92 * shares, 0.0)
            axes.imshow(shaded(opacity), interpolation="nearest", aspect="auto")
        axes.set_xlim(-0.5, number - 0.5)
        axes.set_ylim(number - 0.5, -0.5)
        for spine in axes.spines.values():
            spine.set_visible(True)
        ticks = range(number) if names else [0, number - 1]
        shown = names or ["1", f"{number:,}"]
        axes.set_xticks(ticks, shown, rotation=90 if names else 0, fontsize=size)
        axes.set_yticks(ticks, shown, fontsize=size)
        axes.tick_params(length=0)
        drawing.text(0.1 / width, 1 - 0.2 / height, "rows: true, columns: predicted", fontsize=9)
        right = int(np.trace(counts))
    total = max(int(counts.sum()), 1)
    description = (
        f"Confusion matrix of {number:,} classes. {right:,} of {total:,} texts lie on the diagonal. "
        "Darker cells hold a larger share of their true class. The largest confusions are in the table."
    )
    return Figure("confusion", "Confusion matrix", description, drawing)


def _draw_cells(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for (actual, predicted), count in np.ndenumerate(counts):
        if not count:
            continue
        share = float(shares[actual, predicted])
        corner = (predicted - 0.5, actual - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, facecolor=SERIES[0], alpha=0.08 + 0.92 * share, linewidth=0))
        ink = PAPER if share > 0.5 else INK
        text = f"{count:,}" if count < 100_000 else f"{count / 1000:.0f}k"
        axes.text(predicted, actual, text, ha="center", va="center", fontsize=7, color=ink)


def largest_confusions(class_names: Sequence[str], cells: Cells) -> list[list[object]]:
    """Return true class, predicted class, count and share of the true class's texts, the largest counts first."""
    support: dict[int, int] = {}
    for actual, _, count in cells:
        support[actual] = support.get(actual, 0) + count
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    return [
        [class_names[actual], class_names[predicted], count, f"{count / support[actual]:.1%}"]
        for actual, predicted, count in wrong[:_MOST_LISTED]
    ]
