"""Scaled dot-product attention with gradients. In C: `attention.c`.

Axis legend: B texts, T tokens, H heads, K head width.
"""

from __future__ import annotations

import ctypes
from ctypes import c_long
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lx.kernels import binding
from lx.kernels.binding import Dropout, draw_dropout


def attention(qkv: Tensor, bias: Tensor, probability: float) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(K) + bias) v, with dropout on the weights.

    Args:
        qkv: Queries, keys and values [3, B, H, T, K].
        bias: [B or 1, H or 1, T or 1, T] in bf16; it gets no gradient.
        probability: Of dropping a weight.

    Returns:
        [B, H, T, K], in memory [B, T, H, K].
    """
    out: Tensor = _Attention.apply(qkv, bias, draw_dropout(probability))  # type: ignore[no-untyped-call]
    return out


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("texts", "heads", "tokens", "width", "text_step", "head_step", "token_step", "part_step"),
            *("bias_text_step", "bias_head_step", "bias_query_step"),
        )
    )


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, dropout: Dropout) -> Tensor:
        _, texts, heads, tokens, width = qkv.shape
        if qkv.stride(-1) != 1:
            qkv = qkv.contiguous()
        bias = bias.contiguous()
        out = qkv.new_empty(texts, tokens, heads, width)
        needs_gradient = any(ctx.needs_input_grad)
        log_sums = torch.empty(texts, heads, tokens, dtype=torch.float32) if needs_gradient else None
        part_step, text_step, head_step, token_step, _ = qkv.stride()
        steps = (0 if size == 1 else step for size, step in zip(bias.shape[:3], bias.stride()[:3], strict=True))
        shape = _Shape(texts, heads, tokens, width, text_step, head_step, token_step, part_step, *steps)
        binding.call("lx_attention", qkv, bias, out, log_sums, shape, dropout)
        ctx.save_for_backward(qkv, bias, out, log_sums)
        ctx.shape, ctx.dropout = shape, dropout
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias, out, log_sums = ctx.saved_tensors
        dqkv = torch.empty_strided(qkv.shape, qkv.stride(), dtype=qkv.dtype)
        dout = dout.transpose(1, 2).contiguous()
        binding.call("lx_attention_gradient", dout, qkv, bias, out, log_sums, dqkv, ctx.shape, ctx.dropout)
        return dqkv, None, None
