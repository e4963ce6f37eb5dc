"""Reads texts to predict from, and writes predictions."""

from __future__ import annotations

import csv
import json
import os
import shlex
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from lx.data.sources.columns import Columns
from lx.data.sources.content import read_lines, unreadable
from lx.data.sources.readers import is_known, known_extensions, read_rows
from lx.errors import LxError, printable, quote
from lx.system.files import as_argument
from lx.system.output import DataStream

if TYPE_CHECKING:  # they import torch, and a file that is not there should be refused before
    from lx.inference.stream import TextRow
    from lx.tasks.base import Prediction

_ID = "id"  # a column of this name is carried over to the predictions
_TEXT, _PAIR = "text", "text_pair"


class NumberedTexts:
    """Texts to label; what is written beside each prediction is handed out in the same order once it is there.

    Args:
        rows: id, text and the text paired with it, or None.
    """

    def __init__(self, rows: Iterable[tuple[Any, str, str | None]]) -> None:
        self._rows = rows
        self._ids: deque[tuple[Any, str | None]] = deque()

    def rows(self) -> Iterator[TextRow]:
        """Yield each text and its pair."""
        for row_id, text, pair in self._rows:
            self._ids.append((row_id, pair))
            yield text, pair

    def ids(self) -> Iterator[tuple[Any, str | None]]:
        """Yield the id, and the pair, of each text that was yielded."""
        while self._ids:
            yield self._ids.popleft()


def require_known_file(path: Path) -> None:
    """Raise LxError unless a path is a regular file of a kind that is read."""
    try:
        if path.is_dir():
            texts = f"{shlex.quote(as_argument(path))}/*.txt"
            raise LxError(f"{path} is a folder: name a file. For texts that are lines: `cat {texts} | lx predict RUN`")
        if not path.is_file():
            kind = "is a pipe or a device: give it on standard input" if path.exists() else "does not exist"
            raise LxError(f"no file to read texts from: {path} {kind}")
    except OSError as error:  # a folder above that may not be entered, a name that is too long
        raise LxError(f"{printable(str(path))}: cannot be read: {error.strerror or error}") from error
    if not _holds_lines(path) and not is_known(path):
        raise LxError(f"{path}: unknown kind of file; lx reads .txt, .txt.gz, {', '.join(known_extensions())}")


def texts_of_file(path: Path, text: str, text_pair: str | None) -> NumberedTexts:
    """Read the texts of a CSV, TSV, JSON Lines or Parquet file, or of a ``.txt`` file, one a line.

    Args:
        path: the file.
        text: column of the text.
        text_pair: column of the second text; None: single texts.

    Raises:
        LxError: missing, no regular file, or of an unknown kind. While it is read: malformed, or without the column.
    """
    require_known_file(path)
    if _holds_lines(path):
        return NumberedTexts(_lines_of_file(path))
    options = ("--column ", "--pair-column ", "")
    return NumberedTexts(_read_table(path, Columns(text, text_pair, None, _ID, options)))


def texts_of_input(stdin: TextIO) -> NumberedTexts:
    """Read one text a line from standard input, in UTF-8 under any locale."""
    lines = read_lines(cast("BufferedReader", stdin.buffer), "standard input")
    return NumberedTexts((number, line, None) for number, line in enumerate(lines))


def texts_of_arguments(texts: Sequence[str], pairs: Sequence[str] | None) -> NumberedTexts:
    """Take texts from the command line, in UTF-8 under any locale."""
    if pairs is not None and len(pairs) != len(texts):
        raise LxError(f"--text has {len(texts)} texts, --pair {len(pairs)}: each text needs its pair")
    decoded = [_decode(text, "--text") for text in texts]
    decoded_pairs = [None] * len(texts) if pairs is None else [_decode(pair, "--pair") for pair in pairs]
    return NumberedTexts(zip(count(), decoded, decoded_pairs, strict=False))


def _holds_lines(path: Path) -> bool:
    return path.name.lower().endswith((".txt", ".txt.gz"))


def _decode(argument: str, option: str) -> str:
    """Decode an argument as UTF-8, which Python reads in the encoding of the locale."""
    try:
        return os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError as error:
        raise LxError(f"{option} {quote(argument)}: not UTF-8 (byte 0x{error.object[error.start]:02x})") from None


def _lines_of_file(path: Path) -> Iterator[tuple[int, str, None]]:
    try:
        number = -1
        with path.open("rb") as file:
            for number, line in enumerate(read_lines(file, str(path))):
                yield number, line, None
        if number < 0:
            raise LxError(f"{path}: the file is empty")
    except OSError as error:
        raise unreadable(path, error) from error


def _read_table(path: Path, columns: Columns) -> Iterator[tuple[Any, str, str | None]]:
    number = 0
    for rows in read_rows(path, columns):
        ids = rows.ids or range(number, number + len(rows.texts))
        pairs = rows.pairs or [None] * len(rows.texts)
        for row_id, text, pair in zip(ids, rows.texts, pairs, strict=True):
            yield row_id, text or "", (pair or "") if columns.pair is not None else None
        number += len(rows.texts)


def write_predictions(
    predictions: Iterable[Prediction],
    out: DataStream | IO[str],
    kind: str,
    probabilities: bool,
    columns: Sequence[str],
    ids: Iterable[tuple[Any, str | None]] | None = None,
    has_pairs: bool = False,
) -> int:
    """Write predictions as they come, each with its ``id``.

    Args:
        predictions: in the order of the input.
        out: an open text file.
        kind: ``jsonl``, ``csv`` or ``tsv``.
        probabilities: add the probability of every class, where there are classes.
        columns: the headings in CSV, of the run's task.
        ids: id and pair for each prediction, taken after it; None: its number from 0, and no pair.
        has_pairs: write the pair too, as ``text_pair`` behind the text.

    Returns:
        How many were written.
    """
    num_written = 0
    writer = csv.writer(out, delimiter="\t" if kind == "tsv" else ",")
    behind_text = columns.index(_TEXT) + 1 if _TEXT in columns else 0

    def write_row(row_id: Any, pair: Any, cells: Sequence[Any]) -> None:
        pairs = [pair] if has_pairs else []
        writer.writerow([row_id, *cells[:behind_text], *pairs, *cells[behind_text:]])

    if kind != "jsonl":
        write_row(_ID, _PAIR, columns)
    numbers = ((number, None) for number in count())
    for prediction, (row_id, pair) in zip(predictions, numbers if ids is None else ids, strict=False):
        if kind == "jsonl":
            texts = {_TEXT: prediction.text, _PAIR: pair} if has_pairs else {}
            fields = {_ID: row_id, **texts, **prediction.to_json(probabilities)}
            out.write(json.dumps(fields, ensure_ascii=False, default=str) + "\n")
        else:
            write_row(row_id, pair, prediction.to_row(probabilities))
        num_written += 1
    return num_written
