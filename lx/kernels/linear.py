"""Linear maps and the GELU feed-forward network, with gradients. In C: `linear.c`.

Axis legend: M rows (texts times tokens), K inputs, N outputs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lx.kernels import binding
from lx.kernels.binding import rows_and_width

PANEL = 64


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute x Wᵀ + b: x [..., K], W [N, K], b [N] or None -> [..., N]."""
    y: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


def gelu_feedforward(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """Compute gelu(x W1ᵀ + b1) W2ᵀ + b2: x [..., K], W1 [N, K], W2 [K, N] -> [..., K]."""
    y: Tensor = _FeedForward.apply(x, weight1, bias1, weight2, bias2)  # type: ignore[no-untyped-call]
    return y


def _row_pairs(m: int, width: int) -> Tensor:
    """Memory for M rows of bf16 numbers in pairs of neighbouring rows, in panels of `PANEL` columns: see `linear.c`."""
    return torch.empty(-(-width // PANEL), -(-m // 2), PANEL, dtype=torch.int32)


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        (m, k), n = rows_and_width(x), len(weight)
        y = x.new_empty(*x.shape[:-1], n)
        binding.call("lx_linear", x, weight, bias, y, m, n, k)
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dy = dy.contiguous()
        (m, k), n = rows_and_width(x), len(weight)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight, dbias = torch.empty_like(weight), None if bias is None else torch.empty_like(bias)
        binding.call("lx_linear_gradient", dy, x, weight, dx, dweight, dbias, m, n, k)
        return dx, dweight, dbias


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        x, weight1, weight2 = x.contiguous(), weight1.contiguous(), weight2.contiguous()
        (m, k), n = rows_and_width(x), len(weight1)
        needs_gradient = any(ctx.needs_input_grad)
        slopes, active = (_row_pairs(m, n) if needs_gradient else None for _ in range(2))
        y = torch.empty_like(x)
        binding.call("lx_feedforward", x, weight1, bias1, weight2, bias2, slopes, active, y, m, n, k)
        ctx.save_for_backward(x, weight1, weight2, slopes, active)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight1, weight2, slopes, active = ctx.saved_tensors
        dy = dy.contiguous()
        (m, k), n = rows_and_width(x), len(weight1)
        dhidden, dx = _row_pairs(m, n), torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight1, dweight2 = torch.empty_like(weight1), torch.empty_like(weight2)
        dbias1, dbias2 = weight1.new_empty(n), weight2.new_empty(k)
        gradients = (dhidden, dx, dweight1, dbias1, dweight2, dbias2)
        binding.call("lx_feedforward_gradient", dy, x, slopes, active, weight1, weight2, *gradients, m, n, k)
        return dx, dweight1, dbias1, dweight2, dbias2
