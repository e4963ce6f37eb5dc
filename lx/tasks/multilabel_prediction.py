"""What is predicted of a text that may have several labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LabelSetPrediction:
    """The labels of a text (of a pair, the first) that reach their threshold, and the probability of every label."""

    text: str
    labels: list[str]
    probabilities: dict[str, float]

    def to_json(self, probabilities: bool) -> dict[str, Any]:
        """Return the fields of a line of JSON; without ``probabilities``, those of the predicted labels alone."""
        shown = self.probabilities if probabilities else {name: self.probabilities[name] for name in self.labels}
        return {"text": self.text, "labels": self.labels, "probabilities": shown}

    def to_row(self, probabilities: bool) -> list[Any]:
        """Return the cells of a line of CSV; labels are separated by ``|``."""
        return [self.text, "|".join(self.labels), *(self.probabilities.values() if probabilities else ())]
