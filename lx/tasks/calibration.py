"""How the logits of an encoder, and the log-probabilities of an expert beside it, become one distribution.

Axis legend: N examples, B examples of a batch, K score vectors an example (1: logits alone; 2: the expert's too),
C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lx.errors import LxError

_LOWEST, _HIGHEST = 1e-3, 1e3
_MOST_SCORES = 1 << 22  # numbers that weights are fitted on; of more, every k-th example serves


@dataclass(frozen=True)
class LogLinearPool:
    """A product of two distributions, each to a power: a logarithmic opinion pool (Hinton 2002 for experts).

    ``log p(c) = encoder_weight * logit(c) + expert_weight * log p_expert(c) + constant``; without an expert the first
    weight is one over the temperature of Guo et al. 2017.
    """

    encoder_weight: float = 1.0
    expert_weight: float = 1.0

    def combine(self, logits: Float[Tensor, "B C"], expert: Float[Tensor, "B C"] | None) -> Float[Tensor, "B C"]:
        """Compute log-probabilities up to a constant of each example."""
        scaled = self.encoder_weight * logits
        return scaled if expert is None else scaled + self.expert_weight * expert

    @classmethod
    def fit(cls, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> LogLinearPool:
        """Fit the weights to examples; see :func:`fit_weights`."""
        return cls(*fit_weights(scores, labels))

    @classmethod
    def from_choices(cls, choices: Any) -> LogLinearPool:
        """Read weights that a run directory, perhaps a stranger's, holds by name; those it lacks are 1.

        Raises:
            LxError: anything but numbers in the range that is fitted.
        """
        names = cls.__dataclass_fields__
        if not isinstance(choices, dict) or not all(
            name in names and isinstance(value, float) and _LOWEST <= value <= _HIGHEST
            for name, value in choices.items()
        ):
            raise LxError(f"the weights chosen for encoder and expert are damaged: {str(choices)[:80]}")
        return cls(**choices)


def fit_weights(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> list[float]:
    """Fit the weight of each score vector by the mean negative log-likelihood of their weighted sum's softmax.

    The likelihood is convex in the weights. A quadratic penalty as strong as one example pulls them to 1/K, so that few
    examples, all of them right, or scores that say nothing give moderate weights; they stay between 0.001 and 1000.
    The result depends on the examples alone, not on their order, to the last bit.

    Args:
        scores: [N, K, C]; an example with a score that is not finite is left out.
        labels: [N] class ids.
    """
    margins = _margins(scores, labels)
    start = weights = np.full(scores.shape[1], 1 / scores.shape[1])
    value, gradient, hessian = _penalized_loss(margins, weights, start)
    for _ in range(100):
        free = ~((weights <= _LOWEST) & (gradient > 0) | (weights >= _HIGHEST) & (gradient < 0))
        step = np.zeros_like(weights)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        while np.abs(step).max() > 1e-9:
            candidate = np.clip(weights - step, _LOWEST, _HIGHEST)
            result = _penalized_loss(margins, candidate, start)
            if result[0] < value:
                break
            step /= 2
        else:
            break
        weights, (value, gradient, hessian) = candidate, result
    return [float(weight) for weight in weights]


def sort_examples(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return an order [N] of the examples that depends on their content alone."""
    numbers = np.ascontiguousarray(scores).view(np.int32).reshape(len(labels), math.prod(scores.shape[1:]))
    content = np.column_stack([numbers, labels.astype(np.int32)])
    rows = np.ascontiguousarray(content).view(f"S{content.shape[1] * 4}")
    return np.argsort(rows[:, 0], kind="stable")


def _margins(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores minus that of the label [N, K, C], in an order that depends on the content alone."""
    finite = np.isfinite(scores).all(axis=(1, 2))
    scores, labels = scores[finite], labels[finite]
    order = sort_examples(scores, labels)[:: math.ceil(max(scores.size, 1) / _MOST_SCORES)]
    kept = scores[order].astype(np.float64)
    margins: NDArray[np.float64] = kept - np.take_along_axis(kept, labels[order, None, None], axis=2)
    return margins


def _penalized_loss(
    margins: NDArray[np.float64], weights: NDArray[np.float64], start: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the loss, summed over examples, its gradient [K] and Hessian [K, K]."""
    logits = np.einsum("k,nkc->nc", weights, margins)
    largest = logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits - largest)
    totals = exponentials.sum(axis=1, keepdims=True)
    means = np.einsum("nc,nkc->nk", exponentials / totals, margins)
    squares = np.einsum("nc,nkc,nlc->kl", exponentials / totals, margins, margins)
    off = weights - start
    value = float((np.log(totals) + largest).sum() + off @ off / 2)
    return value, means.sum(axis=0) + off, squares - np.einsum("nk,nl->kl", means, means) + np.eye(len(off))
