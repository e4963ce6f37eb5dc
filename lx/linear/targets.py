"""What a linear expert can learn of a row: its class, which labels it has, or a number.

Axis legend: N rows, F features, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lx.linear.solver import Calibration, Floats, LinearMap, Target
from lx.linear.svm import Totals, fit_svm

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Kind = Literal["class", "labels", "number"]
KINDS: tuple[Kind, ...] = ("class", "labels", "number")


@dataclass(frozen=True)
class OneClass:
    """One of C classes: a support vector machine for each against the rest, log-probabilities from their scores."""

    num_outputs: int

    def shuffle(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows class by class, shuffled within each: every stride is stratified."""
        return _shuffle_by(labels)

    def fit(self, features: csr_matrix, labels: NDArray[np.int64], c: float) -> LinearMap:
        """Fit each class against the rest, of two only the second one; a class without rows scores -1 everywhere."""
        present = np.unique(labels)
        if len(present) != 2:
            return _fit_each(features, labels[:, None] == np.arange(self.num_outputs), c)
        first, second = present
        fitted = _fit_each(features, (labels == second)[:, None], c)
        weights, bias = np.zeros((features.shape[1], self.num_outputs)), np.full(self.num_outputs, -1.0)
        weights[:, second], bias[second] = fitted.weights[:, 0], fitted.bias[0]
        weights[:, first], bias[first] = -fitted.weights[:, 0], -fitted.bias[0]
        return LinearMap(weights, bias)

    def calibrate(self, scores: Floats, labels: NDArray[np.int64]) -> Calibration:
        """Fit one scale and a shift a class: vector scaling with one scale (Guo et al. 2017)."""
        targets = torch.from_numpy(labels)
        return _fit_calibration(scores, 1, lambda logits: F.cross_entropy(logits, targets, reduction="sum"))


@dataclass(frozen=True)
class LabelSet:
    """Any of C labels: a support vector machine for each, log-odds from its scores."""

    num_outputs: int

    def shuffle(self, labels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the rows in an order that groups those with the same rarest label, shuffled within each group."""
        rarest_first = labels[:, np.argsort(labels.sum(axis=0), kind="stable")]
        return _shuffle_by(np.column_stack([rarest_first, np.ones(len(labels), bool)]).argmax(axis=1))

    def fit(self, features: csr_matrix, labels: NDArray[np.bool_], c: float) -> LinearMap:
        """Fit each label by itself."""
        return _fit_each(features, labels, c)

    def calibrate(self, scores: Floats, labels: NDArray[np.bool_]) -> Calibration:
        """Fit a scale and a shift a label (Platt 1999)."""
        targets = torch.from_numpy(labels).double()
        return _fit_calibration(
            scores,
            self.num_outputs,
            lambda logits: F.binary_cross_entropy_with_logits(logits, targets, reduction="sum"),
        )


@dataclass(frozen=True)
class Number:
    """A number in standard units, by ridge regression (Hoerl and Kennard 1970)."""

    num_outputs: int = 1

    def shuffle(self, labels: Floats) -> NDArray[np.int64]:
        """Return the rows by their numbers: every stride has small and large ones."""
        return _shuffle_by(labels)

    def fit(self, features: csr_matrix, labels: Floats, c: float) -> LinearMap:
        """Fit the number, with the least C times the sum of squared errors plus the sum of squared weights."""
        from sklearn.linear_model import Ridge

        if features.shape[1] == 0:
            return LinearMap(np.zeros((0, 1)), np.array([labels.mean()]))
        ridge = Ridge(alpha=1 / c, solver="sparse_cg").fit(features, labels)
        return LinearMap(ridge.coef_[:, None], np.array([ridge.intercept_]))

    def calibrate(self, scores: Floats, labels: Floats) -> Calibration:
        """Leave the scores as they are, since the fit has minimized their squared error; the loss is its mean."""
        return Calibration(1.0, np.zeros(1), float(np.square(scores[:, 0] - labels).mean()))


def target_of(kind: Kind, num_outputs: int) -> Target:
    """Return the target for labels of a kind."""
    if kind == "number":
        return Number()
    return OneClass(num_outputs) if kind == "class" else LabelSet(num_outputs)


def _shuffle_by(groups: NDArray[np.int64] | Floats) -> NDArray[np.int64]:
    """Return the rows sorted by group, in a random order within each."""
    shuffled = np.random.default_rng(0).permutation(len(groups))
    return shuffled[np.argsort(groups[shuffled], kind="stable")]


def _fit_each(features: csr_matrix, has_label: NDArray[np.bool_], c: float) -> LinearMap:
    """Fit each column of ``has_label`` [N, C]; a label that no row has scores -1, one that all rows have scores 1."""
    fitted = LinearMap(np.zeros((features.shape[1], has_label.shape[1])), np.full(has_label.shape[1], -1.0))
    counts = has_label.sum(axis=0)
    fitted.bias[counts == len(has_label)] = 1.0
    if features.shape[1]:
        totals = Totals.of(features)
        for column in np.flatnonzero((counts > 0) & (counts < len(has_label))):
            fitted.weights[:, column], fitted.bias[column] = fit_svm(features, has_label[:, column], c, totals)
    return fitted


def _fit_calibration(scores: Floats, num_scales: int, loss: Callable[[Tensor], Tensor]) -> Calibration:
    """Find the scales [num_scales] and shifts [C] with the least ``loss``, which is summed over rows.

    Normal priors, with standard deviations of 2 for ln(scale) and 3 for shift, keep them finite where all scores are
    right, or a class has no rows.
    """
    inputs = torch.from_numpy(scores)
    log_scale = torch.zeros(num_scales, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(scores.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def objective() -> Tensor:
        total = loss(log_scale.exp() * inputs + shift)
        return (total + log_scale.square().sum() / 8 + shift.square().sum() / 18) / len(scores)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return Calibration(log_scale.exp().numpy(), shift.numpy(), objective().item())
