"""A convolution over neighbouring tokens, between embedding and blocks.

Axis legend: B batch, T tokens, D model width, K convolution width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lx.errors import ArgumentError
from lx.nn.block import Residual


class Convolution(nn.Module):
    """x + dropout(gelu(W [x_{t-r}; ...; x_{t+r}] + b)), with r = (K - 1) / 2: features of word n-grams (Kim 2014).

    The convolution brings local order into the residual stream before attention, as in Gulati et al. 2020. It is
    written as a linear map of neighbouring vectors, whose kernel is the same. Beyond a text there are zeros.
    """

    def __init__(self, dim: int, width: int, dropout: int | float) -> None:
        """Build the map; raise ArgumentError unless the width K is odd and at least 3."""
        super().__init__()
        if width < 3 or width % 2 == 0:
            raise ArgumentError(f"conv_width={width} must be odd and at least 3, or null for no convolution")
        self.width = width
        self.linear = nn.Linear(width * dim, dim)
        self.residual = Residual(dropout)

    def forward(self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Add to each token what it makes of its neighbours; `mask` is True for a real token."""
        radius, num_tokens = self.width // 2, x.shape[1]
        padded = F.pad(x.masked_fill(~mask[:, :, None], 0.0), (0, 0, radius, radius))
        neighbours = torch.cat([padded[:, i : i + num_tokens] for i in range(self.width)], dim=-1)
        y: Tensor = self.residual(x, F.gelu(self.linear(neighbours)))
        return y
