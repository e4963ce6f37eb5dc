"""The scores that an explanation of a prediction takes apart: for each kind of task a linear function of its outputs.

Axis legend: C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lx.errors import LxError, did_you_mean, quote, shorten
from lx.tasks.classification import Classification
from lx.tasks.multilabel import Multilabel
from lx.tasks.regression import Regression


@dataclass(frozen=True)
class ExplainedScore:
    """``weights · logits + expert_weights · scores of the expert + offset``.

    In a run of an expert alone, its scores take the place of the logits.

    Attributes:
        label: What the score speaks for; empty where there are no labels.
        meaning: The unit of the score, in words.
        weights: [C] of the network's logits.
        expert_weights: [C] of the expert's scores; of classes they sum to zero.
        offset: A constant.
    """

    label: str
    meaning: str
    weights: Float[Tensor, " C"]
    expert_weights: Float[Tensor, " C"]
    offset: float = 0.0

    def value(self, outputs: Sequence[Float[Tensor, " C"]]) -> float:
        """Compute the score from the outputs of a run: its logits, its expert's scores, or both in this order."""
        weights = (self.weights, self.expert_weights)
        return self.offset + sum(float(w.double() @ x.double()) for w, x in zip(weights, outputs, strict=False))


@singledispatch
def explained_scores(task: Any, prediction: Any, label: str | None) -> list[ExplainedScore]:
    """Return the scores behind a prediction, or behind another label.

    Args:
        task: Of the run.
        prediction: The task's prediction for the text.
        label: The label to explain instead of the predicted ones; None: the predicted ones.

    Raises:
        LxError: No such label, or a task that is not lx's own.
    """
    raise LxError(f"lx explain speaks of lx's own tasks alone, not of {type(task).__name__}")


@explained_scores.register
def _(task: Classification, prediction: Any, label: str | None) -> list[ExplainedScore]:
    index = _index(task.class_names, prediction.label if label is None else label)
    against = torch.full((task.num_outputs,), -1 / (task.num_outputs - 1))
    against[index] = 1.0
    others = "that of the other class" if task.num_outputs == 2 else "the mean of the others'"
    meaning = f"log-probability of {quote(task.class_names[index])} minus {others}"
    pool = task.pool
    return [
        ExplainedScore(task.class_names[index], meaning, pool.encoder_weight * against, pool.expert_weight * against)
    ]


@explained_scores.register
def _(task: Multilabel, prediction: Any, label: str | None) -> list[ExplainedScore]:
    probabilities: dict[str, float] = prediction.probabilities
    # If no label is predicted, explain the most probable one, which missed its threshold.
    predicted = prediction.labels or [max(probabilities, key=probabilities.__getitem__)]
    chosen = [_index(task.class_names, name) for name in (predicted if label is None else [label])]
    outputs = torch.eye(task.num_outputs)
    return [
        ExplainedScore(
            task.class_names[index],
            f"log-odds of {quote(task.class_names[index])}",
            task.pool.encoder_weight * outputs[index],
            task.pool.expert_weight * outputs[index],
        )
        for index in chosen
    ]


@explained_scores.register
def _(task: Regression, prediction: Any, label: str | None) -> list[ExplainedScore]:
    if label is not None:
        raise LxError("this run predicts a number: there are no labels to choose among by --label")
    share = task.pool.encoder_share
    weights = torch.tensor([task.std * share]), torch.tensor([task.std * (1 - share)])
    return [ExplainedScore("", "the predicted value", *weights, task.mean)]


def describe_prediction(prediction: Any) -> str:
    """Say in a line what is predicted, and how probable it is."""
    fields = prediction.to_json(probabilities=False)
    if "label" in fields:
        return f"{fields['label']} ({fields['probability']:.1%})"
    if "labels" in fields:
        shown = [f"{name} ({fields['probabilities'][name]:.1%})" for name in fields["labels"]]
        return ", ".join(shown) or "no label reaches its threshold"
    return f"{fields['value']:.6g}"


def _index(class_names: Sequence[str], name: str) -> int:
    if name not in class_names:
        hint = did_you_mean(name, class_names)
        raise LxError(f"--label {quote(name)} is no label of this run{hint}; it has: {shorten(class_names)}")
    return class_names.index(name)
