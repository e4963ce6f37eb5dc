"""Tables of the texts that a run gets wrong, and of labels that may be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lx.errors import LxError, shorten_text
from lx.report.page import Table
from lx.run.directory import RunDirectory
from lx.run.predictions import SplitPredictions

_MOST = 50
_LONGEST = 2000  # letters of a text


def mistakes_table(run: RunDirectory) -> Table | None:
    """Build the table of the gravest mistakes, with their texts; None if there are none, or they were not kept."""
    if not run.mistakes.is_symlink() and not run.mistakes.exists():
        return None
    content = run.read_json(run.mistakes)
    mistakes = content.get("mistakes") if isinstance(content, dict) else None
    if not isinstance(mistakes, list) or not all(isinstance(mistake, dict) for mistake in mistakes):
        raise LxError(f"{run.mistakes} does not hold the mistakes of a run")
    if not mistakes:
        return None
    columns = [
        name for name in ("row", "label", "prediction", "probability", "text", "text_pair") if name in mistakes[0]
    ]
    rows = [[_plain(mistake.get(name)) for name in columns] for mistake in mistakes[:_MOST]]
    note = "" if "text" in columns else "Their texts were not kept: data.keep_texts=false."
    split = "test" if content.get("split") == "test" else "validation"
    return Table(f"The gravest mistakes of the {split} split", columns, rows, note=note)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return round(value, 4)
    return shorten_text(str(value), _LONGEST) if not isinstance(value, int) else value


def noise_table(split: SplitPredictions, class_names: Sequence[str]) -> Table | None:
    """Build the table of validation rows whose label the model denies with the most confidence.

    They are ranked by the probability of the predicted class minus that of the label: the normalized margin of
    Kuan and Mueller 2022.

    Args:
        split: of a classification.
        class_names: in label order.
    """
    scores, labels = split.scores, split.labels
    predicted = scores.argmax(axis=1)
    rows = np.arange(len(labels))
    gaps = scores[rows, predicted] - scores[rows, labels]
    order = np.argsort(-gaps, kind="stable")[:_MOST]
    found = [
        [
            int(split.rows[row]),
            class_names[labels[row]],
            class_names[predicted[row]],
            round(float(scores[row, predicted[row]]), 4),
            round(float(scores[row, labels[row]]), 4),
        ]
        for row in order
        if gaps[row] > 0
    ]
    columns = ["row", "label", "prediction", "its probability", "that of the label"]
    note = "Rows are counted from 0, in the order of the split, without empty texts."
    caption = "Labels of the validation split that may be wrong: the most confident disagreements"
    return Table(caption, columns, found, note=note) if found else None
