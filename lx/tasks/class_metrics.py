"""The metrics of a single class per text: of the final distribution, and of encoder and expert by themselves.

Axis legend: B examples of a batch, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from lx.tasks.metrics import CalibrationError, ClassScores, MeanLoss
from lx.tasks.pooled_metrics import Combine, PooledMetrics


class ClassMetrics(PooledMetrics):
    """Metrics of the final distribution, and the calibration error of the logits as they are.

    Args:
        num_classes: C.
        loss: of each example.
        sync: add up the counts of all ranks.
        combine: log-probabilities up to a constant [B, C], from logits [B, C] and log-probabilities [B, C] or None.
    """

    def __init__(self, num_classes: int, loss: nn.Module, sync: bool, combine: Combine) -> None:
        scores = {"scores": ClassScores(num_classes, sync), "calibration_error": CalibrationError(sync=sync)}
        super().__init__({"loss": MeanLoss(loss, sync), **scores}, Accuracy(sync), Accuracy(sync), combine)
        self.add_module("calibration_error_unscaled", CalibrationError(sync=sync))

    @override
    def update(  # type: ignore[override]
        self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"], expert: Float[Tensor, "B C"] | None = None
    ) -> None:
        super().update(logits, labels, expert)
        self["calibration_error_unscaled"].update(logits, labels)

    @override
    def compute(self) -> dict[str, Any]:
        """Return the results of :class:`ClassScores`, a scalar of each other updated metric, and ``reliability``.

        The latter holds the bins of :class:`CalibrationError` for ``scaled`` and for ``unscaled`` probabilities.
        """
        computed = self.compute_updated()
        for part in computed.keys() & {"encoder", "expert"}:
            computed[f"{part}_accuracy"] = computed.pop(part)
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
