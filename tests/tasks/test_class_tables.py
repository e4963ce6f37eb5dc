"""Tables of class scores and confusions."""

from __future__ import annotations

import io

from rich.cells import cell_len
from rich.console import Console, RenderableType

from lx.system.files import to_json
from lx.tasks.confusion import confusion_cells, confusion_details, most_confused
from lx.tasks.tables import confusion_table, worst_classes

NAMES = ["体育[b]", "科技", "World"]
CONFUSION = confusion_cells({"confusion_matrix": [[5, 2, 0], [3, 7, 1], [0, 0, 0]]})
SCORES = [
    {"name": "体育[b]", "support": 7, "precision": 5 / 8, "recall": 5 / 7, "f1": 10 / 15},
    {"name": "科技", "support": 11, "precision": 7 / 9, "recall": 7 / 11, "f1": 14 / 20},
    {"name": "World", "support": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0},
]


def render(table: RenderableType) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=120, markup=False).print(table)
    return file.getvalue().splitlines()


def cells(lines: list[str]) -> dict[str, list[str]]:
    """First cell of each row to its other cells."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return {first: rest for first, *rest in rows}


def test_most_confused_by_hand() -> None:
    assert most_confused(["a", "b", "c"], CONFUSION) == [("b", 2), ("a", 3), None]


def test_worst_classes() -> None:
    lines = render(worst_classes(SCORES, most_confused(NAMES, CONFUSION)))
    assert cells(lines) == {
        "体育[b]": ["0.667", "0.625", "0.714", "7", "科技 (2)"],
        "科技": ["0.700", "0.778", "0.636", "11", "体育[b] (3)"],
    }
    assert len({cell_len(line) for line in lines[1:]}) == 1, "wide characters must not shift the borders"


def test_the_worst_five_come_first() -> None:
    f1s = [0.7, 0.2, 0.5, 0.3, 0.6, 0.1, 0.4]
    scores = [{"name": f"c{f1}", "support": 2, "precision": f1, "recall": f1, "f1": f1} for f1 in f1s]
    for confused in ([None] * 7, []):
        named = [name for name in cells(render(worst_classes(scores, confused))) if name.startswith("c0")]
        assert named == ["c0.1", "c0.2", "c0.3", "c0.4", "c0.5"]


def test_empty_cells_of_a_confusion_matrix_are_left_out() -> None:
    table = confusion_table(["a", "b"], confusion_cells({"confusion_matrix": [[5, 2], [0, 3]]}))
    assert table.rows == [["a", "a", 5], ["a", "b", 2], ["b", "b", 3]]


def test_of_many_classes_the_cells_are_recorded() -> None:
    few = [[i * j % 5 for i in range(100)] for j in range(100)]
    assert confusion_details(few) == {"confusion_matrix": few}
    many = [[i * j % 3 for i in range(200)] for j in range(200)]
    details = confusion_details(many)
    assert details.keys() == {"confusion_cells"}
    assert details["confusion_cells"][:2] == [[1, 2, 2], [1, 5, 2]], "the largest first"
    assert details["confusion_cells"][-1][2] == 1
    assert most_confused(range(200), confusion_cells(details))[1:3] == [(2, 2), (1, 2)]  # type: ignore[arg-type]


def test_what_is_recorded_of_1500_classes_is_small() -> None:
    full = [[1] * 1500] * 1500
    assert len(to_json(confusion_details(full))) < 1_000_000
