"""The ranking of a sweep as a terminal shows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from lx.report.tables import count, duration
from lx.sweep.leaderboard import Row, counterpart_on_test
from lx.sweep.trials import TrialDirectory

_ROOM_FOR_THE_REST = 80  # columns, beside the directories of the runs
_SHOWN_FAILURES = 10
_LONGEST_NUMBER = 7  # characters: 0.00025


def leaderboard_view(rows: Sequence[Row], metric: str, directory: Path, width: int, limit: int | None = None) -> Group:
    """The ranking for a terminal: a table of the keys that differ; below it why trials failed, and the headline.

    Args:
        rows: the ranking.
        metric: the objective's name.
        directory: of the sweep, as a person would type it.
        width: of the terminal, in columns; the directories of the runs are shown where they fit.
        limit: how many rows to show; None: all.
    """
    shown = rows[:limit]
    keys = varying_keys([row.trial for row in rows])
    title = f"{directory}: {count(len(rows), 'trial')}, ranked by {metric}"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right")
    for key in keys:
        table.add_column(Text(key), overflow="fold")
    test = counterpart_on_test(metric)
    for heading in (metric, *([test] if test else []), "n", "time"):
        table.add_column(Text(heading), justify="right", no_wrap=True)
    further = list(rows[0].further) if rows else []
    for heading in further:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    if further:
        table.add_column("front")
    confirmed = any(row.confirmed for row in rows)
    if confirmed:
        table.add_column("on fresh seeds", justify="right", no_wrap=True)
    with_state = any(row.state != "finished" for row in shown)
    with_directory = len(f"{directory}/{len(rows)}") + _ROOM_FOR_THE_REST <= width
    for heading in (*(["state"] if with_state else []), *(["directory"] if with_directory else [])):
        table.add_column(heading, overflow="fold")
    for row in shown:
        num = row.objective.count if row.objective is not None else 0
        table.add_row(
            str(row.trial.number),
            *(Text(short_value(row.trial.params.get(key, ""))) for key in keys),
            str(row.objective or "-"),
            *([str(row.test or "-")] if test else []),
            f"{num}/{len(row.trial.seeds)}" if num < len(row.trial.seeds) else str(num),
            duration(row.seconds),
            *(str(mean or "-") for mean in row.further.values()),
            *(["*" if row.on_front else ""] if further else []),
            *([str(row.confirmed or "")] if confirmed else []),
            *([row.state] if with_state else []),
            *([Text(str(directory / row.trial.path.name))] if with_directory else []),
        )
    failures = [f"trial {row.trial.number} {row.state}: {row.reason}" for row in rows if row.reason]
    if len(failures) > _SHOWN_FAILURES:
        failures = [*failures[:_SHOWN_FAILURES], f"{len(failures) - _SHOWN_FAILURES:,} more: see leaderboard.csv"]
    best = headline(rows, metric)
    return Group(table, *map(Text, [*failures, *([best] if best else [])]))


def varying_keys(trials: Sequence[TrialDirectory]) -> list[str]:
    """The keys in which trials differ."""
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    return [key for key in keys if len({trial.params.get(key) for trial in trials}) > 1] or list(keys)


def short_value(value: str) -> str:
    """A value for a table: a long fraction with four significant digits."""
    try:
        return f"{float(value):.4g}" if "." in value and len(value) > _LONGEST_NUMBER else value
    except ValueError:
        return value


def headline(rows: Sequence[Row], metric: str) -> str | None:
    """The result of a sweep in one line: that of its best trial on fresh seeds; None: none is confirmed."""
    best = next((row for row in rows if row.confirmed is not None), None)
    if best is None or best.confirmed is None:
        return None
    test = "" if best.confirmed_test is None else f", {counterpart_on_test(metric)} {best.confirmed_test}"
    seeds = f"{best.confirmed.count} fresh seeds" if best.confirmed.count > 1 else "a fresh seed"
    return f"trial {best.trial.number} on {seeds}: {metric} {best.confirmed}{test}"
