from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, precision_recall_fscore_support
from torch import Tensor

from lx.tasks.multilabel_metrics import MultilabelScores, ScoredLabels, choose_thresholds, reliability, score

C = 5


def examples(count: int = 499, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and label sets of a mediocre model; labels grow rarer, and some examples have none."""
    generator = torch.Generator().manual_seed(seed)
    rates = torch.tensor([0.5, 0.3, 0.2, 0.1, 0.03])
    labels = (torch.rand(count, C, generator=generator) < rates).float()
    logits = torch.randn(count, C, generator=generator) + 2 * labels + torch.logit(rates) / 2
    return logits, labels


def keep(logits: Tensor, labels: Tensor, origin: float = 0.0, batch_size: int = 89) -> dict[str, Tensor]:
    metric = ScoredLabels(origin)
    for rows in torch.arange(len(labels)).split(batch_size):
        metric.update(logits[rows], labels[rows])
    computed: dict[str, Tensor] = metric.compute()
    return computed


def at(thresholds: list[float], logits: Tensor, labels: Tensor) -> MultilabelScores:
    """Scores at thresholds in units of the logit."""
    return score(**keep(logits, labels), thresholds=torch.tensor([int(1024 * value) for value in thresholds]))


@pytest.mark.parametrize("origin", [0.0, 0.7])
def test_reliability_is_that_of_all_pairs_in_any_order(origin: float) -> None:
    logits, labels = examples()
    found = reliability(**keep(logits, labels, origin), origin=origin)
    shuffled = torch.randperm(len(labels))
    assert found == reliability(**keep(logits[shuffled], labels[shuffled], origin), origin=origin)
    probabilities = logits.sigmoid().flatten().numpy()
    truth, bins = labels.flatten().numpy(), np.minimum((probabilities * 15).astype(int), 14)
    assert sum(found["count"]) == len(truth)
    for number in range(15):
        inside = bins == number
        assert found["count"][number] == pytest.approx(inside.sum(), abs=2)  # a level lower may be a bin lower
        assert found["confidence"][number] == pytest.approx(probabilities[inside].mean(), abs=2e-3)
        assert found["accuracy"][number] == pytest.approx(truth[inside].mean(), abs=2e-2)


@pytest.mark.parametrize("thresholds", [[0.0] * C, [-1.0] * C, [-2.0, 1.5, 0.0, -1.25, 3 / 1024]])
def test_scores_equal_scikit_learns(thresholds: list[float]) -> None:
    logits, labels = examples()
    predicted = logits >= torch.tensor(thresholds)
    scores = at(thresholds, logits, labels)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, zero_division=0)
    np.testing.assert_allclose(scores.precision, precision, rtol=1e-12)
    np.testing.assert_allclose(scores.recall, recall, rtol=1e-12)
    np.testing.assert_allclose(scores.f1, f1, rtol=1e-12)
    np.testing.assert_array_equal(scores.support, support)
    assert scores.f1_micro == pytest.approx(f1_score(labels, predicted, average="micro"), rel=1e-12)
    assert scores.f1_macro == pytest.approx(f1_score(labels, predicted, average="macro"), rel=1e-12)
    assert scores.subset_accuracy == pytest.approx(accuracy_score(labels, predicted), rel=1e-12)


def test_average_precision_equals_scikit_learns_of_rounded_logits() -> None:
    logits, labels = examples()
    rounded = average_precision_score(labels, (logits * 1024).floor(), average=None)
    scores = at([0.0] * C, logits, labels)
    np.testing.assert_allclose(scores.average_precision, rounded, rtol=1e-12)
    assert scores.mean_average_precision == pytest.approx(rounded.mean(), rel=1e-12)
    np.testing.assert_allclose(rounded, average_precision_score(labels, logits, average=None), atol=1e-3)
    tied = (logits * 2).round()
    exact = average_precision_score(labels, tied, average="macro")
    assert at([0.0] * C, tied, labels).mean_average_precision == pytest.approx(exact, rel=1e-12)


def test_scores_worked_out_by_hand() -> None:
    labels = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]).float()
    logits = torch.tensor([[2, -1, -1], [1, -2, -1], [-1, -3, -1], [3, 1, -1]]).float()
    scores = at([0.0] * 3, logits, labels)
    # predicted: a, a, none, a and b
    assert scores.precision.tolist() == [2 / 3, 1, 0]
    assert scores.recall.tolist() == [1, 1 / 2, 0]
    assert scores.f1.tolist() == pytest.approx([4 / 5, 2 / 3, 0])
    assert scores.support.tolist() == [2, 2, 0]
    assert scores.f1_micro == 2 * 3 / (4 + 4)
    assert scores.f1_macro == pytest.approx((4 / 5 + 2 / 3) / 2)  # the last label does not occur
    assert scores.subset_accuracy == 2 / 4  # the first and the third
    # a: those with it come second and third; b: first and third
    assert scores.average_precision.tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2, (1 + 2 / 3) / 2, 0])
    assert scores.mean_average_precision == pytest.approx(((1 / 2 + 2 / 3) / 2 + (1 + 2 / 3) / 2) / 2)


def everything(computed: dict[str, Tensor]) -> list[Any]:
    """All that follows from what was kept, as plain values."""
    found: list[Any] = []
    for choice in ("shared", "per_label"):
        thresholds = choose_thresholds(**computed, choice=choice)  # type: ignore[arg-type]
        scores = score(**computed, thresholds=thresholds)
        values = [value.tolist() if isinstance(value, Tensor) else value for value in vars(scores).values()]
        found += [thresholds.tolist(), *values]
    return found


@pytest.mark.parametrize("batch_size", [1, 7, 499])
def test_results_are_identical_in_every_order_and_grouping(batch_size: int) -> None:
    logits, labels = examples()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(batch_size))
    computed = keep(logits[order], labels[order], batch_size=batch_size)
    assert everything(computed) == everything(keep(logits, labels))


def test_what_ranks_gather_is_all_that_counts() -> None:
    logits, labels = examples()
    ranks = [ScoredLabels() for _ in range(2)]
    for rank, metric in enumerate(ranks):
        metric.update(logits[rank::2], labels[rank::2])
    ranks[1].update(logits[:0], labels[:0])  # a rank may come up empty
    states = [torch.cat(metric.packed) for metric in ranks]  # type: ignore[arg-type]
    assert {state.dtype for state in states} == {torch.uint8}  # which gloo and NCCL send
    assert ranks[0]._reductions["packed"].__name__ == "dim_zero_cat"
    ranks[0].packed = torch.cat(states)  # as torchmetrics does over ranks
    assert everything(ranks[0].compute()) == everything(keep(logits, labels))


def best_f1(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """The best F1 over all elements on the grid of candidates, by trying each, and its threshold."""
    tries = []
    for k in range(-256, 257):
        predicted = logits >= k / 32
        right = (predicted & (labels == 1)).sum().item()
        tries.append((2 * right / (predicted.sum().item() + labels.sum().item()), -abs(k), -k))
    f1, _, k = max(tries)
    return f1, -k / 32


def test_one_shared_threshold_has_the_best_micro_f1() -> None:
    logits, labels = examples()
    f1, threshold = best_f1(logits, labels)
    assert threshold != 0
    assert choose_thresholds(**keep(logits, labels), choice="shared").tolist() == [1024 * threshold] * C
    assert at([threshold] * C, logits, labels).f1_micro == pytest.approx(f1, rel=1e-12)


def test_one_threshold_a_label_has_the_best_f1_of_each() -> None:
    logits, labels = examples()
    f1, thresholds = zip(*(best_f1(logits[:, c], labels[:, c]) for c in range(C)), strict=True)
    chosen = choose_thresholds(**keep(logits, labels), choice="per_label")
    assert (chosen / 1024).tolist() == list(thresholds)
    assert len(set(thresholds)) > 1
    assert at(thresholds, logits, labels).f1.tolist() == pytest.approx(f1, rel=1e-12)


def test_a_label_that_never_occurs_keeps_a_threshold_of_one_half() -> None:
    logits, labels = examples()
    labels[:, 2] = 0
    assert choose_thresholds(**keep(logits, labels), choice="per_label")[2] == 0


@pytest.mark.parametrize("probability", [0.5, 0.3, 0.071])
def test_decisions_at_the_origin_are_exact(probability: float) -> None:
    origin = math.log(probability / (1 - probability))
    threshold = torch.tensor(origin)
    logits = torch.stack([threshold, torch.nextafter(threshold, torch.tensor(-9.0))])[:, None]
    kept = keep(logits, torch.tensor([[1.0], [0.0]]), origin=threshold.item())
    assert score(**kept, thresholds=torch.tensor([0])).subset_accuracy == 1


def test_huge_logits_and_such_as_are_no_numbers() -> None:
    logits = torch.tensor([[1e30, -1e30], [math.inf, -math.inf], [math.nan, 20.0]])
    scores = at([0.0, 0.0], logits, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert scores.subset_accuracy == scores.mean_average_precision == 1


def test_no_examples_give_no_numbers() -> None:
    metric = ScoredLabels()
    metric.update(torch.zeros(0, C), torch.zeros(0, C))
    for choice in ("shared", "per_label"):
        thresholds = choose_thresholds(**metric.compute(), choice=choice)  # type: ignore[arg-type]
        scores = score(**metric.compute(), thresholds=thresholds)
        means = (scores.f1_micro, scores.f1_macro, scores.subset_accuracy, scores.mean_average_precision)
        assert all(math.isnan(value) for value in means)
