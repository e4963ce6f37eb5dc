"""A Transformer block: attention and feed-forward, each inside a residual connection.

Axis legend: B batch, T tokens, D model width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from lx.nn.attention import MultiHeadAttention
from lx.nn.dropout import Residual
from lx.nn.position import Position


class Block(nn.Module):
    """The parts of a block; a subclass says where the norms stand."""

    needs_final_norm: ClassVar[bool]
    """Whether the last block's output still has to be normalised."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        hidden_dim: int,
        dropout: int | float,
        *,
        norm: Callable[..., nn.Module],
        feedforward: Callable[..., nn.Module],
    ) -> None:
        """Build fresh layers.

        Args:
            dim: D.
            num_heads: H.
            hidden_dim: Width inside the feed-forward network.
            dropout: Of attention weights, and of what each sub-layer adds to the residual.
            norm: Called as `norm(dim)`.
            feedforward: Called as `feedforward(dim, hidden_dim)`.
        """
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout)
        self.feedforward = feedforward(dim, hidden_dim)
        self.attention_norm = norm(dim)
        self.feedforward_norm = norm(dim)
        self.residual = Residual(dropout)


class PreNormBlock(Block):
    """Norm before each sub-layer (Xiong et al. 2020, figure 1b): trains without warmup, at any depth."""

    needs_final_norm = True

    def forward(
        self, x: Float[Tensor, "B T D"], bias: Float[Tensor, "B #H #T T"], position: Position
    ) -> Float[Tensor, "B T D"]:
        """Transform a batch; `bias` and `position` are for the attention."""
        x = self.residual(x, self.attention(self.attention_norm(x), bias, position))
        y: Tensor = self.residual(x, self.feedforward(self.feedforward_norm(x)))
        return y


class PostNormBlock(Block):
    """Norm after each residual sum (Vaswani et al. 2017, section 3.1)."""

    needs_final_norm = False

    def forward(
        self, x: Float[Tensor, "B T D"], bias: Float[Tensor, "B #H #T T"], position: Position
    ) -> Float[Tensor, "B T D"]:
        """Transform a batch; `bias` and `position` are for the attention."""
        x = self.attention_norm(self.residual(x, self.attention(x, bias, position)))
        y: Tensor = self.feedforward_norm(self.residual(x, self.feedforward(x)))
        return y
