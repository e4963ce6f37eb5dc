"""The compiled kernels as operations on tensors, with gradients.

Every operation here has a twin in torch, in `lx.nn`, which is what it computes but for rounding; `is_for` says which of
the two a tensor is for. Activations are bf16, weights and their gradients float32, sums are added up in float32.

Axis legend: M rows (texts times tokens), K inputs, N outputs, D model width; B, H, T as in `lx.nn.attention`.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_long, c_uint32, c_void_p
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lx.kernels.build import library

WIDTH_MULTIPLE = 32
LEVELS = 1 << 16
PANEL = 64


def are_here(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are kernels for activations of this kind: bf16 on a CPU that can."""
    return dtype == torch.bfloat16 and device.type == "cpu" and library() is not None


def is_for(x: Tensor, *weights: Tensor | None) -> bool:
    """Whether the kernels compute with these numbers: bf16 activations and float32 weights.

    Args:
        x: activations, whose last axis holds features.
        weights: all sizes of them are to be multiples of `WIDTH_MULTIPLE`, as the features are.
    """
    return (
        not torch.compiler.is_compiling()
        and are_here(x.device, x.dtype)
        and x.shape[-1] % WIDTH_MULTIPLE == 0
        and x.numel() > 0
        and all(w is None or (_is_plain(w) and all(size % WIDTH_MULTIPLE == 0 for size in w.shape)) for w in weights)
    )


def is_for_rows_of(table: Tensor, dtype: torch.dtype) -> bool:
    """Whether the kernels look up rows of a table [V, D] in float32, for activations of the given kind."""
    return (
        not torch.compiler.is_compiling()
        and are_here(table.device, dtype)
        and _is_plain(table)
        and table.shape[1] % WIDTH_MULTIPLE == 0
    )


def _is_plain(weight: Tensor) -> bool:
    """In float32, and no subclass whose numbers lie elsewhere, as those of sharded weights do."""
    return weight.dtype == torch.float32 and type(weight) in (Tensor, torch.nn.Parameter)


def embedding(ids: Tensor, table: Tensor, scale: float, padding: int) -> Tensor:
    """Rows of a table, scaled: ids [...] in [0, V), table [V, D] -> [..., D] in bf16. `padding` gets no gradient.

    Raises:
        IndexError: an id is out of range.
    """
    rows: Tensor = _Embedding.apply(ids, table, scale, padding)  # type: ignore[no-untyped-call]
    return rows


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The linear map x Wᵀ + b: x [..., K], W [N, K], b [N] or None -> [..., N]."""
    y: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return y


def gelu_feedforward(x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
    """gelu(x W1ᵀ + b1) W2ᵀ + b2: x [..., K], W1 [N, K], W2 [K, N] -> [..., K]."""
    y: Tensor = _FeedForward.apply(x, weight1, bias1, weight2, bias2)  # type: ignore[no-untyped-call]
    return y


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Layer normalisation of the last axis: x [..., D], gain and bias [D]."""
    y: Tensor = _LayerNorm.apply(x, gain, bias, eps)  # type: ignore[no-untyped-call]
    return y


def add_dropped(x: Tensor | None, y: Tensor, probability: float) -> Tensor:
    """The sum x + dropout(y), or dropout(y) alone; x and y have one shape."""
    z: Tensor = _AddDropped.apply(x, y, _dropout(probability))  # type: ignore[no-untyped-call]
    return z


def attention(qkv: Tensor, bias: Tensor, probability: float) -> Tensor:
    """softmax(q kᵀ / sqrt(K) + bias) v with dropout on the weights.

    Args:
        qkv: [3, B, H, T, K], queries, keys and values.
        bias: [B or 1, H or 1, T or 1, T] in bf16; it gets no gradient.
        probability: of dropping a weight.

    Returns:
        [B, H, T, K], in memory [B, T, H, K].
    """
    out: Tensor = _Attention.apply(qkv, bias, _dropout(probability))  # type: ignore[no-untyped-call]
    return out


class _Dropout(ctypes.Structure):
    _fields_ = (("keys", c_uint32 * 2), ("threshold", c_uint32), ("scale", c_float))


