from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support
from torch import Tensor

from lx.tasks.multilabel_metrics import MultilabelScores

C = 5
SCALARS = ("f1_micro", "f1_macro", "subset_accuracy", "map")


def examples(count: int = 499, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and label sets of a mediocre model; labels grow rarer, and some examples have none."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.tensor([0.5, 0.3, 0.2, 0.1, 0.03])
    labels = (torch.rand(count, C, generator=generator) < rates).float()
    logits = torch.randn(count, C, generator=generator) + 2 * labels + torch.logit(rates) / 2
    return logits, labels


def scores(
    logits: Tensor, labels: Tensor, thresholds: float | list[float] = 0.5, batch_size: int = 89, **settings: Any
) -> dict[str, Tensor]:
    fixed = torch.logit(torch.tensor(thresholds, dtype=torch.float64)).float().expand(labels.shape[1])
    metric = MultilabelScores(lambda: fixed, **settings)
    for rows in torch.arange(len(labels)).split(batch_size):
        metric.update(logits[rows], labels[rows])
    computed: dict[str, Tensor] = metric.compute()
    return computed


@pytest.mark.parametrize("thresholds", [0.5, 0.3, [0.2, 0.9, 0.5, 0.4, 0.123]])
def test_scores_equal_scikit_learns(thresholds: float | list[float]) -> None:
    logits, labels = examples()
    predicted = logits >= torch.logit(torch.tensor(thresholds))
    computed = scores(logits, labels, thresholds)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, zero_division=0)
    np.testing.assert_allclose(computed["precision"], precision, rtol=1e-12)
    np.testing.assert_allclose(computed["recall"], recall, rtol=1e-12)
    np.testing.assert_allclose(computed["f1"], f1, rtol=1e-12)
    np.testing.assert_array_equal(computed["support"], support)
    assert computed["f1_micro"].item() == pytest.approx(f1_score(labels, predicted, average="micro"), rel=1e-12)
    assert computed["f1_macro"].item() == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)
    assert computed["subset_accuracy"].item() == pytest.approx(accuracy_score(labels, predicted), rel=1e-12)


def test_average_precision_equals_scikit_learns_of_rounded_logits() -> None:
    logits, labels = examples()
    rounded = (logits * 1024).floor() / 1024
    exact = average_precision_score(labels, rounded, average=None)
    np.testing.assert_allclose(scores(logits, labels)["average_precision"], exact, rtol=1e-12)
    assert scores(logits, labels)["map"].item() == pytest.approx(exact.mean(), rel=1e-12)
    np.testing.assert_allclose(exact, average_precision_score(labels, logits, average=None), atol=1e-3)
    tied = (logits * 2).round() / 2
    equal = average_precision_score(labels, tied, average="macro")
    assert scores(tied, labels)["map"].item() == pytest.approx(equal, rel=1e-12)


def test_scores_worked_out_by_hand() -> None:
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]).float()
    logits = torch.tensor([[2, -1, -1], [1, -2, -1], [-1, -3, -1], [3, 1, -1]]).float()
    computed = scores(logits, labels)
    # predicted: a, a, none, a and b
    assert computed["precision"].tolist() == [2 / 3, 1, 0]
    assert computed["recall"].tolist() == [1, 1 / 2, 0]
    assert computed["f1"].tolist() == pytest.approx([4 / 5, 2 / 3, 0])
    assert computed["support"].tolist() == [2, 2, 0]
    assert computed["f1_micro"].item() == 2 * 3 / (4 + 4)
    assert computed["f1_macro"].item() == pytest.approx((4 / 5 + 2 / 3) / 2)  # the last label does not occur
    assert computed["subset_accuracy"].item() == 2 / 4  # the first and the third
    # a: those with it come second and third; b: first and third
    assert computed["average_precision"].tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 + 2 / 3) / 2, 0])
    assert computed["map"].item() == pytest.approx(((1 / 2 + 2 / 3) / 2 + (1 + 2 / 3) / 2) / 2)


