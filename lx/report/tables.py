"""Tables for people: pairs of name and value, and the result of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from lx.tracking.evaluation import ClassRow

_NUM_WORST = 5


def result_table(metrics: Mapping[str, float], rows: Sequence[ClassRow], seconds: float) -> Group:
    """The tables at the end of a run: metrics and the classes with the lowest F1.

    Args:
        metrics: Metric name to value, shown in this order.
        rows: One row per class.
        seconds: How long the run took.

    Returns:
        Both tables, as one thing to print. Classes without examples are not among the worst.
    """
    shown = {name: f"{value:.4f}" for name, value in metrics.items()}
    worst = sorted((row for row in rows if row.support), key=lambda row: row.f1)[:_NUM_WORST]
    classes = Table(title="worst classes", title_justify="left")
    classes.add_column("class", overflow="fold")
    for header in ("F1", "precision", "recall", "examples"):
        classes.add_column(header, justify="right")
    classes.add_column("most often taken for", overflow="fold")
    for row in worst:
        classes.add_row(
            Text(row.name),
            f"{row.f1:.3f}",
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.support:,}",
            Text(f"{row.confused_with} ({row.confused_count:,})" if row.confused_with is not None else "-"),
        )
    return Group(pairs_table("result", {**shown, "time": duration(seconds)}), classes)


def next_commands(run_dir: Path, sync_command: str | None = None) -> list[str]:
    """Three commands to go on with, ready to paste.

    Args:
        run_dir: The run directory, as the person would write it.
        sync_command: The command that uploads the tracked run, if it was recorded offline.
    """
    run = shlex.quote(str(run_dir))
    return [
        f'lx predict {run} --text "your text"',
        f"lx eval {run}",
        sync_command or "lx train model=base",
    ]


def duration(seconds: float) -> str:
    """A time span as a person reads it: ``8.3 s``, ``2:05`` (minutes) or ``1:02:05`` (hours)."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pairs_table(title: str, pairs: Mapping[str, str]) -> Table:
    """Build a table of two columns: names and values."""
    table = Table(title=Text(title), title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(name), Text(value))
    return table


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
