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


def fit_calibrated(
    features: csr_matrix, labels: Labels, num_classes: int, candidates: Sequence[float], report: Callable[[int], None]
) -> tuple[LinearMap, float]:
    """Fit a linear SVM whose scores are logits, and return it with its C.

    C is the candidate with the best accuracy in cross-validation, the smaller of equals. The scores of the rows that
    each fold leaves out also calibrate: logits are a * score + b, a > 0 and one b a class (vector scaling with
    one scale, Guo et al. 2017). Of more than `MAX_ROWS_OF_FOLDS` rows a stratified sample is divided into folds.

    Args:
        features: [N, F].
        labels: [N], in [0, C).
        num_classes: C.
        candidates: Values to choose from, ascending.
        report: Called with 1 after each of the `num_fits(candidates)` fits.
    """
    sample = _shuffle_by_class(labels)[:: -(-len(labels) // MAX_ROWS_OF_FOLDS)]
    sampled, sampled_labels = features[sample], labels[sample]
    held_out = [_held_out_scores(sampled, sampled_labels, num_classes, c, report) for c in candidates]
    best = int(np.argmax([(scores.argmax(1) == sampled_labels).mean() for scores in held_out]))
    scale, shift = _calibrate(held_out[best], sampled_labels)
    fitted = _fit(features, labels, num_classes, candidates[best])
    report(1)
    return LinearMap(fitted.weights * scale, fitted.bias * scale + shift), candidates[best]


def num_fits(candidates: Sequence[float]) -> int:
    """How many fits :func:`fit_calibrated` makes."""
    return NUM_FOLDS * len(candidates) + 1


def _shuffle_by_class(labels: Labels) -> NDArray[np.int64]:
    """Return the rows in an order in which every stride is stratified: class by class, shuffled within each."""
    shuffled = np.random.default_rng(0).permutation(len(labels))
    return shuffled[np.argsort(labels[shuffled], kind="stable")]


def _held_out_scores(
    features: csr_matrix, labels: Labels, num_classes: int, c: float, report: Callable[[int], None]
) -> Floats:
    """Return the scores [N, C] of each row by the fit of the folds without it; the rows are ordered by class."""
    scores = np.empty((len(labels), num_classes))
    fold = np.arange(len(labels)) % NUM_FOLDS
    for number in range(NUM_FOLDS):
        left_out = fold == number
        scores[left_out] = _fit(features[~left_out], labels[~left_out], num_classes, c)(features[left_out])
        report(1)
    return scores


def _fit(features: csr_matrix, labels: Labels, num_classes: int, c: float) -> LinearMap:
    """Fit each class against the rest; a class without rows scores -1 everywhere, as one that is never right."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    fitted = LinearMap(np.zeros((features.shape[1], num_classes)), np.full(num_classes, -1.0))
    present = np.unique(labels)
    if len(present) < 2 or features.shape[1] == 0:
        fitted.bias[present] = 1.0
        return fitted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1,000 passes are near enough
        model = LinearSVC(C=c, random_state=0).fit(features, labels)
    signs = np.array([[-1.0], [1.0]]) if len(present) == 2 else 1.0  # of two classes the second one is scored
    fitted.weights[:, present] = (signs * model.coef_).T
    fitted.bias[present] = (signs * model.intercept_[:, None])[:, 0]
    return fitted


def _calibrate(scores: Floats, labels: Labels) -> tuple[float, Floats]:
    """Return a and b [C] with the least mean negative log-likelihood of a * scores + b.

    Wide normal priors on ln a and b keep both finite where the scores are always right, or a class has no rows.
    """
    inputs, targets = torch.from_numpy(scores), torch.from_numpy(labels)
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(scores.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_scale, shift], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        likelihood = F.cross_entropy(log_scale.exp() * inputs + shift, targets, reduction="sum")
        value = (likelihood + log_scale.square() / 8 + shift.square().sum() / 18) / len(labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return float(log_scale.detach().exp()), shift.detach().numpy()
