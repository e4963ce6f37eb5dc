"""Class names: learned from the labels of the train split, or declared by the source."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lx.data.sources.rows import kind_of
from lx.errors import LxError, did_you_mean, quote, shorten

_INTEGER = re.compile(r"[+-]?\d{1,999}")  # Python reads no number of many thousand digits


class ClassNames:
    """Numbers class names while labels are read.

    If names are declared, a label is one of them or, as an integer, a position among them; if some positions are names
    too (of the names 1 to 5, for example), an integer is always a name. Otherwise the names are those of the train
    split. The integer 1 and the text "1" are the same class, so a CSV and a JSON Lines file go together. So are
    spellings that look alike: composed and decomposed letters, and True and true. The first one met gives the name.

    Args:
        declared: The names in id order, or None to learn them.
        by_position: Whether an integer may stand for a declared name's position; None: if names are declared.

    Attributes:
        names: In id order.
        joined_spellings: Whether the train split spells a class in two ways.

    Raises:
        LxError: The declared names repeat or are fewer than two.
    """

    def __init__(self, declared: Sequence[str] | None, by_position: bool | None = None) -> None:
        self.by_position = declared is not None if by_position is None else by_position
        self.names: list[str] = list(declared or ())
        self.joined_spellings = False
        self._ids: dict[Any, int] = {name: index for index, name in enumerate(self.names)}
        self._ids_by_spelling: dict[str, int] = {}
        for index, name in enumerate(self.names):
            self._ids_by_spelling.setdefault(_spelling(name), index)
        self._positions_are_names = any(str(index) in self._ids for index in range(len(self.names)))
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise LxError(f"data.class_names lists {repeated[0]!r} twice: every class needs its own name")
        if self.by_position and len(self.names) < 2:
            raise LxError(f"data.class_names has {len(self.names)} name(s): a classifier needs two at least")

    def encode(self, labels: Sequence[Any], *, learn: bool) -> NDArray[np.int32]:
        """Return the class id of each label; -1 for one that is empty, unknown, or neither text nor a whole number."""
        if set(map(type, labels)) <= {str, int, type(None)}:  # others may equal them: True == 1, or have no hash
            ids = np.fromiter((self._ids.get(label, -1) for label in labels), np.int32, len(labels))
        else:
            ids = np.full(len(labels), -1, np.int32)
        for row in np.flatnonzero(ids < 0).tolist():
            ids[row] = self._look_up(labels[row], learn=learn and not self.by_position)
        return ids

    def _look_up(self, label: Any, *, learn: bool) -> int:
        """Return the id of a label that was not met before, and remember it unless it stays unknown."""
        name = class_name(label)
        if name is None:
            return -1
        index = self._ids.get(name, -1)
        if index < 0:
            index = self._ids_by_spelling.get(_spelling(name), -1)
            self.joined_spellings |= learn and index >= 0
        if index < 0 and self._is_position(name) and 0 <= int(name) < len(self.names):
            index = int(name)
        if index < 0 and learn:
            index = len(self.names)
            self.names.append(name)
            self._ids_by_spelling[_spelling(name)] = index
        if index >= 0:
            self._ids[name] = index
            if not isinstance(label, bool):
                self._ids[label] = index
        return index

    def _is_position(self, name: str) -> bool:
        return self.by_position and not self._positions_are_names and _INTEGER.fullmatch(name) is not None

    def refusal(self, where: str, label: Any) -> LxError:
        """Return the error for a label whose id is -1."""
        name = class_name(label)
        if name is None:
            if label is None or isinstance(label, str):
                return LxError(f"{where}: the label is empty. Every row needs one: fill it in or remove the row")
            return LxError(
                f"{where}: the label {quote(str(label))} is {kind_of(label)}. A label is a string or an integer, one a "
                "row. Is data.label the right column?"
            )
        known = shorten(self.names)
        near = did_you_mean(name, self.names)
        if self._is_position(name):
            return LxError(
                f"{where}: the label {name[:60]} is out of range: there are {len(self.names)} class names, "
                f"0 to {len(self.names) - 1}: {known}. Mend the row, or data.class_names"
            )
        if self.by_position:
            return LxError(
                f"{where}: the label {quote(name)} is not among the class names{near}: {known}. "
                "Mend the row, or add the name to data.class_names"
            )
        return LxError(
            f"{where}: the label {quote(name)} never occurs in the train split{near}. Its classes are: {known}. "
            "Mend the row, or give the class training rows"
        )

    def count(self, ids: NDArray[np.int32]) -> dict[str, int]:
        """Return how often each class occurs, by name."""
        return dict(zip(self.names, np.bincount(ids, minlength=len(self.names)).tolist(), strict=True))

    def finish(self) -> NDArray[np.int32] | None:
        """Put learned names in order, by value if all are integers, else alphabetically.

        Returns:
            The final id of each id that :meth:`encode` has returned; None if none has changed.
        """
        if self.by_position:
            return None
        numeric = all(_INTEGER.fullmatch(name) for name in self.names)
        order = sorted(range(len(self.names)), key=lambda i: (int(self.names[i]) if numeric else 0, self.names[i]))
        if order == list(range(len(order))):
            return None
        self.names = [self.names[i] for i in order]
        final_ids = np.empty(len(order), np.int32)
        final_ids[order] = np.arange(len(order), dtype=np.int32)
        self._ids = {label: int(final_ids[index]) for label, index in self._ids.items()}
        self._ids_by_spelling = {name: int(final_ids[index]) for name, index in self._ids_by_spelling.items()}
        return final_ids


def class_name(label: Any) -> str | None:
    """Return a class name from a label as a source gives it; None if it is empty or can be none."""
    if isinstance(label, str):
        return label.strip() or None
    if isinstance(label, bool):
        return str(label).lower()
    return str(label) if isinstance(label, int) else None


def _spelling(name: str) -> str:
    """Return what names of the same class have in common: one form of Unicode, and one case of true and false."""
    composed = unicodedata.normalize("NFC", name)
    return composed.lower() if composed.lower() in ("true", "false") else composed


def require_same_classes(names: Sequence[tuple[str, ...]]) -> None:
    """Raise LxError unless several runs have the same class names, in the same order."""
    for other in names[1:]:
        if other != names[0]:
            differing = sorted(set(names[0]) ^ set(other)) or [*other]
            raise LxError(f"they have not the same classes, or not in the same order: {shorten(differing, 5)}")


def check_class_names(class_names: Sequence[str], class_counts: Sequence[int]) -> None:
    """Raise LxError for what a damaged run directory might hold in place of class names and class counts."""
    if not isinstance(class_names, list | tuple) or not all(isinstance(name, str) for name in class_names):
        raise LxError("the class names are not a list of texts")
    try:
        "".join(class_names).encode()
    except UnicodeEncodeError as error:
        raise LxError("a class name holds half a surrogate pair, which is no character") from error
    if not isinstance(class_counts, Sequence) or not all(type(count) is int and count >= 0 for count in class_counts):
        raise LxError("class_counts is not a list of whole numbers")
    if len(class_names) < 2 or len(class_names) != len(class_counts):
        raise LxError(
            f"{len(class_names)} class names and {len(class_counts)} class counts: both need the same number of "
            "classes, two at least"
        )
