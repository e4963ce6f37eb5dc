"""One class for each text, by cross-entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lx.errors import LxError
from lx.linear.targets import Kind
from lx.tasks.base import Evaluation, ResultTable, ScoredExamples
from lx.tasks.calibration import LogLinearPool
from lx.tasks.class_labels import ClassEncoder
from lx.tasks.class_metrics import ClassMetrics
from lx.tasks.class_names import check_class_names, require_same_classes
from lx.tasks.class_weights import ClassWeights, one_weight_each
from lx.tasks.confusion import confusion_cells, confusion_details, most_confused
from lx.tasks.losses import CrossEntropy
from lx.tasks.pooled_metrics import ChoosingMetrics, choices_of
from lx.tasks.tables import confusion_table, reliability_table, worst_classes

_PARTS = ("encoder_accuracy", "expert_accuracy")  # where there is an expert


@dataclass(frozen=True)
class ClassPrediction:
    """The most probable class of a text (of a pair, the first), its probability, and that of every class by name."""

    text: str
    label: str
    probability: float
    probabilities: dict[str, float]

    def to_json(self, probabilities: bool) -> dict[str, Any]:
        """Return the fields of a line of JSON."""
        fields = {"text": self.text, "label": self.label, "probability": self.probability}
        return {**fields, "probabilities": self.probabilities} if probabilities else fields

    def to_row(self, probabilities: bool) -> list[Any]:
        """Return the cells of a line of CSV."""
        return [self.text, self.label, self.probability, *(self.probabilities.values() if probabilities else ())]


class Classification(nn.Module):
    """Single-label classification by cross-entropy; a :class:`lx.tasks.base.Task`.

    Args:
        class_names: In label order.
        class_counts: Training examples of each class, in the same order.
        label_smoothing: Share of the target that is spread over all classes, from 0 to below 1.
        class_weights: None: all 1. "balanced": ``examples / (classes * examples of the class)``, counting
            only classes that occur, so that the average over the training examples is 1. A mapping from class
            names: classes not named weigh 1. A sequence: one weight for each class, in label order.
        calibrate: Fit the weights of :class:`lx.tasks.calibration.LogLinearPool` at each validation; test, evaluation
            and prediction use those of the best. False: they are 1.

    Raises:
        LxError: A label smoothing out of range; weights that name an unknown class, are not one for each class, or
            are negative or infinite; class names or counts that are none.

    Attributes:
        pool: how logits, and an expert's log-probabilities where there is an expert, become probabilities.
    """

    expert_kind: Kind = "class"
    main_metric = "accuracy"
    metric_names: tuple[str, ...] = ("accuracy", "f1_macro", "loss", "calibration_error")

    def __init__(
        self,
        class_names: Sequence[str],
        class_counts: Sequence[int],
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
        calibrate: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise LxError(f"task.label_smoothing must be from 0 to below 1, not {label_smoothing}")
        check_class_names(class_names, class_counts)
        self.class_names = tuple(class_names)
        self.num_outputs = len(self.class_names)
        self.chance_loss = math.log(self.num_outputs)
        self.calibrate = calibrate
        if calibrate:
            self.metric_names += ("calibration_error_unscaled",)
        self.pool = LogLinearPool()
        weights = None if class_weights is None else one_weight_each(class_weights, self.class_names, class_counts)
        self.loss = CrossEntropy(label_smoothing, weights)

    @classmethod
    def label_encoder(cls, class_names: Sequence[str] | None) -> ClassEncoder:
        """Return an encoder that learns the classes from the train split, or takes the declared ones."""
        return ClassEncoder(class_names)

    def trained_encoder(self, class_names: Sequence[str] | None) -> ClassEncoder:
        """Return an encoder of this task's classes; integers are positions where the data declares names."""
        return ClassEncoder(self.class_names, by_position=class_names is not None)

    @property
    def choices(self) -> dict[str, Any]:
        """The weights of logits and expert."""
        return asdict(self.pool) if self.calibrate else {}

    @choices.setter
    def choices(self, choices: dict[str, Any]) -> None:
        self.pool = LogLinearPool.from_choices(choices)

    def combine(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Compute log-probabilities up to a constant [B, C], of logits [B, C] and an expert's log-probabilities."""
        return self.pool.combine(logits, expert)

    def fits(self, labels: pa.Array) -> bool:
        """Return whether these are class ids."""
        if labels.type != pa.int32() or labels.null_count:
            return False
        ids = labels.to_numpy()
        return not len(ids) or (int(ids.min()) >= 0 and int(ids.max()) < self.num_outputs)

    def collate(self, labels: pa.Array) -> Tensor:
        """Return class ids [B], int64."""
        return torch.from_numpy(self.expert_labels(labels))

    def expert_labels(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return class ids [N]."""
        ids: NDArray[np.int64] = labels.to_numpy().astype(np.int64)
        return ids

    def step_counts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Count the examples that were classified right."""
        return {"accuracy": (logits.argmax(dim=-1) == labels).sum()}

    def metrics(self, choose: bool) -> MetricCollection:
        """Build metrics, updated with logits [B, C], labels [B], and an expert's log-probabilities [B, C] or None."""
        if choose and self.calibrate:
            return ChoosingMetrics(partial(ClassMetrics, self.num_outputs, self.loss, False), LogLinearPool.fit)
        return ClassMetrics(self.num_outputs, self.loss, True, self.combine)

    def summarize(self, computed: dict[str, Any], choose: bool) -> Evaluation:
        """Return the scalars, the scores of each class, the confusion matrix and the fitted weights as plain values."""
        values: dict[str, Any] = {name: value.tolist() for name, value in computed.items() if isinstance(value, Tensor)}
        fields = ("support", "precision", "recall", "f1")
        columns = [self.class_names, *(values[field] for field in fields)]
        per_class = [dict(zip(("name", *fields), row, strict=True)) for row in zip(*columns, strict=True)]
        diagrams = {name: _as_lists(bins) for name, bins in computed["reliability"].items()}
        return Evaluation(
            scalars={name: values[name] for name in (*self.metric_names, *_PARTS) if name in values},
            details={"per_class": per_class, **confusion_details(values["confusion"]), "reliability": diagrams},
            choices=choices_of(computed),
        )

    def show(self, evaluation: Evaluation) -> list[RenderableType]:
        """Return a table of the classes with the lowest F1."""
        per_class, cells = evaluation.details["per_class"], confusion_cells(evaluation.details)
        return [worst_classes(per_class, most_confused(self.class_names, cells))]

    def tables(self, evaluation: Evaluation) -> dict[str, ResultTable]:
        """Return the scores of each class, the confusion matrix, and the reliability diagram."""
        per_class, cells = evaluation.details["per_class"], confusion_cells(evaluation.details)
        columns = ["class", "precision", "recall", "f1", "support", "confused_with"]
        rows = [
            [score["name"], *(score[field] for field in columns[1:5]), None if other is None else other[0]]
            for score, other in zip(per_class, most_confused(self.class_names, cells), strict=True)
        ]
        tables = {"classes": ResultTable(columns, rows), "confusion": confusion_table(self.class_names, cells)}
        if "reliability" in evaluation.details:  # an older checkpoint has none
            tables["reliability"] = reliability_table(evaluation.details["reliability"])
        return tables

    def predictions(self, texts: Sequence[str], logits: Tensor, expert: Tensor | None = None) -> list[ClassPrediction]:
        """Return the most probable class of each text, and the probabilities of all."""
        predictions = []
        for text, row in zip(texts, self.combine(logits, expert).softmax(dim=-1).tolist(), strict=True):
            best = max(range(len(row)), key=row.__getitem__)
            probabilities = dict(zip(self.class_names, row, strict=True))
            predictions.append(ClassPrediction(text, self.class_names[best], row[best], probabilities))
        return predictions

    def score(self, logits: Tensor, labels: Tensor, expert: Tensor | None = None) -> ScoredExamples:
        """Return the probabilities [B, C]; the gravity of a mistake is the probability of the wrong class."""
        final = self.combine(logits, expert)
        probabilities = final.softmax(dim=-1)
        largest, predicted = probabilities.max(dim=-1)
        correct = (predicted == labels).double()
        return ScoredExamples(probabilities, self.loss(final, labels), correct, largest * (1 - correct))

    def describe(self, logits: Tensor, labels: pa.Array, expert: Tensor | None = None) -> list[dict[str, Any]]:
        """Return the names of ``label`` and ``prediction``, and the latter's ``probability``."""
        predictions = self.predictions([""] * len(logits), logits, expert)
        names = [self.class_names[label] for label in labels.to_pylist()]
        return [
            {"label": name, "prediction": prediction.label, "probability": prediction.probability}
            for name, prediction in zip(names, predictions, strict=True)
        ]

    def outputs(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Return the probability of every class."""
        return self.combine(logits, expert).double().softmax(dim=-1)

    def averaged(self, tasks: Sequence[Classification]) -> Classification:
        """Return a task whose logits are logarithms of mean probabilities."""
        require_same_classes([task.class_names for task in tasks])
        task = copy(self)
        task.pool = LogLinearPool()
        return task

    def logits_of(self, outputs: Tensor) -> Tensor:
        """Return the logarithms of mean probabilities."""
        return outputs.clamp_min(1e-30).log().float()

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV."""
        each = (f"probability[{name}]" for name in self.class_names) if probabilities else ()
        return ["text", "label", "probability", *each]


def _as_lists(tensors: dict[str, Tensor]) -> dict[str, list[float]]:
    return {name: tensor.tolist() for name, tensor in tensors.items()}
