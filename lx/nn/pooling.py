"""From a vector per token to one per text, padding left out. Factories: `pooling(dim)`.

Axis legend: B batch, T tokens, D model width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lx.nn.attention import MASKED


class CLSPooling(nn.Module):
    """The vector of the first token, [CLS] (Devlin et al. 2019)."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Take the first vector."""
        return x[:, 0]


class MeanPooling(nn.Module):
    """The average of the real tokens; zero for a text that has none."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Average over T."""
        # As a product, which needs no copy of x: torch adds bf16 up in float32 only after it has converted all of it.
        total = (mask[:, None, :].to(x.dtype) @ x).squeeze(1)
        return total.to(torch.promote_types(x.dtype, torch.float32)) / mask.sum(dim=1, keepdim=True).clamp(min=1)


class MaxPooling(nn.Module):
    """The largest value of each feature among the real tokens; zero for a text that has none."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Maximum over T."""
        largest = x.masked_fill(~mask[:, :, None], torch.finfo(x.dtype).min).amax(dim=1)
        return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0.0)


class AttentionPooling(nn.Module):
    """An average with weights softmax(u · tanh(W x + b)), u learned (Yang et al. 2016, equations 5 to 7)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.query = nn.Linear(dim, 1, bias=False)

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B D"]:
        """Weighted average over T."""
        scores = self.query(self.hidden(x).tanh()).squeeze(-1)
        weights = (scores + torch.where(mask, 0.0, MASKED)).softmax(dim=-1)
        pooled: Tensor = weights[:, None, :] @ x
        return pooled.squeeze(1)
