"""Any number of labels for each text, each decided by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor, nn
from torchmetrics import MetricCollection

from lx.errors import LxError, did_you_mean
from lx.linear.targets import Kind
from lx.tasks.base import Evaluation, ResultTable, ScoredExamples
from lx.tasks.calibration import LogLinearPool
from lx.tasks.class_names import check_class_names, require_same_classes
from lx.tasks.losses import MultilabelLoss
from lx.tasks.multilabel_labels import LabelSetEncoder, multi_hot
from lx.tasks.multilabel_metrics import LEVELS, LabelMetrics, choose_thresholds, parse_thresholds, reliability, score
from lx.tasks.multilabel_prediction import LabelSetPrediction
from lx.tasks.pooled_metrics import ChoosingMetrics, choices_of
from lx.tasks.tables import reliability_table, worst_classes

_COLUMNS = ("support", "precision", "recall", "f1", "average_precision")
_PARTS = ("encoder_mean_average_precision", "expert_mean_average_precision")  # where there is an expert
_MOST_EXTREME = 16  # bound of a threshold's logit, in either direction


class Multilabel(nn.Module):
    """Any number of labels for each text, by binary cross-entropy; a :class:`lx.tasks.base.Task`.

    A label is predicted where its probability reaches a threshold. Thresholds are chosen at each validation among fixed
    candidates; test, evaluation and prediction use those of the best validation.

    Args:
        class_names: In label order.
        class_counts: Training examples that have each label, in the same order.
        num_examples: All training examples.
        positive_weights: None: all 1. "balanced": for each label, the number of training examples without it divided
            by the number with it, so that both groups weigh the same.
        thresholds: "shared": one for all labels, with the best micro F1; "per_label": one for each label, with the
            label's best F1; a probability: this one.

    Raises:
        LxError: Positive weights or thresholds that are none of these; names or counts that are none.

    Attributes:
        pool: how logits, and an expert's where there is an expert, become log-odds.
    """

    expert_kind: Kind = "labels"
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
        self._choice, self._origin = parse_thresholds(thresholds)
        self._logit_thresholds = [self._origin] * self.num_outputs
        self.pool = LogLinearPool()
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
        """The weights of logits and expert, if there are any, and the thresholds, as logits, unless they are fixed."""
        weights = asdict(self.pool) if self.pool != LogLinearPool() else {}
        return {**weights, **({"thresholds": self._logit_thresholds} if self._choice else {})}

    @choices.setter
    def choices(self, choices: dict[str, Any]) -> None:
        weights = dict(choices) if isinstance(choices, dict) else choices
        thresholds = weights.pop("thresholds", None) if isinstance(weights, dict) else None
        self.pool = LogLinearPool.from_choices(weights)
        if not self._choice or choices == {}:
            return
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
        """Build metrics, updated with logits [B, C], labels [B, C], and an expert's log-odds [B, C] or None."""
        measured = LabelMetrics(self.loss, self._origin, True, self.combine)
        if not choose:
            return measured
        build = partial(LabelMetrics, self.loss, self._origin, False)
        return ChoosingMetrics(build, LogLinearPool.fit_labels, without_expert=measured)

    def expert_labels(self, labels: pa.Array) -> NDArray[np.bool_]:
        """Return which labels the examples have [N, C]."""
        return multi_hot(labels, self.num_outputs).astype(bool)

    def combine(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Compute log-odds [B, C], of logits [B, C] and an expert's log-odds."""
        return self.pool.combine(logits, expert)

    def summarize(self, computed: dict[str, Any], choose: bool) -> Evaluation:
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
            {
                **{name: getattr(scores, name) for name in self.metric_names[:-1]},
                **{name: computed[name].item() for name in ("loss", *_PARTS) if name in computed},
            },
            {"per_class": per_class, "reliability": {"labels": reliability(levels, truth, self._origin)}},
            {**choices_of(computed), **({"thresholds": logits} if self._choice else {})},
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

    def predictions(
        self, texts: Sequence[str], logits: Tensor, expert: Tensor | None = None
    ) -> list[LabelSetPrediction]:
        """Return the labels of each text whose log-odds reach their threshold, and the probabilities of all."""
        final = self.combine(logits, expert)
        reached = self._reached(final).tolist()
        return [
            LabelSetPrediction(
                text,
                [name for name, is_reached in zip(self.class_names, row, strict=True) if is_reached],
                dict(zip(self.class_names, probabilities, strict=True)),
            )
            for text, row, probabilities in zip(texts, reached, final.sigmoid().tolist(), strict=True)
        ]

    def score(self, logits: Tensor, labels: Tensor, expert: Tensor | None = None) -> ScoredExamples:
        """Return the probabilities [B, C]; a mistake is a wrong set, as grave as its loss."""
        final = self.combine(logits, expert)
        losses, reached, truth = self.loss(final, labels), self._reached(final), labels.bool()
        gravity = losses * (reached != truth).any(dim=-1)
        twice_correct = 2.0 * (reached & truth).sum(dim=-1)
        return ScoredExamples(final.sigmoid(), losses, twice_correct, gravity, reached.sum(dim=-1) + truth.sum(dim=-1))

    def describe(self, logits: Tensor, labels: pa.Array, expert: Tensor | None = None) -> list[dict[str, Any]]:
        """Return the names in ``label`` and in ``prediction``, and the ``probability`` of each of them."""
        rows, predictions = [], self.predictions([""] * len(logits), logits, expert)
        for ids, prediction in zip(labels.to_pylist(), predictions, strict=True):
            names = [self.class_names[label] for label in ids]
            shown = dict.fromkeys([*names, *prediction.labels])
            probabilities = {name: prediction.probabilities[name] for name in shown}
            rows.append({"label": names, "prediction": prediction.labels, "probability": probabilities})
        return rows

    def _reached(self, log_odds: Tensor) -> Tensor:
        """Return which labels [B, C] reach their thresholds."""
        return log_odds >= torch.tensor(self._logit_thresholds, device=log_odds.device)

    def outputs(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Return the probability of every label."""
        return self.combine(logits, expert).double().sigmoid()

    def averaged(self, tasks: Sequence[Multilabel]) -> Multilabel:
        """Return a task with the mean of the chosen thresholds, in units of the logit."""
        require_same_classes([task.class_names for task in tasks])
        task = copy(self)
        thresholds = torch.tensor([task._logit_thresholds for task in tasks], dtype=torch.float64).mean(dim=0)
        task.choices = {"thresholds": thresholds.tolist()}  # no weights: each run has applied its own
        return task

    def logits_of(self, outputs: Tensor) -> Tensor:
        """Return the logits of mean probabilities."""
        return outputs.logit(eps=1e-12).float()

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV."""
        each = (f"probability[{name}]" for name in self.class_names) if probabilities else ()
        return ["text", "labels", *each]
