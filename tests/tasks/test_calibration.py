from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor

from lx.errors import LxError
from lx.tasks.calibration import LogLinearPool, fit_weights
from lx.tasks.classification import Classification

C = 5


def examples(count: int = 701, seed: int = 0, vectors: int = 2) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores [N, K, C] of sources that err independently, the first of them overconfident; and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(C, size=count)
    scores = random.normal(size=(count, vectors, C))
    scores[np.arange(count), :, labels] += 1.2
    scores[:, 0] *= 3
    return scores.astype(np.float32), labels


def likeliest_factor(scores: Tensor, labels: NDArray[np.int64]) -> float:
    """Scipy's minimum of the cross-entropy summed over examples, with the penalty of one example."""

    def loss(factor: float) -> float:
        summed = torch.nn.functional.cross_entropy(factor * scores, torch.from_numpy(labels), reduction="sum")
        return summed.item() + (factor - 1) ** 2 / 2

    found = minimize_scalar(loss, (0.1, 1.0), options={"xtol": 1e-10})
    assert found.success
    return float(found.x)


@pytest.mark.parametrize("count", [8, 701])
def test_one_vector_is_scaled_as_scipy_does(count: int) -> None:
    scores, labels = examples(count, vectors=1)
    expected = likeliest_factor(torch.from_numpy(scores[:, 0]).double(), labels)
    assert fit_weights(scores, labels) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("count", [8, 701])
def test_two_vectors_are_shared_for_the_fewest_errors_and_the_first_pays_four(count: int) -> None:
    scores, labels = examples(count)
    vectors = torch.from_numpy(scores).double().unbind(dim=1)
    first, second = (likeliest_factor(vector, labels) for vector in vectors)
    ends = []
    for share in torch.linspace(0, 1, 17).tolist():
        joined = share * first * vectors[0] + (1 - share) * second * vectors[1]
        factor = likeliest_factor(joined, labels)
        right = joined.gather(1, torch.from_numpy(labels)[:, None]).squeeze(1)
        others = joined.scatter(1, torch.from_numpy(labels)[:, None], -torch.inf).amax(dim=1)
        ends.append(
            (
                (3 * factor * (others - right)).sigmoid().sum().item() + 4 * share,
                factor * share * first,
                factor * (1 - share) * second,
            )
        )
    assert fit_weights(scores, labels) == pytest.approx([max(weight, 1e-3) for weight in min(ends)[1:]], abs=1e-4)


@pytest.mark.parametrize(
    ("count", "mistakes", "is_worth_it"), [(60, 1, False), (60, 6, True), (600, 1, False), (600, 6, True)]
)
def test_an_encoder_that_saves_few_errors_has_no_say(count: int, mistakes: int, is_worth_it: bool) -> None:
    labels = np.arange(count) % C
    scores = np.stack([5 * np.eye(C)[labels]] * 2, axis=1).astype(np.float32)
    scores[:mistakes, 1] = 5 * np.eye(C)[(labels[:mistakes] + 1) % C]
    encoder, expert = fit_weights(scores, labels)
    assert (encoder > 0.5) == is_worth_it and (encoder == 1e-3) != is_worth_it and expert > 0.5


def test_a_bound_holds_where_a_score_is_worse_than_none() -> None:
    scores, labels = examples()
    scores[:, 1] *= -1
    encoder, expert = fit_weights(scores, labels)
    assert 1e-3 <= expert < 1e-2
    (alone,) = fit_weights(scores[:, :1], labels)
    assert encoder == pytest.approx(alone, rel=0.05)


def test_the_overconfident_are_cooled_and_the_timid_encouraged() -> None:
    scores, labels = examples(vectors=1)
    (sharp,), (flat,) = fit_weights(4 * scores, labels), fit_weights(scores / 4, labels)
    assert sharp < 0.2 < 1.5 < flat
    assert flat / 4 == pytest.approx(sharp * 4, rel=0.02)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_few_examples_all_of_them_right_give_moderate_weights(scale: float) -> None:
    labels = np.arange(C)
    scores = scale * np.eye(C, dtype=np.float32)[:, None]
    (weight,) = fit_weights(scores, labels)
    assert 1 <= weight < 3
    assert fit_weights(scores[:0], labels[:0]) == [1.0]


def test_scores_that_are_not_finite_do_not_count() -> None:
    scores, labels = examples()
    damaged = np.concatenate([scores, np.full((2, 2, C), np.nan, np.float32), np.full((1, 2, C), np.inf, np.float32)])
    assert fit_weights(damaged, np.append(labels, [0, 1, 2])) == fit_weights(scores, labels)


def test_order_does_not_matter_to_the_last_bit() -> None:
    scores, labels = examples()
    order = np.random.default_rng(1).permutation(len(labels))
    assert fit_weights(scores[order], labels[order]) == fit_weights(scores, labels)


