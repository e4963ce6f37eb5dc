"""One class for each text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import MetricCollection

from lx.errors import LxError, did_you_mean
from lx.tasks.base import ClassScore, Summary
from lx.tasks.losses import CrossEntropy
from lx.tasks.metrics import CalibrationError, ClassScores, MeanLoss

_ORDER = ("accuracy", "f1_macro", "loss", "calibration_error")  # of the scalars, as a person wants to read them

ClassWeights = str | Mapping[Any, float] | Sequence[float]


class Classification(nn.Module):
    """Single-label classification by cross-entropy; a :class:`lx.tasks.base.Task`.

    Args:
        class_names: in label order.
        class_counts: training examples of each class, in the same order.
        label_smoothing: share of the target that is spread over all classes, from 0 to below 1.
        class_weights: None: all 1. "balanced": ``examples / (classes * examples of the class)``, counting
            only classes that occur, so that the average over the training examples is 1. A mapping from class
            names: classes not named weigh 1. A sequence: one weight for each class, in label order.

    Attributes:
        num_outputs: C, the number of classes.
        loss: from logits [B, C] and labels [B] to the loss of each example [B]; see :class:`CrossEntropy`.

    Raises:
        LxError: a label smoothing out of range; weights that name an unknown class, are not one for each
            class, or are negative or infinite.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        class_counts: Sequence[int],
        label_smoothing: float = 0.0,
        class_weights: ClassWeights | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise LxError(f"task.label_smoothing must be from 0 to below 1, not {label_smoothing}")
        self.class_names = tuple(class_names)
        self.num_outputs = len(self.class_names)
        weights = None if class_weights is None else _weights(class_weights, self.class_names, class_counts)
        self.loss = CrossEntropy(label_smoothing, weights)

    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with logits [B, C] and labels [B].

        Returns:
            A collection that computes the scalars ``loss``, ``accuracy``, ``f1_macro`` and
            ``calibration_error``; ``precision``, ``recall``, ``f1`` and ``support`` of each class; and the
            matrix ``confusion``.
        """
        return MetricCollection(
            {
                "loss": MeanLoss(self.loss),
                "scores": ClassScores(self.num_outputs),
                "calibration_error": CalibrationError(),
            },
            compute_groups=False,
        )

    def summarise(self, computed: dict[str, Tensor]) -> Summary:
        """The metrics' results as plain values.

        Args:
            computed: what :meth:`metrics` computed, with or without a prefix such as ``val/``.

        Returns:
            The scalars under their names in ``computed``, the scores of each class, and the confusion matrix.
        """
        of = {key.rpartition("/")[2]: value.tolist() for key, value in computed.items()}
        scalars = {key: value.item() for key, value in computed.items() if value.ndim == 0}
        columns = zip(of["support"], of["precision"], of["recall"], of["f1"], strict=True)
        return Summary(
            scalars=dict(sorted(scalars.items(), key=lambda item: _ORDER.index(item[0].rpartition("/")[2]))),
            per_class=[ClassScore(name, *scores) for name, scores in zip(self.class_names, columns, strict=True)],
            confusion=of["confusion"],
        )


def _weights(given: ClassWeights, class_names: Sequence[str], class_counts: Sequence[int]) -> list[float]:
    """One weight for each class, in label order."""
    if isinstance(given, str):
        if given != "balanced":
            raise LxError(
                f"task.class_weights={given!r} is none of: null, balanced, a mapping from class names to "
                f"weights, a list of weights{did_you_mean(given, ['balanced'])}"
            )
        weights = _balanced(class_counts)
    elif isinstance(given, Mapping):
        weights = _named(given, class_names)
    else:
        weights = list(given)
        if len(weights) != len(class_names):
            raise LxError(
                f"task.class_weights lists {len(weights)} weights, but there are {len(class_names)} classes: "
                f"{_listed(class_names)}"
            )
    for name, weight in zip(class_names, weights, strict=True):
        if not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
            raise LxError(f"task.class_weights: the weight of class {name!r} must be a number from 0, not {weight!r}")
    return weights


def _balanced(class_counts: Sequence[int]) -> list[float]:
    occurring = sum(count > 0 for count in class_counts)
    return [sum(class_counts) / (occurring * count) if count else 1.0 for count in class_counts]


def _named(given: Mapping[Any, float], class_names: Sequence[str]) -> list[float]:
    weights = {str(name): weight for name, weight in given.items()}  # YAML reads the name 3 as a number
    for name in weights:
        if name not in class_names:
            raise LxError(
                f"task.class_weights names {name!r}, which is no class of this data"
                f"{did_you_mean(name, class_names)}; there are: {_listed(class_names)}"
            )
    return [weights.get(name, 1.0) for name in class_names]


def _listed(names: Sequence[str]) -> str:
    """The names, or the first twenty of them."""
    return ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
