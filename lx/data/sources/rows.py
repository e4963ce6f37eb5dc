"""Checks the values of rows as they are read, and hands them on in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

from lx.data.sources.base import CHUNK, Rows
from lx.errors import LxError


class Collector:
    """Takes rows one by one and hands them on in pieces.

    Args:
        path: The file they come from, for messages.
        paired: Whether each has a second text.
    """

    def __init__(self, path: Path, *, paired: bool) -> None:
        self.path = path
        self.paired = paired
        self.seen = False
        self._clear()

    def _clear(self) -> None:
        self._texts: list[str | None] = []
        self._pairs: list[str | None] = []
        self._labels: list[str | int | None] = []
        self._places: list[int] = []

    def add(self, place: int, *values: object) -> Iterator[Rows]:
        """Take text, second text if there is one, and label; hand on a piece when it is full."""
        self.seen = True
        for text in values[:-1]:
            if text is not None and type(text) is not str:
                raise LxError(
                    f"{self.path}:{place}: the text is {kind_of(text)}, not a string. Is data.text the right column?"
                )
        self._texts.append(cast("str | None", values[0]))
        if self.paired:
            self._pairs.append(cast("str | None", values[1]))
        self._labels.append(plain_label(values[-1], f"{self.path}:{place}"))
        self._places.append(place)
        if len(self._texts) == CHUNK:
            yield from self.rest()

    def rest(self) -> Iterator[Rows]:
        """Hand on what has been taken so far."""
        if self._texts:
            piece = Rows(self._texts, self._pairs if self.paired else None, self._labels, self._places[0], self._places)
            self._clear()
            yield piece


def plain_label(label: object, where: str) -> str | int | None:
    """A label as text or integer; a blank one is ``None``.

    Raises:
        LxError: If it is anything else, such as a list or a fraction.
    """
    if isinstance(label, str):
        return label.strip() or None
    if isinstance(label, bool):
        return str(label).lower()
    if label is None or isinstance(label, int):
        return label
    raise LxError(
        f"{where}: the label {str(label)[:60]!r} is {kind_of(label)}. A label is a string or an integer, one a row"
    )


def kind_of(value: object) -> str:
    """What a value is, in words."""
    names = {
        bool: "true or false",
        int: "an integer",
        float: "a fraction",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")
