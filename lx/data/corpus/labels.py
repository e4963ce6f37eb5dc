"""Labels as the data spells them to class ids."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lx.errors import LxError, did_you_mean

_INTEGER = re.compile(r"[+-]?\d+")


class LabelTable:
    """Numbers labels while a corpus is read.

    With class names given, a label is one of the names or, as an integer, a position among them. Without,
    the names are what the train split shows; the integer 1 and the text "1" are the same class, so a CSV
    and a JSON Lines file go together.

    Args:
        class_names: The names in id order, or ``None`` to learn them.
        by_position: Whether an integer may stand for a given name's position; None: if names are given.

    Raises:
        LxError: If the given names repeat or are fewer than two.
    """

    def __init__(self, class_names: Sequence[str] | None, by_position: bool | None = None) -> None:
        self.given = class_names is not None if by_position is None else by_position
        self.names: list[str] = list(class_names or ())
        self._ids: dict[str | int | None, int] = {name: index for index, name in enumerate(self.names)}
        repeated = [name for name, count in Counter(self.names).items() if count > 1]
        if repeated:
            raise LxError(f"data.class_names lists {repeated[0]!r} twice: every class needs its own name")
        if self.given and len(self.names) < 2:
            raise LxError(f"data.class_names has {len(self.names)} name(s): a classifier needs two at least")

    def encode(self, labels: Sequence[str | int | None], *, learn: bool) -> NDArray[np.int32]:
        """The class id of each label; -1 for one that is empty or unknown.

        Args:
            labels: As the data spells them.
            learn: Whether an unknown label becomes a class.
        """
        ids = np.fromiter((self._ids.get(label, -1) for label in labels), np.int32, len(labels))
        for row in np.flatnonzero(ids < 0).tolist():
            label = labels[row]
            if label is not None:
                ids[row] = self._look_up(label, learn=learn and not self.given)
        return ids

    def _look_up(self, label: str | int, *, learn: bool) -> int:
        """The id of a label that was not met before, remembered unless it stays unknown."""
        name = str(label)
        index = self._ids.get(name, -1)
        if index < 0 and self.given and _INTEGER.fullmatch(name):
            index = int(name) if 0 <= int(name) < len(self.names) else -1
        if index < 0 and learn:
            index = len(self.names)
            self.names.append(name)
        if index >= 0:
            self._ids[label] = self._ids[name] = index
        return index

    def refusal(self, where: str, label: str | int | None) -> LxError:
        """The error for a label that is empty or unknown."""
        if label is None:
            return LxError(f"{where}: the label is empty. Every row needs one: fill it in or remove the row")
        known = shorten(self.names)
        near = did_you_mean(str(label), self.names)
        if self.given and _INTEGER.fullmatch(str(label)):
            return LxError(
                f"{where}: the label {label} is out of range: there are {len(self.names)} class names, "
                f"0 to {len(self.names) - 1}: {known}. Mend the row, or data.class_names"
            )
        if self.given:
            return LxError(
                f"{where}: the label {label!r} is not among the class names{near}: {known}. "
                "Mend the row, or add the name to data.class_names"
            )
        return LxError(
            f"{where}: the label {label!r} never occurs in the train split{near}. Its classes are: {known}. "
            "Mend the row, or give the class training rows"
        )

    def settle(self) -> NDArray[np.int32]:
        """Put learnt names in order: by value if all are integers, else alphabetically.

        Returns:
            The final id of each id handed out before.
        """
        if self.given:
            return np.arange(len(self.names), dtype=np.int32)
        numeric = all(_INTEGER.fullmatch(name) for name in self.names)
        order = sorted(range(len(self.names)), key=lambda i: (int(self.names[i]) if numeric else 0, self.names[i]))
        self.names = [self.names[i] for i in order]
        new_ids = np.empty(len(order), np.int32)
        new_ids[order] = np.arange(len(order), dtype=np.int32)
        return new_ids


def shorten(names: Sequence[str], most: int = 20) -> str:
    """A list of names for a message, cut where it grows long."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest
