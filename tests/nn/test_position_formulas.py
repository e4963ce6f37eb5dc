"""Position schemes against their papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lx.errors import LxError
from lx.nn.position import (
    ALiBiPosition,
    LearnedPosition,
    NoPosition,
    RotaryPosition,
    SinusoidalPosition,
    alibi_slopes,
)

BATCH, TOKENS, HEADS, HEAD_DIM = 2, 5, 3, 7


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize(("dim", "num_tokens"), [(6, 11), (7, 11), (4, 700)])
def test_sinusoidal_table(dim: int, num_tokens: int) -> None:
    table = SinusoidalPosition(dim, 1).add(torch.zeros(1, num_tokens, dim))[0]
    assert table.dtype == torch.float32
    for t in range(num_tokens):
        for feature in range(dim):
            angle = t / 10000 ** (2 * (feature // 2) / dim)
            expected = math.sin(angle) if feature % 2 == 0 else math.cos(angle)
            assert table[t, feature].item() == pytest.approx(expected, abs=6e-8), (t, feature)


def test_sinusoidal_adds_in_the_dtype_of_the_input() -> None:
    x = torch.randn(2, 3, 8).bfloat16()
    position = SinusoidalPosition(8, 1)
    torch.testing.assert_close(position.add(x), x + position.table[:3].bfloat16(), rtol=0, atol=0)
    assert "table" not in position.state_dict()


def test_learned_adds_its_scaled_rows_and_refuses_longer_texts() -> None:
    position = LearnedPosition(7, 1, max_length=5)
    x = torch.randn(2, 3, 7)
    for t in range(3):
        torch.testing.assert_close(position.add(x)[:, t], x[:, t] + math.sqrt(7) * position.table.weight[t])
    with pytest.raises(LxError, match=r"6 tokens.*positions for 5.*truncate texts to 5 tokens"):
        position.add(torch.zeros(1, 6, 7))


@pytest.mark.parametrize("num_tokens", [11, 600])
def test_rotary_turns_each_pair(num_tokens: int) -> None:
    head_dim = 6
    position = RotaryPosition(dim=HEADS * head_dim, num_heads=HEADS)
    query_and_key = double(2, BATCH, HEADS, num_tokens, head_dim)
    for before, after in zip(query_and_key, position.rotate(query_and_key), strict=True):
        for t in (0, 1, 2, num_tokens - 1):
            for pair in range(head_dim // 2):
                angle = t * 10000 ** (-2 * pair / head_dim)
                matrix = torch.tensor(
                    [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]],
                    dtype=torch.float64,
                )
                features = [pair, pair + head_dim // 2]
                expected = before[:, :, t, features] @ matrix.T
                torch.testing.assert_close(after[:, :, t, features], expected, rtol=0, atol=5e-7)


def test_rotary_scores_depend_on_the_distance_alone() -> None:
    position = RotaryPosition(dim=6, num_heads=1)
    query, key = rotated = position.rotate(double(2, 1, 1, 1, 6).expand(2, 1, 1, 30, 6))
    scores = (query @ key.transpose(-2, -1))[0, 0]
    for distance in (-13, -1, 0, 4):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=2e-6)
    assert (scores[0, 0] - scores[0, 4]).abs() > 0.1
    assert position.rotate(rotated.bfloat16()).dtype == torch.bfloat16


def test_rotary_refuses_odd_heads() -> None:
    with pytest.raises(LxError, match=r"dim=21 over num_heads=3 leaves each head 7"):
        RotaryPosition(dim=21, num_heads=3)


@pytest.mark.parametrize(
    ("num_heads", "exponents"),
    [
        (1, [8]),
        (2, [4, 8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (3, [4, 8, 2]),
        (6, [2, 4, 6, 8, 1, 3]),
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),
    ],
)
def test_alibi_slopes(num_heads: int, exponents: list[float]) -> None:
    expected = torch.tensor([2.0**-exponent for exponent in exponents])
    torch.testing.assert_close(alibi_slopes(num_heads), expected, rtol=1e-7, atol=0)


def test_alibi_bias_is_minus_slope_times_distance() -> None:
    bias = ALiBiPosition(dim=6, num_heads=2).bias(5)
    for h, slope in enumerate((1 / 16, 1 / 256)):
        for i in range(5):
            for j in range(5):
                assert bias[h, i, j].item() == -slope * abs(i - j)


def test_schemes_leave_the_other_hooks_alone() -> None:
    x, qkv = torch.randn(2, 3, 8), torch.randn(3, 2, 2, 3, 4)
    schemes = {
        "none": NoPosition(8, 2),
        "add": SinusoidalPosition(8, 2),
        "rotate": RotaryPosition(8, 2),
        "bias": ALiBiPosition(8, 2),
    }
    for hook, position in schemes.items():
        assert (position.add(x) is x) == (hook != "add")
        assert (position.rotate(qkv) is qkv) == (hook != "rotate") == (not position.rotates)
        assert (position.bias(3) is None) == (hook != "bias")
