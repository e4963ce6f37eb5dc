"""The metrics of one class a text: of the final distribution, and of what it is made of.

Axis legend: B examples of a batch, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from typing_extensions import override

from lx.tasks.metrics import CalibrationError, ClassScores, MeanLoss
from lx.tasks.pooled_metrics import Combine


class ClassMetrics(MetricCollection):
    """Metrics of what ``combine`` makes of logits and an expert's scores, and of the two by themselves.

    Args:
        num_classes: C.
        loss: of each example.
        sync: add up the counts of all ranks.
        combine: log-probabilities up to a constant [B, C], from logits [B, C] and log-probabilities [B, C] or None.
    """

    def __init__(self, num_classes: int, loss: nn.Module, sync: bool, combine: Combine) -> None:
        scores = {"scores": ClassScores(num_classes, sync), "calibration_error": CalibrationError(sync=sync)}
        alone = {
            "calibration_error_unscaled": CalibrationError(sync=sync),
            "encoder_accuracy": Accuracy(sync),
            "expert_accuracy": Accuracy(sync),
        }
        super().__init__({"loss": MeanLoss(loss, sync), **scores, **alone}, compute_groups=False)
        self._combine = combine

    @override
    def update(  # type: ignore[override]
        self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"], expert: Float[Tensor, "B C"] | None = None
    ) -> None:
        final = self._combine(logits, expert)
        for name in ("loss", "scores", "calibration_error"):
            self[name].update(final, labels)
        self["calibration_error_unscaled"].update(logits, labels)
        if expert is not None:
            self["encoder_accuracy"].update(logits, labels)
            self["expert_accuracy"].update(expert, labels)

    @override
    def compute(self) -> dict[str, Any]:
        """Return what :class:`ClassScores` does, a scalar of each other updated metric, and ``reliability``.

        That is what :class:`CalibrationError` says of the bins, of ``scaled`` and of ``unscaled`` probabilities.
        """
        computed = {name: metric.compute() for name, metric in self.items() if metric.update_called}
        scores, reliability = computed.pop("scores"), {}
        for name, probabilities in (("calibration_error", "scaled"), ("calibration_error_unscaled", "unscaled")):
            bins = dict(computed[name])
            computed[name] = bins.pop("error")
            reliability[probabilities] = bins
        return {**scores, **computed, "reliability": reliability}


class Accuracy(Metric):
    """The share of examples whose class has the largest score."""

    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        for name in ("correct", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Count a batch."""
        self.correct += (scores.argmax(dim=-1) == labels).sum()
        self.total += len(labels)

    def compute(self) -> Tensor:
        """The share; not a number if there were no examples."""
        return self.correct.cpu().double() / self.total.cpu()
