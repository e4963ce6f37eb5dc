from __future__ import annotations

import pytest
import torch

from lx.errors import LxError
from lx.nn.block import Residual
from lx.nn.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rate_scale_and_gradient(probability: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(1009, 101, dtype=dtype, requires_grad=True)
    y = Dropout(probability)(x)
    y.sum().backward()
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.005)
    values = y[kept].unique()
    assert len(values) == 1 and values.item() == pytest.approx(1 / (1 - probability), rel=0.005)
    assert torch.equal(x.grad, y.detach())


def test_the_global_generator_decides() -> None:
    x, dropout = torch.ones(7, 11), Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(x)
    assert not torch.equal(dropout(x), first)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)


def test_nothing_to_drop() -> None:
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(0.0)(x), x)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.5)(torch.empty(0, 5)).shape == (0, 5)


def test_residual_drops_what_is_added_and_nothing_else() -> None:
    x, added = torch.full((101, 103), 3.0), torch.ones(101, 103)
    residual = Residual(0.5)
    assert residual(x, added).unique().tolist() == [3.0, 5.0]
    assert torch.equal(residual.eval()(x, added), x + added)


@pytest.mark.parametrize("probability", [-0.1, 1.0, 7])
def test_what_is_no_probability_is_refused(probability: float) -> None:
    with pytest.raises(LxError, match=f"dropout={probability}"):
        Dropout(probability)
