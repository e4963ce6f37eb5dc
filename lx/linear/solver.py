"""A linear support vector machine, its C chosen by cross-validation, its scores calibrated.

Axis legend: N rows, F features, C classes. (The constant C of the loss is named as the papers name it.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

NUM_FOLDS = 3
MAX_ROWS_OF_FOLDS = 10_000
TOLERANCE = 0.01  # half the passes of scikit-learn's 1e-4, and the same accuracy

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class LinearMap:
    """Scores of classes: x W + b.

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
    """What fits that leave rows out have found.

    Attributes:
        c: The chosen C.
        rows: [K], ascending, that the calibration was fitted on.
        log_probabilities: [K, C] of them, by fits that have not seen them.
    """

    c: float
    rows: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]


def fit_calibrated(
    features: csr_matrix, labels: Labels, num_classes: int, candidates: Sequence[float], report: Callable[[int], None]
) -> tuple[LinearMap, CrossValidation]:
    """Fit a linear SVM whose scores are logits, and return it with what cross-validation has found.

    For each candidate the scores of the rows that a fold leaves out are calibrated: logits are a * score + b, with
    a > 0 and one b a class (vector scaling with one scale, Guo et al. 2017). C is the candidate whose logits are the
    most likely; the fit to all rows gets the same a and b.

    Of more than `MAX_ROWS_OF_FOLDS` rows a stratified sample is divided into folds. Scores grow with the number of rows
    that are fitted, so a and b then come from another fit, which leaves out a tenth of all rows.

    Args:
        features: [N, F].
        labels: [N], in [0, C).
        num_classes: C.
        candidates: Values to choose from.
        report: Called with 1 after each of the `num_fits(candidates)` fits.
    """
    shuffled = _shuffle_by_class(labels)
    sample = shuffled[:: -(-len(labels) // MAX_ROWS_OF_FOLDS)]
    sampled, sampled_labels = features[sample], labels[sample]
    fold = np.arange(len(sample)) % NUM_FOLDS

    def cross_validate(c: float) -> tuple[float, Floats, _Calibration]:
        scores = np.empty((len(sample), num_classes))
        for left_out in (fold == number for number in range(NUM_FOLDS)):
            scores[left_out] = _left_out_scores(sampled, sampled_labels, num_classes, c, left_out)
            report(1)
        return c, scores, _calibrate(scores, sampled_labels)

    rows = sample
    c, scores, calibration = min(map(cross_validate, candidates), key=lambda validated: validated[2].loss)
    if len(sample) < len(labels):
        left_out = np.isin(np.arange(len(labels)), shuffled[::10])
        rows = np.flatnonzero(left_out)
        scores = _left_out_scores(features, labels, num_classes, c, left_out)
        calibration = _calibrate(scores, labels[rows])
    fitted = _fit(features, labels, num_classes, c)
    report(1)
    order = np.argsort(rows)
    logits = torch.from_numpy(calibration.scale * scores[order] + calibration.shift)
    fitted = LinearMap(fitted.weights * calibration.scale, fitted.bias * calibration.scale + calibration.shift)
    return fitted, CrossValidation(c, rows[order], logits.log_softmax(1).float().numpy())


def num_fits(candidates: Sequence[float]) -> int:
    """How many fits :func:`fit_calibrated` makes."""
    return NUM_FOLDS * len(candidates) + 1


def _shuffle_by_class(labels: Labels) -> NDArray[np.int64]:
    """Return the rows in an order in which every stride is stratified: class by class, shuffled within each."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _left_out_scores(
    features: csr_matrix, labels: Labels, num_classes: int, c: float, left_out: NDArray[np.bool_]
) -> Floats:
    """Return the scores of the rows that a fit leaves out."""
    return _fit(features[~left_out], labels[~left_out], num_classes, c)(features[left_out])


def _fit(features: csr_matrix, labels: Labels, num_classes: int, c: float) -> LinearMap:
    """Fit each class against the rest, of two only the second one; a class without rows scores -1 everywhere."""
    fitted = LinearMap(np.zeros((features.shape[1], num_classes)), np.full(num_classes, -1.0))
    present = np.unique(labels)
    if len(present) < 2 or features.shape[1] == 0:
        fitted.bias[present] = 1.0
        return fitted
    totals = _Totals.of(features)
    for number in present[1:] if len(present) == 2 else present:
        fitted.weights[:, number], fitted.bias[number] = _fit_class(features, labels == number, c, totals)
    if len(present) == 2:
        fitted.weights[:, present[0]] = -fitted.weights[:, present[1]]
        fitted.bias[present[0]] = -fitted.bias[present[1]]
    return fitted


def _fit_class(features: csr_matrix, is_class: NDArray[np.bool_], c: float, totals: _Totals) -> tuple[Floats, float]:
    """Fit one class against the rest: weights [F] and bias."""
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    scale = _class_scale(features, is_class, totals)
    parts = (features.data * scale[features.indices], features.indices, features.indptr)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 passes are near enough
        svm = LinearSVC(C=c, tol=TOLERANCE, random_state=0).fit(csr_matrix(parts, shape=features.shape), is_class)
    return svm.coef_[0] * scale, svm.intercept_[0]


@dataclass(frozen=True)
class _Totals:
    """Of each feature [F]: the rows that have it, and the sum of its squares."""

    rows: Labels
    squares: Floats

    @classmethod
    def of(cls, features: csr_matrix) -> _Totals:
        """Sum over the rows [N, F]."""
        rows = np.bincount(features.indices, minlength=features.shape[1])
        squares = np.bincount(features.indices, np.square(features.data), features.shape[1])
        return cls(rows, squares.astype(np.float64, copy=False))


def _class_scale(features: csr_matrix, is_class: NDArray[np.bool_], totals: _Totals) -> Floats:
    """Return the factor [F] of each feature for the fit of a class: the more it tells, the less its weight costs.

    It is the mean of 1 and the log-count ratio of naive Bayes, in its absolute value over the mean of all (Wang and
    Manning 2012, section 2.3, where the two are mixed after the fit); the features together keep their size.
    """
    in_class = features.indices[np.repeat(is_class, np.diff(features.indptr))]
    own = np.bincount(in_class, minlength=features.shape[1])
    others = totals.rows - own
    ratios = np.abs(np.log((own + 1) / (own + 1).sum()) - np.log((others + 1) / (others + 1).sum()))
    scale = 0.5 + 0.5 * ratios / max(ratios.mean(), 1e-9)
    return np.asarray(scale * np.sqrt(totals.squares.sum() / (totals.squares @ scale**2)))


@dataclass(frozen=True)
class _Calibration:
    """Logits scale * score + shift [C], and the mean negative log-likelihood at which they arrive, with the priors."""

    scale: float
    shift: Floats
    loss: float


def _calibrate(scores: Floats, labels: Labels) -> _Calibration:
    """Find the scale and shift with the least mean negative log-likelihood.

    Wide normal priors on ln(scale) and shift keep them finite where all scores are right, or a class has no rows.
    """
    inputs, targets = torch.from_numpy(scores), torch.from_numpy(labels)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(scores.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def objective() -> torch.Tensor:
        loss = F.cross_entropy(log_scale.exp() * inputs + shift, targets, reduction="sum")
        return (loss + log_scale.square() / 8 + shift.square().sum() / 18) / len(labels)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = objective()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return _Calibration(log_scale.exp().item(), shift.detach().numpy(), objective().item())
