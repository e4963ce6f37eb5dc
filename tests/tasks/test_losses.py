"""Cross-entropy against torch's own and against the formula in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from lx.tasks.losses import CrossEntropy

WEIGHTS = [0.5, 2.0, 1.0, 0.0, 3.75]
SETTINGS = [(0.0, None), (0.1, None), (0.0, WEIGHTS), (0.3, WEIGHTS)]


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(17, 5, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(5, (17,), generator=generator)


def by_hand(logits: list[float], label: int, smoothing: float, weights: list[float] | None) -> float:
    """Szegedy et al. 2016, section 7: cross-entropy with (1 - e) [c = y] + e / C, each class weighted."""
    weights = weights or [1.0] * len(logits)
    log_normaliser = math.log(sum(math.exp(value) for value in logits))
    loss = 0.0
    for c, value in enumerate(logits):
        target = (1 - smoothing) * (c == label) + smoothing / len(logits)
        loss -= weights[c] * target * (value - log_normaliser)
    return loss


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_equals_torch_and_the_formula(
    smoothing: float, weights: list[float] | None, dtype: torch.dtype, tolerance: float
) -> None:
    logits, labels = batch(dtype)
    losses = CrossEntropy(smoothing, weights)(logits, labels)
    torchs = F.cross_entropy(
        logits,
        labels,
        weight=None if weights is None else torch.tensor(weights, dtype=dtype),
        reduction="none",
        label_smoothing=smoothing,
    )
    rows = zip(batch(torch.float64)[0].tolist(), labels.tolist(), strict=True)
    expected = torch.tensor([by_hand(row, label, smoothing, weights) for row, label in rows], dtype=torch.float64)
    torch.testing.assert_close(losses, torchs, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(losses.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("smoothing", "weights"), SETTINGS)
def test_gradient_equals_torch(smoothing: float, weights: list[float] | None) -> None:
    gradients = []
    for loss in (
        CrossEntropy(smoothing, weights),
        lambda logits, labels: F.cross_entropy(
            logits,
            labels,
            weight=None if weights is None else torch.tensor(weights),
            reduction="none",
            label_smoothing=smoothing,
        ),
    ):
        logits, labels = batch()
        loss(logits.requires_grad_(), labels).sum().backward()
        gradients.append(logits.grad)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_fp32_even_under_autocast(dtype: torch.dtype) -> None:
    loss = CrossEntropy(0.1, WEIGHTS)
    logits, labels = batch(dtype)
    expected = loss(logits.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(logits, labels)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, expected)


def test_the_loss_of_an_example_does_not_depend_on_its_batch() -> None:
    loss = CrossEntropy(0.1, WEIGHTS)
    logits, labels = batch()
    alone = torch.cat([loss(logits[[i]], labels[[i]]) for i in range(17)])
    torch.testing.assert_close(alone, loss(logits, labels), rtol=1e-7, atol=0)


def test_small_integers_are_labels_too_and_a_batch_may_be_empty() -> None:
    loss = CrossEntropy(0.1)
    logits, labels = batch()
    assert torch.equal(loss(logits, labels.int()), loss(logits, labels))
    assert loss(logits[:0], labels[:0]).shape == (0,)


def test_weights_follow_the_model_and_stay_out_of_checkpoints() -> None:
    loss = CrossEntropy(0.0, WEIGHTS)
    assert loss.to("meta").class_weights.device.type == "meta"
    assert loss.state_dict() == {}
