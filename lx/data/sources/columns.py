"""The columns of a table that are read, found by their names in a header."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from lx.errors import LxError, did_you_mean, quote, shorten

_OUTER = re.compile(r"\A[\s\ufeff\u200b-\u200f\u2060]+|[\s\ufeff\u200b-\u200f\u2060]+\Z")


@dataclass(frozen=True)
class Columns:
    """The names of a table's columns; ``pair`` is None for single texts, ``label`` if labels are not needed.

    What is shown as text belongs to the fingerprint of data: the other fields must not change it.

    Attributes:
        id: A column that is read only if the table has it.
        options: What a person types before the name of a column: of the text, the pair and the label.
    """

    text: str
    pair: str | None
    label: str | None
    id: str | None = field(default=None, repr=False)
    options: tuple[str, str, str] = field(default=("data.text=", "data.text_pair=", "data.label="), repr=False)

    def __post_init__(self) -> None:
        """Raise LxError if the label is read as text too."""
        if self.label is not None and self.label in (self.text, self.pair):
            option = self.options[0 if self.label == self.text else 1]
            raise LxError(f"{option}{self.label} names the column of the label: the text would hold the answer")

    def named(self) -> dict[str, str]:
        """Return each column that a table must have, by the option that names it: text, text pair, label."""
        columns = zip(self.options, (self.text, self.pair, self.label), strict=True)
        return {option: column for option, column in columns if column is not None}

    def are_in(self, header: Sequence[str]) -> bool:
        """Return whether a header has every column."""
        return all(_positions(column, header) for column in self.named().values())

    def find(self, where: str, header: Sequence[str], advice: str = "") -> list[int]:
        """Return where in a header each column stands: text, text pair, label, and the id if there is one.

        Where a name is not found as it is, white space and marks around the names of the header are overlooked.

        Args:
            where: The file and line of the header, for messages.
            header: The table's names.
            advice: A sentence for a column that is missing.

        Raises:
            LxError: A column is missing, or stands there twice.
        """
        indices: list[int] = []
        for column in self.named().values():
            positions = _positions(column, header)
            if len(positions) > 1:
                raise LxError(
                    f"{where}: the column {quote(column)} stands there twice, as columns {positions[0] + 1} and "
                    f"{positions[1] + 1}. Give one of them another name"
                )
            if not positions:
                missing = [each for each, name in self.named().items() if not _positions(name, header)]
                advice = advice or f"Set {' and '.join(f'{each}...' for each in missing)}"
                raise LxError(
                    f"{where}: there is no column {quote(column)}{did_you_mean(column, header)}. "
                    f"The columns are: {shorten(header)}. {advice}"
                )
            indices += positions
        return indices + (_positions(self.id, header)[:1] if self.id is not None else [])


def tidy(name: str) -> str:
    """Return a column's name without white space and invisible marks around it, in Unicode's composed form."""
    return unicodedata.normalize("NFC", _OUTER.sub("", name))


def _positions(column: str, header: Sequence[str]) -> list[int]:
    exact = [index for index, name in enumerate(header) if name == column]
    return exact or [index for index, name in enumerate(header) if tidy(name) == tidy(column)]
