"""Features scaled for each class, and C chosen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from lx.linear import solver, svm
from lx.linear.solver import fit_calibrated, num_fits
from lx.linear.targets import OneClass


def test_features_that_tell_more_cost_less() -> None:
    """Against the formula: all rows of the class and none of the others have the first, half of both the second."""
    is_class = np.arange(40) < 20
    dense = np.stack([is_class, np.arange(40) % 2 == 0], 1) * 0.5
    features = csr_matrix(dense)
    scale = svm._class_scale(features, is_class, svm.Totals.of(features))
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
    fitted, validated = fit_calibrated(features, labels, OneClass(2), candidates, steps.append)
    assert validated.c == 0.01 and sum(steps) == num_fits(candidates)
    alone, _ = fit_calibrated(features, labels, OneClass(2), [0.01], steps.append)
    assert np.array_equal(fitted.weights, alone.weights) and np.array_equal(fitted.bias, alone.bias)


@pytest.mark.parametrize("most_rows", [10_000, 60])
def test_held_out_rows_are_judged_by_fits_that_have_not_seen_them(
    most_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each row has a feature of its own, by which a fit that has seen it knows its label, be it wrong."""
    monkeypatch.setattr(solver, "MAX_ROWS_OF_FOLDS", most_rows)
    truth = np.arange(120) % 2
    labels = np.where(np.arange(120) % 10 == 3, 1 - truth, truth)
    features = csr_matrix(np.concatenate([np.eye(2)[truth], 3 * np.eye(120)], axis=1))
    fitted, validated = fit_calibrated(features, labels, OneClass(2), [100.0], lambda _: None)
    assert (fitted(features).argmax(1) == labels).all()
    assert len(validated.rows) == (120 if most_rows > 120 else 12) and (np.diff(validated.rows) > 0).all()
    assert (validated.scores.argmax(1) == truth[validated.rows]).all()
