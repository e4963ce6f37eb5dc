"""Any number of labels for each text, each decided by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import RenderableType
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lx.errors import LxError, did_you_mean
from lx.tasks.base import Evaluation, ResultTable, ScoredExamples
from lx.tasks.class_names import check_class_names, require_same_classes
from lx.tasks.losses import MultilabelLoss
from lx.tasks.metrics import MeanLoss
from lx.tasks.multilabel_labels import LabelSetEncoder, multi_hot
from lx.tasks.multilabel_metrics import LEVELS, Choice, ScoredLabels, choose_thresholds, reliability, score
from lx.tasks.tables import reliability_table, worst_classes

_COLUMNS = ("support", "precision", "recall", "f1", "average_precision")
_MOST_EXTREME = 16  # units of the logit that a threshold lies from a probability of 0.5


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


class Multilabel(nn.Module):
    """Any number of labels for each text, by binary cross-entropy; a :class:`lx.tasks.base.Task`.

    A label is predicted where its probability reaches a threshold. Thresholds are chosen at each validation among fixed
    ones, and those of the best are used for test, evaluation and prediction.

    Args:
        class_names: In label order.
        class_counts: Training examples that have each label, in the same order.
        num_examples: All training examples.
        positive_weights: None: all 1. "balanced": of each label, the training examples without it divided by those with
            it, so that both weigh the same in all.
        thresholds: "shared": one for all labels, with the best micro F1; "per_label": one for each label, with the
            label's best F1; a probability: this one.

    Raises:
        LxError: Positive weights or thresholds that are none of these; names or counts that are none.
    """

    main_metric = "f1_micro"
    metric_names = ("f1_micro", "f1_macro", "subset_accuracy", "mean_average_precision", "loss")

    def __init__(
        self,
        class_names: Sequence[str],
        class_counts: Sequence[int],
        num_examples: int,
        positive_weights: Literal["balanced"] | None = None,
        thresholds: Literal["shared", "per_label"] | float = "shared",
    ) -> None:
        super().__init__()
        check_class_names(class_names, class_counts)
        if type(num_examples) is not int or num_examples < max(class_counts):
            raise LxError(
                f"there cannot be {num_examples!r} training examples, of which {max(class_counts)} have a label"
            )
        if positive_weights not in (None, "balanced"):
            hint = did_you_mean(str(positive_weights), ["balanced"])
            raise LxError(f"task.positive_weights must be null or balanced, not {positive_weights!r}{hint}")
        self.class_names = tuple(class_names)
        self.num_outputs = len(self.class_names)
        self._choice, self._origin = _thresholds(thresholds)
        self._logit_thresholds = [self._origin] * self.num_outputs
        weights = [(num_examples - count) / count if count else 1.0 for count in class_counts]
        self.loss = MultilabelLoss(weights if positive_weights else None)
        shares = [
            count * (weight if positive_weights else 1) + num_examples - count
            for count, weight in zip(class_counts, weights, strict=True)
        ]
        self.chance_loss = math.log(2) * sum(shares) / (num_examples * self.num_outputs)

    @classmethod
    def label_encoder(cls, class_names: Sequence[str] | None) -> LabelSetEncoder:
        """Return an encoder that learns the labels from the train split, or takes the declared ones."""
        return LabelSetEncoder(class_names)

    def trained_encoder(self, class_names: Sequence[str] | None) -> LabelSetEncoder:
        """Return an encoder of this task's labels; integers are positions where the data declares names."""
        return LabelSetEncoder(self.class_names, by_position=class_names is not None)

    @property
    def choices(self) -> dict[str, Any]:
        """The thresholds chosen at a validation, as the logit of each label; ``{}`` if the threshold is fixed."""
        return {"thresholds": self._logit_thresholds} if self._choice else {}

    @choices.setter
    def choices(self, choices: dict[str, Any]) -> None:
        if not self._choice or choices == {}:
            return
        thresholds = choices.get("thresholds") if isinstance(choices, dict) else None
        if (
            not isinstance(thresholds, list)
            or len(thresholds) != self.num_outputs
            or not all(isinstance(value, float) and abs(value) < _MOST_EXTREME for value in thresholds)
        ):
            raise LxError(f"the thresholds chosen for the {self.num_outputs} labels are damaged: {str(choices)[:80]}")
        self._logit_thresholds = [round(value * LEVELS) / LEVELS for value in thresholds]

    def fits(self, labels: pa.Array) -> bool:
        """Return whether these are sets of label ids."""
        if labels.type != LabelSetEncoder.column_type or labels.null_count:
            return False
        try:
            labels.validate(full=True)
        except pa.ArrowInvalid:
            return False
        ids = pc.list_flatten(labels)
        return not ids.null_count and bool(np.isin(ids.to_numpy(), np.arange(self.num_outputs)).all())

    def collate(self, labels: pa.Array) -> Tensor:
        """Return a one for every label of a text and zeros for the others [B, C], float32."""
        return torch.from_numpy(multi_hot(labels, self.num_outputs))

    def step_counts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Count the examples with exactly the right labels, at the fixed threshold or a probability of 0.5."""
        return {"subset_accuracy": ((logits >= self._origin) == labels.bool()).all(dim=-1).sum()}

    def metrics(self, choose: bool) -> MetricCollection:
        """Build metrics, updated with logits [B, C] and labels [B, C]."""
        return MetricCollection(
            {"loss": MeanLoss(self.loss), "scores": ScoredLabels(self._origin)}, compute_groups=False
        )

    def summarize(self, computed: dict[str, Tensor], choose: bool) -> Evaluation:
        """Return F1, subset accuracy and average precision, and the scores and threshold of each label.

        Thresholds that are not fixed are those with the best F1 here, if this is the split to ``choose`` them on.
        """
        levels, truth = computed["levels"], computed["truth"]
        thresholds = torch.tensor([round((value - self._origin) * LEVELS) for value in self._logit_thresholds])
        if choose and self._choice:
            thresholds = choose_thresholds(levels, truth, self._choice)
        scores = score(levels, truth, thresholds)
        logits = (self._origin + thresholds.double() / LEVELS).tolist()
        columns = zip(*(getattr(scores, name).tolist() for name in _COLUMNS), logits, strict=True)
        per_class = [
            {"name": name, **dict(zip(_COLUMNS, values, strict=True)), "threshold": 1 / (1 + math.exp(-logit))}
            for name, (*values, logit) in zip(self.class_names, columns, strict=True)
        ]
        return Evaluation(
            {**{name: getattr(scores, name) for name in self.metric_names[:-1]}, "loss": computed["loss"].item()},
            {"per_class": per_class, "reliability": {"labels": reliability(levels, truth, self._origin)}},
            {"thresholds": logits} if self._choice else {},
        )

    def show(self, evaluation: Evaluation) -> list[RenderableType]:
        """Return a table of the labels with the lowest F1."""
        return [worst_classes(evaluation.details["per_class"], [])]

    def tables(self, evaluation: Evaluation) -> dict[str, ResultTable]:
        """Return the scores and threshold of each label, and the reliability diagram."""
        columns = ["name", *_COLUMNS, "threshold"]
        rows = [[label[column] for column in columns] for label in evaluation.details["per_class"]]
        tables = {"labels": ResultTable(["label", *columns[1:]], rows)}
        if "reliability" in evaluation.details:  # an older checkpoint has none
            tables["reliability"] = reliability_table(evaluation.details["reliability"])
        return tables

    def predictions(self, texts: Sequence[str], logits: Tensor) -> list[LabelSetPrediction]:
        """Return the labels of each text whose logit reaches its threshold, and the probabilities of all."""
        reached = self._reached(logits).tolist()
        return [
            LabelSetPrediction(
                text,
                [name for name, is_reached in zip(self.class_names, row, strict=True) if is_reached],
                dict(zip(self.class_names, probabilities, strict=True)),
            )
            for text, row, probabilities in zip(texts, reached, logits.sigmoid().tolist(), strict=True)
        ]

    def score(self, logits: Tensor, labels: Tensor) -> ScoredExamples:
        """Return the probabilities [B, C]; a mistake is a wrong set, as grave as its loss."""
        losses, reached, truth = self.loss(logits, labels), self._reached(logits), labels.bool()
        gravity = losses * (reached != truth).any(dim=-1)
        twice_correct = 2.0 * (reached & truth).sum(dim=-1)
        return ScoredExamples(logits.sigmoid(), losses, twice_correct, gravity, reached.sum(dim=-1) + truth.sum(dim=-1))

    def describe(self, logits: Tensor, labels: pa.Array) -> list[dict[str, Any]]:
        """Return the names in ``label`` and in ``prediction``, and the ``probability`` of each of them."""
        rows = []
        for ids, prediction in zip(labels.to_pylist(), self.predictions([""] * len(logits), logits), strict=True):
            names = [self.class_names[label] for label in ids]
            shown = dict.fromkeys([*names, *prediction.labels])
            probabilities = {name: prediction.probabilities[name] for name in shown}
            rows.append({"label": names, "prediction": prediction.labels, "probability": probabilities})
        return rows

    def _reached(self, logits: Tensor) -> Tensor:
        """Return which labels [B, C] reach their thresholds."""
        return logits >= torch.tensor(self._logit_thresholds, device=logits.device)

    def outputs(self, logits: Tensor, expert: None = None) -> Tensor:
        """Return the probability of every label."""
        return logits.double().sigmoid()

    def averaged(self, tasks: Sequence[Multilabel]) -> Multilabel:
        """Return a task with the mean of the chosen thresholds, in units of the logit."""
        require_same_classes([task.class_names for task in tasks])
        task = copy(self)
        thresholds = torch.tensor([task._logit_thresholds for task in tasks], dtype=torch.float64).mean(dim=0)
        task.choices = {"thresholds": thresholds.tolist()}
        return task

    def logits_of(self, outputs: Tensor) -> Tensor:
        """Return the logits of mean probabilities."""
        return outputs.logit(eps=1e-12).float()

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV."""
        each = (f"probability[{name}]" for name in self.class_names) if probabilities else ()
        return ["text", "labels", *each]


def _thresholds(setting: Any) -> tuple[Choice | None, float]:
    """How thresholds are chosen, and the logit of a fixed one (0 if they are chosen)."""
    if setting in ("shared", "per_label"):
        return setting, 0.0
    if isinstance(setting, float) and 0 < setting < 1:
        return None, float(np.float32(math.log(setting / (1 - setting))))
    hint = did_you_mean(str(setting), ["shared", "per_label"])
    raise LxError(f"task.thresholds must be shared, per_label, or a probability between 0 and 1, not {setting!r}{hint}")
