"""Reads texts to predict from, and writes predictions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from lx.data.sources.readers import is_known, known_extensions, read_rows
from lx.data.sources.rows import Columns
from lx.errors import LxError
from lx.system.output import DataStream
from lx.tasks.base import Prediction


def read_texts(path: Path, text: str, text_pair: str | None) -> Iterator[tuple[str, str | None]]:
    """Read the texts of a CSV, TSV, JSON Lines or Parquet file, or of a ``.txt`` file, one a line.

    Args:
        path: the file.
        text: column of the text.
        text_pair: column of the second text; None: single texts.

    Raises:
        LxError: missing, of an unknown kind, malformed, or without the column.
    """
    if not path.is_file():
        raise LxError(f"no file {path} to read texts from")
    if path.suffix == ".txt":
        with path.open(encoding="utf-8") as file:
            yield from read_lines(file, str(path))
        return
    if not is_known(path):
        raise LxError(f"{path}: unknown kind of file; lx reads .txt, {', '.join(known_extensions())}")
    for rows in read_rows(path, Columns(text, text_pair, label=None)):
        pairs = rows.pairs or [None] * len(rows.texts)
        for first, second in zip(rows.texts, pairs, strict=True):
            yield first or "", (second or "") if text_pair is not None else None


def read_lines(file: IO[str], name: str) -> Iterator[tuple[str, None]]:
    """Read one text a line.

    Raises:
        LxError: it is not UTF-8.
    """
    try:
        for line in file:
            yield line.rstrip("\r\n"), None
    except UnicodeDecodeError as error:
        raise LxError(f"{name} is not UTF-8 ({error.reason}): convert it, for example with iconv") from error


def write_predictions(
    predictions: Iterable[Prediction], out: DataStream | IO[str], kind: str, probabilities: bool, columns: Sequence[str]
) -> int:
    """Write predictions as they come, each with ``id``, its number from 0.

    Args:
        predictions: in the order of the input.
        out: an open text file.
        kind: ``jsonl`` or ``csv``.
        probabilities: add the probability of every class, where there are classes.
        columns: the headings in CSV, of the run's task.

    Returns:
        How many were written.
    """
    number = -1
    writer = csv.writer(out)
    if kind == "csv":
        writer.writerow(["id", *columns])
    for number, prediction in enumerate(predictions):
        if kind == "csv":
            writer.writerow([number, *prediction.to_row(probabilities)])
        else:
            out.write(json.dumps({"id": number, **prediction.to_json(probabilities)}, ensure_ascii=False) + "\n")
    return number + 1
