"""Metrics of predicted sets of labels, and the choice of the thresholds above which a label is predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lx.tasks.metrics import ratio

_STEPS = 1024  # levels a unit of the logit: scores are kept to a 1024th, 0.00025 of a probability at most
_LIMIT = 16 * _STEPS  # scores further than 16 units from their threshold count as 16
_CANDIDATES = torch.arange(
    -8 * _STEPS, 8 * _STEPS + 1, _STEPS // 32
)  # thresholds tried: probabilities 0.0003 to 0.9997

Choice = Literal["shared", "per_label"]


class MultilabelScores(Metric):
    """F1, precision, recall, subset accuracy and mean average precision, at given thresholds or the best ones.

    Each logit is kept as its distance from its threshold in 16 bits, together with the label: 2 bytes an example and
    label. Decisions are exact. Average precision is that of logits rounded down to a 1024th (scores that then are equal
    count as one). Only integers are added up, so the results are the same to the last bit however the examples were
    ordered, batched or spread over ranks.

    Args:
        thresholds: gives the [C] logits from which on a label is predicted.
        choose: "shared": replace them by the one threshold with the best micro F1 on the examples seen; "per_label": by
            one a label, each with the label's best F1; None: keep them.
    """

    full_state_update = False
    levels: list[Tensor] | Tensor

    def __init__(self, thresholds: Callable[[], Float[Tensor, " C"]], choose: Choice | None = None) -> None:
        super().__init__()
        self.thresholds = thresholds
        self.choose = choose
        self.add_state("levels", [], dist_reduce_fx="cat")

    def update(self, logits: Float[Tensor, "B C"], labels: Float[Tensor, "B C"]) -> None:
        """Keep a batch; a logit that is not a number counts as the lowest."""
        distance = logits.detach().float() if self.choose else logits.detach().float() - self.thresholds()
        lowest, highest = -_LIMIT, _LIMIT - 1
        levels = (distance * _STEPS).floor().nan_to_num(lowest).clamp(lowest, highest).to(torch.int32)
        packed = (2 * levels + labels.to(torch.int32)).to(torch.int16)
        assert isinstance(self.levels, list)
        self.levels.append(packed.contiguous().view(torch.uint8))  # gloo and NCCL send no 16-bit integers

    def compute(self) -> dict[str, Tensor]:
        """The scores.

        Returns:
            ``f1_micro``; ``f1_macro``, the mean over the labels that occur among the true or the predicted ones;
            ``subset_accuracy``, the share of the examples with exactly the right labels; ``map``, the mean of the
            average precision over the labels that occur; ``precision``, ``recall``, ``f1``, ``average_precision`` and
            ``support`` of each label [C]; ``thresholds`` [C], as logits.
        """
        packed = dim_zero_cat(self.levels).cpu().contiguous().view(torch.int16)
        levels, truth = packed >> 1, (packed & 1).bool()
        thresholds = self.thresholds().cpu().float()
        cut = torch.zeros(len(thresholds), dtype=torch.int16)
        if self.choose is not None:
            cut = choose_thresholds(levels, truth, self.choose)
            thresholds = cut.float() / _STEPS
        predicted = levels >= cut
        counts = Counts.of(predicted, truth)
        precisions = torch.stack([average_precision(*column) for column in zip(levels.T, truth.T, strict=True)])
        f1 = counts.f1()
        totals = Counts(counts.correct.sum(), counts.predicted.sum(), counts.support.sum())
        return {
            "f1_micro": totals.f1() if len(levels) else torch.tensor(math.nan, dtype=torch.float64),
            "f1_macro": f1[counts.support + counts.predicted > 0].mean(),
            "subset_accuracy": (predicted == truth).all(dim=1).double().mean(),
            "map": precisions[counts.support > 0].mean(),
            "precision": ratio(counts.correct, counts.predicted),
            "recall": ratio(counts.correct, counts.support),
            "f1": f1,
            "average_precision": precisions,
            "support": counts.support,
            "thresholds": thresholds,
        }


@dataclass(frozen=True)
class Counts:
    """Examples that rightly got a label, that got it, and that have it."""

    correct: Int[Tensor, "..."]
    predicted: Int[Tensor, "..."]
    support: Int[Tensor, "..."]

    @classmethod
    def of(cls, predicted: Bool[Tensor, "N C"], truth: Bool[Tensor, "N C"]) -> Counts:
        """The counts of each label."""
        return cls((predicted & truth).sum(dim=0), predicted.sum(dim=0), truth.sum(dim=0))

    def f1(self) -> Float[Tensor, "..."]:
        """Harmonic mean of precision and recall; 0 if a label neither occurs nor is predicted."""
        return ratio(2 * self.correct, self.predicted + self.support)


def choose_thresholds(levels: Int[Tensor, "N C"], truth: Bool[Tensor, "N C"], choose: Choice) -> Int[Tensor, " C"]:
    """Find the thresholds with the best F1 among fixed candidates; of equals, the nearest to a probability of 0.5.

    Args:
        levels: logits in whole steps.
        truth: whether an example has a label.
        choose: "shared": one threshold for all labels, by micro F1; "per_label": one for each.
    """
    candidates = _CANDIDATES.to(levels.dtype)
    counts = [_counts_from(candidates, *column) for column in zip(levels.T, truth.T, strict=True)]
    correct, predicted, support = (torch.stack(column) for column in zip(*counts, strict=True))
    if choose == "shared":
        correct, predicted, support = (count.sum(dim=0, keepdim=True) for count in (correct, predicted, support))
    f1 = ratio(2 * correct, predicted + support)
    nearest_first = torch.argsort(_CANDIDATES.abs(), stable=True)
    best = candidates[nearest_first[f1[:, nearest_first].argmax(dim=1)]]  # argmax takes the first of equals
    return best.expand(levels.shape[1]).clone()


def _counts_from(
    candidates: Int[Tensor, " K"], levels: Int[Tensor, " N"], truth: Bool[Tensor, " N"]
) -> tuple[Int[Tensor, " K"], Int[Tensor, " K"], Int[Tensor, " K"]]:
    """Of one label at each threshold: the examples that rightly got it, that got it, and that have it."""
    rows, positives = levels.sort().values, levels[truth].sort().values
    predicted = len(rows) - torch.searchsorted(rows, candidates)
    correct = len(positives) - torch.searchsorted(positives, candidates)
    return correct, predicted, torch.full_like(correct, len(positives))


def average_precision(levels: Int[Tensor, " N"], truth: Bool[Tensor, " N"]) -> Float[Tensor, ""]:
    """The mean, over the examples with the label, of the precision among those that score at least as high.

    Examples of equal score enter together, as in scikit-learn's ``average_precision_score``; 0 without any.
    """
    positives = levels[truth].sort().values
    if not len(positives):
        return torch.zeros((), dtype=torch.float64)
    rows = levels.sort().values
    at_least = len(rows) - torch.searchsorted(rows, positives)
    right = len(positives) - torch.searchsorted(positives, positives)
    # numpy adds in one order, torch in one that depends on the number of threads.
    return torch.tensor((right.double() / at_least).numpy().mean())
