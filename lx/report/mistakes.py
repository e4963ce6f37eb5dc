"""Tables of the texts that a run gets wrong, and of labels that may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lx.errors import shorten_text
from lx.report.page import Block, Table, Text
from lx.report.record import RunRecord

_MOST = 30
_LONGEST = 2000  # letters of a text
_COLUMNS = ("row", "label", "prediction", "probability", "text", "text_pair")
_WITHOUT_EXPERT = (
    "Of the train split there is no such list: a network remembers its training texts. A linear expert beside it "
    "(model/expert=linear) judges each by a fit that has not seen it."
)


def mistakes_blocks(record: RunRecord) -> list[Block]:
    """Build the table of the gravest mistakes of the test split, with their texts."""
    mistakes = record.mistakes.get("test")
    return [_table("The gravest mistakes of the test split", mistakes)] if mistakes else []


def label_blocks(record: RunRecord) -> list[Block]:
    """Build tables of labels that may be wrong, in validation and train.

    They are those that a model which has not seen them contradicts most confidently (Northcutt et al. 2021).
    """
    expert = record.result.details.get("expert", {}) if record.result is not None else {}
    held_out = f"{expert.get('held_out', 0):,} texts were judged, each by a fit that had not seen it. "
    blocks: list[Block] = []
    for split, judge, note in (("validation", "the run", ""), ("train", "the linear expert", held_out)):
        if mistakes := record.mistakes.get(split):
            caption = f"Labels of the {split} split that {judge} contradicts most confidently"
            blocks.append(_table(caption, mistakes, note))
    return [*blocks, Text(_WITHOUT_EXPERT)] if blocks and "train" not in record.mistakes else blocks


def _table(caption: str, mistakes: Sequence[Mapping[str, Any]], note: str = "") -> Table:
    columns = [name for name in _COLUMNS if name in mistakes[0]]
    rows = [[_plain(mistake.get(name)) for name in columns] for mistake in mistakes[:_MOST]]
    note += "Rows are counted from 0, in the order of the split, without empty texts."
    if "text" not in columns:
        note += " Their texts were not kept: data.keep_texts=false."
    return Table(caption, columns, rows, note=note)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return round(value, 4)
    return shorten_text(str(value), _LONGEST) if not isinstance(value, int) else value
