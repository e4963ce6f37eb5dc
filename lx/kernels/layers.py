"""Layers of `lx.nn` that compute with kernels where these support the input, and as their base class elsewhere.

Axis legend: B batch, T tokens, D model width, H heads, K inputs (in attention: head width), N outputs.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import override

from lx.kernels.attention import attention
from lx.kernels.binding import supports, supports_lookup
from lx.kernels.linear import gelu_feedforward, linear
from lx.kernels.rows import add_dropped, embedding, layer_norm
from lx.nn.attention import MultiHeadAttention
from lx.nn.block import Residual
from lx.nn.dropout import Dropout
from lx.nn.embedding import PAD, ScaledEmbedding, compute_dtype
from lx.nn.feedforward import GELUFeedForward
from lx.nn.norm import LayerNorm


class KernelLinear(nn.Linear):
    """x Wᵀ + b."""

    @override
    def forward(self, input: Float[Tensor, "*rows K"]) -> Float[Tensor, "*rows N"]:
        if supports(input, self.weight, self.bias):
            return linear(input, self.weight, self.bias)
        return super().forward(input)


class KernelLayerNorm(LayerNorm):
    """Layer normalisation with sums in float32."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        if supports(x, self.weight, self.bias):
            return layer_norm(x, self.weight, self.bias, self.eps)
        return super().forward(x)


class KernelGELUFeedForward(GELUFeedForward):
    """Both maps and the activation in one kernel."""

    @override
    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        weights = (self.input.weight, self.input.bias, self.output.weight, self.output.bias)
        return gelu_feedforward(x, *weights) if supports(x, *weights) else super().forward(x)


class KernelMultiHeadAttention(MultiHeadAttention):
    """Scores, softmax, dropout and weighted sums in one kernel, with every token as a query."""

    @override
    def attend(
        self, qkv: Float[Tensor, "3 B H T K"], bias: Float[Tensor, "#B #H #T T"], dropout: int | float
    ) -> Float[Tensor, "B H T K"]:
        if supports(qkv) and bias.dtype == qkv.dtype:
            return attention(qkv, bias, dropout)
        return super().attend(qkv, bias, dropout)


class KernelScaledEmbedding(ScaledEmbedding):
    """Rows looked up and scaled in one pass, in the dtype of the products that follow."""

    @override
    def forward(self, token_ids: Int[Tensor, "*tokens"]) -> Float[Tensor, "*tokens D"]:
        if supports_lookup(self.weight, compute_dtype(self.weight)):
            return embedding(token_ids, self.weight, self.scale, PAD)
        return super().forward(token_ids)


class KernelDropout(Dropout):
    """Dropout by 16 random bits an element; the probability is rounded to a multiple of 2^-16."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        if self.training and self.p > 0 and supports(input):
            return add_dropped(None, input, self.p)
        return super().forward(input)


class KernelResidual(Residual):
    """x + dropout(added) in one pass."""

    @override
    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        if supports(added) and x.dtype == added.dtype:
            return add_dropped(x, added, self.dropout.p if self.training else 0.0)
        return super().forward(x, added)
