"""``metrics.csv``: one row per logged step."""

from __future__ import annotations

import csv
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lx.errors import LxError, TrainingError
from lx.system.files import atomic_write
from lx.tracking.context import RunContext


class CsvLogger(Logger):
    """Metrics by step in one CSV file that is complete on disk after every call.

    Values logged at the same step share a row; a new key adds a column. Only the last row is held in memory. The file
    and its directory are created with the first metric; an existing file is continued.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = Path(path)
        self._columns: list[str] = []
        self._last: dict[str, str] = {}
        self._last_start = 0  # byte offset of the last row, which may still grow
        if self.path.exists():
            self._continue_file()

    @property
    def name(self) -> None:
        """None: the run directory names the run."""

    @property
    def version(self) -> None:
        """None: a run directory holds one run."""

    @property
    def save_dir(self) -> str:
        """The directory that holds the file."""
        return str(self.path.parent)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run directory's ``config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write values by column into the row of a step, counted in optimizer steps; None: that of the last row.

        Raises:
            TrainingError: The file cannot be written.
        """
        row = {key: _cell(value) for key, value in metrics.items()}
        row["step"] = self._last.get("step", "0") if step is None else str(step)
        columns = list(dict.fromkeys(["step", "epoch", *self._columns, *row]))
        if columns != self._columns:
            self._columns = columns
            try:
                self._rewrite()
            except LxError as error:
                raise TrainingError(str(error)) from error
        if row["step"] == self._last.get("step"):
            row = {**self._last, **row}
        else:
            self._last_start = self.path.stat().st_size
        self._last = row
        try:
            with self.path.open("rb+") as file:
                file.seek(self._last_start)
                file.write(self._line(row))
                file.truncate()
        except OSError as error:
            raise TrainingError(f"cannot write {self.path}: {error.strerror or error}") from error

    def save(self) -> None:
        """Sync the file to the disk."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def truncate_after(self, step: int) -> None:
        """Drop the rows of steps after this one, as when training goes on from an earlier checkpoint."""
        if self._columns:
            self._rewrite(last_step=step)

    @rank_zero_only
    def _continue_file(self) -> None:
        _drop_unfinished_line(self.path)
        with self.path.open(encoding="utf-8", newline="") as file:
            self._columns = next(csv.reader(file), [])
        if self._columns:
            self._rewrite()

    def _rewrite(self, last_step: int = sys.maxsize) -> None:
        """Write the file anew, row by row, with all columns known now and the rows up to a step."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._last = {}
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:
            file.write(_csv_line(self._columns))
            for row in self._rows():
                if int(row["step"]) <= last_step:
                    self._last, self._last_start = row, file.tell()
                    file.write(self._line(row))

    def _rows(self) -> Iterator[dict[str, str]]:
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                yield from csv.DictReader(file, restval="")

    def _line(self, row: Mapping[str, str]) -> bytes:
        return _csv_line([row.get(column, "") for column in self._columns])


def csv_logger(run: RunContext) -> CsvLogger:
    """Build the logger of ``RUN/metrics.csv``; rows of steps that will be taken again are dropped.

    Raises:
        LxError: The file cannot be written.
    """
    logger = CsvLogger(run.dir / "metrics.csv")
    logger.truncate_after(run.step)
    return logger


def earlier_rows(run: RunContext) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield step and metrics of each row of ``metrics.csv`` up to the step from which a run goes on.

    The metrics of training and those of validation are yielded one after the other.
    """
    path = run.dir / "metrics.csv"
    if run.step == 0 or not path.exists():
        return
    with path.open(encoding="utf-8", newline="") as file:
        for cells in csv.DictReader(file, restval=""):
            step = int(cells.pop("step"))
            row = {key: _number(cell) for key, cell in cells.items() if cell}
            epoch = {"epoch": row.pop("epoch")} if "epoch" in row else {}
            validation = {key: value for key, value in row.items() if key.startswith("val/")}
            training = {key: value for key, value in row.items() if key not in validation}
            for metrics in (training, validation):
                if metrics and step <= run.step:
                    yield step, {**epoch, **metrics}


def _number(cell: str) -> float:
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)


def _cell(value: float) -> str:
    """Return the shortest text that reads back as the same number; integers stay integers."""
    return str(value) if isinstance(value, int) else repr(float(value))


def _csv_line(cells: Sequence[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode()


def _drop_unfinished_line(path: Path) -> None:
    """Truncate the file after its last line feed: a killed process may leave half a line."""
    with path.open("rb+") as file:
        end = 0
        for line in file:
            if line.endswith(b"\n"):
                end += len(line)
        file.truncate(end)
