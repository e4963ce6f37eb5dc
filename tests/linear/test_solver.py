"""Features scaled for each class, and C chosen."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from lx.linear import solver
from lx.linear.solver import fit_calibrated, num_fits


def test_features_that_tell_more_cost_less() -> None:
    """Against the formula: all rows of the class and none of the others have the first, half of both the second."""
    is_class = np.arange(40) < 20
    dense = np.stack([is_class, np.arange(40) % 2 == 0], 1) * 0.5
    features = csr_matrix(dense)
    scale = solver._class_scale(features, is_class, solver._Totals.of(features))
    own, others = np.array([21.0, 11.0]), np.array([1.0, 11.0])
    ratios = np.abs(np.log((own / own.sum()) / (others / others.sum())))
    expected = 0.5 + 0.5 * ratios / ratios.mean()
    np.testing.assert_allclose(scale / scale[0], expected / expected[0], rtol=1e-12)
    assert scale[0] > scale[1]
    np.testing.assert_allclose(np.square(dense * scale).sum(), np.square(dense).sum(), rtol=1e-12)


def test_the_candidate_with_the_likeliest_scores_is_chosen() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(2, size=300)
    features = csr_matrix(draw.normal(labels[:, None] * [1.0, *[0.0] * 50], 1.0))
    steps: list[int] = []
    candidates = (1e-9, 0.01, 100.0)  # nothing learned, enough, and every row by heart
    fitted, c = fit_calibrated(features, labels, 2, candidates, steps.append)
    assert c == 0.01 and sum(steps) == num_fits(candidates)
    alone, _ = fit_calibrated(features, labels, 2, [0.01], steps.append)
    assert np.array_equal(fitted.weights, alone.weights) and np.array_equal(fitted.bias, alone.bias)
