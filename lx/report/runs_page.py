"""The report of several runs: their curves together, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lx.config.flatten import flatten
from lx.errors import LxError
from lx.report.compare import compare_contenders
from lx.report.comparison_tables import method_note, pairs_grid
from lx.report.contenders import changed_settings, read_contender
from lx.report.curves import curves
from lx.report.page import Block, Figures, Page, Section, Table, Text
from lx.report.record import RunRecord
from lx.report.run_page import DAMAGE
from lx.report.tables import count, duration

_MOST_DRAWN = 24
_MOST_METRICS = 30
_ABSENT = "-"
_OF_THE_RUN = ("name", "run_dir", "resume", "launch", "recipe")


def runs_page(records: Sequence[RunRecord]) -> Page:
    """Build the report of several runs.

    Raises:
        LxError: the files of one are damaged.
    """
    records = _with_own_names(records)
    try:
        sections = [
            Section("Results", [_results(records)]),
            Section("Is the difference real?", _comparison(records)),
            Section("What differs", [_differences(records)]),
            Section("Learning curves", _curves(records)),
        ]
    except DAMAGE as error:
        raise LxError(f"one of the runs is damaged: {type(error).__name__}: {error}") from error
    names = ", ".join(record.name for record in records[:8])
    return Page(count(len(records), "run"), f"{names}{', ...' if len(records) > 8 else ''}", sections)


def _with_own_names(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Name runs by their directory, and by that above it where names are the same."""
    names = [record.name for record in records]
    if len(set(names)) == len(names):
        return list(records)
    longer = ["/".join(record.run.path.resolve().parts[-2:]) for record in records]
    unique = [name if len(set(longer)) == len(longer) else f"{name} ({i + 1})" for i, name in enumerate(longer)]
    return [replace(record, name=name) for record, name in zip(records, unique, strict=True)]


def _results(records: Sequence[RunRecord]) -> Block:
    results = [record.result for record in records]
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))[:_MOST_METRICS]
    rows: list[list[Any]] = [
        ["status", *(result.status if result else "not ended" for result in results)],
        ["steps", *(result.steps if result else _ABSENT for result in results)],
        ["time", *(duration(float(result.seconds)) if result else _ABSENT for result in results)],
        *([name, *(record.metrics.get(name, _ABSENT) for record in records)] for name in metrics),
    ]
    return Table("Results of each run", ["", *(record.name for record in records)], rows)


def _comparison(records: Sequence[RunRecord]) -> list[Block]:
    """Return what ``lx compare`` says of each pair, or why it can say nothing."""
    try:
        comparison = compare_contenders([read_contender(record.name, [record.run.path]) for record in records])
    except LxError as error:
        return [Text(f"This cannot be told: {error}.")]
    grid = pairs_grid(comparison)
    rows = [[*row, pair.verdict] for row, pair in zip(grid.rows, comparison.pairs, strict=True)]
    return [Table(grid.title, [*grid.columns, "verdict"], rows, note=f"{method_note(comparison)}.")]


def _differences(records: Sequence[RunRecord]) -> Block:
    settings = [{**flatten(record.config), "git revision": record.environment.get("revision")} for record in records]
    rows = [
        [key, *map(_setting, (each.get(key, _ABSENT) for each in settings))]
        for key in changed_settings(settings)
        if not key.startswith(_OF_THE_RUN)
    ]
    if not rows:
        return Text("Their configurations are the same.")
    return Table("Settings that differ", ["setting", *(record.name for record in records)], rows)


def _setting(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _curves(records: Sequence[RunRecord]) -> list[Block]:
    histories = {record.name: record.history for record in records if record.history}
    without = [record.name for record in records if not record.history]
    shown = dict(list(histories.items())[:_MOST_DRAWN])
    blocks: list[Block] = [Figures(curves(shown))] if shown else []
    if len(histories) > len(shown):
        blocks.append(Text(f"The first {_MOST_DRAWN} of {len(histories)} runs are drawn."))
    if without:
        blocks.append(Text(f"Without steps, or without the logger csv: {', '.join(without[:20])}."))
    return blocks
