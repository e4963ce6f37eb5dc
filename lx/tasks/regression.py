"""One number for each text, learned in standard units of the training split and given back in its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import partial
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from rich.console import RenderableType
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection

from lx.errors import LxError, did_you_mean
from lx.linear.targets import Kind
from lx.tasks.base import Evaluation, ResultTable, ScoredExamples
from lx.tasks.number_labels import NumberEncoder
from lx.tasks.number_pool import NumberPool
from lx.tasks.pooled_metrics import ChoosingMetrics, choices_of
from lx.tasks.regression_metrics import NumberMetrics

_PARTS = ("encoder_mse", "expert_mse", "encoder_pearson", "expert_pearson")  # where there is an expert


@dataclass(frozen=True)
class NumberPrediction:
    """The number predicted for a text; of a pair, ``text`` is the first."""

    text: str
    value: float

    def to_json(self, probabilities: bool) -> dict[str, Any]:
        """Return the fields of a line of JSON."""
        return asdict(self)

    def to_row(self, probabilities: bool) -> list[Any]:
        """Return the cells of a line of CSV."""
        return [self.text, self.value]


class RegressionLoss(nn.Module):
    """Squared error, or Huber's loss (Huber 1964), of each example in standard units.

    Args:
        kind: "mse" or "huber".
        huber_delta: the error, in standard deviations of the labels, from which on Huber's loss grows linearly.
    """

    def __init__(self, kind: Literal["mse", "huber"], huber_delta: float) -> None:
        super().__init__()
        self.function = F.mse_loss if kind == "mse" else partial(F.huber_loss, delta=huber_delta)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss [B] of predictions [B, 1] for labels [B]; half precision is computed in float32."""
        predictions = logits.squeeze(-1).to(torch.promote_types(logits.dtype, torch.float32))
        losses: Tensor = self.function(predictions, labels.to(predictions.dtype), reduction="none")
        return losses


