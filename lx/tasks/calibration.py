"""How the logits of an encoder, and the scores of an expert beside it, become the probabilities of classes or labels.

Axis legend: N examples, B examples of a batch, K score vectors an example (1: logits alone; 2: the expert's too),
C classes or labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from lx.errors import LxError

_LOWEST, _HIGHEST = 1e-3, 1e3
_SHARES = tuple(i / 16 for i in range(17))
_STEEPNESS = 3.0  # of the sigmoid that counts errors, for margins in nats
PRICE = 4.0  # penalty for a share of 1 of the first vector: in errors for classes, in nats for labels
_MOST_LABEL_SCORES = 1 << 20
_MOST_SCORES = 1 << 22  # numbers that weights are fitted on; of more, every k-th example serves


@dataclass(frozen=True)
class LogLinearPool:
    """A product of two distributions, each to a power: a logarithmic opinion pool (Hinton 2002 for experts).

    ``log p(c) = encoder_weight * logit(c) + expert_weight * log p_expert(c) + constant``; without an expert the first
    weight is one over the temperature of Guo et al. 2017. Of labels the log-odds are added up in the same way.
    """

    encoder_weight: float = 1.0
    expert_weight: float = 1.0

    def combine(self, logits: Float[Tensor, "B C"], expert: Float[Tensor, "B C"] | None) -> Float[Tensor, "B C"]:
        """Compute log-probabilities up to a constant of each example, or log-odds."""
        scaled = self.encoder_weight * logits
        return scaled if expert is None else scaled + self.expert_weight * expert

    @classmethod
    def fit(cls, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> LogLinearPool:
        """Fit the weights to examples of one class each; see :func:`fit_weights`."""
        return cls(*fit_weights(scores, labels))

    @classmethod
    def fit_labels(cls, scores: NDArray[np.float32], labels: NDArray[np.float32]) -> LogLinearPool:
        """Fit the weights of logits and expert to examples with any labels; see :func:`fit_label_weights`."""
        return cls(*fit_label_weights(scores, labels))

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
    """Fit the weights of score vectors, whose weighted sum has the probabilities as its softmax.

    A single vector is scaled so that the labels are the most likely: see :func:`fit_factor`. Two vectors are first
    scaled one by one; then the shares are chosen with which their sum makes the fewest errors, and the sum is scaled.

    Shares chosen by likelihood would favour scores that are well calibrated, but less accurate. An error counts as the
    sigmoid of its margin (Juang and Katagiri 1992, minimum classification error), since a count of whole errors would
    be the same for most shares of few examples. A share of 1 for the first vector, the encoder's, must save four
    errors: the encoder's epoch was chosen on these examples, and the expert will be refitted with them, so the two look
    more alike than they are, and with few examples that and luck would decide. The result depends on the examples
    alone, not on their order, to the last bit.

    Args:
        scores: [N, K, C], K 1 or 2; an example with a score that is not finite is left out.
        labels: [N] class ids.
    """
    vectors = _margins(scores, labels)
    factors = [fit_factor(margins) for margins in vectors]
    if len(vectors) == 1:
        return factors
    return _fit_shares(vectors, factors, _smoothed_errors)


def fit_label_weights(scores: NDArray[np.float32], labels: NDArray[np.float32]) -> list[float]:
    """Fit the weights of two score vectors whose weighted sum has the log-odds of labels.

    As :func:`fit_weights`, but with the shares that make the labels the most likely: which of them are predicted is
    decided by thresholds that are chosen afterwards, so that there are no errors to be counted yet.

    Args:
        scores: [N, 2, C]; an example with a score that is not finite is left out.
        labels: [N, C], 1 where an example has a label and 0 where not.
    """
    finite = np.isfinite(scores).all(axis=(1, 2))
    scores, labels = scores[finite], labels[finite]
    order = sort_examples(scores, labels)[:: math.ceil(max(scores.size, 1) / _MOST_LABEL_SCORES)]
    signs = 1 - 2 * labels[order].astype(np.float64)
    vectors = (scores[order].astype(np.float64) * signs[:, None]).transpose(1, 0, 2).reshape(2, -1, 1)
    return _fit_shares(vectors, [fit_factor(margins) for margins in vectors], _log_loss)


def _fit_shares(
    vectors: NDArray[np.float64], factors: Sequence[float], cost: Callable[[NDArray[np.float64]], float]
) -> list[float]:
    """Find the weights that minimize the cost of the scaled weighted sum plus the price of the first vector's share.

    Args:
        vectors: Margins [2, N, C - 1].
        factors: For each vector the factor with which the labels are the most likely by this vector alone.
        cost: The cost of margins [N, C - 1].
    """
    first, second = (factor * margins for factor, margins in zip(factors, vectors, strict=True))
    lowest, weights = math.inf, list(factors)
    for share in _SHARES:
        margins = share * first + (1 - share) * second
        factor = fit_factor(margins)
        total = cost(factor * margins) + PRICE * share
        if total < lowest:
            lowest, weights = total, [factor * share * factors[0], factor * (1 - share) * factors[1]]
    return [min(max(float(weight), _LOWEST), _HIGHEST) for weight in weights]


def _smoothed_errors(margins: NDArray[np.float64]) -> float:
    return float(_sigmoid(_STEEPNESS * margins.max(axis=1, initial=-math.inf)).sum())


def _log_loss(margins: NDArray[np.float64]) -> float:
    return float(np.logaddexp(0, margins).sum())


def fit_factor(margins: NDArray[np.float64]) -> float:
    """Find the factor of scores with the least negative log-likelihood: 1 over a temperature (Guo et al. 2017).

    The loss is convex in the factor (Newton's method). A quadratic penalty as strong as one example pulls it to 1, so
    that few examples, all of them right, or scores that say nothing give a moderate factor; it is from 0.001 to 1000.

    Args:
        margins: [N, C - 1], by how much the score of each other class is above that of the label.
    """
    factor = 1.0
    value, slope, curvature = _penalized_loss(margins, factor)
    for _ in range(100):
        step = slope / curvature
        while abs(step) > 1e-9:
            candidate = min(max(factor - step, _LOWEST), _HIGHEST)
            result = _penalized_loss(margins, candidate)
            if result[0] < value:
                break
            step /= 2
        else:
            break
        factor, (value, slope, curvature) = candidate, result
    return factor


def sort_examples(scores: NDArray[np.float32], labels: NDArray[Any]) -> NDArray[np.intp]:
    """Return an order [N] of the examples that depends on their content alone."""
    numbers = np.ascontiguousarray(scores).view(np.int32).reshape(len(labels), math.prod(scores.shape[1:]))
    is_integer = np.issubdtype(labels.dtype, np.integer)
    as_integers = labels.astype(np.int32) if is_integer else labels.astype(np.float32).view(np.int32)
    content = np.column_stack([numbers, as_integers.reshape(len(labels), math.prod(labels.shape[1:]))])
    rows = np.ascontiguousarray(content).view(f"S{content.shape[1] * 4}")
    return np.argsort(rows[:, 0], kind="stable")


def _margins(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores of the other classes minus that of the label [K, N, C - 1], in an order of the content alone."""
    finite = np.isfinite(scores).all(axis=(1, 2))
    scores, labels = scores[finite], labels[finite]
    order = sort_examples(scores, labels)[:: math.ceil(max(scores.size, 1) / _MOST_SCORES)]
    vectors, labels = scores[order].astype(np.float64).transpose(1, 0, 2), labels[order, None]
    num_vectors, num_examples, num_classes = vectors.shape
    differences = vectors - np.take_along_axis(vectors, np.broadcast_to(labels, (num_vectors, num_examples, 1)), axis=2)
    others = differences[:, np.arange(num_classes) != labels]
    return others.reshape(num_vectors, num_examples, num_classes - 1)


def _penalized_loss(margins: NDArray[np.float64], factor: float) -> tuple[float, float, float]:
    """Return the loss, summed over examples, and its first and second derivative by the factor."""
    logits = factor * margins
    largest = logits.max(axis=1, keepdims=True, initial=0.0)
    exponentials = np.exp(logits - largest)
    totals = exponentials.sum(axis=1, keepdims=True) + np.exp(-largest)
    probabilities = exponentials / totals
    means = (probabilities * margins).sum(axis=1)
    variances = (probabilities * margins**2).sum(axis=1) - means**2
    loss = float((np.log(totals) + largest).sum()) + (factor - 1) ** 2 / 2
    return loss, float(means.sum()) + factor - 1, float(variances.sum()) + 1


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(x / 2)
