"""Metrics of predicted sets of labels, and the choice of the thresholds from which on a label is predicted.

Axis legend: N examples, B examples of a batch, C labels, K candidates for a threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from lx.errors import LxError, did_you_mean
from lx.tasks.metrics import MeanLoss, ratio
from lx.tasks.pooled_metrics import Combine, PooledMetrics

LEVELS = 1024
"""Levels per unit of the logit: rounding to a level changes a probability by 0.00025 at most."""

_LIMIT = 16 * LEVELS  # scores further than 16 units from the origin count as 16
_STEP = LEVELS // 32
_CANDIDATES = torch.arange(-8 * LEVELS, 8 * LEVELS + 1, _STEP, dtype=torch.int16)  # probabilities 0.0003 to 0.9997

_BINS = 15  # of a reliability diagram

Choice = Literal["shared", "per_label"]


class LabelMetrics(PooledMetrics):
    """Metrics of predicted label sets, from log-odds.

    Args:
        loss: Of each example.
        origin: See :class:`ScoredLabels`.
        sync: Gather the examples of all ranks.
        combine: Log-odds [B, C], from logits [B, C] and log-odds [B, C] or None.
    """

    def __init__(self, loss: nn.Module, origin: float, sync: bool, combine: Combine) -> None:
        final = {"loss": MeanLoss(loss, sync), "scores": ScoredLabels(origin, sync)}
        super().__init__(final, ScoredLabels(sync=sync), ScoredLabels(sync=sync), combine)

    @override
    def compute(self) -> dict[str, Any]:
        """Return the loss, what :class:`ScoredLabels` does, and with an expert the mean precision of each part."""
        computed = self.compute_updated()
        parts = {
            f"{part}_mean_average_precision": mean_average_precision(**computed.pop(part))
            for part in ("encoder", "expert")
            if part in computed
        }
        return {**computed.pop("scores"), **computed, **parts}


class ScoredLabels(Metric):
    """The logits of all examples, rounded down to a level, together with their labels.

    They are kept until the end, 2 bytes an example and label, because thresholds are chosen on all of them. Whatever is
    counted from them is the same however the examples were ordered, batched or spread over ranks.

    Args:
        origin: the logit of level 0. A logit is at least ``origin + k / 1024``, for a whole k, exactly if its level is
            at least k.
        sync: gather the examples of all ranks.
    """

    full_state_update = False
    packed: list[Tensor] | Tensor

    def __init__(self, origin: float = 0.0, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        self.origin = origin
        self.add_state("packed", [], dist_reduce_fx="cat")

    def update(self, logits: Float[Tensor, "B C"], labels: Float[Tensor, "B C"]) -> None:
        """Keep a batch; a logit that is not a number counts as the lowest."""
        levels = ((logits.detach().float() - self.origin) * LEVELS).floor()
        levels = levels.nan_to_num(-_LIMIT).clamp(-_LIMIT, _LIMIT - 1).to(torch.int32)
        packed = (2 * levels + labels.to(torch.int32)).to(torch.int16)
        assert isinstance(self.packed, list)
        self.packed.append(packed.contiguous().view(torch.uint8))  # gloo and NCCL send no 16-bit integers

    def compute(self) -> dict[str, Tensor]:
        """Return ``levels`` [N, C] int16 and ``truth`` [N, C] bool, on the CPU."""
        packed = dim_zero_cat(self.packed).cpu().contiguous().view(torch.int16)
        return {"levels": packed >> 1, "truth": (packed & 1).bool()}


@dataclass(frozen=True)
class MultilabelScores:
    """Scores of predicted label sets.

    Attributes:
        f1_micro: F1 over all pairs of an example and a label.
        f1_macro: mean F1 of the labels that occur among the true or the predicted ones.
        subset_accuracy: share of the examples with exactly the right labels.
        mean_average_precision: mean of the labels that occur; thresholds do not matter.
        support: [C] examples that have the label.
        precision: [C] share of the examples given the label that have it; 0 if none was given it.
        recall: [C] share of the examples with the label that were given it; 0 if there are none.
        f1: [C] harmonic mean of the two; 0 if both are 0.
        average_precision: [C] see :func:`average_precision`.
    """

    f1_micro: float
    f1_macro: float
    subset_accuracy: float
    mean_average_precision: float
    support: Int[Tensor, " C"]
    precision: Float[Tensor, " C"]
    recall: Float[Tensor, " C"]
    f1: Float[Tensor, " C"]
    average_precision: Float[Tensor, " C"]


def score(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"], thresholds: Int[Tensor, " C"]) -> MultilabelScores:
    """Score the labels whose level is at least the label's threshold; without examples, the means are not numbers."""
    decided = levels >= thresholds
    correct, predicted, support = (decided & truth).sum(dim=0), decided.sum(dim=0), truth.sum(dim=0)
    f1 = ratio(2 * correct, predicted + support)
    precisions = _average_precisions(levels, truth)
    return MultilabelScores(
        f1_micro=ratio(2 * correct.sum(), (predicted + support).sum()).item() if len(levels) else math.nan,
        f1_macro=f1[predicted + support > 0].mean().item(),
        subset_accuracy=(decided == truth).all(dim=1).double().mean().item(),
        mean_average_precision=precisions[support > 0].mean().item(),
        support=support,
        precision=ratio(correct, predicted),
        recall=ratio(correct, support),
        f1=f1,
        average_precision=precisions,
    )


