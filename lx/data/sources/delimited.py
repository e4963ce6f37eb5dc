"""Read tables of separated values: CSV, TSV, and those whose name says another separator than they have."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from lx.data.sources.columns import Columns, tidy
from lx.data.sources.content import open_text
from lx.data.sources.rows import Record
from lx.errors import LxError

if TYPE_CHECKING:
    from _csv import Reader as _CsvReader

_LONGEST_FIELD = 64 * 2**20  # characters; also bounds what a quote that is never closed can swallow
_NUM_HEAD = 200  # lines that are looked at before the first record is handed out
_ENDS = {*"，。！？!?"}  # punctuation of sentences, which a name has not
_OTHER_MARKS = ("“", "‘", "「", "«", "'")
_LONG_NAME = 40  # characters; a longer name of a column is more likely a text


@dataclass(frozen=True)
class _Dialect:
    """How fields are separated, whether quotation marks enclose them, and whether a space before one is skipped."""

    delimiter: str
    quoted: bool = True
    skips_spaces: bool = False

    def parse(self, lines: Iterator[str]) -> _CsvReader:
        if self.quoted:
            return csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.skips_spaces)
        return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)

    def header(self, line: str) -> list[str]:
        """Return the names in a first line; none if a quotation mark is still open at its end."""
        try:
            return next(self.parse(iter([line])), [])
        except csv.Error:
            return []


_COMMA, _TAB, _PLAIN_TAB = _Dialect(","), _Dialect("\t"), _Dialect("\t", quoted=False)
_OTHERS = (_Dialect(";"), _Dialect("|"))


def read_csv(path: Path, columns: Columns) -> Iterator[Record]:
    """Read comma-separated values with a header; fields may be quoted and then span lines."""
    return _read(path, columns, (_COMMA, _TAB, *_OTHERS))


def read_tsv(path: Path, columns: Columns) -> Iterator[Record]:
    """Read tab-separated values with a header. Fields are quoted if all names in the header are; else quotes are text.

    Unquoted is what is usual in TSV.
    """
    return _read(path, columns, (_PLAIN_TAB, _TAB, _COMMA, *_OTHERS))


def _read(path: Path, columns: Columns, dialects: Sequence[_Dialect]) -> Iterator[Record]:
    """Read with the first of the dialects in which the header has the columns."""
    csv.field_size_limit(_LONGEST_FIELD)
    with open_text(path) as file:
        first = file.readline()
        if not first:
            raise LxError(f"{path}: the file is empty")
        head = [first, *islice(file, _NUM_HEAD)]
        dialect = _choose(head, columns, dialects)
        yield from _read_records(path, columns, dialect, dialect.parse(chain(head, file)))


def _choose(head: list[str], columns: Columns, dialects: Sequence[_Dialect]) -> _Dialect:
    """Choose the first dialect whose header has the columns; skip spaces if only then the records are all as wide."""
    line = head[0]
    if dialects[0] == _PLAIN_TAB and all(name[:1] == name[-1:] == '"' for name in line.rstrip("\r\n").split("\t")):
        dialects = dialects[1:]
    skipping = [replace(dialect, skips_spaces=True) for dialect in dialects if dialect.quoted]
    dialect = next((each for each in [*dialects, *skipping] if columns.are_in(each.header(line))), dialects[0])
    if dialect.quoted and f'{dialect.delimiter} "' in "".join(head) and not _is_even(dialect, head):
        without_spaces = replace(dialect, skips_spaces=True)
        if _is_even(without_spaces, head):
            return without_spaces
    return dialect


def _is_even(dialect: _Dialect, head: list[str]) -> bool:
    """Return whether the first records are all as wide as the header; the last is ignored, since it may go on."""
    widths: list[int] = []
    try:
        widths.extend(len(record) for record in dialect.parse(iter(head)) if record)
    except csv.Error as error:
        return "unexpected end" in str(error) and len(set(widths)) == 1
    return len(set(widths[: -1 if len(head) > _NUM_HEAD else None])) == 1


def _read_records(path: Path, columns: Columns, dialect: _Dialect, records: _CsvReader) -> Iterator[Record]:
    """Yield the rows under a header; the number of a row is the line on which its record begins."""
    line = 1
    try:
        header = next(records)
        if not any(map(tidy, header)):
            raise LxError(f"{path}:1: the header is blank")
        indices = columns.find(f"{path}:1", header, _advice(header))
        width, last = len(header), indices[-1]
        line = records.line_num + 1
        for record in records:
            if len(record) == width:
                if record[last] == header[last] and width > 1 and list(map(tidy, record)) == list(map(tidy, header)):
                    raise LxError(f"{path}:{line}: the header stands here again. Remove this line")
                yield line, [record[index] for index in indices]
            elif record:  # a blank line is no record
                cure = _cure(dialect, record)
                raise LxError(f"{path}:{line}: {len(record)} field(s) where the header has {width}. {cure}")
            line = records.line_num + 1
    except csv.Error as error:
        reason = str(error)
        if "unexpected end of data" in reason or "field larger" in reason:
            reason = "a quotation mark is opened and never closed"
        raise LxError(f"{path}:{line}: malformed CSV: {reason}, in the record that begins here") from error


def _advice(header: Sequence[str]) -> str:
    """Return what to do about a header without the columns; nothing if it looks like one."""
    if header[0].startswith("sep="):
        return "Remove the first line, which only Excel reads"
    if any("，" in name for name in header) and len(header) == 1:
        return "Separate columns by the comma of ASCII (,), not by the full-width one (，)"
    if len(header) > 1 and any(len(name) > _LONG_NAME or tidy(name).isdecimal() or _ENDS & {*name} for name in header):
        return "Is the first line a row of data? Put a line above it with the names of the columns, such as text,label"
    if len(header) == 1 and not header[0].isidentifier():
        return "Separate columns by commas, tabs, semicolons or |"
    return ""


def _cure(dialect: _Dialect, record: list[str]) -> str:
    if dialect.quoted and any(field.startswith(' "') for field in record):
        return "A space stands before a quotation mark, which is then text like any other: remove the space"
    if other_marks := [field[0] for field in record if field[:1] in _OTHER_MARKS]:
        return f'Only " is a quotation mark, and {other_marks[0]} is text like any other'
    names = {",": "a comma", "\t": "a tab", ";": "a semicolon", "|": "a |"}
    if dialect.quoted:
        return f"Put a field with {names[dialect.delimiter]} or a line break in it between quotation marks"
    return "A field of a .tsv file cannot hold a tab or a line break: save it as CSV"
