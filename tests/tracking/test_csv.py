from __future__ import annotations

import math
from pathlib import Path

import pytest

from lx.errors import TrainingError
from lx.tracking.context import RunContext
from lx.tracking.csv import CsvLogger, csv_logger


def logged(path: Path, rows: list[tuple[int | None, dict[str, float]]]) -> str:
    logger = CsvLogger(path)
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            [(7, {"epoch": 1, "train/loss": 0.5}), (14, {"epoch": 2, "train/loss": 0.25})],
            "step,epoch,train/loss\n7,1,0.5\n14,2,0.25\n",
            id="a row per step",
        ),
        pytest.param(
            [(7, {"epoch": 1, "train/loss": 0.5}), (7, {"epoch": 1, "val/loss": 0.75})],
            "step,epoch,train/loss,val/loss\n7,1,0.5,0.75\n",
            id="values of one step share a row",
        ),
        pytest.param(
            [(7, {"train/loss": 0.5}), (14, {"lr": 0.1}), (14, {"val/loss": 2.0}), (21, {"train/loss": 3})],
            "step,epoch,train/loss,lr,val/loss\n7,,0.5,,\n14,,,0.1,2.0\n21,,3,,\n",
            id="the header grows",
        ),
        pytest.param(
            [(7, {"a": 0.123456789}), (7, {"a": 1})],
            "step,epoch,a\n7,,1\n",
            id="a shorter value replaces a longer one",
        ),
        pytest.param([(7, {"a": 1}), (None, {"b": 2})], "step,epoch,a,b\n7,,1,2\n", id="no step is the last step"),
        pytest.param([(7, {'a,"b': 1})], 'step,epoch,"a,""b"\n7,,1\n', id="a name with a comma"),
    ],
)
def test_rows(tmp_path: Path, rows: list[tuple[int | None, dict[str, float]]], expected: str) -> None:
    assert logged(tmp_path / "run" / "metrics.csv", rows) == expected
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_every_call_is_complete_on_disk(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1}, 3)
    assert logger.path.read_text() == "step,epoch,a\n3,,1\n"
    logger.log_metrics({"a": 2}, 5)
    assert logger.path.read_text() == "step,epoch,a\n3,,1\n5,,2\n"


def test_values_read_back_exactly(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    text = logged(tmp_path / "m.csv", [(1, {"a": value, "b": math.inf, "c": math.nan, "d": 10**17})])
    cells = text.splitlines()[1].split(",")[2:]
    assert float(cells[0]) == value
    assert cells[1:] == ["inf", "nan", str(10**17)]


def test_a_file_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logged(path, [(3, {"a": 1}), (5, {"a": 2})])
    text = logged(path, [(5, {"b": 4}), (7, {"a": 8})])
    assert text == "step,epoch,a,b\n3,,1,\n5,,2,4\n7,,8,\n"


def test_half_a_line_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,a\n3,,1\n5,,0.12")
    assert logged(path, [(5, {"a": 2})]) == "step,epoch,a\n3,,1\n5,,2\n"


def test_an_empty_file_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,ep")
    assert logged(path, [(5, {"a": 2})]) == "step,epoch,a\n5,,2\n"


def test_truncation_drops_later_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    logged(path, [(3, {"a": 1}), (5, {"a": 2}), (11, {"a": 4})])
    logger = CsvLogger(path)
    logger.truncate_after(5)
    assert path.read_text() == "step,epoch,a\n3,,1\n5,,2\n"
    logger.log_metrics({"b": 8}, 5)
    logger.log_metrics({"a": 16}, 7)
    assert path.read_text() == "step,epoch,a,b\n3,,1,\n5,,2,8\n7,,16,\n"


def test_truncation_of_no_file_writes_none(tmp_path: Path) -> None:
    CsvLogger(tmp_path / "metrics.csv").truncate_after(5)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_rewrite_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    before = logged(path, [(3, {"a": 1})])

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    logger = CsvLogger(path)
    monkeypatch.setattr("lx.system.files.os.fsync", full_disk)
    with pytest.raises(TrainingError, match=r"cannot write .*metrics\.csv: no space left"):
        logger.log_metrics({"b": 2}, 3)
    assert path.read_text() == before
    assert [found.name for found in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_row_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    logger = CsvLogger(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1}, 3)
    logger.path.unlink()
    logger.path.mkdir()
    with pytest.raises(TrainingError, match=r"cannot write .*metrics\.csv: Is a directory"):
        logger.log_metrics({"a": 1}, 3)


@pytest.mark.parametrize(("step", "kept"), [(0, ""), (4, "3,,1\n"), (5, "3,,1\n5,,2\n")])
def test_a_resumed_run_takes_back_later_rows(tmp_path: Path, step: int, kept: str) -> None:
    logged(tmp_path / "metrics.csv", [(3, {"a": 1}), (5, {"a": 2})])
    csv_logger(RunContext(tmp_path, "a", {}, [], None, "id", step))
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,a\n" + kept
