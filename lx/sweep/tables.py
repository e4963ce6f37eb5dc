"""The ranking of a sweep as a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
_NUMBER = {"justify": "right", "no_wrap": True}
_WORDS = {"overflow": "fold"}


def leaderboard_view(rows: Sequence[Row], metric: str, directory: Path, width: int, limit: int | None = None) -> Group:
    """The ranking for a terminal: a table of the keys that differ; below it why trials failed, and the headline.

    Args:
        rows: the ranking.
        metric: the objective's name.
        directory: of the sweep, as a person would type it.
        width: of the terminal, in columns; the directories of the runs are shown where they fit.
        limit: how many rows to show; None: all.
    """
    title = f"{directory}: {count(len(rows), 'trial')}, ranked by {metric}"
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown = rows[:limit]
    columns = [*_result_columns(rows, metric), *_optional_columns(rows, shown, directory, width)]
    for column in columns:
        table.add_column(Text(column.heading), **column.style)
    for row in shown:
        table.add_row(*(Text(column.cell(row)) for column in columns))
    failures = [f"trial {row.trial.number} {row.state}: {row.reason}" for row in rows if row.reason]
    if len(failures) > _SHOWN_FAILURES:
        failures = [*failures[:_SHOWN_FAILURES], f"{len(failures) - _SHOWN_FAILURES:,} more: see leaderboard.csv"]
    best = headline(rows, metric)
    return Group(table, *map(Text, [*failures, *([best] if best else [])]))


@dataclass(frozen=True)
class _Column:
    """A column of the ranking: what its cell says of a row."""

    heading: str
    cell: Callable[[Row], str]
    style: Mapping[str, Any] = field(default_factory=lambda: _NUMBER)


def _result_columns(rows: Sequence[Row], metric: str) -> Iterator[_Column]:
    """The columns of a trial's number, its values of the keys that differ, and its results."""
    yield _Column("trial", lambda row: str(row.trial.number))
    yield from map(_value_column, varying_keys([row.trial for row in rows]))
    yield _Column(metric, lambda row: str(row.objective or "-"))
    if (test := counterpart_on_test(metric)) is not None:
        yield _Column(test, lambda row: str(row.test or "-"))
    yield _Column("n", _seeds_done)
    yield _Column("time", lambda row: duration(row.seconds))
    further = list(rows[0].further) if rows else []
    yield from map(_objective_column, further)
    if further:
        yield _Column("front", lambda row: "*" if row.on_front else "", _WORDS)
    if any(row.confirmed for row in rows):
        yield _Column("on fresh seeds", lambda row: str(row.confirmed or ""))


def _optional_columns(rows: Sequence[Row], shown: Sequence[Row], directory: Path, width: int) -> Iterator[_Column]:
    """Yield the state, unless all shown trials have finished, and the directory, if the terminal is wide enough."""
    if any(row.state != "finished" for row in shown):
        yield _Column("state", lambda row: row.state, _WORDS)
    if len(f"{directory}/{len(rows)}") + _ROOM_FOR_THE_REST <= width:
        yield _Column("directory", lambda row: str(directory / row.trial.path.name), _WORDS)


def _value_column(key: str) -> _Column:
    return _Column(key, lambda row: short_value(row.trial.params.get(key, "")), _WORDS)


def _objective_column(name: str) -> _Column:
    return _Column(name, lambda row: str(row.further[name] or "-"))


def _seeds_done(row: Row) -> str:
    done = row.objective.count if row.objective is not None else 0
    return str(done) if done >= len(row.trial.seeds) else f"{done}/{len(row.trial.seeds)}"


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