def mean_average_precision(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"]) -> Float[Tensor, ""]:
    """The mean of the labels that occur."""
    return _average_precisions(levels, truth)[truth.any(dim=0)].mean()


def _average_precisions(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"]) -> Float[Tensor, " C"]:
    return torch.stack([average_precision(*column) for column in zip(levels.T, truth.T, strict=True)])


def average_precision(levels: Int[Tensor, " N"], truth: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
    """Mean, over the examples with a label, of the precision among those that score at least as high.

    Examples of one level enter together, as those of equal score do in scikit-learn's ``average_precision_score``; the
    result is that of the logits rounded down to a level. Without any example it is 0.
    """
    positives = levels[truth].sort().values
    if not len(positives):
        return torch.zeros((), dtype=torch.float64)
    rows = levels.sort().values
    at_least = len(rows) - torch.searchsorted(rows, positives)
    right = len(positives) - torch.searchsorted(positives, positives)
    # numpy adds in one order, torch in one that depends on the number of threads.
    return torch.tensor((right.double() / at_least).numpy().mean())


def reliability(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"], origin: float) -> dict[str, list[float]]:
    """Compare the probabilities of all pairs of an example and a label with how often the label is there.

    Args:
        levels: of the logits.
        truth: whether an example has a label.
        origin: the logit of level 0.

    Returns:
        Of each of 15 equal bins of probabilities the ``count`` of its pairs, their mean probability as ``confidence``,
        and as ``accuracy`` the share of them with the label; both 0 where there are none.
    """
    count, positives = np.zeros((2, 2 * _LIMIT), np.int64)
    for column, has_label in zip(levels.numpy().T, truth.numpy().T, strict=True):
        cells = column.astype(np.int64) + _LIMIT
        count += np.bincount(cells, minlength=len(count))
        positives += np.bincount(cells[has_label], minlength=len(count))
    probabilities = 1 / (1 + np.exp(-(origin + np.arange(-_LIMIT, _LIMIT) / LEVELS)))
    bins = (probabilities * _BINS).astype(np.int64)
    totals = [np.bincount(bins, weights, _BINS) for weights in (count, count * probabilities, positives)]
    sizes = np.maximum(totals[0], 1)
    return {
        "count": totals[0].astype(int).tolist(),
        "confidence": (totals[1] / sizes).tolist(),
        "accuracy": (totals[2] / sizes).tolist(),
    }


def choose_thresholds(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"], choice: Choice) -> Int[Tensor, " C"]:
    """Find the levels with the best F1 among fixed candidates; of equals, the nearest to a probability of 0.5.

    Args:
        levels: of the logits, with the origin 0.
        truth: whether an example has a label.
        choice: "shared": one threshold for all labels, with the best micro F1; "per_label": one for each.
    """
    counts = [_counts_at_candidates(*column) for column in zip(levels.T, truth.T, strict=True)]
    correct, predicted, support = (torch.stack(column) for column in zip(*counts, strict=True))
    if choice == "shared":
        correct, predicted, support = (count.sum(dim=0, keepdim=True) for count in (correct, predicted, support))
    f1 = ratio(2 * correct, predicted + support)
    nearest_first = torch.argsort(_CANDIDATES.int().abs(), stable=True)
    best = _CANDIDATES[nearest_first[f1[:, nearest_first].argmax(dim=1)]]
    return best.expand(levels.shape[1]).clone()


def _counts_at_candidates(
    levels: Int[Tensor, " N"], truth: Bool[Tensor, " N"]
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Count, for one label at each candidate, the examples rightly given the label, given it, and having it [K]."""
    rows, positives = levels.sort().values, levels[truth].sort().values
    predicted = len(rows) - torch.searchsorted(rows, _CANDIDATES)
    correct = len(positives) - torch.searchsorted(positives, _CANDIDATES)
    return correct, predicted, torch.full_like(correct, len(positives))


def parse_thresholds(setting: Any) -> tuple[Choice | None, float]:
    """Return how thresholds are chosen, and the logit of a fixed one (0 if they are chosen).

    Raises:
        LxError: Neither "shared" nor "per_label" nor a probability.
    """
    if setting in ("shared", "per_label"):
        return setting, 0.0
    if isinstance(setting, float) and 0 < setting < 1:
        return None, float(np.float32(math.log(setting / (1 - setting))))
    hint = did_you_mean(str(setting), ["shared", "per_label"])
    raise LxError(f"task.thresholds must be shared, per_label, or a probability between 0 and 1, not {setting!r}{hint}")
