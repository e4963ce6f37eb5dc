"""Row-wise operations with gradients: embedding, layer normalisation, residual sum with dropout. In C: `rows.c`.

Axis legend: M rows (texts times tokens), V vocabulary, D model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lx.kernels import binding
from lx.kernels.binding import Dropout, draw_dropout, rows_and_width


def embedding(ids: Tensor, table: Tensor, scale: float, padding_id: int) -> Tensor:
    """Look up scaled rows: ids [...] in [0, V), table [V, D] -> [..., D] in bf16. `padding_id` gets no gradient.

    Raises:
        IndexError: An id is out of range.
    """
    rows: Tensor = _Embedding.apply(ids, table, scale, padding_id)  # type: ignore[no-untyped-call]
    return rows


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalise the last axis: x [..., D], gain and bias [D]."""
    y: Tensor = _LayerNorm.apply(x, gain, bias, eps)  # type: ignore[no-untyped-call]
    return y


def add_dropped(x: Tensor | None, y: Tensor, probability: float) -> Tensor:
    """Compute x + dropout(y), or dropout(y) if x is None; x and y have the same shape."""
    z: Tensor = _AddDropped.apply(x, y, draw_dropout(probability))  # type: ignore[no-untyped-call]
    return z


class _Embedding(Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, scale: float, padding_id: int) -> Tensor:
        ids, table = ids.long().contiguous(), table.contiguous()
        vocab_size, d = table.shape
        if ids.numel() and not (ids.min() >= 0 and ids.max() < vocab_size):
            raise IndexError(f"a token id is not in [0, {vocab_size})")
        rows = torch.empty(*ids.shape, d, dtype=torch.bfloat16)
        binding.call("lx_embedding", ids, table, rows, ids.numel(), d, scale)
        ctx.save_for_backward(ids, table)
        ctx.scale, ctx.padding_id = scale, padding_id
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows: Tensor) -> tuple[Tensor | None, ...]:
        ids, table = ctx.saved_tensors
        dtable = torch.empty_like(table)
        arguments = (ids.numel(), *table.shape, ctx.padding_id, ctx.scale)
        binding.call("lx_embedding_gradient", ids, drows.contiguous(), dtable, *arguments)
        return None, dtable, None, None


class _LayerNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        m, d = rows_and_width(x)
        y = torch.empty_like(x)
        moments = gain.new_empty(m, 2) if any(ctx.needs_input_grad) else None
        binding.call("lx_layer_norm", x, gain, bias, y, moments, m, d, float(eps))
        ctx.save_for_backward(x, gain, moments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, moments = ctx.saved_tensors
        dx, dgain, dbias = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(gain)
        sizes = rows_and_width(x)
        binding.call("lx_layer_norm_gradient", dy.contiguous(), x, gain, moments, dx, dgain, dbias, *sizes)
        return dx, dgain, dbias, None


class _AddDropped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor | None, y: Tensor, dropout: Dropout) -> Tensor:
        y = y.contiguous()
        x = None if x is None else x.contiguous()
        out = torch.empty_like(y)
        binding.call("lx_add_dropped", x, y, out, y.numel(), dropout)
        ctx.dropout = dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        dout = dout.contiguous()
        dy = torch.empty_like(dout) if ctx.dropout.threshold else dout
        if ctx.dropout.threshold:
            binding.call("lx_add_dropped", None, dout, dy, dout.numel(), ctx.dropout)
        return (dout if ctx.needs_input_grad[0] else None), dy, None
