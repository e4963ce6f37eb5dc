"""A comparison as people and programs read it: tables for a terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lx.errors import LxError, shorten_text
from lx.report.compare import Comparison
from lx.report.statistics import LEVEL
from lx.report.tables import duration
from lx.system.files import output_file, to_json

FORMATS = (".csv", ".json", ".md")
_WHOLE = ("parameters", "epochs", "steps")
_HIDDEN = {"test": "val/", "validation": "test/"}  # results of another split than the one compared on
_LONGEST = 40  # letters of a value in a table


@dataclass(frozen=True)
class Grid:
    """A table of a comparison, before it is drawn for a terminal, for a page or as Markdown."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def comparison_tables(comparison: Comparison) -> list[Table | Text]:
    """Return tables of what differs in settings and results, and of every pair, with a line that explains them."""
    drawn: list[Table | Text] = []
    for grid in _grids(comparison):
        table = Table(title=Text(grid.title), title_justify="left")
        for column in grid.columns:
            table.add_column(Text(column), overflow="fold")
        for row in grid.rows:
            table.add_row(*map(Text, row))
        drawn.append(table)
    return [*drawn, *map(Text, _lines(comparison))]


def check_format(path: Path | None) -> None:
    """Raise LxError if a file is named whose format is not known."""
    if path is not None and path.suffix not in FORMATS:
        raise LxError(f"--out {path}: a comparison is written as {', '.join(FORMATS)}")


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write a comparison in the format that the name of the file says."""
    check_format(path)
    write = {".csv": _csv, ".json": lambda each: to_json(asdict(each)), ".md": _markdown}[path.suffix]
    with output_file(path) as temporary:
        temporary.write_text(write(comparison), encoding="utf-8", newline="")


def _grids(comparison: Comparison) -> list[Grid]:
    names = comparison.names
    seeds = [", ".join(map(str, comparison.seeds[name])) for name in names]
    settings = [[key, *map(_value, values)] for key, values in comparison.settings.items()]
    results = [
        [name, *("-" if cell is None else _measured(name, *cell) for cell in cells)]
        for name, cells in comparison.results.items()
        if any(cell != cells[0] for cell in cells) and not name.startswith(_HIDDEN[comparison.split])
    ]
    return [
        Grid("settings that differ", ["", *names], [["seed", *seeds], *settings]),
        Grid("results that differ, mean ± deviation over seeds", ["", *names], results),
        pairs_grid(comparison),
    ]


def pairs_grid(comparison: Comparison) -> Grid:
    """Return difference, interval and p-values of every pair."""
    is_exact = any(pair.mcnemar_p is not None for pair in comparison.pairs)
    p_name = "p" if len(comparison.pairs) == 1 else "p (Holm)"
    columns = ["A", "B", "difference", f"{LEVEL:.0%} interval", "A better", p_name]
    columns += ["McNemar's p"] if is_exact else []
    rows = []
    for pair in comparison.pairs:
        interval = f"{_signed(pair.difference.low)} to {_signed(pair.difference.high)}"
        row = [pair.a, pair.b, _signed(pair.difference.estimate), interval]
        row += [f"{pair.probability:.1%}", _p(pair.adjusted_p)]
        if is_exact:
            row.append("-" if pair.mcnemar_p is None else _p(pair.mcnemar_p))
        rows.append(row)
    title = f"{comparison.metric} on {comparison.num_rows:,} rows of {comparison.split}, A minus B"
    return Grid(title, columns, rows)


def method_note(comparison: Comparison) -> str:
    """Say how the differences were judged."""
    several = "" if len(comparison.pairs) == 1 else f"; p adjusted for {len(comparison.pairs)} pairs"
    seeds = "" if all(len(seeds) == 1 for seeds in comparison.seeds.values()) else " and seeds"
    is_exact = any(pair.mcnemar_p is not None for pair in comparison.pairs)
    exact = ", or McNemar's exact test where its p is larger" if is_exact else ""
    return f"By a paired bootstrap over rows{seeds}{exact}{several}"


def _lines(comparison: Comparison) -> list[str]:
    return [*(f"{pair.a}, {pair.b}: {pair.verdict}" for pair in comparison.pairs), method_note(comparison)]


def _signed(value: float) -> str:
    return f"{value:+.4f}" if abs(value) < 100 else f"{value:+.4g}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _value(value: Any) -> str:
    return "-" if value is None else shorten_text(str(value), _LONGEST)


def _measured(name: str, mean: float, deviation: float | None) -> str:
    if name == "seconds":
        return duration(mean)
    if name in _WHOLE:
        return f"{mean:,.0f}"
    return f"{mean:.4f}" if deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _markdown(comparison: Comparison) -> str:
    parts = []
    for grid in _grids(comparison):
        lines = [grid.columns, ["---"] * len(grid.columns), *grid.rows]
        rows = ("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
        parts.append("\n".join([f"**{grid.title}**", "", *rows, ""]))
    return "\n".join([*parts, *(f"- {_cell(line)}" for line in _lines(comparison)), ""])


def _cell(text: str) -> str:
    """Text as it stands in a cell of a table in Markdown, be it from data."""
    escaped = "".join(f"\\{letter}" if letter in "\\|`*_<>[]" else letter for letter in text)
    return " ".join(escaped.split())


def _csv(comparison: Comparison) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    columns = ["a", "b", "seeds_a", "seeds_b", "metric", "split", "rows", "difference", "low", "high"]
    writer.writerow([*columns, "probability_a_better", "p", "mcnemar_p", "verdict"])
    for pair in comparison.pairs:
        difference = pair.difference
        numbers = (difference.estimate, difference.low, difference.high, pair.probability)
        what = (comparison.metric, comparison.split, comparison.num_rows)
        mcnemar = "" if pair.mcnemar_p is None else pair.mcnemar_p
        writer.writerow([pair.a, pair.b, *pair.num_seeds, *what, *numbers, pair.adjusted_p, mcnemar, pair.verdict])
    return file.getvalue()
