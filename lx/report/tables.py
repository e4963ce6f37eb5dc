"""Tables for people: pairs of name and value, and the result of a run."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table


def result_table(metrics: Mapping[str, float], seconds: float) -> Table:
    """Build the table at the end of a run that took so many seconds; metrics are shown in their order."""
    shown = {name: f"{value:.4f}" for name, value in metrics.items()}
    return pairs_table("result", {**shown, "time": duration(seconds)})


def duration(seconds: float) -> str:
    """A time span as a person reads it: ``8.3 s``, ``2:05`` (minutes) or ``1:02:05`` (hours)."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pairs_table(title: str, pairs: Mapping[str, str]) -> Table:
    """Build a table of two columns: names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, value)
    return table


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 step``, ``1,200 steps``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
