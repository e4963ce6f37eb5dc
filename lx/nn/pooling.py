"""Poolings: from one vector per token to one per text, without padding. Factories: `pooling(dim)`.

Axis legend: B batch, T tokens, Q queries (T, or 1), D model width, K width of what a pooling returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from typing_extensions import override

from lx.nn.attention import MASKED

NUM_COMPARED = 4
"""Vectors that `compare` puts one after the other."""


class Pooling(nn.Module, ABC):
    """Base of all poolings."""

    needs_own_encoder: ClassVar[bool] = False
    """Whether the pooling takes part in the last block, which only lx's own encoder lets it do."""

    output_dim: int
    """Width of what the pooling returns."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.output_dim = dim

    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"] | None:
        """Return the one query per text of the last block, given its input x; None: every token is a query."""
        return None

    @abstractmethod
    def forward(self, x: Float[Tensor, "B Q D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B output_dim"]:
        """Pool the output of the last block; `mask` is True for a real token."""


class QueryPooling(Pooling):
    """Read one query per text: in the last block only that query attends. Subclasses choose it."""

    needs_own_encoder = True

    @abstractmethod
    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        """Return the query, given the input x of the last block."""

    @override
    def forward(self, x: Float[Tensor, "B Q D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        return x[:, 0]


class CLSPooling(QueryPooling):
    """The vector of the first token, [CLS] (Devlin et al. 2019)."""

    needs_own_encoder = False  # every encoder gives that vector

    @override
    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        return x[:, :1]


class MeanQueryPooling(QueryPooling):
    """The average of the real tokens as the query of the last block (Radford et al. 2021, section 2.4)."""

    @override
    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        return average(x, mask).to(x.dtype).unsqueeze(1)


class MeanPooling(Pooling):
    """The average of the real tokens; zero for a text that has none."""

    @override
    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        return average(x, mask)


def average(x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Average the real tokens, in float32 at least; zero for a text that has none."""
    # A matrix product sums bf16 in float32 without a float32 copy of x.
    total = (mask[:, None, :].to(x.dtype) @ x).squeeze(1)
    return total.to(torch.promote_types(x.dtype, torch.float32)) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class MaxPooling(Pooling):
    """The largest value of each feature among the real tokens; zero for a text that has none."""

    @override
    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        return maximum(x, mask)


def maximum(x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Take the largest value of each feature among the real tokens; zero for a text that has none."""
    largest = x.masked_fill(~mask[:, :, None], torch.finfo(x.dtype).min).amax(dim=1)
    return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class MeanMaxPooling(Pooling):
    """The average and the largest values, one after the other: twice as wide (Howard & Ruder 2018, section 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.output_dim = 2 * dim

    @override
    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B output_dim"]:
        largest = maximum(x, mask)
        return torch.cat([average(x, mask).to(largest.dtype), largest], dim=-1)


class AttentionPooling(Pooling):
    """An average with weights softmax(u · tanh(W x + b)), u learned (Yang et al. 2016, equations 5 to 7).

    Zero for a text that has no real token.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.hidden = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)

    @override
    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        scores = self.query(self.hidden(x).tanh()).squeeze(-1)
        weights = (scores + torch.where(mask, 0.0, MASKED)).softmax(dim=-1).masked_fill(~mask, 0.0)
        pooled: Tensor = weights[:, None, :].to(x.dtype) @ x
        return pooled.squeeze(1)


def compare(first: Float[Tensor, "B K"], second: Float[Tensor, "B K"]) -> Float[Tensor, "B 4*K"]:
    """Join the vectors u and v of the two texts of a pair: u, v, |u - v| and u * v (Conneau et al. 2017, section 3.1).

    A linear map of the vectors themselves cannot say how similar they are; of these it can. They are float32 at least.
    """
    u, v = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (first, second))
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


def round_to(pooled: Float[Tensor, "B K"], head: nn.Linear) -> Float[Tensor, "B K"]:
    """Round vectors to the dtype of a head's weights if that is lower, as in ``bf16-true``; poolings may use more."""
    dtype = head.weight.dtype
    return pooled if torch.promote_types(pooled.dtype, dtype) == dtype else pooled.to(dtype)
