from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score
from torch import Tensor

from lx.tasks.regression_metrics import RegressionScores, mid_ranks


def examples(count: int = 997, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions [N, 1] that follow the targets [N] roughly; many targets, and some predictions, are equal."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 41, (count,), generator=generator) / 10
    predictions = 0.7 * targets + torch.randn(count, generator=generator)
    predictions[::5] = predictions[::5].round()
    return predictions[:, None], targets


def compute(predictions: Tensor, targets: Tensor, scale: float = 1.0, batch_size: int = 89) -> dict[str, float]:
    metric = RegressionScores(scale)
    for rows in torch.arange(len(targets)).split(batch_size):
        metric.update(predictions[rows], targets[rows])
    return {name: value.item() for name, value in metric.compute().items()}


def test_scores_equal_scikit_learns_and_scipys() -> None:
    predictions, targets = examples()
    p, t = predictions[:, 0].double().numpy(), targets.double().numpy()
    assert compute(predictions, targets) == pytest.approx(
        {
            "mse": mean_squared_error(t, p),
            "rmse": math.sqrt(mean_squared_error(t, p)),
            "mae": mean_absolute_error(t, p),
            "r2": r2_score(t, p),
            "pearson": pearsonr(t, p).statistic,
            "spearman": spearmanr(t, p).statistic,
        },
        rel=1e-12,
    )


def test_scores_worked_out_by_hand() -> None:
    scores = compute(torch.tensor([[1.0], [2.0], [2.0], [5.0]]), torch.tensor([1.0, 1.0, 3.0, 3.0]))
    assert scores["mse"] == (0 + 1 + 1 + 4) / 4
    assert scores["rmse"] == math.sqrt(1.5)
    assert scores["mae"] == (0 + 1 + 1 + 2) / 4
    assert scores["r2"] == 1 - 6 / 4
    # deviations of predictions: -1.5 -0.5 -0.5 2.5; of targets: -1 -1 1 1
    assert scores["pearson"] == pytest.approx((1.5 + 0.5 - 0.5 + 2.5) / math.sqrt(9 * 4), rel=1e-15)
    # ranks 1 2.5 2.5 4 and 1.5 1.5 3.5 3.5
    assert scores["spearman"] == pytest.approx((1.5 + 0 + 0 + 1.5) / math.sqrt(4.5 * 4), rel=1e-15)


def test_errors_are_in_the_units_of_the_targets() -> None:
    predictions, targets = examples()
    plain, scaled = compute(predictions, targets), compute(predictions, targets, scale=1e-3)
    for name, power in {"mse": 2, "rmse": 1, "mae": 1, "r2": 0, "pearson": 0, "spearman": 0}.items():
        assert scaled[name] == pytest.approx(plain[name] * 1e-3**power, rel=1e-12), name
    for scale in (1e-150, 1e150):
        assert compute(predictions, targets, scale)["rmse"] == pytest.approx(plain["rmse"] * scale)


@pytest.mark.parametrize("batch_size", [1, 2, 8, 97, 997])
def test_results_are_identical_in_every_order_and_grouping(batch_size: int) -> None:
    predictions, targets = examples()
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(batch_size))
    assert compute(predictions[order], targets[order], batch_size=batch_size) == compute(predictions, targets)


def test_what_ranks_gather_is_all_that_counts() -> None:
    predictions, targets = examples()
    whole, first, second = RegressionScores(), RegressionScores(), RegressionScores()
    whole.update(predictions, targets)
    first.update(predictions[1::2], targets[1::2])
    second.update(predictions[::2], targets[::2])
    second.update(predictions[:0], targets[:0])  # a rank may come up empty
    assert whole._reductions["examples"].__name__ == "dim_zero_cat"
    first.examples = torch.cat([*first.examples, *second.examples])  # as torchmetrics does over ranks
    assert {name: value.item() for name, value in first.compute().items()} == compute(predictions, targets)


@pytest.mark.parametrize("constant", ["predictions", "targets"])
def test_equal_numbers_correlate_with_nothing(constant: str) -> None:
    predictions, targets = examples(20)
    if constant == "predictions":
        predictions = torch.full_like(predictions, 0.1)
    else:
        targets = torch.full_like(targets, 0.1)
    scores = compute(predictions, targets)
    assert scores["pearson"] == scores["spearman"] == 0
    assert constant == "predictions" or scores["r2"] == 0 == r2_score(targets, predictions[:, 0])
    assert scores["mse"] > 0


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prediction_that_is_no_number_leaves_none(broken: float) -> None:
    predictions, targets = examples(20)
    predictions[3] = broken
    assert all(math.isnan(value) for value in compute(predictions, targets).values())
    assert all(math.isnan(value) for value in compute(predictions[:0], targets[:0], batch_size=1).values())


def test_mid_ranks_equal_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 50, 300).astype(float)
    np.testing.assert_array_equal(mid_ranks(values), rankdata(values, "average"))