class _Shape(ctypes.Structure):
    _fields_ = tuple(
        (name, c_long)
        for name in (
            *("texts", "heads", "tokens", "width", "text_step", "head_step", "token_step", "part_step"),
            *("bias_text_step", "bias_head_step", "bias_query_step"),
        )
    )


def _dropout(probability: float) -> _Dropout:
    """What a kernel has to know, with keys from torch's global generator; the probability is rounded to 16 bits."""
    threshold = round(probability * LEVELS)
    keys = torch.randint(1 << 32, (2,)).tolist() if threshold else (0, 0)
    return _Dropout((c_uint32 * 2)(*keys), threshold, LEVELS / (LEVELS - threshold))


_offers: dict[int, Tensor] = {}


def offer(weight: Tensor, memory: Tensor | None) -> None:
    """Have the next gradient of a weight written into memory of the caller's: one only, more are added to it elsewhere.

    Args:
        weight: in float32, contiguous, and where it is as long as the offer stands.
        memory: of the same shape; None: take the offer back.
    """
    if memory is None:
        _offers.pop(weight.data_ptr(), None)
    else:
        _offers[weight.data_ptr()] = memory


def _gradient_of(weight: Tensor) -> Tensor:
    """Room for a gradient, to be written over."""
    memory = _offers.pop(weight.data_ptr(), None)
    # Autograd makes a tensor that nobody else holds the gradient, instead of copying it: so a view of what was offered.
    return torch.empty_like(weight) if memory is None else memory.view_as(weight)


@cache
def _kernel(name: str) -> Any:
    kernel = getattr(library(), name)
    kernel.restype = None
    return kernel


def _call(name: str, *arguments: Tensor | ctypes.Structure | int | float | None) -> None:
    """Call a kernel: tensors and structures by address, integers as long, None as a missing one."""
    _kernel(name)(*[_argument(argument) for argument in arguments])


def _argument(argument: Tensor | ctypes.Structure | int | float | None) -> Any:
    if argument is None:
        return c_void_p(None)
    if isinstance(argument, Tensor):
        return c_void_p(argument.data_ptr())
    if isinstance(argument, ctypes.Structure):
        return ctypes.byref(argument)
    return c_float(argument) if isinstance(argument, float) else c_long(argument)


def _rows(x: Tensor) -> tuple[int, int]:
    """M and the width of [..., width]."""
    return x.numel() // x.shape[-1], x.shape[-1]


