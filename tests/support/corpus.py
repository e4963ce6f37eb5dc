"""A tiny corpus of three classes that a tiny model can learn."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lx.config.schema import DataSettings

TOPICS = {"food": "bread onion soup butter", "music": "violin chord tempo melody", "space": "orbit rocket lunar comet"}


def examples(count: int, start: int = 0, *, repeat: int = 1, unbalanced: bool = False) -> list[dict[str, str]]:
    """Make rows with text, pair and label: no text twice, of several lengths.

    Args:
        count: number of rows.
        start: number of the first row; rows of other numbers have other texts.
        repeat: how often each text says the same, for long texts.
        unbalanced: two of the classes are rarer than the third.
    """
    names = sorted(TOPICS)
    period, lengths = (7, 6) if unbalanced else (3, 7)  # without a common factor: lengths say nothing of classes
    rows = []
    for i in range(start, start + count):
        label = names[i % period % 3]
        words = (TOPICS[label].split() * 3)[i % 4 : i % 4 + 2 + i % lengths] * repeat
        rows.append({"text": " ".join([*words, str(i)]), "pair": f"and {i}", "label": label})
    return rows


def jsonl(rows: Iterable[Mapping[str, object]]) -> str:
    """Format rows as JSON Lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_rows(path: Path, count: int, start: int = 0, *, repeat: int = 1, unbalanced: bool = False) -> Path:
    """Write examples as JSON Lines."""
    path.write_text(jsonl(examples(count, start, repeat=repeat, unbalanced=unbalanced)), encoding="utf-8")
    return path


def write_csv(path: Path, count: int, start: int = 0, *, text: str = "text", label: str = "label") -> Path:
    """Write examples as CSV, under the given names of columns; texts have a comma, which CSV quotes."""
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow([text, label])
        out.writerows([row["text"].replace(" ", ", ", 1), row["label"]] for row in examples(count, start))
    return path


def write_splits(folder: Path) -> Path:
    """Write unbalanced splits into a folder: 7 batches of 8 an epoch, the last of which has 2 examples."""
    write_rows(folder / "train.jsonl", 50, unbalanced=True)
    write_rows(folder / "validation.jsonl", 23, start=50, unbalanced=True)
    write_rows(folder / "test.jsonl", 31, start=100, unbalanced=True)
    return folder


def data_settings(cache: Path, **changes: Any) -> DataSettings:
    """Settings of a corpus, cached in a folder of the test's own."""
    defaults = {"batch_size": 1, "max_length": 4, "validation_fraction": 0.2, "split_seed": 0, "on_empty": "drop"}
    return DataSettings(**{**defaults, "cache_dir": str(cache), **changes})
