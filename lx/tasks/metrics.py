"""Metrics that are the same to the last bit however the examples are ordered, batched or spread over ranks.

Each keeps integers only: counts, and fixed-point sums of numbers that would otherwise be added up with
rounding. Memory is constant. States are summed across ranks, unless ``sync=False``; results are float64 tensors on the
CPU.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchmetrics import Metric


class ClassScores(Metric):
    """Accuracy, macro F1 and the scores of each class, from one confusion matrix.

    Macro F1 is the mean F1 over the classes that occur among the labels or the predictions, as
    ``sklearn.metrics.f1_score(average="macro")`` has it. A ratio with nothing below the line is 0.
    """

    full_state_update = False
    confusion: Tensor

    def __init__(self, num_classes: int, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        self.num_classes = num_classes
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Count a batch; probabilities do as well as logits."""
        cells = labels.long() * self.num_classes + logits.argmax(dim=-1)
        self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))

    def compute(self) -> dict[str, Tensor]:
        """Return two scalars, four scores of each class [C], and ``confusion`` [C, C], true classes in rows."""
        confusion = self.confusion.cpu()
        correct = confusion.diagonal()
        support, predicted = confusion.sum(dim=1), confusion.sum(dim=0)
        f1 = ratio(2 * correct, support + predicted)
        return {
            "accuracy": correct.sum().double() / support.sum(),
            "f1_macro": f1[support + predicted > 0].mean(),
            "precision": ratio(correct, predicted),
            "recall": ratio(correct, support),
            "f1": f1,
            "support": support,
            "confusion": confusion,
        }


class CalibrationError(Metric):
    """Expected calibration error (Guo et al. 2017, equation 3).

    Examples fall into M equal bins by confidence, the largest probability; bin m holds those in ((m-1)/M, m/M].
    The error is the gap between the mean confidence and the accuracy of a bin, averaged over the examples. A
    confidence is rounded to a multiple of 2^-32, so that sums of them are exact; there is room for two
    thousand million.
    """

    full_state_update = False
    confidence: Tensor
    correct: Tensor
    count: Tensor

    def __init__(self, num_bins: int = 15, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        self.num_bins = num_bins
        for name in ("confidence", "correct", "count"):
            self.add_state(name, torch.zeros(num_bins, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Count a batch; a confidence that is not a number counts as 0."""
        largest, predictions = logits.float().softmax(dim=-1).max(dim=-1)
        confidence = _fixed_point(largest.nan_to_num(), bits=32)
        bins = (confidence * self.num_bins - 1 >> 32).clamp(0, self.num_bins - 1)
        self.confidence.index_add_(0, bins, confidence)
        self.correct.index_add_(0, bins, (predictions == labels).long())
        self.count.index_add_(0, bins, torch.ones_like(bins))

    def compute(self) -> dict[str, Tensor]:
        """Compute the error, and what a reliability diagram draws.

        Returns:
            ``error``, from 0 to 1 (not a number if there were no examples), and of each bin [M] the ``count`` of its
            examples, their mean ``confidence``, and their ``accuracy``; both 0 where there are none.
        """
        confidence, correct, count = self.confidence.cpu(), self.correct.cpu(), self.count.cpu()
        gaps = (confidence - (correct << 32)).abs()
        return {
            "error": gaps.sum().double() / 2**32 / count.sum(),
            "count": count,
            "confidence": ratio(confidence, count) / 2**32,
            "accuracy": ratio(correct, count),
        }


class MeanLoss(Metric):
    """The mean over examples of a loss, which maps logits [B, C] and labels [B] to losses [B].

    A loss is rounded to a multiple of 2^-24, so that sums of them are exact, and cut at 2^16, far above any
    loss of a working model; there is room for 500 thousand million examples with a loss of 1. If the loss of
    any example is not a number, neither is the mean.
    """

    full_state_update = False
    loss_sum: Tensor
    undefined: Tensor
    total: Tensor

    def __init__(self, loss: nn.Module, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        self.loss = loss
        for name in ("loss_sum", "undefined", "total"):
            self.add_state(name, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> None:
        """Add a batch."""
        losses = self.loss(logits, labels)
        undefined = losses.isnan()
        self.undefined += undefined.sum()
        self.loss_sum += _fixed_point(losses.masked_fill(undefined, 0).clamp(max=2**16), bits=24).sum()
        self.total += len(labels)

    def compute(self) -> Tensor:
        """The mean; not a number if there were no examples, or a loss that is none."""
        mean = self.loss_sum.cpu().double() / 2**24 / self.total.cpu()
        return mean.masked_fill(self.undefined.cpu() > 0, torch.nan)


def ratio(count: Int[Tensor, " C"], total: Int[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Divide counts by totals; zero where the total is zero."""
    return count.double() / total.clamp(min=1)


def _fixed_point(values: Float[Tensor, " B"], bits: int) -> Int[Tensor, " B"]:
    return (values * 2.0**bits).round().long()
