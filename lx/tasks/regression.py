"""One number for each text, learned in standard units of the training split and given back in its own."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
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

from lx.data.corpus.labels import LabelReport, RawLabel
from lx.errors import LxError, did_you_mean
from lx.tasks.base import Evaluation, ResultTable, ScoredExamples
from lx.tasks.metrics import MeanLoss
from lx.tasks.regression_metrics import RegressionScores

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WITH_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_ROWS_A_GROUP = 50  # at least, so that the share of a group that validation takes is near to what was asked for
_MOST_GROUPS = 10


class NumberEncoder:
    """Labels as numbers, be they written as integers, fractions or text; a ``LabelEncoder``."""

    column_type = pa.float64()
    spread_heading = "least, median, most"
    description = "numbers"

    def fingerprint(self) -> str:
        """Return a text that is always the same: nothing is declared."""
        return "numbers"

    def encode(self, labels: Sequence[RawLabel], *, learn: bool) -> tuple[pa.Array, NDArray[np.bool_]]:
        """Return float64 numbers, and which labels are no finite number."""
        numbers = np.fromiter(map(_number, labels), np.float64, len(labels))
        return pa.array(numbers), ~np.isfinite(numbers)

    def refusal(self, where: str, label: RawLabel) -> LxError:
        """Return the error for a label that is no finite number."""
        text = str(label).strip()
        if label is None or not text:
            return LxError(f"{where}: the label is empty. Every row needs a number: fill it in or remove the row")
        if isinstance(label, bool):
            return LxError(f"{where}: the label is {text.lower()}, which is not a number: write 1 or 0")
        if _WITH_COMMA.fullmatch(text):
            return LxError(f"{where}: the label {text!r} has a decimal comma: write {text.replace(',', '.')}")
        if isinstance(label, int | float) or _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return LxError(f"{where}: the label {text[:60]} is not a finite number. Mend the row or remove it")
        return LxError(
            f"{where}: the label {text[:60]!r} is not a number such as 3.5. Is data.label the right column? "
            "Names of classes are for task=classification"
        )

    def check_train(self, labels: pa.Array, origin: str) -> None:
        """Refuse a train split whose labels are all equal, or too near or too far apart to compute with."""
        numbers = labels.to_numpy()
        low, high = float(numbers.min()), float(numbers.max())
        if low == high:
            raise LxError(
                f"{origin}: every row has the label {low:g}, and from that there is nothing to learn. "
                "Is data.label the right column?"
            )
        std = _mean_and_std(numbers)[1] if math.isfinite(high - low) else math.inf
        if not 1 / sys.float_info.max < std < math.inf:
            raise LxError(
                f"{origin}: labels from {low:g} to {high:g} are beyond what can be computed with. "
                "Give them in another unit"
            )

    def finish(self) -> None:
        """Return None: a number is final as it is read."""

    def groups(self, labels: pa.Array) -> NDArray[np.int64]:
        """Return which of up to ten ranges with about as many rows each a label lies in."""
        numbers = labels.to_numpy()
        count = min(_MOST_GROUPS, max(1, len(numbers) // _ROWS_A_GROUP))
        edges = np.quantile(numbers, np.arange(1, count) / count)
        groups: NDArray[np.int64] = np.searchsorted(edges, numbers, side="right").astype(np.int64)
        return groups

    def label_set(self, labels: pa.Array) -> dict[str, Any]:
        """Return ``mean`` and ``std``."""
        mean, std = _mean_and_std(labels.to_numpy())
        return {"mean": mean, "std": std}

    def report(self, labels: pa.Array) -> LabelReport:
        """Describe between which numbers the labels lie."""
        return LabelReport(", ".join(f"{value:g}" for value in np.quantile(labels.to_numpy(), [0, 0.5, 1])), {})


def _number(label: RawLabel) -> float:
    """The number that a label stands for; not a number if it is none."""
    if isinstance(label, float):
        return label
    if isinstance(label, str):
        return float(label) if _NUMBER.fullmatch(label := label.strip()) else math.nan
    if isinstance(label, int) and not isinstance(label, bool):
        try:
            return float(label)
        except OverflowError:
            return math.inf
    return math.nan


def _mean_and_std(numbers: NDArray[np.float64]) -> tuple[float, float]:
    low = float(numbers.min())
    spread = (float(numbers.max()) - low) or 1.0
    scaled = (numbers - low) / spread  # from 0 to 1: squares neither overflow nor vanish beside a large mean
    return low + float(scaled.mean()) * spread, float(scaled.std()) * spread


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
    """

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
        self.choices: dict[str, Any] = {}

    @classmethod
    def label_encoder(cls, class_names: Sequence[str] | None) -> NumberEncoder:
        """Return an encoder of numbers; names that a source declares have no meaning here."""
        return NumberEncoder()

    def trained_encoder(self, class_names: Sequence[str] | None) -> NumberEncoder:
        """Return an encoder of numbers."""
        return NumberEncoder()

    def fits(self, labels: pa.Array) -> bool:
        """Return whether these are finite numbers."""
        return bool(labels.type == pa.float64() and not labels.null_count and np.isfinite(labels.to_numpy()).all())

    def collate(self, labels: pa.Array) -> Tensor:
        """Return standardized labels [B], float32."""
        return torch.from_numpy(((labels.to_numpy() - self.mean) / self.std).astype(np.float32))

    def step_counts(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Add up absolute errors."""
        return {"mae": (logits.squeeze(-1) - labels).abs().sum() * self.std}

    def metrics(self, choose: bool) -> MetricCollection:
        """Build metrics, updated with predictions [B, 1] and labels [B] in standard units."""
        return MetricCollection(
            {"loss": MeanLoss(self.loss), "scores": RegressionScores(self.std)}, compute_groups=False
        )

    def summarize(self, computed: dict[str, Tensor], choose: bool) -> Evaluation:
        """Return the errors in the labels' own units, the correlations, and the loss in standard units."""
        return Evaluation({name: computed[name].item() for name in self.metric_names})

    def show(self, evaluation: Evaluation) -> list[RenderableType]:
        """Return nothing: the scalars say it all."""
        return []

    def tables(self, evaluation: Evaluation) -> dict[str, ResultTable]:
        """Return none."""
        return {}

    def predictions(self, texts: Sequence[str], logits: Tensor) -> list[NumberPrediction]:
        """Return the number predicted for each text, in the labels' own units."""
        values = self._values(logits).tolist()
        return [NumberPrediction(text, value) for text, value in zip(texts, values, strict=True)]

    def score(self, logits: Tensor, labels: Tensor) -> ScoredExamples:
        """Return the numbers [B, 1] in the labels' own units; a mistake is as grave as its loss."""
        losses = self.loss(logits, labels)
        errors = self.std * (logits.squeeze(-1).double() - labels.double())
        return ScoredExamples(self._values(logits)[:, None], losses, errors.square(), losses)

    def describe(self, logits: Tensor, labels: pa.Array) -> list[dict[str, Any]]:
        """Return the numbers ``label`` and ``prediction``."""
        pairs = zip(labels.to_pylist(), self._values(logits).tolist(), strict=True)
        return [{"label": label, "prediction": value} for label, value in pairs]

    def _values(self, logits: Tensor) -> Tensor:
        """Return the numbers [B] that logits stand for, float64."""
        return self.mean + self.std * logits.squeeze(-1).double()

    def prediction_columns(self, probabilities: bool) -> list[str]:
        """Return the headings of predictions in CSV."""
        return ["text", "value"]


def _expected_huber(delta: float) -> float:
    """The mean of Huber's loss of a normal variable: that of always predicting the mean."""
    normal = NormalDist()
    return normal.cdf(delta) - 0.5 + delta * normal.pdf(delta) - delta**2 * (1 - normal.cdf(delta))
