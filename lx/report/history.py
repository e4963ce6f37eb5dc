"""Reads ``metrics.csv``, of a run that may be a stranger's or may still be under way."""

from __future__ import annotations

from dataclasses import dataclass
from os.path import lexists

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

from lx.errors import LxError, first_line
from lx.run.directory import RunDirectory

_MOST_BYTES = 1 << 28
_MOST_COLUMNS = 200
_MOST_POINTS = 400  # of a line in a figure


@dataclass(frozen=True)
class Series:
    """A metric against the optimizer step, where it was logged; both [N]."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    def thinned(self) -> Series:
        """Return at most 400 points: the means of neighbours."""
        count = -(-len(self.steps) // _MOST_POINTS)
        if count <= 1:
            return self
        starts = np.arange(0, len(self.steps), count)
        sizes = np.diff([*starts, len(self.steps)])
        return Series(np.add.reduceat(self.steps, starts) / sizes, np.add.reduceat(self.values, starts) / sizes)


def read_history(run: RunDirectory) -> dict[str, Series]:
    """Read the metrics of a run by column; none if the run has no ``metrics.csv``.

    Values that are not finite, and a line that is not written to its end, are left out.

    Raises:
        LxError: the file is no such table, or too large.
    """
    if not lexists(run.metrics):
        return {}
    path = run.trusted(run.metrics)
    if path.stat().st_size > _MOST_BYTES:
        raise LxError(f"{path} has more than {_MOST_BYTES:,} bytes, and was not read")
    with path.open("rb") as file:
        names = file.readline(1 << 16).decode("utf-8", errors="replace").strip().split(",")[:_MOST_COLUMNS]
    if not path.stat().st_size:
        return {}
    options = csv.ConvertOptions(
        include_columns=list(dict.fromkeys(names)), column_types=dict.fromkeys(names, pa.float64())
    )
    parsing = csv.ParseOptions(invalid_row_handler=lambda row: "skip")
    try:
        table = csv.read_csv(path, parse_options=parsing, convert_options=options)
    except (pa.ArrowException, KeyError) as error:
        raise LxError(f"{path} is not a table of metrics: {first_line(error)}") from error
    if "step" not in table.column_names:
        raise LxError(f"{path} is not a table of metrics: it has no column step")
    steps = table["step"].to_numpy()
    history = {}
    for name in names:
        values = table[name].to_numpy()
        known = np.isfinite(values) & (steps > 0)  # model=linear takes no step
        if known.any():
            history[name] = Series(steps[known], values[known])
    return history
