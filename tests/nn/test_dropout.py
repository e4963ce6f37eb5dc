from __future__ import annotations

import pytest
import torch

from lx.errors import LxError
from lx.nn.dropout import Dropout, dropout, random_int16


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_scale_and_gradient(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1009, 101, dtype=dtype, requires_grad=True)
    y = dropout(x, probability)
    y.sum().backward()
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.005)
    values = y[kept].unique()
    assert len(values) == 1 and values.item() == pytest.approx(1 / (1 - probability), rel=0.005)
    assert torch.equal(x.grad, y.detach())


def test_features_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (dropout(torch.ones(100_003), 0.5) != 0).float() - 0.5
    for shift in (1, 2, 3, 4, 8):
        assert abs((kept[:-shift] * kept[shift:]).mean().item() * 4) < 0.02, shift


def test_random_integers_fill_their_range() -> None:
    torch.manual_seed(0)
    numbers = random_int16(200_003)
    assert numbers.shape == (200_003,) and numbers.dtype == torch.int16
    counts = torch.bincount((numbers.int() + 2**15) >> 12, minlength=16)
    assert (counts / 200_003 * 16 - 1).abs().max() < 0.05


def test_masks_are_independent() -> None:
    """Of each other, and of themselves at any distance, however often the same stretches of the tables come again."""
    torch.manual_seed(0)
    masks = torch.stack([(dropout(torch.ones(100_003), 0.5) != 0).float() * 2 - 1 for _ in range(12)])
    products = masks @ masks.T / masks.shape[1]
    assert (products - torch.eye(12)).abs().max() < 5 / 100_003**0.5
    triples = torch.einsum("an,bn,cn->abc", masks[:4], masks[4:8], masks[8:]) / masks.shape[1]
    assert triples.abs().max() < 5 / 100_003**0.5


def test_more_numbers_than_a_stretch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.nn.dropout.STRETCH", 1000)
    torch.manual_seed(0)
    numbers = random_int16(2500).float()
    assert abs(numbers.mean().item()) < 5 * 2**16 / 12**0.5 / 2500**0.5
    for part, other in ((numbers[:500], numbers[1000:1500]), (numbers[:500], numbers[2000:])):
        assert abs(torch.corrcoef(torch.stack([part, other]))[0, 1].item()) < 5 / 500**0.5


def test_the_global_generator_decides() -> None:
    x = torch.ones(7, 11)
    torch.manual_seed(3)
    first = dropout(x, 0.5)
    assert not torch.equal(dropout(x, 0.5), first)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), first)


def test_nothing_to_drop() -> None:
    x = torch.randn(3, 5)
    assert dropout(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert dropout(torch.empty(0, 5), 0.5).shape == (0, 5)


@pytest.mark.parametrize("probability", [-0.1, 1.0, 7])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(LxError, match="dropout"):
        Dropout(probability)
