from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support
from torch import Tensor

from lx.tasks.classification import Classification
from lx.tasks.losses import CrossEntropy
from lx.tasks.metrics import CalibrationError, ClassScores, MeanLoss
from support.interruptions import flat

C = 7


def examples(count: int = 997, seed: int = 0, absent: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    """Logits of a mediocre model and labels; the absent classes are neither labels nor predictions."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(C, (count,), generator=generator)
    for c in absent:
        labels[labels == c] = (c + 1) % C
    logits = 2 * torch.randn(count, C, generator=generator)
    logits[torch.arange(count), labels] += 1.5
    logits[:, list(absent)] = -20.0
    return logits, labels


def task() -> Classification:
    return Classification([str(c) for c in range(C)], [1] * C, label_smoothing=0.1)


@pytest.mark.parametrize("absent", [(), (2,), (0, 6)])
def test_scores_equal_scikit_learns(absent: tuple[int, ...]) -> None:
    logits, labels = examples(absent=absent)
    labels[0] = 4  # and one example of a class that is otherwise only predicted
    labels[1:][labels[1:] == 4] = 5
    predictions = logits.argmax(dim=1)
    metric = ClassScores(C)
    metric.update(logits, labels)
    scores = metric.compute()

    precision, recall, f1, support = precision_recall_fscore_support(
        labels, predictions, labels=range(C), zero_division=0
    )
    np.testing.assert_allclose(scores["precision"], precision, rtol=1e-12)
    np.testing.assert_allclose(scores["recall"], recall, rtol=1e-12)
    np.testing.assert_allclose(scores["f1"], f1, rtol=1e-12)
    np.testing.assert_array_equal(scores["support"], support)
    np.testing.assert_array_equal(scores["confusion"], confusion_matrix(labels, predictions, labels=range(C)))
    assert scores["accuracy"].item() == pytest.approx(accuracy_score(labels, predictions), rel=1e-12)
    assert scores["f1_macro"].item() == pytest.approx(f1_score(labels, predictions, average="macro"), rel=1e-12)


def test_macro_f1_is_over_the_classes_that_occur_among_labels_or_predictions() -> None:
    predictions, labels = torch.tensor([0, 0, 1, 3]), torch.tensor([0, 0, 1, 1])
    metric = ClassScores(C)
    metric.update(torch.nn.functional.one_hot(predictions, C).float(), labels)
    assert metric.compute()["f1_macro"].item() == pytest.approx((1 + 2 / 3 + 0) / 3)
    everywhere = f1_score(labels, predictions, labels=range(C), average="macro", zero_division=0)
    assert everywhere == pytest.approx((1 + 2 / 3) / 7)


def calibration_error(logits: NDArray[np.float64], labels: NDArray[np.int64], num_bins: int) -> float:
    """Guo et al. 2017, equations 1 to 3."""
    bins: dict[int, list[tuple[float, bool]]] = {m: [] for m in range(1, num_bins + 1)}
    for row, label in zip(logits, labels, strict=True):
        exponentials = np.exp(row - row.max())
        probabilities = exponentials / exponentials.sum()
        confidence = float(probabilities.max())
        m = next(m for m in bins if (m - 1) / num_bins < confidence <= m / num_bins)
        bins[m].append((confidence, int(probabilities.argmax()) == label))
    error = 0.0
    for members in filter(None, bins.values()):
        accuracy = sum(correct for _, correct in members) / len(members)
        mean_confidence = sum(confidence for confidence, _ in members) / len(members)
        error += len(members) / len(labels) * abs(accuracy - mean_confidence)
    return error


@pytest.mark.parametrize("num_bins", [1, 5, 15])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0])
def test_calibration_error_equals_a_plain_loop(num_bins: int, scale: float) -> None:
    logits, labels = examples()
    logits *= scale
    metric = CalibrationError(num_bins)
    metric.update(logits, labels)
    expected = calibration_error(logits.double().numpy(), labels.numpy(), num_bins)
    assert metric.compute()["error"].item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("gap", "correct", "expected"), [(100.0, 1, 0.0), (100.0, 0, 1.0), (0.0, 1, 0.5)])
def test_calibration_error_of_certain_and_of_undecided_predictions(gap: float, correct: int, expected: float) -> None:
    metric = CalibrationError()
    metric.update(torch.tensor([[gap, 0.0]] * 3), torch.tensor([1 - correct] * 3))
    assert metric.compute()["error"].item() == expected


def test_a_confidence_on_the_edge_of_two_bins_falls_into_the_lower() -> None:
    metric = CalibrationError(num_bins=2)
    metric.update(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 0]))
    assert (metric.confidence > 0).tolist() == [True, True]
    assert metric.confidence[0] == 2**31


def test_mean_loss_is_the_mean() -> None:
    logits, labels = examples()
    loss = CrossEntropy(0.1, [float(c) for c in range(C)])
    metric = MeanLoss(loss)
    for part in torch.arange(len(labels)).split(89):
        metric.update(logits[part], labels[part])
    assert metric.compute().item() == pytest.approx(loss(logits.double(), labels).mean().item(), rel=1e-7)


def test_an_undefined_loss_makes_the_mean_undefined_until_reset() -> None:
    logits, labels = examples(5)
    metrics = task().metrics(choose=False)
    metrics.update(logits, labels)
    metrics.update(torch.full((3, C), torch.nan), labels[:3])
    computed = metrics.compute()
    assert computed["loss"].isnan()
    assert 0 <= computed["calibration_error"] <= 1
    metrics.reset()
    metrics.update(logits, labels)
    assert metrics.compute()["loss"].isfinite()


def test_huge_losses_do_not_overflow() -> None:
    metric = MeanLoss(CrossEntropy())
    for _ in range(3):
        metric.update(torch.tensor([[1e30, 0.0]]), torch.tensor([1]))
    assert metric.compute().item() == 2**16


@pytest.mark.parametrize("choose", [False, True])
def test_results_are_identical_in_every_order_and_grouping(choose: bool) -> None:
    logits, labels = examples()
    results = []
    for seed, size in enumerate((997, 1, 2, 8, 97)):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(labels), generator=generator)
        metrics = task().metrics(choose)
        for part in order.split(size):
            metrics.update(logits[part], labels[part])
        metrics.update(logits[:0], labels[:0])  # a rank may come up empty
        results.append(dict(flat(metrics.compute())))
    for result in results[1:]:
        assert result == results[0]
    assert len(results[0]) > 10


def test_states_are_integers_summed_across_ranks() -> None:
    logits, labels = examples()
    whole = task().metrics(choose=False)
    whole.update(logits, labels)
    ranks = [task().metrics(choose=False) for _ in range(3)]
    for rank, metrics in enumerate(ranks):
        metrics.update(logits[rank::3], labels[rank::3])
    for name, metric in whole.items():
        assert metric.metric_state
        if not metric.update_called:  # those of an expert
            continue
        merged = ranks[0][name]
        for other in ranks[1:]:
            merged.merge_state(other[name])
        for state, value in metric.metric_state.items():
            assert value.dtype == torch.int64
            assert torch.equal(merged.metric_state[state], value), (name, state)


def test_log_probabilities_do_as_well_as_logits() -> None:
    logits, labels = examples()
    metrics, of_probabilities = task().metrics(choose=False), task().metrics(choose=False)
    metrics.update(logits, labels)
    of_probabilities.update(logits.log_softmax(dim=1), labels)
    for key, value in metrics.compute().items():
        torch.testing.assert_close(of_probabilities.compute()[key], value, rtol=1e-6, atol=1e-6)


def test_no_examples_give_no_numbers() -> None:
    metrics = task().metrics(choose=False)
    logits, labels = examples(0)
    metrics.update(logits, labels)
    computed = metrics.compute()
    for name in ("loss", "accuracy", "f1_macro", "calibration_error"):
        assert math.isnan(computed[name].item()), name


def test_collections_of_splits_are_independent_and_move_with_the_model() -> None:
    splits = torch.nn.ModuleDict({split: task().metrics(choose=False) for split in ("val", "test")})
    logits, labels = examples()
    splits["val"].update(logits, labels)
    splits["test"].update(logits[:3], labels[:3])
    assert splits["val"].compute()["support"].sum() == 997
    assert splits["test"].compute()["support"].sum() == 3
    assert splits.state_dict() == {}
    weighted = Classification(["a", "b"], [1, 2], class_weights="balanced").metrics(choose=False).to("meta")
    assert weighted["loss"].loss.class_weights.device.type == "meta"
