"""A Transformer block: attention and feed-forward, each inside a residual connection.

Axis legend: B batch, T tokens, Q queries (T, or 1), D model width, H heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import override

from lx.nn.attention import MultiHeadAttention
from lx.nn.dropout import Dropout
from lx.nn.position import Position


class Residual(nn.Module):
    """Add a sub-layer's output to the residual stream, after dropout (Vaswani et al. 2017, section 5.4)."""

    def __init__(self, dropout: int | float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, added: Tensor) -> Tensor:
        """Return x + dropout(added)."""
        y: Tensor = x + self.dropout(added)
        return y


class Block(nn.Module, ABC):
    """The layers of a block; a subclass decides where the norms stand."""

    needs_final_norm: ClassVar[bool]
    """Whether the output of the last block must be normalised."""

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
        """Build fresh layers, by calling `norm(dim)` and `feedforward(dim, hidden_dim)`.

        `dropout` is that of the attention weights and of the output of each sub-layer.
        """
        super().__init__()
        self.attention = MultiHeadAttention(dim, num_heads, dropout)
        self.feedforward = feedforward(dim, hidden_dim)
        self.attention_norm = norm(dim)
        self.feedforward_norm = norm(dim)
        self.residual = Residual(dropout)

    @abstractmethod
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        bias: Float[Tensor, " B #H #T T"],
        position: Position,
        query: Float[Tensor, "B 1 D"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        """Transform a batch.

        Args:
            x: The residual stream.
            bias: Added to the scores of the attention.
            position: The position scheme.
            query: One vector per text that is transformed alone, in the place of its first token, and attends to all
                of x; Q is 1. None: every token is transformed; Q is T.
        """


class PreNormBlock(Block):
    """Norm before each sub-layer (Xiong et al. 2020, figure 1b): trains without warmup, at any depth."""

    needs_final_norm = True

    @override
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        bias: Float[Tensor, " B #H #T T"],
        position: Position,
        query: Float[Tensor, "B 1 D"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        normed_query = None if query is None else self.attention_norm(query)
        attended = self.attention(self.attention_norm(x), bias, position, normed_query)
        x = self.residual(x if query is None else query, attended)
        y: Tensor = self.residual(x, self.feedforward(self.feedforward_norm(x)))
        return y


class PostNormBlock(Block):
    """Norm after each residual sum (Vaswani et al. 2017, section 3.1)."""

    needs_final_norm = False

    @override
    def forward(
        self,
        x: Float[Tensor, "B T D"],
        bias: Float[Tensor, " B #H #T T"],
        position: Position,
        query: Float[Tensor, "B 1 D"] | None = None,
    ) -> Float[Tensor, "B Q D"]:
        attended = self.attention(x, bias, position, query)
        x = self.attention_norm(self.residual(x if query is None else query, attended))
        y: Tensor = self.feedforward_norm(self.residual(x, self.feedforward(x)))
        return y
