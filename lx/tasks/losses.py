"""Losses of each example: cross-entropy with label smoothing and class weights, and one for sets of labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F


class CrossEntropy(nn.Module):
    """Cross-entropy between a softmax and a smoothed label, for each example.

    With classes c, label y, weights w and smoothing e (Szegedy et al. 2016, section 7)::

        loss = -(1 - e) * w[y] * log p[y]  -  e / C * sum over c of w[c] * log p[c]

    as ``torch.nn.functional.cross_entropy(..., reduction="none")`` defines it. The mean over a batch is left
    to the caller, who divides by the number of examples. (torch's mean divides by the sum of the labels'
    weights, which would make the loss of one example depend on the others in its batch.)

    Args:
        label_smoothing: e, the share of the target that is spread over all classes, from 0 to below 1.
        class_weights: w, one for each class; None: all 1.
    """

    class_weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        # It comes from the config at each start, so it has no place in a checkpoint.
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Compute the loss of each example, weighted and smoothed; half precision is computed in float32."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(
            logits,
            labels.long(),
            weight=None if self.class_weights is None else self.class_weights.to(logits.dtype),
            reduction="none",
            label_smoothing=self.label_smoothing,
        )


class MultilabelLoss(nn.Module):
    """Binary cross-entropy between the logistic function of each logit and its label, averaged over the labels.

    Args:
        positive_weights: For each label, the factor of its loss in texts that have the label; None: all 1.
    """

    positive_weights: Tensor | None

    def __init__(self, positive_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        # It follows from the training split, so it has no place in a checkpoint.
        weights = None if positive_weights is None else torch.tensor(positive_weights, dtype=torch.float32)
        self.register_buffer("positive_weights", weights, persistent=False)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss [B] of logits [B, C] for labels [B, C]; half precision is computed in float32."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        losses = F.binary_cross_entropy_with_logits(
            logits, labels.to(logits.dtype), pos_weight=self.positive_weights, reduction="none"
        )
        return losses.mean(dim=-1)