def test_of_very_many_scores_a_part_is_fitted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = examples(9000)
    whole = fit_weights(scores, labels)
    monkeypatch.setattr("lx.tasks.calibration._MOST_SCORES", scores.size // 2)
    part = fit_weights(scores, labels)
    assert part != whole
    assert part == pytest.approx(whole, rel=0.1)


def task(**settings: Any) -> Classification:
    return Classification([str(c) for c in range(C)], [1] * C, **settings)


def tensors(vectors: int) -> tuple[Tensor, Tensor, Tensor | None]:
    scores, labels = examples(vectors=vectors)
    logits, *expert = torch.from_numpy(scores).unbind(dim=1)
    return logits, torch.from_numpy(labels), expert[0].log_softmax(dim=-1) if expert else None


def test_a_temperature_changes_no_prediction_and_lowers_loss_and_calibration_error() -> None:
    logits, labels, _ = tensors(1)
    before, after = task(calibrate=False), task()
    evaluations = []
    for each in (before, after):
        metrics = each.metrics(choose=True)
        for rows in torch.arange(len(labels)).split(100):
            metrics.update(logits[rows], labels[rows], expert=None)
        evaluations.append(each.summarize(metrics.compute(), choose=True))
    first, second = evaluations
    assert list(second.scalars) == [*first.scalars, "calibration_error_unscaled"] == list(after.metric_names)
    assert second.scalars["accuracy"] == first.scalars["accuracy"]
    assert second.scalars["loss"] < first.scalars["loss"]
    assert second.scalars["calibration_error"] < 0.06 < 0.15 < first.scalars["calibration_error"]
    assert second.scalars["calibration_error_unscaled"] == first.scalars["calibration_error"]
    assert first.choices == {} and 0 < second.choices["encoder_weight"] < 0.7


@pytest.mark.parametrize("vectors", [1, 2])
def test_test_metrics_and_predictions_use_what_validation_chose(vectors: int) -> None:
    logits, labels, expert = tensors(vectors)
    each = task()
    chosen, applied = each.metrics(choose=True), each.metrics(choose=False)
    chosen.update(logits, labels, expert=expert)
    validation = each.summarize(chosen.compute(), choose=True)
    each.choices = validation.choices
    applied.update(logits, labels, expert=expert)
    assert each.summarize(applied.compute(), choose=False).scalars == validation.scalars
    predictions = each.predictions([""] * len(labels), logits, expert)
    right = sum(row.label == str(label) for row, label in zip(predictions, labels.tolist(), strict=True))
    assert right / len(labels) == validation.scalars["accuracy"]
    loss = -sum(math.log(row.probabilities[str(y)]) for row, y in zip(predictions, labels.tolist(), strict=True))
    assert loss / len(labels) == pytest.approx(validation.scalars["loss"], rel=1e-5)


@pytest.mark.parametrize("vectors", [1, 2])
def test_a_single_validation_example_is_enough(vectors: int) -> None:
    logits, labels, expert = tensors(vectors)
    metrics = task().metrics(choose=True)
    metrics.update(logits[:1], labels[:1], expert=None if expert is None else expert[:1])
    evaluation = task().summarize(metrics.compute(), choose=True)
    assert evaluation.scalars["accuracy"] in (0, 1) and evaluation.choices["encoder_weight"] > 0


def test_the_parts_of_a_pair_are_measured_too() -> None:
    logits, labels, expert = tensors(2)
    assert expert is not None
    each = task()
    metrics = each.metrics(choose=True)
    metrics.update(logits, labels, expert=expert)
    scalars = each.summarize(metrics.compute(), choose=True).scalars
    assert scalars["encoder_accuracy"] == (logits.argmax(dim=1) == labels).double().mean().item()
    assert scalars["expert_accuracy"] == (expert.argmax(dim=1) == labels).double().mean().item()
    assert scalars["accuracy"] > max(scalars["encoder_accuracy"], scalars["expert_accuracy"])


@pytest.mark.parametrize(
    "choices",
    [
        {"encoder_weight": math.nan},
        {"encoder_weight": -1.0},
        {"encoder_weight": 0.0},
        {"encoder_weight": 1e9},
        {"encoder_weight": math.inf},
        {"encoder_weight": "1"},
        {"encoder_weight": 1},
        {"expert_weight": [1.0]},
        {"temperature": 1.0},
        [1.0],
    ],
)
def test_choices_of_a_stranger_are_checked(choices: Any) -> None:
    with pytest.raises(LxError, match="weights chosen for encoder and expert are damaged"):
        task().choices = choices


def test_runs_without_choices_are_as_they_were() -> None:
    each = task()
    each.choices = {}
    assert each.pool == LogLinearPool(1.0, 1.0)
    logits = torch.randn(9, C)
    assert torch.equal(each.combine(logits), logits)
