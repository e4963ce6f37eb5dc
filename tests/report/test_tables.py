from __future__ import annotations

import io

import pytest
from rich.console import Console, RenderableType

from lx.report.tables import count, duration, pairs_table, result_table


def render(*things: RenderableType) -> list[str]:
    file = io.StringIO()
    printer = Console(file=file, width=120, markup=False)
    for thing in things:
        printer.print(thing)
    return file.getvalue().splitlines()


def cells(lines: list[str]) -> dict[str, list[str]]:
    """First cell of each row to its other cells."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return {first: rest for first, *rest in rows}


def test_pairs_table() -> None:
    lines = render(pairs_table("a [run]", {"data": "[train].csv", "rows": "train 108,000"}))
    assert lines[0].strip() == "a [run]"
    assert cells(lines) == {"data": ["[train].csv"], "rows": ["train 108,000"]}


def test_count() -> None:
    assert (count(1, "thread"), count(1_200, "step")) == ("1 thread", "1,200 steps")


def test_result_table() -> None:
    lines = render(result_table({"test/accuracy": 0.91234, "test/f1_macro": 0.5}, seconds=125.4))
    assert cells(lines) == {"test/accuracy": ["0.9123"], "test/f1_macro": ["0.5000"], "time": ["2:05"]}


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.31, "8.3 s"), (59.9, "59.9 s"), (60, "1:00"), (125.4, "2:05"), (3725, "1:02:05")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