class Regression(nn.Module):
    """A number for each text; a :class:`lx.tasks.base.Task`.

    The network's one output is the distance from the mean of the training labels in their standard deviations. The loss
    is computed in this unit; metrics and predictions are in the labels' own.

    Args:
        mean: of the training labels.
        std: their standard deviation.
        loss: "mse" or "huber".
        huber_delta: see :class:`RegressionLoss`.

    Raises:
        LxError: an unknown loss, a delta that is not above 0, or a mean and standard deviation that are none.

    Attributes:
        pool: how the encoder's number and an expert's, where there is an expert, become one.
    """

    expert_kind: Kind = "number"
    num_outputs = 1
    main_metric = "mse"
    metric_names = ("mse", "rmse", "mae", "r2", "pearson", "spearman", "loss")

    def __init__(
        self, mean: float, std: float, loss: Literal["mse", "huber"] = "mse", huber_delta: float = 1.0
    ) -> None:
        super().__init__()
        if loss not in ("mse", "huber"):
            hint = did_you_mean(str(loss), ["mse", "huber"])
            raise LxError(f"task.loss must be mse or huber, not {loss!r}{hint}")
        if not isinstance(huber_delta, int | float) or not 0 < huber_delta < math.inf:
            raise LxError(f"task.huber_delta must be a number above 0, not {huber_delta!r}")
        if not (isinstance(mean, float) and isinstance(std, float) and math.isfinite(mean) and 0 < std < math.inf):
            raise LxError(f"the labels' mean and standard deviation cannot be {mean!r} and {std!r}")
        self.mean, self.std = mean, std
        self.loss = RegressionLoss(loss, huber_delta)
        self.chance_loss = 1.0 if loss == "mse" else _expected_huber(huber_delta)
        self.pool = NumberPool()

    @classmethod
    def label_encoder(cls, class_names: Sequence[str] | None) -> NumberEncoder:
        """Return an encoder of numbers; names that a source declares have no meaning here."""
        return NumberEncoder()

    def trained_encoder(self, class_names: Sequence[str] | None) -> NumberEncoder:
        """Return an encoder of numbers."""
        return NumberEncoder()

    @property
    def choices(self) -> dict[str, Any]:
        """The share of the encoder beside an expert; ``{}`` without one."""
        return asdict(self.pool) if self.pool != NumberPool() else {}

    @choices.setter
    def choices(self, choices: dict[str, Any]) -> None:
        self.pool = NumberPool.from_choices(choices)

    def fits(self, labels: pa.Array) -> bool:
        """Return whether these are finite numbers."""
        return bool(labels.type == pa.float64() and not labels.null_count and np.isfinite(labels.to_numpy()).all())

    def collate(self, labels: pa.Array) -> Tensor:
        """Return standardized labels [B], float32."""
        return torch.from_numpy(self.expert_labels(labels).astype(np.float32))

    def expert_labels(self, labels: pa.Array) -> NDArray[np.float64]:
        """Return standardized labels [N]."""
        standardized: NDArray[np.float64] = (labels.to_numpy() - self.mean) / self.std
        return standardized

    def step_counts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Add up absolute errors."""
        return {"mae": (logits.squeeze(-1) - labels).abs().sum() * self.std}

    def metrics(self, choose: bool) -> MetricCollection:
        """Build metrics, updated with predictions [B, 1], labels [B], an expert's predictions [B, 1] or None.

        All are in standard units.
        """
        measured = NumberMetrics(self.loss, self.std, True, self.combine)
        if not choose:
            return measured
        build = partial(NumberMetrics, self.loss, self.std, False)
        return ChoosingMetrics(build, NumberPool.fit, without_expert=measured)

    def summarize(self, computed: dict[str, Any], choose: bool) -> Evaluation:
        """Return the errors in the labels' own units, the correlations, and the loss in standard units."""
        scalars = {name: computed[name].item() for name in (*self.metric_names, *_PARTS) if name in computed}
        return Evaluation(scalars, choices=choices_of(computed))

    def show(self, evaluation: Evaluation) -> list[RenderableType]:
        """Return nothing: the scalars say it all."""
        return []

    def tables(self, evaluation: Evaluation) -> dict[str, ResultTable]:
        """Return none."""
        return {}

    def combine(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Compute the final numbers [B, 1], in standard units."""
        return self.pool.combine(logits, expert)

    def predictions(self, texts: Sequence[str], logits: Tensor, expert: Tensor | None = None) -> list[NumberPrediction]:
        """Return the number predicted for each text, in the labels' own units."""
        values = self._values(logits, expert).tolist()
        return [NumberPrediction(text, value) for text, value in zip(texts, values, strict=True)]

    def score(self, logits: Tensor, labels: Tensor, expert: Tensor | None = None) -> ScoredExamples:
        """Return the numbers [B, 1] in the labels' own units; a mistake is as grave as its loss."""
        final = self.combine(logits, expert)
        losses = self.loss(final, labels)
        errors = self.std * (final.squeeze(-1).double() - labels.double())
        return ScoredExamples(self.outputs(logits, expert), losses, errors.square(), losses)

    def describe(self, logits: Tensor, labels: pa.Array, expert: Tensor | None = None) -> list[dict[str, Any]]:
        """Return the numbers ``label`` and ``prediction``."""
        pairs = zip(labels.to_pylist(), self._values(logits, expert).tolist(), strict=True)
        return [{"label": label, "prediction": value} for label, value in pairs]

    def _values(self, logits: Tensor, expert: Tensor | None) -> Tensor:
        """Return the predicted numbers [B] in the labels' own units, float64."""
        return self.outputs(logits, expert).squeeze(-1)

    def outputs(self, logits: Tensor, expert: Tensor | None = None) -> Tensor:
        """Return the predicted numbers in the labels' own units."""
        return self.mean + self.std * self.combine(logits, expert).double()

    def averaged(self, tasks: Sequence[Regression]) -> Regression:
        """Return a task without a share: each run has applied its own share and units before the mean."""
        task = copy(self)
        task.pool = NumberPool()
        return task

    def logits_of(self, outputs: Tensor) -> Tensor:
        """Return mean numbers in standard units."""
        return ((outputs - self.mean) / self.std).float()

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV."""
        return ["text", "value"]


def _expected_huber(delta: float) -> float:
    """Return the mean Huber loss of a standard normal variable: the loss of always predicting the mean."""
    normal = NormalDist()
    return normal.cdf(delta) - 0.5 + delta * normal.pdf(delta) - delta**2 * (1 - normal.cdf(delta))
