"""Read JSON Lines: one object a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lx.data.sources.columns import Columns
from lx.data.sources.content import open_text
from lx.data.sources.rows import Record, kind_of
from lx.errors import LxError, quote

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Python and pandas write NaN for what is missing, though JSON has no such word.
_decode = json.JSONDecoder(parse_constant=lambda word: None if word == "NaN" else float(word)).decode


def read_json_lines(path: Path, columns: Columns) -> Iterator[Record]:
    """Read one JSON object a line; blank lines are skipped, NaN is null."""
    names: list[str] = []
    num_named = len(columns.named())
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            row = _parse(path, number, line, is_first=not names)
            if not names:
                if not columns.are_in([*row]) and any(map(_holds_rows, row.values())):
                    raise _no_lines(f"{path}:{number}: rows in a list inside an object")
                _refuse_repeated_names(path, number, line, columns)
                header = list(row)
                names = [header[index] for index in columns.find(f"{path}:{number}", header)]
            try:
                values = [row[name] for name in names[:num_named]]
            except KeyError:  # this row spells its names in another way, or lacks one
                header = list(row)
                values = [row[header[index]] for index in columns.find(f"{path}:{number}", header)][:num_named]
            if len(names) > num_named:
                values.append(row.get(names[-1]))
            if "\\u" in line and _SURROGATE.search(line):
                _refuse_half_pairs(path, number, values)
            yield number, values
    if not names:
        raise LxError(f"{path}: the file is empty")


def _holds_rows(value: Any) -> bool:
    """Return whether a value is a list of rows, and not one of labels or words."""
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _parse(path: Path, number: int, line: str, *, is_first: bool) -> dict[str, Any]:
    try:
        row = _decode(line)
    except json.JSONDecodeError as error:
        if is_first and line.lstrip()[0] in "[{" and error.pos >= len(line.rstrip()):
            raise _no_lines(f"{path}:{number}: a JSON value that goes on over several lines") from error
        raise LxError(f"{path}:{number}: not valid JSON: {_problem(line, error)}") from error
    except RecursionError as error:
        raise LxError(f"{path}:{number}: not valid JSON: nested too deeply") from error
    except ValueError as error:  # a number with more digits than Python reads
        raise LxError(f"{path}:{number}: not a number that can be read: {str(error)[:100]}") from error
    if not isinstance(row, dict):
        raise _no_lines(f"{path}:{number}: {kind_of(row)} instead of an object")
    return row


def _problem(line: str, error: json.JSONDecodeError) -> str:
    if error.pos >= len(line.rstrip()):
        return "the line ends too soon"
    near = quote(line[max(error.pos - 10, 0) : error.pos + 20].strip())
    return f"{error.msg.removesuffix(' at')} at column {error.pos + 1}, in {near}"


def _no_lines(problem: str) -> LxError:
    return LxError(
        f"{problem}. lx reads JSON Lines: one object a line, no list round them. Convert a list with "
        f"`jq -c '.[]' OLD > NEW`, one inside an object with `jq -c '.NAME[]'`; "
        "pandas writes them by to_json(FILE, orient='records', lines=True)"
    )


def _refuse_repeated_names(path: Path, number: int, line: str, columns: Columns) -> None:
    """Refuse a first object with a column twice, of which JSON would keep the last."""
    names = json.JSONDecoder(object_pairs_hook=lambda pairs: [name for name, _ in pairs]).decode(line)
    columns.find(f"{path}:{number}", names)


def _refuse_half_pairs(path: Path, number: int, values: list[Any]) -> None:
    try:
        json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise LxError(
            f"{path}:{number}: {half} is half of a surrogate pair, which is no character: a text was cut in the "
            "middle of one, such as an emoji. Mend the row or remove it"
        ) from None
