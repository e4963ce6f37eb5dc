"""A linear map from n-grams to scores, its C chosen by cross-validation, its scores calibrated.

Axis legend: N rows, F features, C outputs. (The constant C of the loss is named as the papers name it.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUM_FOLDS = 3
MAX_ROWS_OF_FOLDS = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LinearMap:
    """Scores: x W + b.

    Attributes:
        weights: W [F, C].
        bias: b [C].
    """

    weights: Floats
    bias: Floats

    def __call__(self, features: csr_matrix) -> Floats:
        """Return the scores [N, C] of features [N, F]."""
        scores: Floats = features @ self.weights + self.bias
        return scores


@dataclass(frozen=True)
class CrossValidation:
    """The result of fits that leave rows out.

    Attributes:
        c: The chosen C.
        rows: [K], ascending, the rows that the calibration was fitted on.
        scores: [K, C], the calibrated scores of these rows, each by a fit that has not seen the row.
    """

    c: float
    rows: NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True)
class Calibration:
    """Turns scores into calibrated ones: scale * score + shift.

    Attributes:
        scale: Above 0; one, or [C].
        shift: [C].
        loss: The mean loss of the calibrated scores over the rows that it was fitted on, with the priors' penalties.
    """

    scale: Floats | float
    shift: Floats
    loss: float

    def __call__(self, scores: Floats) -> Floats:
        """Return the calibrated scores [N, C]."""
        calibrated: Floats = self.scale * scores + self.shift
        return calibrated

    def join(self, fitted: LinearMap) -> LinearMap:
        """Return the map whose scores are the calibrated scores of ``fitted``."""
        return LinearMap(fitted.weights * self.scale, self(fitted.bias))


class Target(Protocol):
    """What is learned: see ``targets``."""

    @property
    def num_outputs(self) -> int:
        """C."""

    def shuffle(self, labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows [N] in an order of which every k-th row makes a stratified sample."""

    def fit(self, features: csr_matrix, labels: NDArray[Any], c: float) -> LinearMap:
        """Fit scores to features [N, F]."""

    def calibrate(self, scores: Floats, labels: NDArray[Any]) -> Calibration:
        """Fit the most likely calibration of scores [N, C], which come from fits that have not seen their rows."""


def fit_calibrated(
    features: csr_matrix,
    labels: NDArray[Any],
    target: Target,
    candidates: Sequence[float],
    report: Callable[[int], None],
) -> tuple[LinearMap, CrossValidation]:
    """Fit calibrated scores, and return their map with what cross-validation has found.

    For each candidate the scores of the rows that a fold leaves out are calibrated. C is the candidate with the least
    loss after that; the fit to all rows gets the same calibration.

    Of more than `MAX_ROWS_OF_FOLDS` rows only a stratified sample is divided into folds. Scores grow with the number of
    rows that are fitted, so the calibration then comes from one more fit, to nine tenths of all rows.

    Args:
        features: [N, F].
        labels: [N] or [N, C], as the target takes them.
        target: What is learned.
        candidates: Values to choose from.
        report: Called with 1 after each of the `num_fits(candidates)` fits.
    """
    shuffled = target.shuffle(labels)
    sample = shuffled[:: -(-len(labels) // MAX_ROWS_OF_FOLDS)]
    sampled, sampled_labels = features[sample], labels[sample]
    fold = np.arange(len(sample)) % NUM_FOLDS

    def cross_validate(c: float) -> tuple[float, Floats, Calibration]:
        scores = np.empty((len(sample), target.num_outputs))
        for left_out in (fold == number for number in range(NUM_FOLDS)):
            scores[left_out] = _left_out_scores(sampled, sampled_labels, target, c, left_out)
            report(1)
        return c, scores, target.calibrate(scores, sampled_labels)

    rows = sample
    c, scores, calibration = min(map(cross_validate, candidates), key=lambda validated: validated[2].loss)
    if len(sample) < len(labels):
        left_out = np.isin(np.arange(len(labels)), shuffled[::10])
        rows = np.flatnonzero(left_out)
        scores = _left_out_scores(features, labels, target, c, left_out)
        calibration = target.calibrate(scores, labels[rows])
    fitted = target.fit(features, labels, c)
    report(1)
    order = np.argsort(rows)
    return calibration.join(fitted), CrossValidation(c, rows[order], calibration(scores[order]))


def num_fits(candidates: Sequence[float]) -> int:
    """How many fits :func:`fit_calibrated` makes."""
    return NUM_FOLDS * len(candidates) + 1


def _left_out_scores(
    features: csr_matrix, labels: NDArray[Any], target: Target, c: float, left_out: NDArray[np.bool_]
) -> Floats:
    """Return the scores of the rows that a fit leaves out."""
    return target.fit(features[~left_out], labels[~left_out], c)(features[left_out])
