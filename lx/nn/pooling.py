"""From a vector per token to one per text, padding left out. Factories: `pooling(dim)`.

Axis legend: B batch, T tokens, Q queries (T, or 1), D model width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lx.nn.attention import MASKED


class Pooling(nn.Module, ABC):
    """What every pooling is."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"] | None:
        """What attends to all tokens in the last block, of which x is the input; None: every token."""
        return None

    @abstractmethod
    def forward(self, x: Float[Tensor, "B Q D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """One vector a text, of what the last block gives; `mask` is True for a real token."""


class QueryPooling(Pooling):
    """One vector a text attends in the last block, and is what is read: a subclass says which."""

    @abstractmethod
    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        """The vector that attends."""

    def forward(self, x: Float[Tensor, "B Q D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """What became of it."""
        return x[:, 0]


class CLSPooling(QueryPooling):
    """The vector of the first token, [CLS] (Devlin et al. 2019)."""

    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        """The first token: what the others would become is not looked at."""
        return x[:, :1]


class MeanQueryPooling(QueryPooling):
    """The average of the real tokens, which the last block lets attend to them (Radford et al. 2021, section 2.4)."""

    def last_query(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B 1 D"]:
        """Average over T."""
        return average(x, mask).to(x.dtype).unsqueeze(1)


class MeanPooling(Pooling):
    """The average of the real tokens; zero for a text that has none."""

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Average over T."""
        return average(x, mask)


def average(x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
    """Of the real tokens, in float32 at least."""
    # As a product, which needs no copy of x: torch adds bf16 up in float32 only after it has converted all of it.
    total = (mask[:, None, :].to(x.dtype) @ x).squeeze(1)
    return total.to(torch.promote_types(x.dtype, torch.float32)) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class MaxPooling(Pooling):
    """The largest value of each feature among the real tokens; zero for a text that has none."""

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Maximum over T."""
        largest = x.masked_fill(~mask[:, :, None], torch.finfo(x.dtype).min).amax(dim=1)
        return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class AttentionPooling(Pooling):
    """An average with weights softmax(u · tanh(W x + b)), u learned (Yang et al. 2016, equations 5 to 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self.hidden = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Weighted average over T."""
        scores = self.query(self.hidden(x).tanh()).squeeze(-1)
        weights = (scores + torch.where(mask, 0.0, MASKED)).softmax(dim=-1)
        pooled: Tensor = weights[:, None, :] @ x
        return pooled.squeeze(1)