@pytest.mark.parametrize("choose", [None, "shared", "per_label"])
@pytest.mark.parametrize("batch_size", [1, 7, 499])
def test_results_are_identical_in_every_order_and_grouping(choose: Any, batch_size: int) -> None:
    logits, labels = examples()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(batch_size))
    expected = scores(logits, labels, choose=choose)
    computed = scores(logits[order], labels[order], batch_size=batch_size, choose=choose)
    for name, value in expected.items():
        assert torch.equal(computed[name], value), name


def test_what_ranks_gather_is_all_that_counts() -> None:
    logits, labels = examples()
    ranks = [MultilabelScores(lambda: torch.zeros(C), "per_label") for _ in range(2)]
    for rank, metric in enumerate(ranks):
        metric.update(logits[rank::2], labels[rank::2])
    ranks[1].update(logits[:0], labels[:0])  # a rank may come up empty
    states = [torch.cat(metric.levels) for metric in ranks]
    assert {state.dtype for state in states} == {torch.uint8}  # which gloo and NCCL send
    assert ranks[0]._reductions["levels"].__name__ == "dim_zero_cat"
    ranks[0].levels = torch.cat(states)
    expected = scores(logits, labels, choose="per_label")
    for name, value in ranks[0].compute().items():
        assert torch.equal(value, expected[name]), name


def best_f1(logits: Tensor, labels: Tensor, average: str) -> tuple[float, float]:
    """The best F1 on the grid of candidate thresholds, by trying each with scikit-learn, and the threshold."""
    tries = [(f1_score(labels, logits >= k / 32, average=average), -abs(k), k) for k in range(-256, 257)]
    f1, _, k = max(tries)
    return f1, k / 32


def test_one_shared_threshold_has_the_best_micro_f1() -> None:
    logits, labels = examples()
    f1, threshold = best_f1(logits, labels, "micro")
    computed = scores(logits, labels, choose="shared")
    assert threshold != 0
    assert computed["thresholds"].tolist() == [threshold] * C
    assert computed["f1_micro"].item() == pytest.approx(f1, rel=1e-12)
    subset = accuracy_score(labels, logits >= threshold)
    assert computed["subset_accuracy"].item() == pytest.approx(subset, rel=1e-12)


def test_one_threshold_a_label_has_the_best_f1_of_each() -> None:
    logits, labels = examples()
    best = [best_f1(logits[:, c], labels[:, c], "binary") for c in range(C)]
    computed = scores(logits, labels, choose="per_label")
    assert computed["f1"].tolist() == pytest.approx([f1 for f1, _ in best], rel=1e-12)
    assert len(set(computed["thresholds"].tolist())) > 1
    again = scores(logits, labels, computed["thresholds"].double().sigmoid().tolist())
    torch.testing.assert_close(again["f1"], computed["f1"], rtol=1e-12, atol=0)


def test_a_label_that_never_occurs_keeps_a_threshold_of_one_half() -> None:
    logits, labels = examples()
    labels[:, 2] = 0
    assert scores(logits, labels, choose="per_label")["thresholds"][2] == 0


def test_decisions_are_exact_at_the_threshold() -> None:
    threshold = torch.logit(torch.tensor(0.3, dtype=torch.float64)).float()
    below = torch.nextafter(threshold, torch.tensor(-9.0))
    logits, labels = torch.stack([threshold, below])[:, None], torch.tensor([[1.0], [0.0]])
    assert scores(logits, labels, 0.3)["subset_accuracy"] == 1


def test_huge_logits_and_such_as_are_no_numbers() -> None:
    logits = torch.tensor([[1e30, -1e30], [math.inf, -math.inf], [math.nan, 20.0]])
    computed = scores(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert computed["subset_accuracy"] == 1
    assert computed["map"] == 1


def test_no_examples_give_no_numbers() -> None:
    for choose in (None, "shared", "per_label"):
        metric = MultilabelScores(lambda: torch.zeros(C), choose)  # type: ignore[arg-type]
        metric.update(torch.zeros(0, C), torch.zeros(0, C))
        computed = metric.compute()
        assert all(math.isnan(computed[name].item()) for name in SCALARS)
