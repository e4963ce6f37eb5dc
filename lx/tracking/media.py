"""Results as texts and pictures, for trackers that have no tables or charts of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from lx.run.directory import RunDirectory
from lx.tasks.base import ResultTable
from lx.tracking.context import RunResults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)
_MOST_ROWS = 200  # of a table as text
_MOST_CLASSES = 60  # that a picture can show


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return the first rows of a table in Markdown; what lies in a cell stays text."""
    lines = [columns, ["---"] * len(columns), *rows[:_MOST_ROWS]]
    text = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
    return text if len(rows) <= _MOST_ROWS else f"{text}\n\n{len(rows) - _MOST_ROWS:,} more rows"


def _cell(value: Any) -> str:
    text = f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
    for mark, escaped in (("&", "&amp;"), ("<", "&lt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(mark, escaped)
    return text


def figures(results: RunResults) -> Iterator[tuple[str, Figure]]:
    """Yield the results' charts by name, if matplotlib is installed."""
    if find_spec("matplotlib") is None:
        return
    for name, table in results.tables.items():
        if table.chart == "lines":
            yield name, _lines(table)
        elif table.chart == "confusion_matrix" and len({row[0] for row in table.rows}) <= _MOST_CLASSES:
            yield name, _matrix(table)


@contextmanager
def report_of(run_dir: Path) -> Iterator[Path | None]:
    """Give the file of a run's report while the block runs; None without matplotlib, or if it cannot be made."""
    if find_spec("matplotlib") is None:
        yield None
        return
    from lx.report.record import read_run
    from lx.report.run_page import run_page

    with TemporaryDirectory(prefix="lx-report-") as folder:
        path = Path(folder) / "report.html"
        try:
            run_page(read_run(RunDirectory(run_dir))).write(path)
        except Exception as error:
            log.warning("the run's report could not be made: %s", error)
        yield path if path.exists() else None


def _lines(table: ResultTable) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.add_subplot(title=table.title, xlabel=table.columns[0], ylabel=table.columns[1])
    for name in dict.fromkeys(row[2] for row in table.rows):
        points = [row[:2] for row in table.rows if row[2] == name]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    axes.legend()
    return figure


def _matrix(table: ResultTable) -> Figure:
    """Draw the counts of true class (rows) and predicted class (columns)."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(row[0] for row in table.rows))
    names += [name for name in dict.fromkeys(row[1] for row in table.rows) if name not in names]
    counts = [[0] * len(names) for _ in names]
    for actual, predicted, count in table.rows:
        counts[names.index(actual)][names.index(predicted)] = count
    figure = Figure(layout="constrained")
    axes = figure.add_subplot(title=table.title, xlabel=table.columns[1], ylabel=table.columns[0])
    figure.colorbar(axes.imshow(counts, cmap="Blues"))
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    return figure
