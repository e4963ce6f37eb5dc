"""Texts whose topic and length say what their number, or their labels, are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.corpus import TOPICS, examples, jsonl

TASKS = ["regression", "multilabel"]
NAMES = sorted([*TOPICS, "long"])
SPLITS = {"train": (50, 0), "validation": (23, 50), "test": (31, 100)}
TASK_SETTINGS = {"regression": ["task=regression"], "multilabel": ["task=multilabel", "task.thresholds=per_label"]}


def labelled(task: str, count: int, start: int) -> list[dict[str, Any]]:
    """Texts whose topic and length say what their number, or their labels, are; some have no label."""
    found = []
    for row in examples(count, start, unbalanced=True):
        topic, length = row["label"], len(row["text"].split())
        number = [1, 2.5, 4][sorted(TOPICS).index(topic)] + length / 8
        labels = ([topic] if topic != "music" or length % 2 else []) + ["long"] * (length > 5)
        found.append({**row, "label": number if task == "regression" else labels})
    return found


def write(folder: Path, task: str) -> Path:
    for split, (count, start) in SPLITS.items():
        (folder / f"{split}.jsonl").write_text(jsonl(labelled(task, count, start)))
    return folder
