"""Scaled dot-product and multi-head attention (Vaswani et al. 2017, section 3.2).

Axis legend: B batch, T tokens, D model width, H heads, K = D / H head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lx.errors import ArgumentError
from lx.nn.position import Position

MASKED = -1e4
"""Added to the scores of padding. Beside a real token its exponential is exactly zero in every dtype. It fits float16,
and it is finite, so that a row of nothing but padding gives an average instead of NaN."""


Weigh = Callable[[Tensor, Tensor, Tensor, float], Tensor]
"""Computes attention weights, as `attention_weights` does."""


def scaled_dot_product_attention(
    qkv: Float[Tensor, "3 B H T K"],
    bias: Float[Tensor, "#B #H #T T"],
    dropout: int | float = 0.0,
    weigh: Weigh | None = None,
) -> Float[Tensor, "B H T K"]:
    """Compute softmax(Q Kᵀ / sqrt(K) + bias) V, equation 1, with dropout on the attention weights.

    Args:
        qkv: Queries, keys and values.
        bias: Added to the scores; see `attention_bias`.
        dropout: Probability of dropping an attention weight.
        weigh: Computes the weights on a CPU; None: `attention_weights`.
    """
    if qkv.is_cuda:
        # The fused kernels read any strides; divided along the layer's own output, the gradient is joined in one copy.
        query, key, value = (part.transpose(1, 2) for part in qkv.permute(1, 3, 0, 2, 4).unbind(2))
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
    # On CPUs two batched products are faster than the fused kernel, whose backward pass is slow.
    query, key, value = qkv.contiguous().unbind()  # one copy makes the memory of every product contiguous
    num_texts, num_heads, num_tokens, head_dim = query.shape
    query, key, value = (x.flatten(0, 1) for x in (query, key, value))
    bias = bias.expand(num_texts, num_heads, num_tokens, num_tokens).flatten(0, 1)
    heads = (weigh or attention_weights)(query / math.sqrt(head_dim), key, bias, dropout) @ value
    return heads.view(num_texts, num_heads, num_tokens, head_dim)


def attention_weights(
    query: Float[Tensor, "batch Q K"],
    key: Float[Tensor, "batch T K"],
    bias: Float[Tensor, "batch Q T"],
    dropout: int | float,
) -> Float[Tensor, "batch Q T"]:
    """Compute softmax(Q Kᵀ + bias) with dropout, in float32 at least; the queries are scaled already."""
    scores = torch.baddbmm(bias, query, key.transpose(-2, -1))
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)
    return F.dropout(weights, dropout)


def attention_bias(
    mask: Bool[Tensor, "B T"], position_bias: Float[Tensor, "H T T"] | None, dtype: torch.dtype
) -> Float[Tensor, " B #H #T T"]:
    """Build the bias of the scores in all layers, which masks padding as keys and adds relative positions.

    Args:
        mask: True for a real token.
        position_bias: From `Position.bias`.
        dtype: Of the attention scores.
    """
    padding = torch.where(mask, 0.0, MASKED)[:, None, None, :]
    return (padding if position_bias is None else padding + position_bias).to(dtype)


class AttentionWeights(nn.Module):
    """`attention_weights` as a module, whose forward hooks see the weights of every text and head on a CPU."""

    def forward(
        self,
        query: Float[Tensor, "batch Q K"],
        key: Float[Tensor, "batch T K"],
        bias: Float[Tensor, "batch Q T"],
        dropout: int | float,
    ) -> Float[Tensor, "batch Q T"]:
        """Compute the weights; `batch` is B * H, or B where the heads are the queries Q of `query`."""
        return attention_weights(query, key, bias, dropout)


class MultiHeadAttention(nn.Module):
    """H attentions side by side, each on its own K features (section 3.2.2)."""

    def __init__(self, dim: int, num_heads: int, dropout: int | float = 0.0) -> None:
        """Build the projections.

        Raises:
            ArgumentError: D is not a multiple of H.
        """
        super().__init__()
        if dim % num_heads:
            raise ArgumentError(f"dim={dim} is not divisible by num_heads={num_heads}: every head needs the same width")
        self.num_heads = num_heads
        self.dropout = dropout
        self.weigh = AttentionWeights()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        bias: Float[Tensor, " B #H #T T"],
        position: Position,
        query: Float[Tensor, "B 1 D"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Attend to all tokens.

        Args:
            x: The block's input.
            bias: Added to the scores.
            position: Rotates queries and keys if it is a rotary scheme.
            query: One vector per text that attends in the place of its first token; Q is 1. None: every token attends;
                Q is T.
        """
        dropout = self.dropout if self.training else 0.0
        if query is not None:
            heads = self._attend_from(query, x, bias[:, :, 0], position, dropout)
        else:
            qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, H, T, K]
            if position.rotates:
                qkv = torch.cat([position.rotate(qkv[:2]), qkv[2:]])
            heads = self.attend(qkv, bias, dropout)
        mixed: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return mixed

    def attend(
        self, qkv: Float[Tensor, "3 B H T K"], bias: Float[Tensor, "#B #H #T T"], dropout: int | float
    ) -> Float[Tensor, "B H T K"]:
        """Attend from every token, given the projections; see `scaled_dot_product_attention`."""
        return scaled_dot_product_attention(qkv, bias, dropout, self.weigh)

    def _attend_from(
        self,
        query: Float[Tensor, "B 1 D"],
        x: Float[Tensor, "B T D"],
        bias: Float[Tensor, " B #H T"],
        position: Position,
        dropout: int | float,
    ) -> Float[Tensor, "B H 1 K"]:
        """Attend from one query per text, without projecting every token to a key and a value.

        Since q · (Wk x) = (Wkᵀ q) · x and sum(w (Wv x + b)) = Wv sum(w x) + sum(w) b, the projections are applied to
        one vector per text and head. The bias of the keys shifts all scores of a query alike and cancels in the
        softmax. Rotary positions need every key.
        """
        dim, head_dim = x.shape[-1], x.shape[-1] // self.num_heads
        query_map, key_map, value_map = self.qkv.weight.view(3, self.num_heads, head_dim, dim).unbind()
        query_shift, key_shift, value_shift = self.qkv.bias.view(3, self.num_heads, head_dim).unbind()
        bias = bias.expand(-1, self.num_heads, -1)
        projected = (torch.einsum("bd,hkd->bhk", query[:, 0], query_map) + query_shift) / math.sqrt(head_dim)
        if position.rotates:
            key = position.rotate(torch.einsum("btd,hkd->bhtk", x, key_map) + key_shift[:, None]).flatten(0, 1)
            weights: Tensor = self.weigh(projected.flatten(0, 1)[:, None], key, bias.flatten(0, 1)[:, None], dropout)
            weights = weights.view(bias.shape)
        else:
            weights = self.weigh(torch.einsum("bhk,hkd->bhd", projected, key_map), x, bias, dropout)
        heads = torch.einsum("bhd,hkd->bhk", weights @ x, value_map) + weights.sum(-1, keepdim=True) * value_shift
        return heads.to(x.dtype).unsqueeze(2)
