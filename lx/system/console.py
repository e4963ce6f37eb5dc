"""Consoles for the standard streams.

Tables and commands go to standard output, progress and log lines to standard error, so that ``2>run.log`` keeps the two
apart. In a pipe there are no colour codes and lines are not wrapped at 80 columns. Nothing that is printed is markup.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from typing_extensions import override

from lx.system.output import Stream, escape

_PIPE_WIDTH = 120


class _EscapingConsole(Console):
    """Takes text as it is: no markup, no emoji codes, no control characters."""

    @override
    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(escape(text), **options)  # before a table measures its columns

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(escape(segment.text), segment.style)


def console(stderr: bool = False) -> Console:
    """Build a console for standard output, or for standard error.

    On a terminal it is rich's default; else 120 columns wide and free of control codes, even if FORCE_COLOR is set.
    What cannot be written is dropped.
    """
    stream = sys.stderr if stderr else sys.stdout
    # rich's highlighter takes minutes for a line of 100,000 characters
    plain: dict[str, Any] = {"file": Stream(stream), "markup": False, "emoji": False, "highlight": False}
    if not stream.isatty():
        plain |= {"width": _PIPE_WIDTH, "force_terminal": False, "color_system": None}
    return _EscapingConsole(**plain)


def show(*renderables: RenderableType) -> None:
    """Print tables and lines on standard output."""
    console().print(*renderables, sep="\n")