def _row_pairs(m: int, width: int) -> Tensor:
    """Room for M rows of bf16 numbers in pairs of neighbouring rows, in panels of `PANEL` columns: see `linear.c`."""
    return torch.empty(-(-width // PANEL), -(-m // 2), PANEL, dtype=torch.int32)


class _Embedding(Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, table: Tensor, scale: float, padding: int) -> Tensor:
        ids, table = ids.long().contiguous(), table.contiguous()
        vocabulary, d = table.shape
        if ids.numel() and not (ids.min() >= 0 and ids.max() < vocabulary):
            raise IndexError(f"a token id is not in [0, {vocabulary})")
        rows = torch.empty(*ids.shape, d, dtype=torch.bfloat16)
        _call("lx_embedding", ids, table, rows, ids.numel(), d, scale)
        ctx.save_for_backward(ids, table)
        ctx.scale, ctx.padding = scale, padding
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, drows: Tensor) -> tuple[Tensor | None, ...]:
        ids, table = ctx.saved_tensors
        dtable = _gradient_of(table)
        arguments = (ids.numel(), *table.shape, ctx.padding, ctx.scale)
        _call("lx_embedding_gradient", ids, drows.contiguous(), dtable, *arguments)
        return None, dtable, None, None


class _Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        x, weight = x.contiguous(), weight.contiguous()
        (m, k), n = _rows(x), len(weight)
        y = x.new_empty(*x.shape[:-1], n)
        _call("lx_linear", x, weight, bias, y, m, n, k)
        ctx.save_for_backward(x, weight, bias)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        dy = dy.contiguous()
        (m, k), n = _rows(x), len(weight)
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight, dbias = _gradient_of(weight), None if bias is None else _gradient_of(bias)
        _call("lx_linear_gradient", dy, x, weight, dx, dweight, dbias, m, n, k)
        return dx, dweight, dbias


class _FeedForward(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        x, weight1, weight2 = x.contiguous(), weight1.contiguous(), weight2.contiguous()
        (m, k), n = _rows(x), len(weight1)
        needs_gradient = any(ctx.needs_input_grad)
        slopes, active = (_row_pairs(m, n) if needs_gradient else None for _ in range(2))
        y = torch.empty_like(x)
        _call("lx_feedforward", x, weight1, bias1, weight2, bias2, slopes, active, y, m, n, k)
        ctx.save_for_backward(x, weight1, weight2, slopes, active)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight1, weight2, slopes, active = ctx.saved_tensors
        dy = dy.contiguous()
        (m, k), n = _rows(x), len(weight1)
        dhidden, dx = _row_pairs(m, n), torch.empty_like(x) if ctx.needs_input_grad[0] else None
        dweight1, dweight2 = _gradient_of(weight1), _gradient_of(weight2)
        dbias1, dbias2 = weight1.new_empty(n), weight2.new_empty(k)
        gradients = (dhidden, dx, dweight1, dbias1, dweight2, dbias2)
        _call("lx_feedforward_gradient", dy, x, slopes, active, weight1, weight2, *gradients, m, n, k)
        return dx, dweight1, dbias1, dweight2, dbias2


class _LayerNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, bias: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        m, d = _rows(x)
        y = torch.empty_like(x)
        moments = gain.new_empty(m, 2) if any(ctx.needs_input_grad) else None
        _call("lx_layer_norm", x, gain, bias, y, moments, m, d, float(eps))
        ctx.save_for_backward(x, gain, moments)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, moments = ctx.saved_tensors
        dx, dgain, dbias = torch.empty_like(x), torch.empty_like(gain), torch.empty_like(gain)
        _call("lx_layer_norm_gradient", dy.contiguous(), x, gain, moments, dx, dgain, dbias, *_rows(x))
        return dx, dgain, dbias, None


class _AddDropped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor | None, y: Tensor, dropout: _Dropout) -> Tensor:
        y = y.contiguous()
        x = None if x is None else x.contiguous()
        out = torch.empty_like(y)
        _call("lx_add_dropped", x, y, out, y.numel(), dropout)
        ctx.dropout = dropout
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        dout = dout.contiguous()
        dy = torch.empty_like(dout) if ctx.dropout.threshold else dout
        if ctx.dropout.threshold:
            _call("lx_add_dropped", None, dout, dy, dout.numel(), ctx.dropout)
        return (dout if ctx.needs_input_grad[0] else None), dy, None


class _Attention(Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, dropout: _Dropout) -> Tensor:
        _, texts, heads, tokens, width = qkv.shape
        if qkv.stride(-1) != 1:
            qkv = qkv.contiguous()
        bias = bias.contiguous()
        out = qkv.new_empty(texts, tokens, heads, width)
        needs_gradient = any(ctx.needs_input_grad)
        log_sums = torch.empty(texts, heads, tokens) if needs_gradient else None
        part_step, text_step, head_step, token_step, _ = qkv.stride()
        steps = (0 if size == 1 else step for size, step in zip(bias.shape[:3], bias.stride()[:3], strict=True))
        shape = _Shape(texts, heads, tokens, width, text_step, head_step, token_step, part_step, *steps)
        _call("lx_attention", qkv, bias, out, log_sums, shape, dropout)
        ctx.save_for_backward(qkv, bias, out, log_sums)
        ctx.shape, ctx.dropout = shape, dropout
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor | None, ...]:
        qkv, bias, out, log_sums = ctx.saved_tensors
        dqkv = torch.empty_strided(qkv.shape, qkv.stride(), dtype=qkv.dtype)
        dout = dout.transpose(1, 2).contiguous()
        _call("lx_attention_gradient", dout, qkv, bias, out, log_sums, dqkv, ctx.shape, ctx.dropout)
        return dqkv, None, None
