"""A linear support vector machine that penalizes a feature's weight less if the feature tells more of the class.

Axis legend: N rows, F features.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lx.linear.solver import Floats

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TOLERANCE = 0.01  # half the passes of scikit-learn's 1e-4, and the same accuracy


def fit_svm(features: csr_matrix, is_class: NDArray[np.bool_], c: float, totals: Totals) -> tuple[Floats, float]:
    """Fit a linear support vector machine to tell the rows of a class from the others.

    Args:
        features: [N, F].
        is_class: [N], neither all true nor all false.
        c: Weight of the errors against the size of the weights.
        totals: Of the features.

    Returns:
        Weights [F] and bias of the score, which is positive where the class is predicted.
    """
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
class Totals:
    """Of each feature [F]: the rows that have it, and the sum of its squares."""

    rows: NDArray[np.int64]
    squares: Floats

    @classmethod
    def of(cls, features: csr_matrix) -> Totals:
        """Sum over the rows [N, F]."""
        rows = np.bincount(features.indices, minlength=features.shape[1])
        squares = np.bincount(features.indices, np.square(features.data), features.shape[1])
        return cls(rows, squares.astype(np.float64, copy=False))


def _class_scale(features: csr_matrix, is_class: NDArray[np.bool_], totals: Totals) -> Floats:
    """Return the factor [F] of each feature for the fit of a class: the more it tells, the less its weight costs.

    It is the mean of 1 and a feature's absolute log-count ratio of naive Bayes, divided by the mean ratio (Wang and
    Manning 2012, section 2.3, who mix the two after the fit). The sum of all squared features stays the same.
    """
    in_class = features.indices[np.repeat(is_class, np.diff(features.indptr))]
    inside = np.bincount(in_class, minlength=features.shape[1])
    outside = totals.rows - inside
    ratios = np.abs(np.log((inside + 1) / (inside + 1).sum()) - np.log((outside + 1) / (outside + 1).sum()))
    scale = 0.5 + 0.5 * ratios / max(ratios.mean(), 1e-9)
    return np.asarray(scale * np.sqrt(totals.squares.sum() / (totals.squares @ scale**2)))
