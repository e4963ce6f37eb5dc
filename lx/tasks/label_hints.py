"""Recognize by the names of classes that a setting was forgotten."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from lx.errors import quote

_SEPARATORS = ("|", ";", ",")
_MANY = 20  # numbers: fewer may well be ratings


def joined_labels(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the separator, and an example, of names that look like several labels each; None if they do not.

    They do if a part stands at different positions in several names, or also alone; a sub-name does not.
    """
    for separator in _SEPARATORS:
        positions: dict[str, set[int]] = defaultdict(set)
        for name in names:
            for position, part in enumerate(name.split(separator)):
                positions[part.strip()].add(position)
        joined = [name for name in names if separator in name.strip(separator)]
        if len(joined) > 1 and any(len(several) > 1 for part, several in positions.items() if part):
            return separator, joined[0]
    return None


def are_amounts(names: Sequence[str]) -> bool:
    """Return whether many names are all numbers, and not those of classes counted from 0 or 1."""
    try:
        values = sorted(map(float, names))
    except ValueError:
        return False
    first = values[0] if values else 0.0
    counted = first in (0, 1) and values == [first + index for index in range(len(values))]
    return len(values) > _MANY and all(map(math.isfinite, values)) and not counted


def case_warnings(names: Sequence[str]) -> list[str]:
    """Return a sentence on names that differ in upper and lower case alone."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in names:
        spellings[name.casefold()].append(name)
    twins = [same for same in spellings.values() if len(same) > 1]
    shown = "; ".join(" and ".join(map(quote, same[:3])) for same in twins[:3])
    warning = f"classes that differ in upper and lower case alone: {shown}. If they are one, spell them alike"
    return [warning] if twins else []


def class_warnings(names: Sequence[str]) -> list[str]:
    """Return sentences on the classes of a task with one class a text."""
    sentences = case_warnings(names)
    if (joined := joined_labels(names)) is not None:
        sentences.append(
            f"classes such as {quote(joined[1])} look like several labels: if a text may have several, add "
            f"task=multilabel 'data.label_separator={joined[0]}'"
        )
    if are_amounts(names):
        sentences.append(f"all {len(names):,} classes are numbers: if they are amounts, add task=regression")
    return sentences


def label_warnings(names: Sequence[str], most_of_a_text: int) -> list[str]:
    """Return sentences on the labels of a task in which no text has more than ``most_of_a_text`` labels."""
    sentences = case_warnings(names)
    if most_of_a_text <= 1 and (joined := joined_labels(names)) is not None:
        sentences.append(
            f"no text has more than one label, and labels such as {quote(joined[1])} look like several: is "
            f"'data.label_separator={joined[0]}' meant?"
        )
    return sentences
