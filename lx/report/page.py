"""The HTML file of a report: self-contained, without scripts, every text from data escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from markupsafe import Markup

from lx.errors import LxError
from lx.report.drawing import Figure
from lx.report.templates import render
from lx.system.files import output_file

_MOST_ROWS = 500


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Code:
    """Lines to be copied; with a summary they are shown on request."""

    kind: ClassVar[str] = "code"
    text: str
    summary: str | None = None


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    caption: str
    pairs: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table; of a long one the first 500 rows are shown.

    Attributes:
        caption: what it shows.
        columns: headings.
        rows: plain values, one a column; numbers stand on the right.
        bar: the column whose values, from 0 to 1, are drawn as bars too.
        note: what is said below it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    bar: int | None = None
    note: str = ""

    @property
    def shown(self) -> Sequence[Sequence[Any]]:
        """The rows that are shown."""
        return self.rows[:_MOST_ROWS]

    @property
    def numeric(self) -> list[bool]:
        """Whether a column holds numbers."""
        return [
            any(isinstance(row[i], int | float) for row in self.rows)
            and all(isinstance(row[i], int | float) or row[i] in ("", "-", None) for row in self.rows)
            for i in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Figures:
    """Figures side by side."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


Block = Text | Code | Facts | Table | Figures


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: Sequence[Block]

    @property
    def anchor(self) -> str:
        """The heading's name in links."""
        return re.sub(r"\W+", "-", self.title.lower())


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: of the page.
        lead: what it is about, in a line.
        sections: in order; empty ones are left out.
        tiles: the main figures, by name.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    tiles: dict[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        blocks = [block for section in self.sections for block in section.blocks]
        return [figure for block in blocks if isinstance(block, Figures) for figure in block.figures]

    def html(self) -> str:
        """Return the content of the file."""
        sections = [section for section in self.sections if section.blocks]
        values = {"title": self.title, "lead": self.lead, "tiles": self.tiles, "sections": sections}
        return render("page.html", svg=lambda figure: Markup(figure.inline()), **values)

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            LxError: it cannot be written.
        """
        text = self.html()
        with output_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")

    def write_figures(self, directory: Path, kind: str) -> bool:
        """Write each figure to ``directory/NAME.svg`` or ``.png``; return whether a PNG lacks letters of its texts.

        Raises:
            LxError: they cannot be written.
        """
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LxError(f"cannot write {directory}: {error.strerror or error}") from error
        for figure in self.figures:
            with output_file(directory / f"{figure.name}.{kind}") as path:
                path.write_bytes(figure.image(kind))
        return kind == "png" and any(figure.missing_glyphs() for figure in self.figures)
